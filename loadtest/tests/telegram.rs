//! `--as telegram` does on the wire what its rules say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use loadtest::{
    Expected, Failures, Options, Rate, Stop, Telegram, TelegramBot, TlsVersion, Trust, UpdateKind,
    chat_of, kind_of, run, verify,
};
use socket2::{Domain, Type};
use support::{OK, Reply, Seen, Server, UNAVAILABLE};

/// A run as Telegram does it against this server, `scale` times as fast.
fn options(server: &Server, scale: f64) -> Options {
    let mut options = server.options();
    options.connections = 40;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(400);
    options.payload.chats = 60;
    options.telegram = Some(Telegram { time_scale: scale, ..Telegram::default() });
    options
}

/// Each connection has one request at a time, and so has each kind of a chat; these leave in order.
fn check_order(seen: &[Seen], options: &Options) {
    let mut queues: BTreeMap<_, Vec<&Seen>> = BTreeMap::new();
    let mut connections: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
    for seen in seen {
        let id = seen.update_id();
        let queue = (kind_of(&options.payload, id), chat_of(&options.payload, id));
        queues.entry(queue).or_default().push(seen);
        connections.entry(seen.connection).or_default().push(seen);
    }
    for list in queues.values() {
        for pair in list.windows(2) {
            let (one, two) = (&pair[0], &pair[1]);
            assert!(one.update_id() <= two.update_id(), "{}", one.update_id());
            if let Some((_, answered)) = one.answered {
                assert!(answered <= two.arrived, "{} overlaps", two.update_id());
            }
        }
    }
    for list in connections.values() {
        for pair in list.windows(2) {
            assert!(pair[0].answered.is_some_and(|(_, at)| at <= pair[1].arrived));
        }
    }
}

#[test]
fn everything_arrives_in_order_with_its_headers() {
    for tls in [false, true] {
        let script = |_| Reply::WriteAfter(Duration::from_millis(1), OK);
        let server = if tls { Server::tls(script) } else { Server::plain(script) };
        let mut options = options(&server, 1.0);
        options.secret_token = Some("s3cret".to_owned());
        let report = run(&options).unwrap();
        assert!(report.is_ok() && report.is_as_expected(), "{report}");
        assert_eq!(server.update_ids(), (1..=400).collect::<Vec<_>>());
        check_order(&server.seen(), &options);
        let lines: Vec<String> = server
            .seen()
            .iter()
            .map(|seen| String::from_utf8(seen.body.clone()).unwrap().replace('\n', ""))
            .collect();
        let verified = verify(&Expected::from(&report), lines.join("\n").as_bytes()).unwrap();
        assert!(verified.ok && verified.found == 400, "{verified}");
        let info = &report.telegram.as_ref().unwrap()[0];
        assert_eq!((info.pending_update_count, info.delivered), (0, 400), "{report}");
        assert_eq!((info.last_error_date, &info.last_error_message), (None, &None));
        // One, and then the burst; the rest comes 50 ms apart.
        assert!((2..=40).contains(&info.connections_peak), "{report}");
        assert_eq!(report.latency_us.count(), 400);
        let seen = &server.seen()[0];
        let head = format!(
            "POST /hook HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\
             X-Telegram-Bot-Api-Secret-Token: s3cret\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n",
            server.port,
            seen.body.len()
        );
        assert_eq!(seen.head, head);
    }
}

/// The first answer takes its time; until then there is one connection, whatever waits.
#[test]
fn one_request_hangs_and_everything_waits() {
    let server = Server::plain(|number| match number {
        0 => Reply::WriteAfter(Duration::from_millis(700), OK),
        _ => Reply::Write(OK),
    });
    let report = run(&options(&server, 1.0)).unwrap();
    assert!(report.is_ok(), "{report}");
    let mut seen = server.seen();
    seen.sort_by_key(|seen| seen.arrived);
    let (_, answered) = seen[0].answered.unwrap();
    assert!(seen[1..].iter().all(|later| later.arrived >= answered), "it did not wait");
    assert!(report.latency_us.min() >= Duration::from_millis(700), "{report}");
}

