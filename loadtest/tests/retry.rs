//! What fails is sent again as Telegram does it, and what is sent twice comes twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use loadtest::{ChatKey, Driver, Failures, Options, Rate, Report, Retry, Stop, chat_of, run};
use socket2::{Domain, Type};
use support::{OK, Reply, Seen, Server, UNAVAILABLE};

const COME_AGAIN_IN_2_S: &str =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";

/// A little work, so that requests overlap if they may.
const WORK: Duration = Duration::from_millis(2);

fn ok() -> Reply {
    Reply::WriteAfter(WORK, OK)
}

/// A run against this server with retries that wait `scale` times less than Telegram's.
fn options(server: &Server, scale: f64) -> Options {
    let mut options = server.options();
    options.connections = 16;
    options.rate = Rate::PerSecond(2000.0);
    options.stop = Stop::Requests(600);
    options.payload.chats = 40;
    options.retry = Some(Retry { scale });
    options
}

/// What must be true of every run with retries that ends well.
fn check(report: &Report, options: &Options, server: &Server) {
    assert!(report.is_ok(), "{report}");
    let Stop::Requests(planned) = options.stop else { panic!("{:?}", options.stop) };
    let retries = report.retries.as_ref().unwrap();
    assert_eq!((report.planned, report.acknowledged, retries.pending), (planned, planned, 0));
    let answered: u64 = report.statuses.values().sum();
    assert_eq!(retries.attempts, answered + report.failures.total(), "{report}");
    let by_attempt = retries.statuses.iter().flat_map(BTreeMap::values).sum::<u64>();
    assert_eq!(by_attempt, answered, "{report}");
    assert_eq!(report.latency_us.count(), planned, "{report}");
    let first = options.first_update_id;
    let ids: BTreeSet<u64> = (first..first + planned).collect();
    let acknowledged = &report.ids.as_ref().unwrap().acknowledged;
    assert_eq!(acknowledged.len(), ids.len());
    assert_eq!(acknowledged.iter().copied().collect::<BTreeSet<_>>(), ids);
    check_order(server, options);
}

/// Of each chat, one update after the other: none arrives before the last was answered with 2xx.
fn check_order(server: &Server, options: &Options) {
    let mut chats: BTreeMap<ChatKey, Vec<Seen>> = BTreeMap::new();
    for seen in server.seen() {
        chats.entry(chat_of(&options.payload, seen.update_id())).or_default().push(seen);
    }
    for (chat, list) in chats {
        for pair in list.windows(2) {
            let (one, two) = (&pair[0], &pair[1]);
            if one.update_id() == two.update_id() {
                continue;
            }
            let ids = (one.update_id(), two.update_id());
            assert!(ids.0 < ids.1, "{chat:?}: {ids:?}");
            let acknowledged = list.iter().any(|seen| {
                let done = |(status, at): (u16, Instant)| status == 200 && at <= two.arrived;
                seen.update_id() == ids.0 && seen.answered.is_some_and(done)
            });
            assert!(acknowledged, "{chat:?}: {} came while {} was not done", ids.1, ids.0);
        }
    }
}

/// How long after an answer, or else an arrival, the same update came again.
fn gaps(server: &Server, update_id: u64) -> Vec<Duration> {
    let list: Vec<Seen> =
        server.seen().into_iter().filter(|seen| seen.update_id() == update_id).collect();
    let end = |seen: &Seen| seen.answered.map_or(seen.arrived, |(_, at)| at);
    list.windows(2).map(|pair| pair[1].arrived.duration_since(end(&pair[0]))).collect()
}

