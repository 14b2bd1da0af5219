//! Each limit on connections and requests: what happens at it, what does not happen below it, and
//! where it is counted.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use ringhook::{
    Limits, Report,
    report::{CloseReason, TurnedAway},
};

use crate::support::{
    self, PATH, SECRET, TestServer, client::Client, on_each_driver, request, update, wait_until,
};

/// A timeout short enough to be waited for.
const SHORT: Duration = Duration::from_millis(300);
/// One that does not pass while a test lasts.
const LONG: Duration = Duration::from_secs(600);

/// Limits whose timeouts play no part.
fn lenient() -> Limits {
    support::timeouts(LONG)
}

fn closed(report: &Report, reason: CloseReason) -> u64 {
    report.connections_closed.get(&reason).copied().unwrap_or_default()
}

fn on_one_shard(limits: Limits, test: impl Fn(TestServer)) {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        test(TestServer::with(|server| server.driver(driver).shards(1).limits(limits)));
    }
}

/// A connection that never begins its handshake.
fn silent(server: &TestServer) -> TcpStream {
    let socket = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    socket
}

#[track_caller]
fn assert_ended(mut socket: TcpStream) {
    // Closed with or without an RST: no handshake has begun, so there is no last word to lose.
    if let Ok(n) = socket.read(&mut [0; 1]) {
        assert_eq!(n, 0, "a byte came");
    }
}

