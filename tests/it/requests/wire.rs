//! What a peer sees on the wire: the bytes of the answers, what becomes of the connection after
//! them, and what is done with peers that are slow, silent, greedy or hostile.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use ringhook::{
    AllowList, Limits, Outcome, Report, Update,
    report::{CloseReason, Refusal, TurnedAway},
};
use rustls::{ClientConnection, pki_types::ServerName};

use crate::support::{
    self, PATH, SECRET, TestServer,
    client::{self, Client},
    on_each_driver, request, update, update_of, wait_until,
};

/// The answer that Telegram's sender deals with fastest.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// A timeout short enough to be waited for.
const SHORT: Duration = Duration::from_millis(300);

/// A request with `method`, `target` and `fields` (each ending with CR LF), and `body` as it is.
fn raw(method: &str, target: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
}

/// A POST to the bot with its token; `fields` say how the body is framed.
fn post(fields: &str, body: &str) -> Vec<u8> {
    raw("POST", PATH, &format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}\r\n{fields}"), body)
}

/// A request with a body of `Content-Length`.
fn post_body(body: &str) -> Vec<u8> {
    post(&format!("Content-Length: {}\r\n", body.len()), body)
}

/// `body` in chunks of `size` bytes, with an extension and a trailer where they may be.
fn chunked(body: &str, size: usize) -> Vec<u8> {
    let mut coded = String::new();
    for chunk in body.as_bytes().chunks(size) {
        let text = std::str::from_utf8(chunk).unwrap();
        coded += &format!("{:x};name=\"va lue\"\r\n{text}\r\n", chunk.len());
    }
    post("Transfer-Encoding: chunked\r\n", &(coded + "0\r\nExtra: trailer\r\n\r\n"))
}

fn closed(report: &Report, reason: CloseReason) -> u64 {
    report.connections_closed.get(&reason).copied().unwrap_or_default()
}

