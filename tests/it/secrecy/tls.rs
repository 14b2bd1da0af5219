//! TLS from outside: which keys are taken, what is said of bad ones, resumption on whichever shard,
//! names, and peers that do not speak it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use ringhook::{ErrorKind, Limits, TlsConfig};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, SupportedProtocolVersion,
    client::{Resumption, Tls12Resumption},
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

use crate::support::{
    self, TestServer,
    client::{self, Client},
    on_each_driver,
    pki::Pki,
    request, update, wait_until,
};

/// A directory in which `openssl` has made things, or `None` where the machine has no openssl.
struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("skipped: there is no openssl command here to make keys with");
            return None;
        }
        Some(Self(tempfile::tempdir().unwrap()))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Runs `openssl` with `args`, split at spaces, in the directory.
    fn run(&self, args: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(args.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate for the key in `key`, in the file `cert`.
    fn certify(&self, key: &str, cert: &str) {
        self.run(&format!(
            "req -x509 -new -key {key} -out {cert} -days 30 -subj /CN=localhost -addext \
             subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
        ));
    }
}

#[test]
fn keys_of_every_form_are_taken() {
    let Some(openssl) = OpenSsl::new() else { return };
    openssl.run("ecparam -name prime256v1 -genkey -noout -out sec1.pem");
    // What openssl writes by default: the curve in a section of its own before the key.
    openssl.run("ecparam -name prime256v1 -genkey -out sec1-with-curve.pem");
    openssl.run("ecparam -name secp384r1 -genkey -noout -out p384.pem");
    openssl.run("genrsa -traditional -out pkcs1.pem 2048");
    openssl.run("pkcs8 -topk8 -nocrypt -in pkcs1.pem -out pkcs8-rsa.pem");
    openssl.run("pkcs8 -topk8 -nocrypt -in sec1.pem -out pkcs8-ec.pem");
    openssl.run("genpkey -algorithm ed25519 -out ed25519.pem");
    for (key, label) in [
        ("sec1.pem", "-----BEGIN EC PRIVATE KEY-----"),
        ("sec1-with-curve.pem", "-----BEGIN EC PARAMETERS-----"),
        ("p384.pem", "-----BEGIN EC PRIVATE KEY-----"),
        ("pkcs1.pem", "-----BEGIN RSA PRIVATE KEY-----"),
        ("pkcs8-rsa.pem", "-----BEGIN PRIVATE KEY-----"),
        ("pkcs8-ec.pem", "-----BEGIN PRIVATE KEY-----"),
        ("ed25519.pem", "-----BEGIN PRIVATE KEY-----"),
    ] {
        let text = fs::read_to_string(openssl.path(key)).unwrap();
        assert!(text.starts_with(label), "{key} is of another form here: {}", &text[..40]);
        openssl.certify(key, "cert.pem");
        let tls = TlsConfig::from_pem_files(&openssl.path("cert.pem"), &openssl.path(key)).unwrap();
        let server = TestServer::with(|server| server.tls(tls));
        let mut pki = Pki::ecdsa();
        pki.cert = fs::read_to_string(openssl.path("cert.pem")).unwrap();
        for version in [&TLS12, &TLS13] {
            let config = client::config(&pki, &[version]);
            let mut client = Client::connect_with(server.handle.local_addr().unwrap(), config);
            assert_eq!(client.post(&update(1)).status, 200, "{key} {version:?}");
        }
    }
}

/// The error of certificate `cert` with key `key`: one line of kind `Certificate` that has all of
/// `parts`.
#[track_caller]
fn assert_error(cert: &Path, key: &Path, parts: &[&str]) {
    let error = TlsConfig::from_pem_files(cert, key).expect_err("these cannot be used");
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Certificate, "{text}");
    assert!(!text.contains('\n'), "more than one line: {text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn errors_name_the_file_and_the_cause_in_one_line() {
    let (pki, other) = (Pki::ecdsa(), Pki::ecdsa());
    let (cert, key) = (pki.cert_file(), pki.key_file());
    let file = |name: &str, text: &str| {
        let path = pki.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let missing = pki.dir().join("nowhere.pem");
    assert_error(&missing, &key, &["nowhere.pem", "No such file"]);
    assert_error(&cert, &missing, &["nowhere.pem", "No such file"]);
    assert_error(pki.dir(), &key, &["directory"]);
    assert_error(Path::new("/dev/zero"), &key, &["/dev/zero: longer than 1 MiB"]);
    let empty = file("empty.pem", "");
    assert_error(&empty, &key, &["empty.pem: is empty"]);
    assert_error(&cert, &empty, &["empty.pem: is empty"]);
    assert_error(&key, &cert, &["key.pem", "swapped"]);
    assert_error(&cert, &cert, &["cert.pem", "no private key"]);
    let alien = other.key_file();
    assert_error(&cert, &alien, &[alien.to_str().unwrap(), "does not belong to"]);
    let prose = file("prose.pem", "to be or not to be");
    assert_error(&prose, &key, &["prose.pem", "not PEM"]);
    assert_error(&cert, &prose, &["prose.pem", "not PEM"]);
    let garbage = file(
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\n!!! no base64 !!!\n-----END CERTIFICATE-----\n",
    );
    assert_error(&garbage, &key, &["garbage.pem", "base64"]);
    let nonsense =
        file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_error(&nonsense, &key, &["nonsense.pem", "certificate"]);
    let half = file("half.pem", &pki.cert[..pki.cert.len() / 2]);
    assert_error(&half, &key, &["half.pem", "cut off"]);
    let half = file("half-key.pem", &pki.key[..pki.key.len() / 2]);
    assert_error(&cert, &half, &["half-key.pem", "cut off"]);

    let Some(openssl) = OpenSsl::new() else { return };
    openssl.run("genrsa -traditional -out plain.pem 2048");
    openssl.certify("plain.pem", "cert.pem");
    let cert = openssl.path("cert.pem");
    openssl.run("pkcs8 -topk8 -v2 aes-256-cbc -passout pass:secret -in plain.pem -out pkcs8.pem");
    assert_error(&cert, &openssl.path("pkcs8.pem"), &["pkcs8.pem", "encrypted", "openssl"]);
    openssl.run("rsa -traditional -aes128 -passout pass:secret -in plain.pem -out old.pem");
    assert_error(&cert, &openssl.path("old.pem"), &["old.pem", "encrypted", "openssl"]);
    openssl.run("x509 -in cert.pem -outform der -out cert.der");
    assert_error(&openssl.path("cert.der"), &openssl.path("plain.pem"), &["cert.der", "DER"]);
    openssl.run("rsa -in plain.pem -outform der -out key.der");
    assert_error(&cert, &openssl.path("key.der"), &["key.der", "DER"]);
}

/// Connects three times, each connection staying open, so that the second one goes to the other of
/// two shards; gives what each handshake was.
fn resume(server: &TestServer, config: ClientConfig) -> Vec<HandshakeKind> {
    let config = Arc::new(config);
    let mut open = Vec::new();
    let mut kinds = Vec::new();
    for id in 0..3 {
        let mut client =
            Client::connect_with(server.handle.local_addr().unwrap(), Arc::clone(&config));
        // A TLS 1.3 ticket comes no later than the first answer.
        assert_eq!(client.post(&update(id)).status, 200);
        kinds.push(client.handshake_kind());
        open.push(client);
    }
    kinds
}

fn config(server: &TestServer, version: &'static SupportedProtocolVersion) -> ClientConfig {
    (*client::config(&server.pki, &[version])).clone()
}

#[test]
fn sessions_are_resumed_on_whichever_shard() {
    for driver in support::drivers() {
        let server = TestServer::with(|server| server.driver(driver).shards(2));
        let by_ticket_13 = config(&server, &TLS13);
        let by_ticket_12 = config(&server, &TLS12);
        let mut by_id_12 = config(&server, &TLS12);
        by_id_12.resumption =
            Resumption::in_memory_sessions(32).tls12_resumption(Tls12Resumption::SessionIdOnly);
        let expected = [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed];
        for (name, config) in
            [("1.3 ticket", by_ticket_13), ("1.2 ticket", by_ticket_12), ("1.2 id", by_id_12)]
        {
            assert_eq!(resume(&server, config), expected, "{driver} {name}");
            // The shards count the same again before the next round.
            wait_until("all have ended", || {
                let report = server.handle.report();
                report.connections_closed.values().sum::<u64>() == report.connections_accepted
            });
        }
        let mut never = config(&server, &TLS13);
        never.resumption = Resumption::disabled();
        assert_eq!(resume(&server, never), [HandshakeKind::Full; 3]);
        let report = server.handle.stop();
        assert_eq!((report.handshakes_full, report.handshakes_resumed), (6, 6));
        assert_eq!(report.handshakes_failed, 0);
    }
}

#[test]
fn sessions_of_another_server_are_not_resumed() {
    let config = {
        let server = TestServer::start();
        let config = client::config(&server.pki, &[&TLS13]);
        let mut client =
            Client::connect_with(server.handle.local_addr().unwrap(), Arc::clone(&config));
        assert_eq!(client.post(&update(1)).status, 200);
        config
    };
    let server = TestServer::start();
    // The client offers its ticket, which is not ours, and then mistrusts our certificate.
    assert!(Client::try_connect(server.handle.local_addr().unwrap(), config).is_err());
    wait_until("the handshake has failed", || server.handle.report().handshakes_failed == 1);
    assert_eq!(server.handle.stop().handshakes_resumed, 0);
}

#[test]
fn a_client_may_name_no_server_or_any() {
    let server = TestServer::start();
    for version in [&TLS12, &TLS13] {
        let mut trusting = config(&server, version);
        trusting.dangerous().set_certificate_verifier(Arc::new(client::TrustAll));
        let mut silent = trusting.clone();
        silent.enable_sni = false;
        let addr = server.handle.local_addr().unwrap();
        for (config, name) in [
            (silent, "localhost"),
            (trusting.clone(), "elsewhere.example"),
            (trusting, "127.0.0.1"),
        ] {
            let mut client = Client::try_connect_as(addr, Arc::new(config), name).unwrap();
            assert_eq!(client.post(&update(1)).status, 200, "{version:?} {name}");
        }
    }
}

#[test]
fn what_is_no_tls_is_turned_away_and_counted() {
    on_each_driver(Limits::default(), |server| {
        // A hello that offers TLS 1.0 and nothing newer.
        let mut old = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x01".to_vec();
        old.extend([7; 32]);
        old.extend(b"\x00\x00\x04\xc0\x13\xc0\x0a\x01\x00");
        let starts: [&[u8]; 6] = [
            b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
            b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb",
            b"\x15\x03\x03\x00\x02\x02\x28",
            &old,
        ];
        for bytes in starts {
            for extra in [0, 100_000] {
                let mut socket = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
                socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
                socket.write_all(&[bytes, &vec![0; extra]].concat()).unwrap();
                let mut answer = Vec::new();
                socket.read_to_end(&mut answer).expect("a close, not a reset");
                assert!(matches!(answer.first(), None | Some(0x15)), "no alert: {answer:02x?}");
            }
        }
        // Connected and gone.
        drop(TcpStream::connect(server.handle.local_addr().unwrap()).unwrap());
        wait_until("all are counted", || server.handle.report().handshakes_failed == 13);
        assert_eq!(server.connect().post(&update(1)).status, 200);
    });
}

/// rustls reads nothing behind a close_notify; a caller that feeds it until all is read would never
/// end.
#[test]
fn a_close_notify_with_junk_behind_it_does_not_hang_a_shard() {
    for driver in support::drivers() {
        // A chain so long that the server's buffer grows over what rustls takes at once.
        let pki = Pki::ecdsa();
        let chain = pki.cert.repeat(12);
        let tls = TlsConfig::from_pem(chain.as_bytes(), pki.key.as_bytes()).unwrap();
        let server = TestServer::with(|server| server.driver(driver).shards(1).tls(tls));
        let mut trusting = config(&server, &TLS13);
        trusting.dangerous().set_certificate_verifier(Arc::new(client::TrustAll));
        // A resumed session shows no chain.
        trusting.resumption = Resumption::disabled();
        let trusting = Arc::new(trusting);
        for junk in [100, 2_000, 3_900, 6_000, 20_000] {
            let name = ServerName::try_from("localhost").unwrap();
            let mut session = ClientConnection::new(Arc::clone(&trusting), name).unwrap();
            let mut socket = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
            while session.is_handshaking() {
                while session.wants_write() {
                    session.write_tls(&mut socket).unwrap();
                }
                session.read_tls(&mut socket).unwrap();
                session.process_new_packets().unwrap();
            }
            // Finished, a request, close_notify and junk in one segment.
            let mut bytes = Vec::new();
            session.writer().write_all(&request(&update(junk))).unwrap();
            session.send_close_notify();
            while session.wants_write() {
                session.write_tls(&mut bytes).unwrap();
            }
            bytes.resize(bytes.len() + usize::try_from(junk).unwrap(), 0);
            socket.write_all(&bytes).unwrap();
            // The shard still serves this one and others.
            Client::over(session, socket).assert_bytes("HTTP/1.1 200 OK\r\n");
            let mut other =
                Client::connect_with(server.handle.local_addr().unwrap(), Arc::clone(&trusting));
            assert_eq!(other.post(&update(1)).status, 200);
        }
    }
}
