//! What Telegram's sender is known to do, and what it does not forgive: each habit and its test.
//!
//! * the first request comes in the segment of the client's Finished: `wire.rs`:
//!   `the_first_request_may_come_with_the_clients_last_handshake_message`
//! * later ones are cut into records anywhere, between CR and LF, too:
//!   [`a_record_may_end_between_cr_and_lf`]; at each byte: `wire.rs`:
//!   `a_request_may_be_cut_into_records_anywhere`, and `exactness/`
//! * path with query, port in `Host`, user and password, token; `\uXXXX` for all but ASCII:
//!   [`a_request_of_the_sender_means_what_it_says`]
//! * a body has up to 512 KiB: [`the_largest_update_is_taken`]; refused by a smaller limit without
//!   RST: `wire.rs`: `the_largest_update_that_telegram_sends_can_be_refused_without_a_reset`
//! * no 1xx is understood: `wire.rs`: `continue_is_sent_only_to_clients_that_wait_for_it`, and
//!   `exactness/`
//! * the answer is the shortest there is, and healthy connections stay: `wire.rs`:
//!   `an_answer_is_the_shortest_there_is_and_the_connection_stays`
//! * one request at a time, and one connection after a silence, which has to be answered at once:
//!   [`after_a_silence_the_first_request_is_answered`]
//! * a connection is idle for up to 60 s and then closed by the sender:
//!   [`a_connection_outlives_a_minute_of_silence`]
//! * it ends with FIN, without close_notify: [`fin_without_close_notify_is_a_clean_end`]; before
//!   the 200: `wire.rs`: `a_half_closed_connection_still_gets_its_answer`
//! * close_notify alone is not noticed, FIN is; it answers with neither:
//!   [`an_idle_connection_is_closed_in_full_without_a_close_notify_of_the_client`]
//! * an unrequested 408 is taken for the next answer: `wire.rs`:
//!   `an_idle_connection_is_closed_without_a_byte`
//! * no server name for an address: `tls.rs`: `a_client_may_name_no_server_or_any`
//! * names are checked as OpenSSL does; an address has to be a common name or a DNS name:
//!   [`a_certificate_for_an_address_is_one_for_a_name`]
//! * what it does not understand it answers with `HTTP/1.1 501 Not Implemented`:
//!   `exactness/garbage.rs`
//! * an update comes again after a lost answer: `delivery.rs`

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use ringhook::{BasicAuth, Bot, Limits, Report, TlsConfig, report::CloseReason};

use crate::support::{
    self, PATH, SECRET, TestServer, on_each_driver, request, timeouts, update, update_of,
    wait_until,
};

/// One minute of the sender and 75 s of the server, both ten times as fast.
const MINUTE: Duration = Duration::from_secs(6);
const IDLE_TIMEOUT: Duration = Duration::from_millis(7_500);

fn closed(report: &Report, reason: CloseReason) -> u64 {
    report.connections_closed.get(&reason).copied().unwrap_or_default()
}

#[test]
fn a_record_may_end_between_cr_and_lf() {
    on_each_driver(Limits::default(), |server| {
        let mut client = server.connect();
        let lines = request(&update(100)).windows(2).filter(|pair| pair == b"\r\n").count();
        assert_eq!(lines, 8, "seven lines and the empty one");
        for id in 100..110 {
            // Each piece but the first begins with LF.
            for piece in request(&update(id)).split_inclusive(|byte| *byte == b'\r') {
                client.send(piece);
            }
            assert_eq!(client.response().status, 200);
        }
        let (_, handled) = server.stop();
        assert_eq!(handled.counts(), (100..110).map(|id| (id, 1)).collect());
    });
}