#[test]
fn an_answer_is_the_shortest_there_is_and_the_connection_stays() {
    on_each_driver(Limits::default(), |server| {
        let mut client = server.connect();
        for id in 1..=300 {
            client.send(&request(&update(id)));
            client.assert_bytes(OK);
        }
        server.wait_handled(300);
        let (report, handled) = server.stop();
        assert_eq!(handled.counts(), (1..=300).map(|id| (id, 1)).collect());
        assert_eq!((report.connections_accepted, report.updates_acknowledged), (1, 300));
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    on_each_driver(Limits::default(), |server| {
        let mut client = server.connect();
        for round in [10, 20, 30] {
            let requests = [
                (200, request(&update(round + 1))),
                (404, raw("POST", "/absent", "Content-Length: 3\r\n", "abc")),
                (200, chunked(&update(round + 2), 10)),
                (405, raw("GET", PATH, "", "")),
                (403, raw("POST", PATH, "Content-Length: 2\r\n", "{}")),
                (400, post_body("not JSON")),
                (200, request(&update(round + 3))),
            ];
            let bytes: Vec<u8> = requests.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let expected: Vec<u16> = requests.iter().map(|(status, _)| *status).collect();
            client.send(&bytes);
            let statuses: Vec<u16> = requests.iter().map(|_| client.response().status).collect();
            assert_eq!(statuses, expected);
        }
        // More than one record and more than one buffer of the server.
        let many: Vec<u8> = (100..300).flat_map(|id| request(&update(id))).collect();
        client.send(&many);
        for _ in 0..200 {
            client.assert_bytes(OK);
        }
        server.wait_handled(209);
        let ids = [11, 12, 13, 21, 22, 23, 31, 32, 33].into_iter().chain(100..300);
        assert_eq!(server.handled.counts(), ids.map(|id| (id, 1)).collect());
    });
}

#[test]
fn a_request_may_be_cut_into_records_anywhere() {
    on_each_driver(Limits::default(), |server| {
        let mut client = server.connect();
        let mut sent = 0;
        // Ids of one length, so that every cut falls into the same place of an alike request.
        let length = request(&update(1000)).len();
        for cut in 1..length {
            let whole = request(&update(1000 + sent));
            client.send(&whole[..cut]);
            client.send(&whole[cut..]);
            client.assert_bytes(OK);
            sent += 1;
        }
        let length = chunked(&update(1000), 7).len();
        for cut in 1..length {
            let coded = chunked(&update(1000 + sent), 7);
            client.send(&coded[..cut]);
            client.send(&coded[cut..]);
            client.assert_bytes(OK);
            sent += 1;
        }
        for byte in request(&update(1000 + sent)) {
            client.send(&[byte]);
        }
        client.assert_bytes(OK);
        sent += 1;
        server.wait_handled(usize::try_from(sent).unwrap());
        let ids = 1000..1000 + sent;
        assert_eq!(server.handled.counts(), ids.clone().map(|id| (id, 1)).collect());
        for update in server.handled.all() {
            let id = update["update_id"].as_i64().unwrap();
            let expected: serde_json::Value = serde_json::from_str(&self::update(id)).unwrap();
            assert_eq!(update, expected);
        }
    });
}

/// A session for `server` up to the point where the client's Finished is ready to be sent.
fn handshaken(server: &TestServer) -> (ClientConnection, TcpStream) {
    let config = client::config(&server.pki, &[&rustls::version::TLS13]);
    let mut session =
        ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut socket = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
    socket.set_nodelay(true).unwrap();
    while session.is_handshaking() {
        while session.wants_write() {
            session.write_tls(&mut socket).unwrap();
        }
        session.read_tls(&mut socket).unwrap();
        session.process_new_packets().unwrap();
    }
    (session, socket)
}

fn flush(session: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn the_first_request_may_come_with_the_clients_last_handshake_message() {
    on_each_driver(Limits::default(), |server| {
        let (mut session, mut socket) = handshaken(&server);
        session.writer().write_all(&request(&update(1))).unwrap();
        socket.write_all(&flush(&mut session)).unwrap();
        let mut client = Client::over(session, socket);
        client.assert_bytes(OK);
        client.send(&request(&update(2)));
        client.assert_bytes(OK);

        // Larger than what the handshake reads at once.
        let (mut session, mut socket) = handshaken(&server);
        let large = format!("{{\"update_id\":3,\"pad\":\"{}\"}}", "x".repeat(40_000));
        session.writer().write_all(&request(&large)).unwrap();
        socket.write_all(&flush(&mut session)).unwrap();
        Client::over(session, socket).assert_bytes(OK);
        server.wait_handled(3);
        assert_eq!(server.handled.counts(), [(1, 1), (2, 1), (3, 1)].into());
    });
}

/// Requests that are refused without harm to the connection.
fn refused_but_kept() -> Vec<(u16, Vec<u8>)> {
    let token = |tokens: &[&str]| {
        let fields: String = tokens
            .iter()
            .map(|token| format!("X-Telegram-Bot-Api-Secret-Token: {token}\r\n"))
            .collect();
        raw("POST", PATH, &(fields + "Content-Length: 15\r\n"), "{\"update_id\":1}")
    };
    vec![
        (400, post_body("not JSON")),
        (400, post_body("{\"message\":{}}")),
        (400, post_body("")),
        (400, post_body("{\"update_id\":1}}")),
        (403, token(&[])),
        (403, token(&["wrong"])),
        (403, token(&[&format!("{SECRET}x")])),
        (403, token(&[SECRET, SECRET])),
        (403, token(&[SECRET, "wrong"])),
        (404, raw("POST", "/webhooks", "Content-Length: 2\r\n", "{}")),
        (404, raw("POST", "/", "Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        (404, raw("GET", "/favicon.ico", "", "")),
        (405, raw("GET", PATH, "", "")),
        (405, raw("HEAD", PATH, "", "")),
        (405, raw("PUT", PATH, "Content-Length: 2\r\n", "{}")),
    ]
}

/// Requests behind which the start of the next one is unknown, or that only an attacker sends.
fn refused_and_closed() -> Vec<(u16, Vec<u8>)> {
    let long = "x".repeat(5_000);
    vec![
        (400, post("", "{\"update_id\":1}")),
        (400, post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}")),
        (400, post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "{}")),
        (400, post("Content-Length: +2\r\n", "{}")),
        (400, post("Transfer-Encoding: chunked\r\n", "zz\r\n")),
        (400, b"POST /webhook HTTP/1.1\nHost: a\n\n".to_vec()),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        // What Telegram's sender writes when it has not understood an answer.
        (400, b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\r\n".to_vec()),
        (413, post("Content-Length: 1048577\r\n", "{")),
        (413, post("Transfer-Encoding: chunked\r\n", "100001\r\n{")),
        (414, raw("POST", &format!("/{long}"), "Content-Length: 2\r\n", "{}")),
        (415, post("Content-Encoding: gzip\r\nContent-Length: 2\r\n", "{}")),
        (417, post("Expect: the-impossible\r\nContent-Length: 2\r\n", "{}")),
        (431, post(&format!("A: {long}\r\nB: {long}\r\nContent-Length: 2\r\n"), "{}")),
        (431, post(&("A: b\r\n".repeat(65) + "Content-Length: 2\r\n"), "{}")),
        (501, raw("BREW", PATH, "Content-Length: 2\r\n", "{}")),
        (501, post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        (505, b"POST /webhook HTTP/2.0\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
    ]
}

fn counts(requests: &[(u16, Vec<u8>)]) -> BTreeMap<u16, u64> {
    let mut counts = BTreeMap::new();
    for (status, _) in requests {
        *counts.entry(*status).or_default() += 1;
    }
    counts
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}

#[test]
fn a_refused_request_leaves_its_connection_usable() {
    on_each_driver(Limits::default(), |server| {
        let mut client = server.connect();
        let requests = refused_but_kept();
        for (index, (status, bytes)) in requests.iter().enumerate() {
            client.send(bytes);
            let response = client.response();
            assert_eq!(response.status, *status, "{}", shown(bytes));
            assert_eq!(response.headers.get("connection"), None, "{}", shown(bytes));
            let allow = response.headers.get("allow").map(String::as_str);
            assert_eq!(allow, (*status == 405).then_some("POST"));
            assert_eq!(client.post(&update(100 + index as i64)).status, 200);
        }
        let report = server.handle.stop();
        assert_eq!(report.requests_rejected, counts(&requests));
        assert_eq!(report.updates_handled, requests.len() as u64);
        assert!(server.handled.ids().iter().all(|id| *id >= 100), "no refused one is handled");
    });
}

#[test]
fn an_answer_to_a_broken_request_arrives_whole_whatever_else_was_sent() {
    on_each_driver(Limits::default(), |server| {
        let requests = refused_and_closed();
        for (status, bytes) in &requests {
            let mut client = server.connect();
            // It would not be read, and closing over unread bytes sends an RST.
            let mut sent = bytes.clone();
            sent.resize(bytes.len() + 100_000, b'y');
            client.send(&sent);
            let response = client.response();
            assert_eq!(response.status, *status, "{}", shown(bytes));
            assert_eq!(response.headers["connection"], "close", "{}", shown(bytes));
            client.assert_clean_end();
        }
        let report = server.handle.stop();
        assert_eq!(report.requests_rejected, counts(&requests));
        assert_eq!(closed(&report, CloseReason::Protocol), requests.len() as u64);
        assert_eq!((report.updates_received, server.handled.len()), (0, 0));
    });
}

/// Where a body is over the limit the sender is still in the middle of sending it, and it looks for
/// the answer only afterwards. 512 KiB is the most that Telegram sends.
#[test]
fn the_largest_update_that_telegram_sends_can_be_refused_without_a_reset() {
    let mut limits = Limits::default();
    limits.body_bytes = 64 * 1024;
    on_each_driver(limits, |server| {
        let body = format!("{{\"update_id\":1,\"pad\":\"{}\"}}", "x".repeat(524_000));
        for (count, bytes) in [(1, request(&body)), (2, chunked(&body, 10_000))] {
            let mut client = server.connect();
            client.send(&bytes);
            assert_eq!(client.response().status, 413);
            client.assert_clean_end();
            client.finish();
            wait_until("the server has closed", || {
                closed(&server.handle.report(), CloseReason::Protocol) == count
            });
            client.assert_no_reset();
        }
    });
}

/// The dates of two answers on one connection, with a pause between them.
fn dates(client: &mut Client, pause: Duration) -> [SystemTime; 2] {
    [1, 2].map(|id| {
        // The idle time is what is tried.
        thread::sleep(if id == 2 { pause } else { Duration::ZERO });
        let before = SystemTime::now();
        let response = client.post(&update(id));
        let date = &*response.headers["date"];
        client::assert_recent(date);
        let date = httpdate::parse_http_date(date).unwrap();
        // Whole seconds; and the first look at the clock may be of the moment before.
        assert!(before < date + Duration::from_millis(1_100), "{date:?} is too old for {before:?}");
        date
    })
}

/// RFC 9110 section 6.6.1.
#[test]
fn answers_say_when_they_were_given_after_an_idle_time_as_well() {
    on_each_driver(Limits::default(), |server| {
        let mut client = server.connect();
        let [first, second] = dates(&mut client, Duration::from_millis(2_100));
        assert!(second > first + Duration::from_secs(1));
        // Refusals of all kinds.
        for (request, status) in [
            (raw("POST", "/absent", "Content-Length: 0\r\n", ""), 404),
            (post("Content-Length: x\r\n", ""), 400),
        ] {
            let mut client = server.connect();
            client.send(&request);
            let response = client.response();
            assert_eq!(response.status, status);
            client::assert_recent(&response.headers["date"]);
        }
        let tls12 = client::config(&server.pki, &[&rustls::version::TLS12]);
        let mut client = Client::connect_with(server.handle.local_addr().unwrap(), tls12);
        dates(&mut client, Duration::ZERO);
    });
}

#[test]
fn without_dates_answers_are_as_short_as_they_can_be() {
    for driver in support::drivers() {
        let server = TestServer::with(|server| server.driver(driver).date(false));
        let mut client = server.connect();
        client.send(&post_body(&update(1)));
        let mut bytes = [0; OK.len()];
        client.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), OK);
        client.assert_silent(Duration::from_millis(20));
    }
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    on_each_driver(Limits::default(), |server| {
        let old = |fields: &str, id: i64| {
            let request = String::from_utf8(post_body(&update(id))).unwrap();
            request.replacen("HTTP/1.1\r\nHost: a\r\n", &format!("HTTP/1.0\r\n{fields}"), 1)
        };
        let mut client = server.connect();
        client.send(old("Connection: keep-alive\r\n", 1).as_bytes());
        client
            .assert_bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
        client.send(old("", 2).as_bytes());
        client.assert_bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        client.assert_clean_end();

        let mut client = server.connect();
        client.send(&post(
            &format!("Connection: close\r\nContent-Length: {}\r\n", update(3).len()),
            &update(3),
        ));
        client.assert_bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        client.assert_clean_end();
        server.wait_handled(3);
        let report = server.handle.stop();
        assert_eq!(closed(&report, CloseReason::Asked), 2);
    });
}

#[test]
fn continue_is_sent_only_to_clients_that_wait_for_it() {
    on_each_driver(Limits::default(), |server| {
        let body = update(1);
        let expecting = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
        let mut client = server.connect();
        client.send(&post(&expecting, ""));
        client.assert_bytes("HTTP/1.1 100 Continue\r\n\r\n");
        client.assert_silent(Duration::from_millis(20));
        client.send(body.as_bytes());
        client.assert_bytes(OK);
        // The body is here already: no wait.
        client.send(&post(&expecting, &update(2)));
        client.assert_bytes(OK);
        // A refusal is final, and whether the body follows is unknown.
        client.send(&raw("POST", "/absent", &expecting, ""));
        client.assert_bytes(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        client.assert_clean_end();
        server.wait_handled(2);
    });
}

#[test]
fn an_unknown_kind_of_update_is_delivered() {
    on_each_driver(Limits::default(), |server| {
        let body = "{\"update_id\":7,\"made_of_the_future\":{\"x\":[1,2.5,null,\"\\u0416\"]}}";
        let mut client = server.connect();
        assert_eq!(client.post(body).status, 200);
        assert_eq!(client.post("{\"update_id\":8}").status, 200);
        server.wait_handled(2);
        let expected: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(server.handled.all().contains(&expected));
    });
}

#[test]
fn a_half_closed_connection_still_gets_its_answer() {
    on_each_driver(Limits::default(), |server| {
        let mut client = server.connect();
        client.send(&request(&update(1)));
        client.finish();
        client.assert_bytes(OK);
        client.assert_clean_end();
        // In the middle of a request there is nothing to answer.
        let mut client = server.connect();
        client.send(&request(&update(2))[..50]);
        client.finish();
        client.assert_closed();
        wait_until("both are closed", || {
            let report = server.handle.report();
            (closed(&report, CloseReason::Peer), closed(&report, CloseReason::Aborted)) == (1, 1)
        });
        assert_eq!(server.stop().1.ids(), [1]);
    });
}

#[test]
fn an_idle_connection_is_closed_without_a_byte() {
    let mut limits = Limits::default();
    limits.idle_timeout = SHORT;
    on_each_driver(limits, |server| {
        let start = Instant::now();
        // A 408 here would be taken for the answer to the next update.
        let mut fresh = server.connect();
        fresh.assert_clean_end();
        assert!(start.elapsed() >= SHORT);

        let mut used = server.connect();
        let mut last = Instant::now();
        for id in 0..5 {
            // Less than the timeout each time, more than it in all.
            thread::sleep(SHORT / 3);
            last = Instant::now();
            assert_eq!(used.post(&update(id)).status, 200, "each request begins a new wait");
        }
        used.assert_clean_end();
        assert!(last.elapsed() >= SHORT);
        let report = server.handle.stop();
        assert_eq!(closed(&report, CloseReason::IdleTimeout), 2);
        assert!(report.requests_rejected.is_empty());
    });
}

#[test]
fn a_request_that_stalls_gets_408_and_drips_do_not_help_it() {
    let mut limits = Limits::default();
    limits.head_timeout = SHORT;
    limits.body_timeout = SHORT;
    on_each_driver(limits, |server| {
        let long = update(1) + &" ".repeat(5_000);
        let starts = [
            b"P".to_vec(),
            request(&update(1))[..60].to_vec(),
            request(&update(1))[..request(&update(1)).len() - 1].to_vec(),
            post("Transfer-Encoding: chunked\r\n", "5\r\n{\"upd"),
        ];
        for start in &starts {
            let mut client = server.connect();
            let sent_at = Instant::now();
            client.send(start);
            assert_eq!(client.response().status, 408, "{}", shown(start));
            assert!(sent_at.elapsed() >= SHORT);
            client.assert_clean_end();
        }
        // A byte every 20 ms would take more than 90 seconds.
        for bytes in [request(&long), post(&format!("A: {}\r\n", "x".repeat(4_800)), "")] {
            let mut client = server.connect();
            let interval = Duration::from_millis(20);
            client.stream.sock.set_read_timeout(Some(interval)).unwrap();
            let mut answer = [0; 1];
            let mut rest = bytes.iter();
            loop {
                // Where the server has closed already, the answer is there to be read.
                let _ = client.stream.write(&[*rest.next().expect("408 in time")]);
                match client.stream.read(&mut answer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    outcome => break assert_eq!(outcome.unwrap(), 1),
                }
            }
            client.assert_bytes(
                "TTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
        wait_until("all are closed", || {
            let report = server.handle.report();
            // Two of each kind, and the two that drip.
            (closed(&report, CloseReason::HeadTimeout), closed(&report, CloseReason::BodyTimeout))
                == (4, 2)
        });
        let (report, handled) = server.stop();
        assert_eq!(report.requests_rejected, [(408, starts.len() as u64 + 2)].into());
        assert_eq!(handled.len(), 0);
    });
}

/// Each request has its own time, also where the connection is never idle in between.
#[test]
fn the_time_of_a_request_begins_with_its_own_first_byte() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_secs(1);
    limits.body_timeout = Duration::from_secs(1);
    on_each_driver(limits, |server| {
        let requests = [
            (200, request(&update(1))),
            (404, raw("GET", "/absent", "", "")),
            (405, raw("GET", PATH, "", "")),
        ];
        let mut clients: Vec<_> = requests
            .iter()
            .map(|(status, bytes)| {
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                let mut client = server.connect();
                client.send(head);
                (client, [tail, head].concat(), *status)
            })
            .collect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2_500) {
            // A pace at which no request takes its time and the connection has more than one's.
            thread::sleep(Duration::from_millis(50));
            for (client, next, status) in &mut clients {
                client.send(next);
                assert_eq!(client.response().status, *status);
            }
        }
    });
}

#[test]
fn a_handshake_has_its_time() {
    let mut limits = Limits::default();
    limits.handshake_timeout = SHORT;
    on_each_driver(limits, |server| {
        let mut hello = Vec::new();
        let config = client::config(&server.pki, rustls::ALL_VERSIONS);
        ClientConnection::new(config, ServerName::try_from("localhost").unwrap())
            .unwrap()
            .write_tls(&mut hello)
            .unwrap();
        let start = Instant::now();
        let mut silent = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
        let mut half = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
        let mut dripping = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
        half.write_all(&hello[..hello.len() / 2]).unwrap();
        dripping.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut rest = hello.iter();
        // Dripped, the hello alone would take longer than a second.
        assert!(hello.len() > 200);
        loop {
            let _ = dripping.write(&[*rest.next().expect("the end comes before the hello's")]);
            match dripping.read(&mut [0; 1]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The last drip may have met a closed socket.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                outcome => break assert_eq!(outcome.unwrap(), 0),
            }
        }
        for socket in [&mut silent, &mut half] {
            socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
            assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
        }
        assert!(start.elapsed() >= SHORT);
        wait_until("all are counted", || {
            closed(&server.handle.report(), CloseReason::HandshakeTimeout) == 3
        });
        assert_eq!(server.handle.report().handshakes_failed, 3);
        assert_eq!(server.connect().post(&update(1)).status, 200);
    });
}

/// A part of a record takes memory, as a part of a head does, so it has no more time than that.
#[test]
fn a_record_that_has_begun_has_the_time_of_a_head() {
    let mut limits = Limits::default();
    limits.head_timeout = SHORT;
    on_each_driver(limits, |server| {
        let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
        for (count, version) in (1..).zip(versions) {
            for before in [0, 1] {
                let config = client::config(&server.pki, &[version]);
                let addr = server.handle.local_addr().unwrap();
                let mut client = Client::connect_with(addr, config);
                if before > 0 {
                    assert_eq!(client.post(&update(count)).status, 200);
                }
                client.stream.conn.writer().write_all(&[b'x'; 16_384]).unwrap();
                let record = flush(&mut client.stream.conn);
                let start = Instant::now();
                client.stream.sock.write_all(&record[..record.len() - 1]).unwrap();
                assert_eq!(client.response().status, 408, "{version:?}");
                client.assert_closed();
                assert!(start.elapsed() >= SHORT);
            }
            let count = 2 * count as u64;
            wait_until("it is counted", || {
                closed(&server.handle.report(), CloseReason::HeadTimeout) == count
            });
        }
    });
}

/// One with nothing in it is not the beginning of a request.
#[test]
fn a_record_in_pieces_that_brings_nothing_leaves_a_connection_idle() {
    let mut limits = Limits::default();
    limits.head_timeout = SHORT;
    on_each_driver(limits, |server| {
        for (count, version) in (1..).zip([&rustls::version::TLS12, &rustls::version::TLS13]) {
            let config = client::config(&server.pki, &[version]);
            let mut client =
                Client::connect_with(server.handle.local_addr().unwrap(), config.clone());
            let send = |client: &mut Client, record: &[u8]| {
                let (first, second) = record.split_at(7);
                client.stream.sock.write_all(first).unwrap();
                // The pieces are read one by one, or at least may be.
                thread::sleep(Duration::from_millis(20));
                client.stream.sock.write_all(second).unwrap();
            };
            if version.version == rustls::ProtocolVersion::TLSv1_3 {
                client.stream.conn.refresh_traffic_keys().unwrap();
                let record = flush(&mut client.stream.conn);
                send(&mut client, &record);
                client.assert_silent(3 * SHORT);
            }
            client.stream.conn.writer().write_all(&request(&update(count))).unwrap();
            let record = flush(&mut client.stream.conn);
            send(&mut client, &record);
            assert_eq!(client.response().status, 200, "{version:?}");
            client.stream.conn.send_close_notify();
            let record = flush(&mut client.stream.conn);
            send(&mut client, &record);
            client.assert_clean_end();
            let count = count as u64;
            wait_until("it is counted as closed by the peer", || {
                closed(&server.handle.report(), CloseReason::Peer) == count
            });
        }
        assert_eq!(closed(&server.handle.report(), CloseReason::HeadTimeout), 0);
    });
}

#[test]
fn a_peer_that_never_reads_its_answers_is_cut_off() {
    let mut limits = Limits::default();
    limits.answer_timeout = SHORT;
    on_each_driver(limits, |server| {
        let mut client = server.connect();
        client.stream.sock.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let requests = raw("GET", "/absent", "", "").repeat(400);
        let report = || server.handle.report();
        wait_until("the peer is cut off", || {
            // Until the buffers are full in both directions, and beyond.
            let _ = client.stream.write(&requests);
            closed(&report(), CloseReason::AnswerTimeout) == 1
        });
        assert_eq!(report().requests_rejected.keys().copied().collect::<Vec<_>>(), [404]);
        assert_eq!(server.connect().post(&update(1)).status, 200);
    });
}

/// One peer that keeps a shard busy, without a token even, must not keep it from the others.
#[test]
fn a_flood_on_one_connection_does_not_starve_the_others() {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        let server = TestServer::with(|server| server.driver(driver).shards(1));
        let mut other = server.connect();
        // Encrypted beforehand, so that the server always has more to do.
        let (mut session, mut socket) = handshaken(&server);
        session.set_buffer_limit(None);
        session.writer().write_all(&raw("GET", "/x", "", "").repeat(200_000)).unwrap();
        let flood = flush(&mut session);
        let over = Arc::new(AtomicBool::new(false));
        let (mut answers, is_over) = (socket.try_clone().unwrap(), Arc::clone(&over));
        let writer = thread::spawn(move || {
            let _ = socket.write_all(&flood);
            let _ = socket.shutdown(Shutdown::Write);
        });
        let control = answers.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut std::io::sink());
            is_over.store(true, Ordering::Relaxed);
        });
        let report = || server.handle.report();
        wait_until("the flood flows", || !report().requests_rejected.is_empty());
        for id in 0..5 {
            assert_eq!(other.post(&update(id)).status, 200);
            assert_eq!(server.connect().post(&update(10 + id)).status, 200);
        }
        server.wait_handled(10);
        assert!(!over.load(Ordering::Relaxed), "the others had to wait for the end of the flood");
        let _ = control.shutdown(Shutdown::Both);
        writer.join().unwrap();
        reader.join().unwrap();
    }
}

/// A handler that waits for leave for each update, and the leaves.
fn gated(
    server: ringhook::ServerBuilder,
    handled: &support::Handled,
) -> (ringhook::ServerBuilder, mpsc::Sender<()>) {
    let (leave, leaves) = mpsc::channel();
    let leaves = Mutex::new(leaves);
    let handled = handled.clone();
    let server = server.handler(move |update: &Update| {
        // Without a sender, everything may pass.
        let _ = leaves.lock().unwrap().recv();
        handled.push(update);
        Outcome::Done
    });
    (server, leave)
}

#[test]
fn a_full_queue_asks_to_come_again_and_loses_and_doubles_nothing() {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        let handled = support::Handled::default();
        let mut leave = None;
        let mut limits = Limits::default();
        limits.queue_updates = 3;
        let server = TestServer::with(|server| {
            let (server, sender) = gated(server.driver(driver).workers(1).limits(limits), &handled);
            leave = Some(sender);
            server
        });
        let leave = leave.unwrap();
        let mut client = server.connect();
        let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
        let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
                    Content-Length: 0\r\n\r\n";
        // One with the handler, two that wait, and the rest comes again.
        for id in 0..10 {
            let response = client.post(&update_of(1, id));
            match response.status {
                200 => acknowledged.push(id),
                status => {
                    assert_eq!((status, &*response.headers["retry-after"]), (503, "1"));
                    refused.push(id);
                }
            }
        }
        assert_eq!(acknowledged, [0, 1, 2]);
        client.send(&request(&update_of(1, refused[0])));
        client.assert_bytes(busy);
        assert_eq!(handled.len(), 0);
        let mut refusals = refused.len() as u64 + 1;
        while !refused.is_empty() {
            leave.send(()).unwrap();
            refused.retain(|id| {
                let status = client.post(&update_of(1, *id)).status;
                refusals += u64::from(status == 503);
                if status == 200 {
                    acknowledged.push(*id);
                }
                status != 200
            });
        }
        drop(leave);
        let report = server.handle.stop();
        // All of one chat, so that there is one order.
        assert_eq!(handled.ids(), acknowledged, "each once, in the order of the answers");
        assert_eq!(report.updates_refused, [(Refusal::Updates, refusals)].into());
        assert_eq!(report.requests_rejected, [(503, refusals)].into());
        assert_eq!((report.updates_handled, report.updates_acknowledged), (10, 10));
        assert_eq!(report.updates_received, 10 + refusals);
        assert_eq!(report.updates_abandoned, 0);
    }
}

#[test]
fn a_panic_in_a_handler_harms_that_update_alone() {
    let handled = support::Handled::default();
    let keep = handled.clone();
    let server = TestServer::with(|server| {
        server.workers(1).handler(move |update: &Update| {
            assert!(update.id().get() % 3 != 0, "a panic that the test asked for");
            keep.push(update);
            Outcome::Done
        })
    });
    let mut client = server.connect();
    for id in 0..9 {
        assert_eq!(client.post(&update(id)).status, 200);
    }
    let report = server.handle.stop();
    assert_eq!(handled.ids(), [1, 2, 4, 5, 7, 8]);
    assert_eq!((report.handler_panics, report.updates_failed), (3, 3));
    assert_eq!((report.updates_handled, report.updates_abandoned), (6, 0));
}

#[test]
fn a_panic_that_panics_again_when_dropped_ends_no_worker() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a second panic that the test asked for");
        }
    }
    let handled = support::Handled::default();
    let keep = handled.clone();
    let server = TestServer::with(|server| {
        server.workers(1).handler(move |update: &Update| {
            if update.id().get() == 1 {
                std::panic::panic_any(Bomb);
            }
            keep.push(update);
            Outcome::Done
        })
    });
    let mut client = server.connect();
    for id in 1..=3 {
        assert_eq!(client.post(&update_of(1, id)).status, 200);
    }
    let report = server.handle.stop();
    assert_eq!(handled.ids(), [2, 3]);
    assert_eq!((report.handler_panics, report.updates_handled), (1, 2));
}

