//! What a run counts is what happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use loadtest::{Driver, Failures, PayloadGenerator, Rate, Report, Stop, TlsVersion, Trust, run};
use support::{OK, Reply, Server, UNAVAILABLE};

fn ok(_: u64) -> Reply {
    Reply::Write(OK)
}

/// What must be true of every run, whatever the server did.
fn check(report: &Report) {
    let answered: u64 = report.statuses.values().sum();
    assert_eq!(report.planned, answered + report.failures.total(), "{report}");
    assert_eq!(report.latency_us.count(), answered, "{report}");
    assert_eq!(report.send_to_answer_us.count(), answered, "{report}");
    assert_eq!(report.lateness_us.count(), report.sent, "{report}");
    let ids = report.ids.as_ref().unwrap();
    assert_eq!(ids.sent.len() as u64, report.sent);
    assert_eq!(ids.acknowledged.len() as u64, report.acknowledged);
    let sent: BTreeSet<_> = ids.sent.iter().collect();
    assert_eq!(sent.len(), ids.sent.len(), "an update was sent twice");
    assert!(ids.acknowledged.iter().all(|id| sent.contains(id)));
}

#[test]
fn every_update_arrives_once_with_its_own_bytes() {
    for driver in [Driver::Auto, Driver::Epoll] {
        for tls in [None, Some(TlsVersion::V1_2), Some(TlsVersion::V1_3)] {
            let server = Server::tls(ok);
            let mut options = server.options();
            options.driver = driver;
            options.tls = tls;
            options.connections = 8;
            options.rate = Rate::PerSecond(2000.0);
            options.stop = Stop::Requests(300);
            options.first_update_id = 5_000_000_000;
            options.secret_token = Some("s3cret".to_owned());
            let report = run(&options).unwrap();
            check(&report);
            assert!(report.is_ok(), "{report}");
            assert_eq!(report.statuses, BTreeMap::from([(200, 300)]));
            assert_eq!((report.connections, server.connections()), (8, 8));
            assert_eq!((report.handshakes_full, report.handshakes_resumed), (8, 0));
            let ids: Vec<u64> = (5_000_000_000..5_000_000_300).collect();
            assert_eq!(server.update_ids(), ids);
            let mut acknowledged = report.ids.unwrap().acknowledged;
            acknowledged.sort_unstable();
            assert_eq!(acknowledged, ids);

            let payload = PayloadGenerator::new(&options.payload);
            for seen in server.seen() {
                let mut body = Vec::new();
                payload.write(&mut body, seen.update_id());
                assert_eq!(seen.body, body);
                let head = format!(
                    "POST /hook HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\
                     X-Telegram-Bot-Api-Secret-Token: s3cret\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n",
                    server.port,
                    body.len()
                );
                assert_eq!(seen.head, head);
            }
        }
    }
}