/// A head that announces a body of `length` bytes.
fn head(length: usize) -> Vec<u8> {
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Telegram-Bot-Api-Secret-Token: {SECRET}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn beyond_its_handshakes_a_shard_turns_connections_away() {
    let mut limits = lenient();
    limits.handshakes = 2;
    limits.handshakes_waiting = 0;
    on_one_shard(limits, |server| {
        let (_first, second) = (silent(&server), silent(&server));
        assert_ended(silent(&server));
        wait_until("it is counted", || server.handle.report().connections_refused == 1);
        let report = server.handle.report();
        assert_eq!(report.connections_refused_by, [(TurnedAway::Handshakes, 1)].into());
        assert!(report.connections_closed.is_empty(), "{report:?}");
        // A place that is given back is taken again.
        drop(second);
        wait_until("there is room", || {
            closed(&server.handle.report(), CloseReason::HandshakeFailed) == 1
        });
        let mut client = server.connect();
        assert_eq!(client.post(&update(1)).status, 200);
        // The handshake is over, and its place free, however long the connection lasts.
        assert_eq!(server.connect().post(&update(2)).status, 200);
    });
}

#[test]
fn a_connection_waits_for_its_handshake_and_slow_ones_give_way() {
    let mut limits = lenient();
    limits.handshakes = 2;
    limits.handshakes_waiting = 1;
    on_one_shard(limits, |server| {
        let slow = [silent(&server), silent(&server)];
        let start = Instant::now();
        assert_eq!(server.connect().post(&update(1)).status, 200);
        assert!(start.elapsed() >= Duration::from_millis(900), "they had their second");
        slow.into_iter().for_each(assert_ended);
        let (report, _) = server.stop();
        assert_eq!(closed(&report, CloseReason::HandshakeDisplaced), 2);
        assert_eq!(report.handshakes_failed, 2);
        assert_eq!(report.connections_refused, 0);
    });
}

#[test]
fn the_wait_for_a_handshake_is_a_part_of_its_time() {
    let mut limits = lenient();
    limits.handshakes = 1;
    limits.handshakes_waiting = 2;
    limits.handshake_timeout = SHORT;
    on_one_shard(limits, |server| {
        let start = Instant::now();
        [silent(&server), silent(&server), silent(&server)].into_iter().for_each(assert_ended);
        assert!(start.elapsed() >= SHORT);
        wait_until("all are counted", || {
            closed(&server.handle.report(), CloseReason::HandshakeTimeout) == 3
        });
        assert_eq!(server.handle.report().handshakes_failed, 3);
        assert_eq!(server.connect().post(&update(1)).status, 200);
    });
}

#[test]
fn a_stop_does_not_wait_for_those_that_wait() {
    let mut limits = lenient();
    limits.handshakes = 1;
    limits.handshakes_waiting = 10;
    on_one_shard(limits, |server| {
        let sockets = [silent(&server), silent(&server), silent(&server)];
        wait_until("all are there", || server.handle.report().connections_accepted == 3);
        let (report, _) = server.stop();
        sockets.into_iter().for_each(assert_ended);
        let ended =
            closed(&report, CloseReason::Drained) + closed(&report, CloseReason::HandshakeTimeout);
        assert_eq!((ended, closed(&report, CloseReason::HandshakeTimeout)), (3, 1), "{report:?}");
    });
}

#[test]
fn head_and_body_have_each_their_own_time() {
    let mut limits = lenient();
    limits.head_timeout = SHORT;
    on_each_driver(limits, |server| {
        let (mut client, body) = (server.connect(), update(1));
        client.send(&head(body.len()));
        // Longer than the other one may take.
        thread::sleep(2 * SHORT);
        client.send(body.as_bytes());
        assert_eq!(client.response().status, 200, "the body has more time");
        client.send(b"POST");
        assert_eq!(client.response().status, 408);
        client.assert_clean_end();
        let (report, _) = server.stop();
        assert_eq!(closed(&report, CloseReason::HeadTimeout), 1);
        assert_eq!(report.requests_rejected, [(408, 1)].into());
    });
    let mut limits = lenient();
    limits.body_timeout = SHORT;
    on_each_driver(limits, |server| {
        let (mut client, bytes) = (server.connect(), request(&update(1)));
        let (first, second) = bytes.split_at(20);
        client.send(first);
        // Longer than the other one may take.
        thread::sleep(2 * SHORT);
        client.send(second);
        assert_eq!(client.response().status, 200, "the head has more time");
        client.send(&head(10));
        assert_eq!(client.response().status, 408);
        client.assert_clean_end();
        let (report, _) = server.stop();
        assert_eq!(closed(&report, CloseReason::BodyTimeout), 1);
        assert_eq!(report.requests_rejected, [(408, 1)].into());
    });
}

#[test]
fn a_body_that_drips_is_ended_before_its_time() {
    let mut limits = lenient();
    limits.body_bytes_per_second = 20_000;
    limits.body_grace = SHORT;
    on_each_driver(limits, |server| {
        let mut idle = server.connect();
        // On average it is fast enough, whatever its last bytes take.
        let mut steady = server.connect();
        let body = support::long(1, 1, 600_000);
        let (much, little) = body.as_bytes().split_at(500_000);
        steady.send(&head(body.len()));
        steady.send(much);

        let mut slow = server.connect();
        let start = Instant::now();
        slow.send(&head(1_000_000));
        slow.stream.sock.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut answer = [0; 1];
        while slow.stream.read(&mut answer).is_err() {
            assert!(start.elapsed() < support::PATIENCE, "it goes on for ever");
            let _ = slow.stream.write(b"x");
        }
        assert!(start.elapsed() >= SHORT);
        slow.assert_bytes(
            "TTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        let so_far = server.handle.report();
        assert_eq!(closed(&so_far, CloseReason::BodyTimeout), 0);
        wait_until("it is closed", || closed(&server.handle.report(), CloseReason::BodyRate) == 1);

        steady.send(little);
        assert_eq!(steady.response().status, 200);
        // Who asks for nothing hears nothing.
        idle.assert_silent(SHORT);
        assert_eq!(idle.post(&update(2)).status, 200);
        let (report, handled) = server.stop();
        assert_eq!(handled.len(), 2);
        assert_eq!(report.requests_rejected, [(408, 1)].into());
    });
}

/// Bytes of a record that never becomes whole are the beginning of a request, however slowly they
/// come.
#[test]
fn a_record_that_drips_has_the_time_of_a_head() {
    let mut limits = lenient();
    limits.head_timeout = SHORT;
    on_each_driver(limits, |server| {
        let mut client = server.connect();
        let Client { stream, .. } = &mut client;
        stream.conn.writer().write_all(&request(&update(1))).unwrap();
        let mut record = Vec::new();
        stream.conn.write_tls(&mut record).unwrap();
        stream.sock.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut rest = record.iter();
        let outcome = loop {
            let _ = stream.sock.write(&[*rest.next().expect("the end comes before the record's")]);
            match stream.sock.read(&mut [0; 1]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                outcome => break outcome,
            }
        };
        // The 408, or an RST behind it.
        assert!(outcome.is_err() || outcome.is_ok_and(|n| n == 1));
        wait_until("it is closed", || {
            closed(&server.handle.report(), CloseReason::HeadTimeout) == 1
        });
        assert_eq!(server.handle.report().requests_rejected, [(408, 1)].into());
    });
}

#[test]
fn the_last_request_of_a_connection_is_told_so() {
    let mut limits = lenient();
    limits.requests_per_connection = 3;
    on_each_driver(limits, |server| {
        let mut client = server.connect();
        assert!(!client.post(&update(1)).headers.contains_key("connection"));
        client.send(b"GET /absent HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 404, "an answer like any other");
        // What comes behind the last one is not looked at, and the sender can tell.
        client.send(&[request(&update(2)), request(&update(3))].concat());
        let last = client.response();
        assert_eq!((last.status, last.headers["connection"].as_str()), (200, "close"));
        client.assert_clean_end();
        let (report, handled) = server.stop();
        assert_eq!(handled.ids(), [1, 2]);
        assert_eq!(closed(&report, CloseReason::RequestLimit), 1);
    });
}

#[test]
fn a_session_takes_other_limits_between_two_requests() {
    use ringhook::internals::http::{HttpLimits, HttpSession, Status, Step};
    let narrow = HttpLimits { body_bytes: 10, ..HttpLimits::default() };
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    let mut session = HttpSession::new(HttpLimits::default());
    let (read, step) = session.advance(request);
    assert!(matches!(step, Step::Head(_)), "{step:?}");
    session.discard_body();
    assert_eq!(session.advance(&request[read..]), (11, Step::Complete));
    session.set_limits(narrow);
    let (_, step) = session.advance(request);
    assert_eq!(step, Step::Reject(Status::PayloadTooLarge));
}