#[test]
fn a_retried_update_comes_again_before_all_later_ones_of_its_chat() {
    let handled = support::Handled::default();
    let keep = handled.clone();
    let server = TestServer::with(|server| {
        server.workers(1).handler(move |update: &Update| {
            let again = update.id().get() == 2 && keep.len() < 4;
            keep.push(update);
            match again {
                true => Outcome::Retry(Duration::from_millis(20)),
                false => Outcome::Done,
            }
        })
    });
    let mut client = server.connect();
    for id in 1..=5 {
        assert_eq!(client.post(&update_of(1, id)).status, 200);
    }
    let report = server.handle.stop();
    assert_eq!(handled.ids(), [1, 2, 2, 2, 2, 3, 4, 5]);
    let all = handled.all();
    assert!(all[1..5].iter().all(|update| *update == all[1]), "the same update, unaltered");
    assert_eq!((report.handler_retries, report.updates_handled), (3, 5));
}

// Who may connect

#[test]
fn who_is_not_on_the_list_is_turned_away_before_tls() {
    for driver in support::drivers() {
        let list = |entries: &[&str]| AllowList::new(entries).unwrap();
        let server = TestServer::with(|server| server.driver(driver).allow(list(&["telegram"])));
        for _ in 0..3 {
            let mut peer = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
            // Nothing was said yet, so nothing was waited for.
            let error = peer.read(&mut [0; 1]).expect_err("an RST");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{driver}");
        }
        let (report, _) = server.stop();
        assert_eq!((report.connections_accepted, report.connections_refused), (3, 3));
        assert_eq!(report.connections_refused_by, BTreeMap::from([(TurnedAway::Address, 3)]));
        assert_eq!((report.handshakes_failed, report.connections_closed.len()), (0, 0));

        // The peer's address has IPv6's form on such a listener, and IPv4's entry fits.
        let list = list(&["telegram", "127.0.0.0/8"]);
        let any = "[::]:0".parse().unwrap();
        let started = TestServer::try_with(|server| server.driver(driver).listen(any).allow(list));
        let Ok(server) = started else { return eprintln!("skipped for IPv6: none here") };
        let addr = (Ipv4Addr::LOCALHOST, server.handle.local_addr().unwrap().port()).into();
        assert_eq!(Client::connect(addr, &server.pki).post(&update(1)).status, 200);
        let (report, _) = server.stop();
        assert_eq!((report.updates_handled, report.connections_refused), (1, 0));
    }
}