#[test]
fn plain_http_works_too_in_a_closed_loop() {
    let server = Server::plain(ok);
    let mut options = server.options();
    options.connections = 4;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(1000);
    let report = run(&options).unwrap();
    check(&report);
    assert!(report.is_ok() && report.planned == 1000, "{report}");
    assert_eq!(server.update_ids(), (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_run_of_some_time_makes_as_many_requests_as_the_rate_says() {
    let server = Server::plain(ok);
    let mut options = server.options();
    options.rate = Rate::PerSecond(500.0);
    options.stop = Stop::After(Duration::from_millis(600));
    let report = run(&options).unwrap();
    check(&report);
    assert_eq!((report.planned, report.acknowledged), (300, 300), "{report}");
    assert!(report.duration_s >= 0.598, "{report}");
}

/// The point of the open loop: one stall is felt by all that were due meanwhile.
#[test]
fn a_stall_shows_in_the_latency_of_everything_that_was_due() {
    const STALL: Duration = Duration::from_millis(300);
    let server = Server::plain(|number| match number {
        100 => Reply::WriteAfter(STALL, OK),
        _ => Reply::Write(OK),
    });
    let mut options = server.options();
    options.connections = 1;
    options.rate = Rate::PerSecond(1000.0);
    options.stop = Stop::Requests(1000);
    let report = run(&options).unwrap();
    check(&report);
    assert!(report.is_ok(), "{report}");
    let stalled = STALL * 9 / 10;
    assert!(report.latency_us.max() >= stalled, "{report}");
    assert!(report.latency_us.quantile(0.999) >= STALL / 2, "{report}");
    // About 150 requests were due in the first half of the stall, so they waited longer than half.
    assert!(report.latency_us.count_above(STALL / 2) >= 100, "{report}");
    // The server itself was slow with one only.
    assert_eq!(report.send_to_answer_us.count_above(stalled), 1, "{report}");
    // And the generator is not to blame for the waiting.
    assert_eq!(report.lateness_us.count_above(stalled), 0, "{report}");
}

#[test]
fn connections_take_turns() {
    let server = Server::plain(ok);
    let mut options = server.options();
    options.connections = 10;
    options.rate = Rate::PerSecond(200.0);
    options.stop = Stop::Requests(20);
    let report = run(&options).unwrap();
    check(&report);
    assert!(report.is_ok(), "{report}");
    let mut served = [0; 10];
    for seen in server.seen() {
        served[seen.connection as usize] += 1;
    }
    // Two each, unless the machine was too busy for that. Last in, first out gives one nearly all.
    assert!(served.iter().all(|count| (1..=4).contains(count)), "{served:?}");
}

#[test]
fn refusals_are_counted_by_status() {
    let server = Server::tls(|number| match number % 5 {
        0 => Reply::Write(UNAVAILABLE),
        1 => Reply::Write("HTTP/1.1 204 No Content\r\n\r\n"),
        _ => Reply::Write(OK),
    });
    let mut options = server.options();
    options.connections = 5;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(500);
    let report = run(&options).unwrap();
    check(&report);
    assert_eq!(report.statuses, BTreeMap::from([(200, 300), (204, 100), (503, 100)]));
    assert_eq!((report.acknowledged, report.connections), (400, 5));
    assert!(!report.is_ok());
}

#[test]
fn a_server_that_hangs_up_costs_the_request_and_a_new_connection() {
    for tls in [false, true] {
        let script = |number| if number % 10 == 9 { Reply::Close } else { Reply::Write(OK) };
        let server = if tls { Server::tls(script) } else { Server::plain(script) };
        let mut options = server.options();
        options.connections = 1;
        options.rate = Rate::Max;
        options.stop = Stop::Requests(100);
        let report = run(&options).unwrap();
        check(&report);
        assert_eq!(report.failures, Failures { closed: 10, ..Default::default() }, "{report}");
        // Nothing was left to send after the last one.
        assert_eq!((report.acknowledged, report.connections), (90, 10), "{report}");
        assert!(!report.is_ok());
    }
}

#[test]
fn an_announced_close_costs_nothing_but_the_connection() {
    let server = Server::tls(|_| {
        Reply::WriteAndClose("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let mut options = server.options();
    options.connections = 2;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(20);
    let report = run(&options).unwrap();
    check(&report);
    assert!(report.is_ok(), "{report}");
    assert_eq!(server.connections(), 20);
}

/// A server may close an idle connection at any time; Telegram takes a new one and so do we.
#[test]
fn a_close_while_idle_is_no_failure() {
    for tls in [false, true] {
        let script = |_| Reply::WriteAndClose(OK);
        let server = if tls { Server::tls(script) } else { Server::plain(script) };
        let mut options = server.options();
        options.connections = 1;
        options.rate = Rate::PerSecond(10.0);
        options.stop = Stop::Requests(6);
        // On a busy machine the server's thread may be held up between its answer and the close:
        // then a request was on its way already, which is a failure indeed.
        let quiet = (0..10).map(|_| run(&options).unwrap()).inspect(check).find(Report::is_ok);
        let report = quiet.expect("ten times a request was on its way");
        assert_eq!(report.connections, 6, "{report}");
    }
}

#[test]
fn silence_is_a_timeout() {
    for driver in [Driver::Auto, Driver::Epoll] {
        let server = Server::tls(|number| match number {
            0..3 => Reply::Silence,
            _ => Reply::Write(OK),
        });
        let mut options = server.options();
        options.driver = driver;
        options.connections = 3;
        // A handshake has this time as well, however busy the machine is.
        options.timeout = Duration::from_secs(1);
        options.rate = Rate::Max;
        options.stop = Stop::Requests(9);
        let report = run(&options).unwrap();
        check(&report);
        assert_eq!(report.failures, Failures { timeout: 3, ..Default::default() }, "{report}");
        assert_eq!((report.acknowledged, report.connections), (6, 6), "{report}");
    }
}

/// A body that lasts until the server closes: the own shutdown after the timeout is no such end.
#[test]
fn a_body_that_never_ends_is_a_timeout() {
    for server in [
        Server::plain(|_| Reply::Write("HTTP/1.1 200 OK\r\n\r\nand more")),
        Server::tls(|_| Reply::Write("HTTP/1.1 200 OK\r\n\r\nand more")),
    ] {
        let mut options = server.options();
        options.connections = 3;
        options.timeout = Duration::from_secs(1);
        options.rate = Rate::Max;
        options.stop = Stop::Requests(3);
        let report = run(&options).unwrap();
        check(&report);
        assert_eq!(report.failures, Failures { timeout: 3, ..Default::default() }, "{report}");
        assert!(report.statuses.is_empty() && report.acknowledged == 0, "{report}");
    }
    // One that the server ends is whole.
    let server = Server::plain(|_| Reply::WriteAndClose("HTTP/1.1 200 OK\r\n\r\nand more"));
    let mut options = server.options();
    options.stop = Stop::Requests(3);
    assert_eq!(run(&options).unwrap().acknowledged, 3);
}

#[test]
fn what_no_connection_had_time_for_is_unsent() {
    let server = Server::plain(|_| Reply::Silence);
    let mut options = server.options();
    options.connections = 1;
    options.timeout = Duration::from_millis(200);
    options.rate = Rate::PerSecond(1000.0);
    options.stop = Stop::Requests(100);
    let report = run(&options).unwrap();
    check(&report);
    assert_eq!(report.planned, 100, "{report}");
    assert_eq!(report.failures.timeout, report.sent, "{report}");
    assert!((1..=3).contains(&report.failures.timeout), "{report}");
    assert!(report.duration_s < 5.0, "{report}");
}

#[test]
fn a_server_that_is_not_there_fails_every_request() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::plain(ok);
    let mut options = server.options();
    options.target = format!("http://127.0.0.1:{port}/").parse().unwrap();
    options.connections = 4;
    options.rate = Rate::PerSecond(1000.0);
    options.stop = Stop::Requests(8);
    let report = run(&options).unwrap();
    check(&report);
    assert_eq!(report.failures, Failures { connect: 8, ..Default::default() }, "{report}");
    assert_eq!((report.sent, report.connections), (0, 0), "{report}");
}

#[test]
fn a_certificate_that_is_not_trusted_fails_the_handshake() {
    let (server, other) = (Server::tls(ok), Server::tls(ok));
    let mut options = server.options();
    options.connections = 1;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(2);
    options.trust = Trust::pem(other.certificate().as_bytes()).unwrap();
    let report = run(&options).unwrap();
    check(&report);
    assert_eq!(report.failures, Failures { tls: 2, ..Default::default() }, "{report}");
    assert!(server.seen().is_empty());
    for trust in [Trust::Anything, Trust::Unchecked] {
        options.trust = trust;
        assert!(run(&options).unwrap().is_ok());
    }
    options.trust = Trust::Nothing;
    assert!(run(&options).unwrap_err().is_usage());
}

#[test]
fn what_is_no_http_is_a_bad_response() {
    let server = Server::plain(|number| match number {
        3 => Reply::Write("220 smtp.example.org ESMTP\r\n"),
        _ => Reply::Write(OK),
    });
    let mut options = server.options();
    options.connections = 1;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(6);
    let report = run(&options).unwrap();
    check(&report);
    assert_eq!(report.failures, Failures { bad_response: 1, ..Default::default() }, "{report}");
    assert_eq!((report.acknowledged, report.connections), (5, 2), "{report}");
}

#[test]
fn churn_makes_a_connection_for_each_request() {
    let server = Server::tls(ok);
    let mut options = server.options();
    options.churn = true;
    options.connections = 3;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(30);
    let report = run(&options).unwrap();
    check(&report);
    assert!(report.is_ok(), "{report}");
    assert_eq!((report.handshakes_full, report.handshakes_resumed), (30, 0), "{report}");
    assert_eq!(report.handshake_us.count(), 30);
    options.resume = true;
    options.stop = Stop::Requests(300);
    options.connections = 30;
    let report = run(&options).unwrap();
    // Those that begin together have nothing to resume yet; each of them leaves a ticket to the
    // next.
    assert!(report.is_ok() && report.handshakes_full <= 30, "{report}");
    assert_eq!(report.handshakes_full + report.handshakes_resumed, 300, "{report}");
}

#[test]
fn runs_share_nothing() {
    let servers = [(); 3].map(|()| Server::tls(ok));
    thread::scope(|scope| {
        let runs = servers.each_ref().map(|server| {
            let mut options = server.options();
            options.connections = 4;
            options.rate = Rate::Max;
            options.stop = Stop::Requests(200);
            scope.spawn(move || run(&options).unwrap())
        });
        for run in runs {
            let report = run.join().unwrap();
            check(&report);
            assert!(report.is_ok() && report.planned == 200, "{report}");
        }
    });
}

#[test]
fn a_run_can_be_ended_early() {
    let server = Server::plain(ok);
    let mut options = server.options();
    options.stop = Stop::After(Duration::from_secs(3600));
    let cancel = options.cancel.clone();
    let running = thread::spawn(move || run(&options).unwrap());
    while server.seen().len() < 20 {
        thread::yield_now();
    }
    cancel.store(true, Ordering::Relaxed);
    let report = running.join().unwrap();
    check(&report);
    assert_eq!(report.acknowledged, report.sent, "{report}");
    assert_eq!(server.seen().len() as u64, report.sent);
}