#[test]
fn refused_updates_come_again_when_the_server_says_so() {
    for driver in [Driver::Auto, Driver::Epoll] {
        let server = Server::from_requests(|seen| match (seen.update_id() % 5, seen.earlier) {
            (0, 0) => Reply::Write(COME_AGAIN_IN_2_S),
            (0, 1) if seen.update_id() % 25 == 0 => Reply::Write(UNAVAILABLE),
            _ => ok(),
        });
        let mut options = options(&server, 10.0);
        options.driver = driver;
        options.first_update_id = 1000;
        let report = run(&options).unwrap();
        check(&report, &options, &server);
        assert_eq!(report.statuses, BTreeMap::from([(200, 600), (503, 144)]), "{report}");
        let retries = report.retries.as_ref().unwrap();
        assert_eq!((retries.attempts, retries.retried), (744, 120), "{report}");
        assert_eq!(
            retries.statuses,
            [
                BTreeMap::from([(200, 480), (503, 120)]),
                BTreeMap::from([(200, 96), (503, 24)]),
                BTreeMap::from([(200, 24)]),
            ]
        );
        for id in (1000..1600).step_by(5) {
            // The second refusal did not name a time, so the table goes on: 2 s.
            for gap in gaps(&server, id) {
                assert!(gap >= Duration::from_millis(200), "{id}: {gap:?}");
            }
        }
        // Latency runs from when the update was due, through all tries.
        assert!(report.latency_us.count_above(Duration::from_millis(199)) >= 120, "{report}");
    }
}

#[test]
fn lost_connections_cost_delays_but_no_updates() {
    for tls in [false, true] {
        let server = match tls {
            false => Server::from_requests(|seen| match (seen.update_id() % 20, seen.earlier) {
                (7, 0..3) => Reply::Close,
                _ => ok(),
            }),
            true => Server::tls(|number| if number % 9 == 5 { Reply::Close } else { ok() }),
        };
        let options = options(&server, 20.0);
        let report = run(&options).unwrap();
        check(&report, &options, &server);
        let closed = report.failures.closed;
        assert_eq!(report.failures, Failures { closed, ..Default::default() }, "{report}");
        if tls {
            assert!(closed >= 60, "{report}");
            continue;
        }
        assert_eq!((closed, report.retries.unwrap().retried), (90, 30));
        for id in (7..600).step_by(20) {
            let gaps = gaps(&server, id);
            assert_eq!(gaps.len(), 3);
            assert!(gaps[1] >= Duration::from_millis(100), "{id}: {gaps:?}");
            assert!(gaps[2] >= Duration::from_millis(200), "{id}: {gaps:?}");
        }
    }
}

#[test]
fn delays_grow_as_the_table_says() {
    let server = Server::from_requests(|seen| match (seen.update_id(), seen.earlier) {
        (3, 0..8) => Reply::Write(UNAVAILABLE),
        _ => ok(),
    });
    let mut options = options(&server, 100.0);
    options.stop = Stop::Requests(20);
    let report = run(&options).unwrap();
    check(&report, &options, &server);
    let gaps = gaps(&server, 3);
    let table = [0, 20, 40, 80, 160, 320, 600, 600].map(Duration::from_millis);
    assert_eq!(gaps.len(), table.len());
    for (gap, least) in gaps.iter().zip(table) {
        assert!(*gap >= least, "{gaps:?}");
    }
    let all: Duration = table.iter().sum();
    assert!(report.latency_us.max() >= all, "{report}");
    assert_eq!(report.retries.unwrap().statuses.len(), 9);
}

#[test]
fn silence_is_tried_again_after_the_timeout() {
    let server = Server::from_requests(|seen| match (seen.update_id(), seen.earlier) {
        (1 | 2, 0) => Reply::Silence,
        _ => ok(),
    });
    let mut options = options(&server, 10.0);
    // Long enough after the end for the second tries, and long enough for a busy machine.
    options.timeout = Duration::from_millis(2500);
    options.rate = Rate::PerSecond(50.0);
    options.stop = Stop::Requests(100);
    let report = run(&options).unwrap();
    check(&report, &options, &server);
    assert_eq!(report.failures, Failures { timeout: 2, ..Default::default() }, "{report}");
}