// How many may connect

/// Asserts that the server closes a new connection at once, with an RST.
#[track_caller]
fn assert_turned_away(server: &TestServer) {
    let mut peer = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(peer.read(&mut [0; 1]).expect_err("an RST").kind(), ErrorKind::ConnectionReset);
}

/// Connects as soon as the server has room; until then it turns connections away.
fn connect_when_there_is_room(server: &TestServer) -> Client {
    let config = client::config(&server.pki, rustls::ALL_VERSIONS);
    let mut connected = None;
    wait_until("there is room", || {
        connected = Client::try_connect(server.handle.local_addr().unwrap(), config.clone()).ok();
        connected.is_some()
    });
    connected.unwrap()
}

/// Every connection that was accepted was turned away or has ended for a reason.
#[track_caller]
fn assert_all_counted(report: &Report) {
    let ended: u64 = report.connections_closed.values().sum();
    assert_eq!(report.connections_refused, report.connections_refused_by.values().sum::<u64>());
    assert_eq!(report.connections_accepted, report.connections_refused + ended, "{report}");
}

#[test]
fn an_address_has_so_many_connections_and_may_replace_those_it_closes() {
    let mut limits = Limits::default();
    limits.connections_per_address = 3;
    on_each_driver(limits, |server| {
        let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
        assert_turned_away(&server);
        let report = server.handle.report();
        assert_eq!(report.connections_refused_by, BTreeMap::from([(TurnedAway::PerAddress, 1)]));
        drop(clients.pop());
        clients.push(connect_when_there_is_room(&server));
        assert_turned_away(&server);
        for (id, client) in (0..).zip(&mut clients) {
            assert_eq!(client.post(&update(id)).status, 200);
        }
        let (report, handled) = server.stop();
        assert_eq!(handled.len(), 3);
        assert_all_counted(&report);
    });
}

