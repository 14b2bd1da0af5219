//! What TLS offers to any client: 1.2 and 1.3, AEAD suites with forward secrecy, and nothing that
//! has ever been a weakness. Refusals are alerts, not silence.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use ringhook::{Limits, TlsConfig};

use crate::support::{
    self, TestServer,
    external::{program, succeed, talk},
    on_each_driver, request, update, wait_until,
};

// Alerts of RFC 8446, section 6
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

/// A ClientHello in a record: `version`, `suites`, `compressions` and what else makes it one that
/// is taken.
fn hello(version: [u8; 2], suites: &[[u8; 2]], compressions: &[u8]) -> Vec<u8> {
    fn sized(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length, bytes].concat()
    }
    let extension = |number: u16, body: &[u8]| [&number.to_be_bytes()[..], &sized(body)].concat();
    let extensions = [
        // Groups x25519 and P-256, uncompressed points, ECDSA and RSA-PSS with SHA-256.
        extension(10, &sized(&[0, 29, 0, 23])),
        extension(11, &[1, 0]),
        extension(13, &sized(&[4, 3, 8, 4, 4, 1])),
        extension(23, &[]),
    ];
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(sized(&suites.concat()));
    body.push(u8::try_from(compressions.len()).unwrap());
    body.extend(compressions);
    body.extend(sized(&extensions.concat()));
    let mut message = vec![1, 0];
    message.extend(sized(&body));
    [vec![22, 3, 1], sized(&message)].concat()
}

/// ECDHE-ECDSA-AES128-GCM-SHA256.
const GOOD: [u8; 2] = [0xc0, 0x2b];

/// What the server says to `bytes`: all records until it closes, or its first one where that is not
/// an alert.
fn answer(server: &TestServer, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut first = [0; 5];
    socket.read_exact(&mut first).expect("an answer, not silence");
    let mut all = first.to_vec();
    if first[0] == 21 {
        socket.read_to_end(&mut all).expect("a close, not a reset");
    } else {
        let length = usize::from(u16::from_be_bytes([first[3], first[4]]));
        all.resize(5 + length, 0);
        socket.read_exact(&mut all[5..]).unwrap();
    }
    all
}

/// Asserts that `bytes` are answered by a fatal alert of this kind and the end.
#[track_caller]
fn assert_alert(server: &TestServer, bytes: &[u8], alert: u8) {
    let said = answer(server, bytes);
    assert_eq!((said[0], &said[3..]), (21, &[0, 2, 2, alert][..]), "{said:02x?}");
}

#[test]
fn refusals_are_alerts() {
    on_each_driver(Limits::default(), |server| {
        let good = answer(&server, &hello([3, 3], &[GOOD], &[0]));
        assert_eq!((good[0], good[5]), (22, 2), "a ServerHello, or the rest proves nothing");
        // SSL 3.0, TLS 1.0 and 1.1.
        for version in [[3, 0], [3, 1], [3, 2]] {
            assert_alert(&server, &hello(version, &[GOOD], &[0]), PROTOCOL_VERSION);
        }
        // CBC with and without forward secrecy, RC4, 3DES, static RSA, no encryption, anonymous.
        for suite in [
            [0xc0, 0x09],
            [0xc0, 0x23],
            [0xc0, 0x07],
            [0xc0, 0x08],
            [0x00, 0x2f],
            [0x00, 0x9c],
            [0x00, 0x0a],
            [0x00, 0x3b],
            [0xc0, 0x18],
        ] {
            assert_alert(&server, &hello([3, 3], &[suite], &[0]), HANDSHAKE_FAILURE);
        }
        // Compression alone; beside none it is not chosen.
        assert_alert(&server, &hello([3, 3], &[GOOD], &[1]), ILLEGAL_PARAMETER);
        let both = answer(&server, &hello([3, 3], &[GOOD], &[1, 0]));
        let suite = 5 + 4 + 2 + 32 + 1 + usize::from(both[43]);
        assert_eq!(both[suite..suite + 3], [GOOD[0], GOOD[1], 0], "the suite and no compression");
        // What is no TLS at all.
        for junk in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb",
            &[0; 64],
            &[0xff; 64],
        ] {
            assert_alert(&server, junk, DECODE_ERROR);
        }
        let refused = server.handle.report().handshakes_failed;
        assert!(refused >= 18, "{refused}");
        assert_eq!(server.connect().post(&update(1)).status, 200);
    });
}