/// One chat is refused for good. The rest must not notice, and the run must end.
#[test]
fn a_chat_that_waits_holds_up_no_other() {
    const NEVER: &str = "HTTP/1.1 429 No\r\nRetry-After: 3000\r\nContent-Length: 0\r\n\r\n";
    for rate in [Rate::PerSecond(2000.0), Rate::Max] {
        let payload = loadtest::PayloadOptions { chats: 40, ..Default::default() };
        let chat = chat_of(&payload, 1);
        assert!(matches!(chat, ChatKey::Chat(_)));
        let blocked = move |id| chat_of(&payload, id) == chat;
        let count = (1..=600).filter(|id| blocked(*id)).count() as u64;
        let server = Server::from_requests(move |seen| match blocked(seen.update_id()) {
            true => Reply::Write(NEVER),
            false => ok(),
        });
        let mut options = options(&server, 1.0);
        options.rate = rate;
        options.timeout = Duration::from_secs(4);
        let report = run(&options).unwrap();
        check_order(&server, &options);
        assert!(!report.is_ok() && count > 1, "{report}");
        let retries = report.retries.as_ref().unwrap();
        assert_eq!((report.planned, retries.pending), (600, count), "{report}");
        assert_eq!(report.statuses, BTreeMap::from([(200, 600 - count), (429, 1)]), "{report}");
        assert_eq!((retries.attempts, retries.retried), (600 - count + 1, 0), "{report}");
        assert!(report.duration_s >= 4.0 && report.duration_s < 60.0, "{report}");
    }
}

#[test]
fn a_server_that_comes_back_gets_everything() {
    // Nothing listens at first, but the port is ours.
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let target = format!("http://127.0.0.1:{port}/hook").parse().unwrap();
    let mut options = Options::new(target);
    options.keep_ids = true;
    options.connections = 4;
    options.rate = Rate::PerSecond(1000.0);
    options.stop = Stop::Requests(200);
    options.retry = Some(Retry { scale: 20.0 });
    thread::scope(|scope| {
        let running = scope.spawn(|| run(&options).unwrap());
        thread::sleep(Duration::from_millis(400));
        socket.listen(128).unwrap();
        let server = Server::from_requests_on(socket.into(), |_| ok());
        let report = running.join().unwrap();
        check(&report, &options, &server);
        assert!(report.failures.connect > 0, "{report}");
    });
}

#[test]
fn many_chats_in_a_closed_loop() {
    let server = Server::from_requests(|seen| match (seen.update_id() % 50, seen.earlier) {
        (0, 0) => Reply::Write(UNAVAILABLE),
        (1, 0) => Reply::Close,
        _ => Reply::Write(OK),
    });
    let mut options = options(&server, 100.0);
    options.rate = Rate::Max;
    options.payload.chats = 5000;
    options.stop = Stop::Requests(10_000);
    let report = run(&options).unwrap();
    check(&report, &options, &server);
    let chats: BTreeSet<ChatKey> = (1..=10_000).map(|id| chat_of(&options.payload, id)).collect();
    assert!(chats.len() > 2500, "{} chats", chats.len());
    assert_eq!(report.retries.unwrap().retried, 400);
}

#[test]
fn a_run_with_retries_can_be_ended_early() {
    let server = Server::from_requests(|seen| match seen.update_id() % 2 {
        0 => Reply::Write(COME_AGAIN_IN_2_S),
        _ => ok(),
    });
    let mut options = options(&server, 1.0);
    options.stop = Stop::After(Duration::from_secs(3600));
    let cancel = options.cancel.clone();
    let running = thread::spawn(move || run(&options).unwrap());
    while server.seen().len() < 20 {
        thread::yield_now();
    }
    cancel.store(true, Ordering::Relaxed);
    let report = running.join().unwrap();
    let retries = report.retries.as_ref().unwrap();
    assert!(!report.is_ok() && retries.pending > 0, "{report}");
    assert_eq!(retries.pending, report.planned - report.acknowledged, "{report}");
}

/// The updates that came twice: the first and the second request of each.
fn twice(server: &Server) -> Vec<(Seen, Seen)> {
    let mut first: BTreeMap<u64, Seen> = BTreeMap::new();
    let mut pairs = Vec::new();
    for seen in server.seen() {
        match first.remove(&seen.update_id()) {
            Some(earlier) => pairs.push((earlier, seen)),
            None => {
                first.insert(seen.update_id(), seen);
            }
        }
    }
    pairs
}