#[test]
fn a_request_of_the_sender_means_what_it_says() {
    for driver in support::drivers() {
        let mut bot = Bot::new("shop", "/bots/shop", "s3cret_-").unwrap();
        bot.basic_auth = Some(BasicAuth::new("user:pass", "bot.basic_auth").unwrap());
        let server = TestServer::with(|server| server.driver(driver).bot(bot));
        let body = "{\"update_id\":7,\n\"message\":{\"message_id\":1,\"from\":{\"id\":5,\
                    \"is_bot\":false,\"first_name\":\"\\u0416\\u0443\\u043a\"},\"chat\":{\"id\":5,\
                    \"type\":\"private\"},\"date\":1700000000,\"text\":\"\\ud83d\\ude80 \\/ \\u00e9\"}}";
        let head = format!(
            "POST /bots/shop?a=1&b=%2F HTTP/1.1\r\nHost: bot.example.org:8443\r\n\
             Authorization: Basic dXNlcjpwYXNz\r\nX-Telegram-Bot-Api-Secret-Token: s3cret_-\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\
             Accept-Encoding: gzip, deflate\r\n\r\n",
            body.len()
        );
        let mut client = server.connect();
        client.send(format!("{head}{body}").as_bytes());
        client.assert_bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        // Every part of it is needed.
        for (part, status) in [("dXNl", 403), ("s3cret", 403), ("/bots/", 404)] {
            client.send(format!("{}{body}", head.replacen(part, "/xxxx/", 1)).as_bytes());
            assert_eq!(client.response().status, status, "{driver} {part}");
        }
        let (_, handled) = server.stop();
        let expected: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(handled.all(), [expected]);
        assert_eq!(handled.all()[0]["message"]["text"], "\u{1f680} / \u{e9}");
    }
}

#[test]
fn the_largest_update_is_taken() {
    on_each_driver(Limits::default(), |server| {
        let fixed = "{\"update_id\":1,\n\"message\":{\"text\":\"\"}}".len();
        let escapes = "\\u0416".repeat((524_288 - fixed) / 6);
        let rest = "x".repeat((524_288 - fixed) % 6);
        let body = format!("{{\"update_id\":1,\n\"message\":{{\"text\":\"{escapes}{rest}\"}}}}");
        assert_eq!(body.len(), 524_288);
        let mut client = server.connect();
        assert_eq!(client.post(&body).status, 200);
        assert_eq!(client.post(&update(2)).status, 200);
        server.wait_handled(2);
        let expected: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(server.handled.all().contains(&expected));
    });
}

/// While the sender is not sure of a webhook, it has one connection and waits for its answer; each
/// second until then is one for all chats.
#[test]
fn after_a_silence_the_first_request_is_answered() {
    on_each_driver(Limits::default(), |server| {
        let mut kept = server.connect();
        for round in 0..3 {
            // All threads of the server sleep meanwhile.
            thread::sleep(Duration::from_millis(700));
            let mut fresh = server.connect();
            for (client, id) in [(&mut fresh, 10 * round), (&mut kept, 10 * round + 1)] {
                // No second request comes whose arrival could help the first one on.
                assert_eq!(client.post(&update_of(1, id)).status, 200);
                server.wait_handled(usize::try_from(2 * round + 1 + id % 10).unwrap());
            }
        }
        assert_eq!(server.stop().1.ids(), [0, 1, 10, 11, 20, 21]);
    });
}

#[test]
fn a_connection_outlives_a_minute_of_silence() {
    thread::scope(|scope| {
        for driver in support::drivers() {
            scope.spawn(move || {
                let mut limits = Limits::default();
                limits.idle_timeout = IDLE_TIMEOUT;
                let server = TestServer::with(|server| server.driver(driver).limits(limits));
                let mut client = server.connect();
                for id in 1.. {
                    assert_eq!(client.post(&update(id)).status, 200, "{driver}");
                    let answered_at = Instant::now();
                    // The silence is what is tried.
                    thread::sleep(MINUTE);
                    let _ = client.stream.write_all(&request(&update(id + 1000)));
                    if answered_at.elapsed() < IDLE_TIMEOUT - Duration::from_millis(300) {
                        break;
                    }
                    // The machine stood still: the server was right if it did not wait.
                    assert!(id < 5, "this machine cannot keep time");
                    client = server.connect();
                }
                assert_eq!(client.response().status, 200, "{driver}");
                // Then the sender closes.
                client.finish();
                wait_until("the end is seen", || {
                    closed(&server.handle.report(), CloseReason::Peer) > 0
                });
                assert!(server.stop().0.requests_rejected.is_empty());
            });
        }
    });
}

#[test]
fn fin_without_close_notify_is_a_clean_end() {
    on_each_driver(Limits::default(), |server| {
        for id in 1..=3 {
            let mut client = server.connect();
            assert_eq!(client.post(&update(id)).status, 200);
            client.finish();
            client.assert_clean_end();
            wait_until("the end is seen", || {
                closed(&server.handle.report(), CloseReason::Peer) == id.cast_unsigned()
            });
        }
        let (report, handled) = server.stop();
        assert_eq!(report.connections_closed, [(CloseReason::Peer, 3)].into());
        assert_eq!(handled.ids().len(), 3);
    });
}