#[test]
fn the_longest_idle_connection_makes_room_for_a_new_one() {
    let mut limits = Limits::default();
    limits.connections = 3;
    // The sweep, which tells the acceptor who is idle, goes by the shortest timeout.
    limits.handshake_timeout = Duration::from_secs(1);
    for driver in support::drivers() {
        let server = TestServer::with(|server| server.driver(driver).limits(limits).shards(2));
        let [mut first, mut second, mut third] = [(); 3].map(|()| server.connect());
        // Not the oldest goes, but who has been idle longest.
        for (id, client) in (1..).zip([&mut second, &mut first, &mut third]) {
            assert_eq!(client.post(&update(id)).status, 200, "{driver}");
            // One has been idle so much longer than the next.
            thread::sleep(Duration::from_millis(50));
        }
        assert_turned_away(&server);
        let mut newcomer = connect_when_there_is_room(&server);
        second.assert_clean_end();
        for (id, client) in (4..).zip([&mut first, &mut third, &mut newcomer]) {
            assert_eq!(client.post(&update(id)).status, 200, "{driver}");
        }
        let (report, handled) = server.stop();
        assert_eq!(handled.len(), 6);
        assert_eq!(closed(&report, CloseReason::Displaced), 1);
        assert!(report.connections_refused_by.contains_key(&TurnedAway::Connections), "{report}");
        assert_all_counted(&report);
    }
}

#[test]
fn who_is_at_work_makes_no_room() {
    let mut limits = Limits::default();
    limits.connections = 2;
    on_each_driver(limits, |server| {
        // A request that is not whole, and a handshake that has not begun.
        let mut at_work = server.connect();
        let bytes = request(&update(1));
        at_work.send(&bytes[..40]);
        let silent = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
        // Sweeps in which they could be taken for idle.
        thread::sleep(Duration::from_millis(2_500));
        assert_turned_away(&server);
        at_work.send(&bytes[40..]);
        assert_eq!(at_work.response().status, 200);
        drop(silent);
        let mut next = connect_when_there_is_room(&server);
        assert_eq!(next.post(&update(2)).status, 200);
        let (report, _) = server.stop();
        assert_eq!((report.updates_handled, closed(&report, CloseReason::Displaced)), (2, 0));
        assert_all_counted(&report);
    });
}