/// What closes after each answer makes do with twenty connections per second, after ten.
#[test]
fn a_server_that_closes_gets_twenty_per_second() {
    let server = Server::plain(|_| {
        Reply::WriteAndClose("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    let mut options = options(&server, 1.0);
    options.stop = Stop::Requests(41);
    let start = Instant::now();
    let report = run(&options).unwrap();
    assert!(report.is_ok(), "{report}");
    // One in pending mode, ten at once, and thirty more.
    assert!(start.elapsed() >= Duration::from_millis(1400), "{report}");
    assert_eq!(report.connections, 41);
}

#[test]
fn refused_updates_come_again_and_the_last_refusal_is_remembered() {
    let server = Server::from_requests(|seen| match (seen.update_id() % 5, seen.earlier) {
        (0, 0..3) => Reply::Write(UNAVAILABLE),
        _ => Reply::Write(OK),
    });
    let options = options(&server, 50.0);
    let report = run(&options).unwrap();
    assert!(report.is_ok(), "{report}");
    check_order(&server.seen(), &options);
    assert_eq!(report.statuses, BTreeMap::from([(200, 400), (503, 240)]), "{report}");
    let retries = report.retries.as_ref().unwrap();
    assert_eq!((retries.attempts, retries.retried), (640, 80), "{report}");
    let info = &report.telegram.as_ref().unwrap()[0];
    assert_eq!(
        info.last_error_message.as_deref(),
        Some("Wrong response from the webhook: 503 Service Unavailable")
    );
    assert!(info.last_error_date.unwrap() > 1_700_000_000, "{report}");
    let text = report.to_string();
    assert!(text.contains("pending_update_count  0"), "{text}");
}

/// How long after an answer, or else an arrival, the same update came again.
fn gaps(server: &Server, update_id: u64) -> Vec<Duration> {
    let list: Vec<Seen> =
        server.seen().into_iter().filter(|seen| seen.update_id() == update_id).collect();
    let end = |seen: &Seen| seen.answered.map_or(seen.arrived, |(_, at)| at);
    list.windows(2).map(|pair| pair[1].arrived.duration_since(end(&pair[0]))).collect()
}

/// Makes all updates messages, whose lives are longer than any run.
fn only_messages(options: &mut Options) {
    options.payload.kinds = vec![(UpdateKind::Message, 1)];
}

#[test]
fn lost_connections_cost_delays_but_no_updates() {
    for tls in [false, true] {
        let server = match tls {
            false => Server::from_requests(|seen| match (seen.update_id() % 20, seen.earlier) {
                (7, 0..3) => Reply::Close,
                _ => Reply::Write(OK),
            }),
            true => Server::tls(|number| match number % 9 {
                5 => Reply::Close,
                _ => Reply::Write(OK),
            }),
        };
        let mut options = options(&server, 20.0);
        only_messages(&mut options);
        let report = run(&options).unwrap();
        assert!(report.is_ok(), "{report}");
        check_order(&server.seen(), &options);
        let acknowledged: BTreeSet<u64> =
            report.ids.as_ref().unwrap().acknowledged.iter().copied().collect();
        assert_eq!(acknowledged, (1..=400).collect());
        let closed = report.failures.closed;
        assert_eq!(report.failures, Failures { closed, ..Default::default() }, "{report}");
        assert_eq!(report.latency_us.count(), 400, "{report}");
        if tls {
            assert!(closed >= 40, "{report}");
            continue;
        }
        assert_eq!((closed, report.retries.unwrap().retried), (60, 20));
        for id in (7..400).step_by(20) {
            let gaps = gaps(&server, id);
            assert_eq!(gaps.len(), 3);
            // 2 s and 4 s.
            assert!(gaps[1] >= Duration::from_millis(100), "{id}: {gaps:?}");
            assert!(gaps[2] >= Duration::from_millis(200), "{id}: {gaps:?}");
        }
    }
}

#[test]
fn delays_grow_as_the_table_says() {
    let server = Server::from_requests(|seen| match (seen.update_id(), seen.earlier) {
        (3, 0..8) => Reply::Write(UNAVAILABLE),
        _ => Reply::Write(OK),
    });
    let mut options = options(&server, 100.0);
    only_messages(&mut options);
    options.stop = Stop::Requests(20);
    let report = run(&options).unwrap();
    assert!(report.is_ok(), "{report}");
    let gaps = gaps(&server, 3);
    let table = [0, 20, 40, 80, 160, 320, 600, 600].map(Duration::from_millis);
    assert_eq!(gaps.len(), table.len());
    for (gap, least) in gaps.iter().zip(table) {
        assert!(*gap >= least, "{gaps:?}");
    }
    let all: Duration = table.iter().sum();
    // Latency runs from when the update was due, through all tries.
    assert!(report.latency_us.max() >= all, "{report}");
    assert_eq!(report.retries.unwrap().statuses.len(), 9);
}

/// One chat is refused for good. The rest must not notice, and the run must end.
#[test]
fn a_chat_that_waits_holds_up_no_other() {
    const NEVER: &str = "HTTP/1.1 429 No\r\nRetry-After: 3000\r\nContent-Length: 0\r\n\r\n";
    for rate in [Rate::PerSecond(2000.0), Rate::Max] {
        let mut payload = loadtest::PayloadOptions { chats: 60, ..Default::default() };
        payload.kinds = vec![(UpdateKind::Message, 1)];
        let chat = chat_of(&payload, 1);
        let blocked = move |id| chat_of(&payload, id) == chat;
        let count = (1..=400).filter(|id| blocked(*id)).count() as u64;
        let server = Server::from_requests(move |seen| match blocked(seen.update_id()) {
            true => Reply::Write(NEVER),
            false => Reply::Write(OK),
        });
        let mut options = options(&server, 1.0);
        only_messages(&mut options);
        options.rate = rate;
        options.timeout = Duration::from_secs(4);
        let report = run(&options).unwrap();
        assert!(!report.is_ok() && count > 1, "{report}");
        let retries = report.retries.as_ref().unwrap();
        assert_eq!((report.planned, retries.pending), (400, count), "{report}");
        assert_eq!(report.statuses, BTreeMap::from([(200, 400 - count), (429, 1)]), "{report}");
        assert_eq!((retries.attempts, retries.retried), (400 - count + 1, 0), "{report}");
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
    options.telegram = Some(Telegram { time_scale: 20.0, ..Telegram::default() });
    only_messages(&mut options);
    options.connections = 4;
    options.rate = Rate::PerSecond(1000.0);
    options.stop = Stop::Requests(200);
    thread::scope(|scope| {
        let running = scope.spawn(|| run(&options).unwrap());
        thread::sleep(Duration::from_millis(400));
        socket.listen(128).unwrap();
        let server = Server::from_requests_on(socket.into(), |_| Reply::Write(OK));
        let report = running.join().unwrap();
        assert!(report.is_ok() && report.failures.connect > 0, "{report}");
        check_order(&server.seen(), &options);
        let ids: BTreeSet<u64> = server.update_ids().into_iter().collect();
        assert_eq!(ids, (1..=200).collect());
    });
}

#[test]
fn a_run_can_be_ended_early() {
    let server = Server::from_requests(|seen| match seen.update_id() % 2 {
        0 => Reply::Write(UNAVAILABLE),
        _ => Reply::Write(OK),
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

/// Retry-After beyond what is left of an update's life drops it; the others keep waiting.
#[test]
fn what_is_told_to_come_too_late_is_dropped() {
    const LATER: &str = "HTTP/1.1 429 Slow\r\nRetry-After: 1000\r\nContent-Length: 0\r\n\r\n";
    let server = Server::plain(|_| Reply::Write(LATER));
    let mut options = options(&server, 1.0);
    options.timeout = Duration::from_secs(3);
    options.stop = Stop::Requests(30);
    // Nothing succeeds, so it stays with one connection; and not all queues are loaded.
    options.connections = 100;
    let short = (1..=30).filter(|id| {
        matches!(
            kind_of(&options.payload, *id).name(),
            "callback_query"
                | "inline_query"
                | "chosen_inline_result"
                | "shipping_query"
                | "pre_checkout_query"
        )
    });
    let short = short.count() as u64;
    let report = run(&options).unwrap();
    assert!(!report.is_ok() && short > 0, "{report}");
    let info = &report.telegram.as_ref().unwrap()[0];
    assert_eq!((info.expired, info.delivered), (short, 0), "{report}");
    assert_eq!(info.pending_update_count as u64, 30 - short, "{report}");
    assert_eq!(
        info.last_error_message.as_deref(),
        Some("Wrong response from the webhook: 429 Slow")
    );
    assert_eq!(report.connections, 1);
}

#[test]
fn each_trouble_has_telegrams_own_words() {
    // What the server does, and what is said of it.
    type Script = fn(u64) -> Reply;
    let scripts: [(Script, Option<&str>); 5] = [
        (|_| Reply::Silence, Some("Read timeout expired")),
        // A body without an end.
        (|_| Reply::Write("HTTP/1.1 200 OK\r\n\r\n"), Some("Read timeout expired")),
        (|_| Reply::Write("220 smtp.example.org ESMTP\r\n"), Some("Not Implemented")),
        (
            |_| Reply::Write("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
            Some("Wrong response from the webhook: 302 Found"),
        ),
        (|_| Reply::Close, None),
    ];
    for (script, message) in scripts {
        let server = Server::plain(script);
        let mut options = options(&server, 60.0);
        options.stop = Stop::Requests(3);
        options.timeout = Duration::from_millis(2500);
        let report = run(&options).unwrap();
        let info = &report.telegram.as_ref().unwrap()[0];
        assert_eq!(info.last_error_message.as_deref(), message, "{report}");
        assert_eq!((info.pending_update_count, info.delivered), (3, 0), "{report}");
    }
    // Nothing listens there.
    let server = Server::tls(|_| Reply::Write(OK));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut refused = options(&server, 60.0);
    refused.stop = Stop::Requests(3);
    refused.timeout = Duration::from_millis(500);
    let mut untrusted = refused.clone();
    refused.target = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let other = Server::tls(|_| Reply::Write(OK));
    untrusted.trust = Trust::pem(other.certificate().as_bytes()).unwrap();
    for (options, message) in [
        (refused, "Connection refused"),
        (untrusted, "SSL error {error:0A000086:SSL routines::certificate verify failed}"),
    ] {
        let report = run(&options).unwrap();
        let info = &report.telegram.as_ref().unwrap()[0];
        assert_eq!(info.last_error_message.as_deref(), Some(message), "{report}");
        // One per 2 s, which are 33 ms here.
        assert!((2..=20).contains(&report.failures.total()), "{report}");
    }
}

#[test]
fn several_bots_know_nothing_of_each_other() {
    let servers = [
        Server::plain(|_| Reply::Write(OK)),
        Server::plain(|_| Reply::Write(UNAVAILABLE)),
        Server::tls(|_| Reply::Write(OK)),
    ];
    let mut options = options(&servers[0], 10.0);
    options.trust = Trust::Anything;
    options.stop = Stop::Requests(100);
    options.timeout = Duration::from_secs(4);
    let bots = servers.each_ref().map(|server| TelegramBot {
        target: server.options().target,
        secret_token: Some(format!("token-{}", server.port)),
    });
    options.telegram = Some(Telegram { bots: bots.into(), time_scale: 10.0 });
    let report = run(&options).unwrap();
    assert_eq!((report.planned, report.acknowledged), (300, 200), "{report}");
    let infos = report.telegram.as_ref().unwrap();
    // Of what is refused, inline queries are given up after 30 s.
    let left: Vec<u64> =
        infos.iter().map(|info| info.pending_update_count as u64 + info.expired).collect();
    assert_eq!(left, [0, 100, 0], "{report}");
    for (index, server) in servers.iter().enumerate() {
        let first = 1 + index as u64 * Telegram::IDS_PER_BOT;
        let ids: BTreeSet<u64> = server.update_ids().into_iter().collect();
        assert!(ids.iter().all(|id| (first..first + 100).contains(id)));
        let token = format!("X-Telegram-Bot-Api-Secret-Token: token-{}\r\n", server.port);
        assert!(server.seen().iter().all(|seen| seen.head.contains(&token)));
        assert!(infos[index].url.contains(&server.port.to_string()));
    }
}

#[test]
fn max_connections_is_brought_into_its_bounds() {
    let server = Server::plain(|_| Reply::Write(OK));
    for (asked, got) in [(1, 1), (100, 100), (5000, 100)] {
        let mut options = options(&server, 1.0);
        options.connections = asked;
        options.stop = Stop::Requests(5);
        let report = run(&options).unwrap();
        assert_eq!(report.telegram.unwrap()[0].max_connections, got);
    }
}

#[test]
fn an_open_loop_has_its_rate() {
    let server = Server::plain(|_| Reply::Write(OK));
    let mut options = options(&server, 1.0);
    options.rate = Rate::PerSecond(200.0);
    options.stop = Stop::After(Duration::from_secs(1));
    let report = run(&options).unwrap();
    assert!(report.is_ok() && report.planned == 200, "{report}");
    assert!(report.duration_s >= 0.99, "{report}");
    assert_eq!(report.series.iter().map(|second| second.due).sum::<u64>(), 200);
}

#[test]
fn a_closed_loop_never_runs_dry() {
    let server = Server::plain(|_| Reply::Write(OK));
    let mut options = options(&server, 1.0);
    options.stop = Stop::After(Duration::from_secs(2));
    let report = run(&options).unwrap();
    assert!(report.is_ok() && report.planned > 1000, "{report}");
    // Far fewer than Telegram keeps: what was made was about to be sent.
    assert!(report.latency_us.quantile(0.5) < Duration::from_millis(500), "{report}");
}

/// Each request but a connection's first has a second record, of 22 bytes with TLS 1.3.
#[test]
fn later_requests_are_cut_in_two() {
    let server = Server::tls(|_| Reply::Write(OK));
    let mut options = options(&server, 1.0);
    options.connections = 1;
    options.tls = Some(TlsVersion::V1_3);
    options.stop = Stop::Requests(201);
    let cut = run(&options).unwrap();
    options.telegram = None;
    let whole = run(&options).unwrap();
    for report in [&cut, &whole] {
        assert!(report.is_ok() && report.connections == 1, "{report}");
    }
    // A cut at the very front is none; that is rare.
    let more = cut.bytes_sent - whole.bytes_sent;
    assert!((197 * 22..=200 * 22).contains(&more), "{more} bytes more");
}

#[test]
fn the_binary_takes_bots_and_tells_what_telegram_would() {
    let servers = [(); 2].map(|()| Server::plain(|_| Reply::Write(OK)));
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "t0ken\n").unwrap();
    let bots =
        servers.each_ref().map(|server| format!("url=http://u:pw@127.0.0.1:{}/a,b", server.port));
    let with_token = format!("{},secret-file={}", bots[1], token.display());
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "--as", "telegram", "--bot", &bots[0], "--bot", &with_token])
        .args(["--rate", "max", "--requests", "20", "--json", "--quiet"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("u:pw") && !text.contains("t0ken"), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["telegram"][1]["pending_update_count"], 0);
    assert_eq!(report["telegram"][1]["max_connections"], 40);
    assert_eq!(report["telegram"][0]["delivered"], 20);
    assert_eq!(report["options"]["time_scale"], 1.0);
    assert!(servers[1].seen()[0].head.contains("Token: t0ken\r\n"));
    assert!(servers[0].seen()[0].head.starts_with("POST /a,b HTTP/1.1\r\n"));
}