/// s_client against the server, with `args` split at spaces.
fn s_client(server: &TestServer, args: &str) -> Command {
    let mut openssl = program("openssl").unwrap();
    openssl.args(["s_client", "-connect", &server.handle.local_addr().unwrap().to_string()]);
    openssl.args(["-servername", "localhost"]).args(args.split(' '));
    openssl
}

#[test]
fn openssl_is_refused_old_versions_and_weak_suites() {
    if program("openssl").is_none() {
        return;
    }
    let server = TestServer::start();
    for (args, alerts) in [
        // Without the extensions of newer versions it is the suites that fail first.
        (
            "-tls1 -cipher ALL:@SECLEVEL=0",
            &["alert protocol version", "alert handshake failure"][..],
        ),
        ("-tls1_1 -cipher ALL:@SECLEVEL=0", &["alert protocol version", "alert handshake failure"]),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256", &["alert handshake failure"]),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA", &["alert handshake failure"]),
        ("-tls1_2 -cipher AES128-GCM-SHA256", &["alert handshake failure"]),
        ("-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256", &["alert handshake failure"]),
        ("-tls1_2 -cipher aNULL:eNULL:@SECLEVEL=0", &["alert handshake failure"]),
    ] {
        let said = talk(&mut s_client(&server, args), b"");
        assert!(!said.status.success(), "{args}: {}", said.stdout);
        // An openssl that was built without it asks for nothing.
        let cannot_ask = ["no protocols available", "no ciphers available", "no cipher match"];
        if !cannot_ask.iter().any(|it| said.stderr.contains(it)) {
            assert!(alerts.iter().any(|it| said.stderr.contains(it)), "{args}: {}", said.stderr);
        }
    }
}

/// The groups and suites that Telegram's OpenSSL offers, each by itself as well.
#[test]
fn openssl_gets_whatever_telegram_may_ask_for() {
    if program("openssl").is_none() {
        return;
    }
    let rsa = tempfile::tempdir().unwrap();
    succeed(program("openssl").unwrap().current_dir(rsa.path()).args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ]));
    let tls = TlsConfig::from_pem_files(&rsa.path().join("cert.pem"), &rsa.path().join("key.pem"));
    let rsa = TestServer::with(|server| server.tls(tls.unwrap()));
    let all = "-groups X25519:P-256:X448:P-521:P-384:ffdhe2048";
    let ecdsa = TestServer::start();
    for (server, name) in [(&ecdsa, "ECDSA"), (&rsa, "RSA")] {
        let mut cases = vec![format!("-tls1_3 {all}"), format!("-tls1_2 {all}")];
        for group in ["X25519", "P-256", "P-384"] {
            cases.push(format!("-tls1_3 -groups {group}"));
        }
        // In TLS 1.2 the list has to have the certificate's curve as well.
        for groups in ["X25519:P-256", "P-256", "P-384:P-256"] {
            cases.push(format!("-tls1_2 -groups {groups}"));
        }
        for suite in
            ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
        {
            cases.push(format!("-tls1_3 -ciphersuites {suite}"));
        }
        for suite in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
            cases.push(format!("-tls1_2 -cipher ECDHE-{name}-{suite}"));
        }
        for case in cases {
            let said = talk(&mut s_client(server, &case), b"");
            let good = said.status.success() && said.stdout.contains("New, TLSv1.");
            assert!(good, "{name} {case}: {}{}", said.stdout, said.stderr);
            assert!(said.stdout.contains("Compression: NONE"), "{case}: {}", said.stdout);
            if case.contains("tls1_2") {
                assert!(said.stdout.contains("Extended master secret: yes"), "{case}");
            }
        }
    }
}