#[test]
fn copies_come_on_other_connections_together_or_afterwards() {
    for retry in [None, Some(Retry::default())] {
        let server = Server::from_requests(|_| Reply::WriteAfter(Duration::from_millis(10), OK));
        let mut options = options(&server, 1.0);
        options.retry = retry;
        options.duplicates = 0.2;
        let report = run(&options).unwrap();
        assert!(report.is_ok() && report.planned == 600, "{report}");
        let copies = report.copies.as_ref().unwrap();
        assert!((80..160).contains(&copies.planned), "{report}");
        assert_eq!((copies.sent, copies.acknowledged), (copies.planned, copies.planned));
        assert_eq!(copies.statuses, BTreeMap::from([(200, copies.planned)]));
        assert_eq!(copies.failures, Failures::default());
        // They are nowhere else.
        assert_eq!((report.sent, report.latency_us.count()), (600, 600), "{report}");
        assert_eq!(report.statuses, BTreeMap::from([(200, 600)]), "{report}");
        assert_eq!(report.ids.as_ref().unwrap().sent.len(), 600);

        let pairs = twice(&server);
        assert_eq!(pairs.len() as u64, copies.planned);
        assert_eq!(server.seen().len() as u64, 600 + copies.planned);
        let mut together = 0;
        for (one, two) in &pairs {
            assert_eq!(one.body, two.body);
            assert_ne!(one.connection, two.connection, "{}", one.update_id());
            together += u64::from(two.arrived < one.answered.unwrap().1);
        }
        // Half of them, but what is meant to come together may be torn apart on a busy machine.
        assert!(
            (1..copies.planned * 7 / 10).contains(&together),
            "{together} of {pairs}",
            pairs = pairs.len()
        );
        if retry.is_some() {
            check_order(&server, &options);
        }
    }
}

#[test]
fn refused_copies_are_sent_again_only_with_retries() {
    for retry in [None, Some(Retry { scale: 100.0 })] {
        // The second request of each update is refused, and with retries the third taken.
        let server = Server::from_requests(|seen| match seen.earlier {
            1 => Reply::WriteAfter(WORK, UNAVAILABLE),
            _ => ok(),
        });
        let mut options = options(&server, 1.0);
        options.retry = retry;
        options.duplicates = 0.1;
        let report = run(&options).unwrap();
        let copies = report.copies.as_ref().unwrap();
        let refused = report.statuses.get(&503).copied().unwrap_or(0)
            + copies.statuses.get(&503).copied().unwrap_or(0);
        // Where a copy overtook its original, it was the original that was refused.
        assert_eq!(refused, copies.planned, "{report}");
        assert!(copies.planned > 30, "{report}");
        if retry.is_some() {
            check(&report, &options, &server);
            assert_eq!(copies.acknowledged, copies.planned, "{report}");
        } else {
            assert_eq!(server.seen().len() as u64, 600 + copies.planned);
        }
    }
}

#[test]
fn two_connections_are_enough_for_copies_of_everything() {
    let server = Server::from_requests(|_| Reply::Write(OK));
    let mut options = options(&server, 1.0);
    options.connections = 2;
    options.duplicates = 1.0;
    for rate in [Rate::Max, Rate::PerSecond(1000.0)] {
        options.rate = rate;
        options.first_update_id += 600;
        let report = run(&options).unwrap();
        assert!(report.is_ok(), "{report}");
        assert_eq!(report.copies.unwrap().acknowledged, 600);
    }
    for (one, two) in twice(&server) {
        assert_ne!(one.connection, two.connection);
    }
}

#[test]
fn useless_values_are_named() {
    let server = Server::plain(|_| Reply::Write(OK));
    for (part, change) in [
        ("scale", (|options| options.retry = Some(Retry { scale: 0.0 })) as fn(&mut Options)),
        ("scale", |options| options.retry = Some(Retry { scale: f64::NAN })),
        ("duplicates", |options| options.duplicates = 1.5),
        ("duplicates", |options| options.duplicates = f64::NAN),
        ("two connections", |options| {
            options.duplicates = 0.1;
            options.connections = 1;
        }),
    ] {
        let mut options = server.options();
        change(&mut options);
        let error = run(&options).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(part), "{error}");
    }
}