/// The sender neither reads close_notify nor says anything: what counts for it is that the socket
/// is gone, and a server that waited for its close_notify would keep descriptors of dead
/// connections.
#[test]
fn an_idle_connection_is_closed_in_full_without_a_close_notify_of_the_client() {
    let mut limits = timeouts(support::PATIENCE);
    limits.idle_timeout = Duration::from_secs(2);
    on_each_driver(limits, |server| {
        let mut client = server.connect();
        assert_eq!(client.post(&update(1)).status, 200);
        // Below TLS, as a client that does not look into records.
        let socket: &mut TcpStream = &mut client.stream.sock;
        let mut close_notify = Vec::new();
        socket.read_to_end(&mut close_notify).expect("FIN, not RST");
        // An alert and nothing else: type 21 in TLS 1.2, within application data in TLS 1.3.
        assert!(matches!(close_notify.first(), Some(21 | 23)), "{close_notify:02x?}");
        assert!(close_notify.len() < 64, "{close_notify:02x?}");
        // The peer has closed: what is sent now is answered with RST.
        wait_until("the server has let go of the socket", || {
            socket.write_all(b"x").is_err() || socket.take_error().unwrap().is_some()
        });
        wait_until("it is counted", || {
            closed(&server.handle.report(), CloseReason::IdleTimeout) == 1
        });
        let _ = socket.shutdown(Shutdown::Both);
    });
}

/// A certificate for the address of the test servers, as `name` has it; and its key.
fn certificate(common_name: &str, names: Vec<SanType>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = names;
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The sender asks OpenSSL for a host name, also where the URL has an address, and the uploaded
/// certificate is its only anchor.
#[test]
fn a_certificate_for_an_address_is_one_for_a_name() {
    let ip = "127.0.0.1";
    let dns = || SanType::DnsName(ip.try_into().unwrap());
    let address = || SanType::IpAddress(ip.parse().unwrap());
    for (name, certificate, passes) in [
        ("CN=IP", certificate(ip, vec![]), true),
        ("CN=IP, SAN DNS:IP", certificate(ip, vec![dns()]), true),
        ("SAN DNS:IP", certificate("ringhook", vec![dns()]), true),
        ("SAN DNS:IP and IP:IP", certificate("ringhook", vec![address(), dns()]), true),
        ("SAN IP:IP", certificate("ringhook", vec![address()]), false),
        (
            "SAN DNS:other",
            certificate(ip, vec![SanType::DnsName("a.b".try_into().unwrap())]),
            false,
        ),
    ] {
        let (cert, key) = certificate;
        let tls = TlsConfig::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        let server = TestServer::with(|server| server.tls(tls));
        let file = server.pki.dir().join("uploaded.pem");
        std::fs::write(&file, &cert).unwrap();
        let openssl = |args: &[&str]| -> Option<Command> {
            let mut openssl = support::external::program("openssl")?;
            openssl.args(args).arg("-CAfile").arg(&file).args(["-verify_hostname", ip]);
            Some(openssl)
        };
        let Some(mut verify) = openssl(&["verify"]) else { return };
        let said = support::external::talk(verify.arg(&file), b"");
        assert_eq!(said.status.success(), passes, "{name}: {} {}", said.stdout, said.stderr);

        let addr = server.handle.local_addr().unwrap().to_string();
        let args = ["s_client", "-connect", &addr, "-noservername", "-verify_return_error"];
        let mut client = openssl(&args).unwrap();
        let post = String::from_utf8(request(&update(1))).unwrap().replace("keep-alive", "close");
        let said = support::external::talk(client.arg("-ign_eof"), post.as_bytes());
        let got_it = said.stdout.contains("HTTP/1.1 200 OK");
        assert_eq!(got_it, passes, "{name}: {} {}", said.stdout, said.stderr);
        let report = server.handle.stop();
        assert_eq!(report.updates_handled, u64::from(passes), "{name}");
        assert_eq!(report.handshakes_failed, u64::from(!passes), "{name}");
    }
}

/// What these and the other tests call a request of the sender is one.
#[test]
fn the_form_of_test_requests_is_that_of_the_sender() {
    let text = String::from_utf8(request("{}")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let names: Vec<&str> = lines[1..7].iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines[0], format!("POST {PATH} HTTP/1.1"));
    assert!(lines[2].ends_with(SECRET));
    let expected = [
        "Host",
        "X-Telegram-Bot-Api-Secret-Token",
        "Content-Type",
        "Content-Length",
        "Connection",
        "Accept-Encoding",
    ];
    assert_eq!(names, expected, "these, in this order, and no User-Agent");
}