/// A client that would send a request as early data finds that it may not.
#[test]
fn openssl_may_not_send_early_data() {
    if program("openssl").is_none() {
        return;
    }
    let server = TestServer::start();
    let dir = server.pki.dir();
    let (session, early) = (dir.join("session"), dir.join("early"));
    let post = String::from_utf8(request(&update(1))).unwrap().replace("keep-alive", "close");
    fs::write(&early, &post).unwrap();
    let mut first = s_client(&server, "-tls1_3 -ign_eof -sess_out");
    let said = talk(first.arg(&session), post.as_bytes());
    assert!(said.stdout.contains("HTTP/1.1 200 OK"), "{}{}", said.stdout, said.stderr);
    let mut second = s_client(&server, "-tls1_3 -sess_in");
    let said = talk(second.arg(&session).arg("-early_data").arg(&early), b"");
    assert!(said.stdout.contains("Reused, TLSv1.3"), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("Early data was not sent"), "{}", said.stdout);
    wait_until("the second has gone", || {
        let closed = server.handle.report().connections_closed;
        closed.values().sum::<u64>() == 2
    });
    assert_eq!(server.handle.stop().updates_received, 1);
}

/// The value of attribute `name` in an XML element.
fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let rest = element.split(&format!(" {name}=\"")).nth(1).expect(element);
    rest.split('"').next().unwrap()
}

#[test]
fn sslscan_finds_nothing_weak() {
    let Some(mut sslscan) = program("sslscan") else { return };
    let server = TestServer::start();
    let file = server.pki.dir().join("sslscan.xml");
    sslscan.arg(format!("--xml={}", file.display())).arg("--sni-name=localhost");
    succeed(sslscan.arg(server.handle.local_addr().unwrap().to_string()));
    let xml = fs::read_to_string(file).unwrap();
    let elements = |name: &str| {
        let start = format!("<{name} ");
        let lines = xml.lines().map(str::trim);
        lines.filter(|line| line.starts_with(&start)).collect::<Vec<_>>()
    };
    let protocols = elements("protocol").into_iter().map(|element| {
        let part = |name| attribute(element, name);
        (part("type"), part("version"), part("enabled"))
    });
    let expected = [
        ("ssl", "2", "0"),
        ("ssl", "3", "0"),
        ("tls", "1.0", "0"),
        ("tls", "1.1", "0"),
        ("tls", "1.2", "1"),
        ("tls", "1.3", "1"),
    ];
    assert!(protocols.eq(expected), "{xml}");
    let ciphers = elements("cipher");
    assert_eq!(ciphers.len(), 6, "three of 1.3, three of 1.2: {xml}");
    for cipher in ciphers {
        let strength = attribute(cipher, "strength");
        assert!(["strong", "acceptable"].contains(&strength), "{cipher}");
        assert!(attribute(cipher, "bits").parse::<u32>().unwrap() >= 128, "{cipher}");
        let name = attribute(cipher, "cipher");
        assert!(name.contains("GCM") || name.contains("CHACHA20"), "{cipher}");
        assert!(!attribute(cipher, "curve").is_empty(), "forward secrecy: {cipher}");
    }
    let heartbleed = elements("heartbleed");
    assert!(!heartbleed.is_empty());
    assert!(heartbleed.iter().all(|it| attribute(it, "vulnerable") == "0"), "{xml}");
    let renegotiation = elements("renegotiation");
    assert!(renegotiation.iter().all(|it| attribute(it, "supported") == "0"), "{xml}");
    assert!(elements("compression").iter().all(|it| attribute(it, "supported") == "0"), "{xml}");
    let groups = elements("group");
    assert!(!groups.is_empty());
    assert!(groups.iter().all(|it| attribute(it, "bits").parse::<u32>().unwrap() >= 128), "{xml}");
}
