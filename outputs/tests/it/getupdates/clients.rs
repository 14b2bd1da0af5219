//! Clients that are slow, broken or too many.

use std::{net::TcpStream, time::Duration};

use ringhook_outputs::getupdates::GetUpdatesSettings;

use crate::support::{
    poll::{NONE, PollBench, TOKEN},
    wait_until,
};

#[test]
fn further_connections_wait_until_one_ends() {
    let bench = PollBench::start(GetUpdatesSettings::new().connections(2));
    let (mut first, second) = (bench.client(), bench.client());
    bench.wait("both are there", |status| status.connections == 2);
    let mut third = bench.client();
    third.send("GET", &format!("/bot{TOKEN}/getUpdates"), "", b"");
    assert_eq!(first.poll("offset=1"), NONE);
    assert_eq!(bench.status().polls, 1);
    drop(second);
    assert_eq!(third.receive().ids(), NONE);
}

#[test]
fn what_is_no_request_or_too_long_is_refused() {
    let bench = PollBench::start(GetUpdatesSettings::new());
    let path = format!("/bot{TOKEN}/getUpdates");
    let json = "Content-Type: application/json\r\n";
    let long = vec![b' '; 100_000];
    bench
        .client()
        .request("POST", &path, json, &long)
        .assert_error(413, "Request Entity Too Large");
    bench.client().request("PUT", &path, json, b"").assert_error(405, "Method Not Allowed");
    let mut client = bench.client();
    client.write(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n");
    assert_eq!(client.receive().status, 400);
    let mut client = bench.client();
    client.write(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(150_000)).as_bytes());
    assert_eq!(client.receive().status, 431);
    bench.wait("all of them are gone", |status| status.connections == 0);
}

#[test]
fn clients_that_end_anywhere_leave_nothing() {
    let bench = PollBench::start(GetUpdatesSettings::new());
    (1..=50).for_each(|id| bench.send(id, id));
    bench.wait_pending(50);
    let path = format!("/bot{TOKEN}/getUpdates?timeout=50&offset=");
    let request = format!("GET {path}7 HTTP/1.1\r\nHost: x\r\n\r\n");
    for end in 0..=request.len() {
        bench.client().write(&request.as_bytes()[..end]);
    }
    wait_until("their connections are gone", || bench.status().connections == 0);
    let mut client = bench.client();
    let all: Vec<i64> = (1..=50).collect();
    assert_eq!(client.poll(""), all);
    assert_eq!(bench.server.report().updates_handled, 0);
}

#[test]
fn polls_that_wait_are_answered_at_the_end() {
    let settings = GetUpdatesSettings::new().quiet_time(Duration::from_millis(10));
    let bench = PollBench::start(settings);
    let mut client = bench.client();
    client.send("GET", &format!("/bot{TOKEN}/getUpdates?timeout=50"), "", b"");
    bench.wait("it waits", |status| status.polls == 1);
    let address = bench.address;
    bench.stop();
    assert_eq!(client.receive().ids(), NONE);
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
}
