//! Targets that are down, or wrongly set up, and what waits for them meanwhile.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use ringhook::{Ack, Journal, update::BotId};
use ringhook_outputs::forward::{BotTerms, TargetState};

use crate::support::{
    bench::{Bench, quick},
    http::{Act, FakeServer, answer, free_address, hang_up, ok},
    update, wait_until,
};

/// A target whose status can be changed.
fn with_status(status: u16) -> (FakeServer, Arc<AtomicU16>) {
    let now = Arc::new(AtomicU16::new(status));
    let script = Arc::clone(&now);
    let target = FakeServer::start(move |_| {
        let status = script.load(SeqCst);
        async move { answer(status, "Location: /elsewhere\r\n", "no") }
    });
    (target, now)
}

#[test]
fn a_target_that_is_wrongly_set_up_gets_everything_once_it_is_mended() {
    for status in [401, 403, 404, 405, 302] {
        let (target, now) = with_status(status);
        let bench = Bench::attempts(quick(&target.url("/")), 2);
        (0..50).for_each(|id| bench.send(id % 10, id));
        bench.wait("all wait", |seen| seen.held + seen.in_flight == 10 && seen.in_flight <= 1);
        // Far more probes than there are attempts.
        let before = target.count();
        target.wait_count(before + 20);
        bench.wait("as many are told", |seen| seen.failed.misconfigured > 20);
        let seen = bench.status();
        assert_eq!(seen.targets[0].state, TargetState::Misconfigured, "{status}");
        assert_eq!((seen.targets[0].status, seen.delivered, seen.retried), (Some(status), 0, 0));
        assert!(seen.targets[0].oldest_waiting.is_some());
        now.store(204, SeqCst);
        bench.wait_handled(50);
        let seen = bench.status();
        assert_eq!((seen.targets[0].state, seen.held), (TargetState::Up, 0));
        let report = bench.stop();
        assert_eq!((report.updates_handled, report.updates_failed), (50, 0), "{status}");
    }
}

#[test]
fn new_terms_of_bots_are_tried_at_once() {
    let target = FakeServer::start(|seen| async move {
        match seen.header("x-telegram-bot-api-secret-token") {
            Some("right") => ok(),
            _ => answer(401, "", ""),
        }
    });
    let terms = |secret: &str| vec![BotTerms::new("shop", BotId::new(0)).secret(secret)];
    let hour = Duration::from_secs(3600);
    let settings = quick(&target.url("/")).bots(terms("wrong")).probe_pauses(hour, hour);
    let bench = Bench::start(settings);
    bench.send(1, 1);
    bench.wait("it waits", |status| status.held == 1);
    bench.forward.set_bots(terms("right")).unwrap();
    bench.wait_handled(1);
    bench.stop();
}

#[test]
fn one_update_alone_for_which_a_target_is_wrong_stops_no_other() {
    let target = FakeServer::start(|seen| async move {
        if seen.update_id() == 1 { answer(404, "", "") } else { ok() }
    });
    let bench = Bench::attempts(quick(&target.url("/")), 2);
    bench.send(1, 1);
    bench.wait("it waits", |status| status.held == 1 || status.in_flight == 1);
    for id in 2..200 {
        bench.send(id, id);
        bench.wait_handled(id as u64 - 1);
        if bench.server.report().updates_failed == 1 {
            break;
        }
    }
    assert_eq!(bench.stop().updates_failed, 1);
}

#[test]
fn a_target_where_nothing_listens_is_down_at_once_and_costs_no_attempt() {
    let address = free_address();
    let bench = Bench::attempts(quick(&format!("http://{address}/")), 2);
    let updates: Vec<_> = (0..300).map(|id| update(id % 100, id)).collect();
    bench.deliver(&updates);
    bench.wait("all wait", |status| status.held + status.in_flight == 100 && status.in_flight <= 1);
    let before = bench.status().failed.connect;
    // Far more refusals than there are attempts.
    bench.wait("it is probed", |status| status.failed.connect > before + 10);
    let status = bench.status();
    assert_eq!(status.targets[0].state, TargetState::Down);
    assert_eq!((status.retried, status.delivered), (0, 0));
    bench.wait("only probes are under way", |status| status.in_flight <= 1);
    let target = FakeServer::start_at(address, |_| async { ok() });
    let (start, patience) = (Instant::now(), Duration::from_secs(20));
    bench.wait_handled(300);
    assert!(start.elapsed() < patience);
    assert_eq!(bench.status().targets[0].state, TargetState::Up);
    for chat in 0..100 {
        let of_chat = target.ids().into_iter().filter(|id| id % 100 == chat);
        assert_eq!(of_chat.collect::<Vec<_>>(), [chat, chat + 100, chat + 200]);
    }
    let report = bench.stop();
    assert_eq!((report.updates_handled, report.handler_retries), (300, 0));
}

/// A process that takes one connection at a time and answers each update, but ends with
/// `ends_with`: first its listener, then its connection.
fn process_that_ends(address: SocketAddr, ends_with: &str) {
    let listener = TcpListener::bind(address).unwrap();
    while let Ok((mut stream, _)) = listener.accept() {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                if String::from_utf8(body).unwrap().contains(ends_with) {
                    drop(listener);
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            line.clear();
        }
    }
}

#[test]
fn a_process_that_is_stopped_while_it_has_a_request_costs_no_attempt() {
    let address = free_address();
    let process = thread::spawn(move || process_that_ends(address, ":1,"));
    let bench = Bench::attempts(quick(&format!("http://{address}/")), 1);
    bench.send(1, 1);
    process.join().unwrap();
    bench.wait("it is down", |status| status.targets[0].state == TargetState::Down);
    let target = FakeServer::start_at(address, |_| async { ok() });
    bench.wait_handled(1);
    assert_eq!((target.ids(), bench.status().failed.reset), (vec![1], 1));
    let report = bench.stop();
    assert_eq!((report.handler_retries, report.updates_failed), (0, 0));
}

#[test]
fn an_update_that_ends_the_process_each_time_is_given_up() {
    let address = free_address();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let supervisor = thread::spawn(move || {
        let mut starts = 0;
        while !over.load(SeqCst) {
            process_that_ends(address, ":1,");
            starts += 1;
        }
        starts
    });
    let bench = Bench::attempts(quick(&format!("http://{address}/")).connections(1), 2);
    (1..20).for_each(|id| bench.send(id, id));
    bench.wait_handled(18);
    wait_until("the first is given up", || bench.server.report().updates_failed == 1);
    is_over.store(true, SeqCst);
    // Any request ends the last one.
    drop(bench.stop());
    let mut last = std::net::TcpStream::connect(address).unwrap();
    last.write_all(b"Content-Length: 3\r\n\r\n:1,").unwrap();
    assert!(supervisor.join().unwrap() > 2);
}

#[test]
fn a_socket_that_is_missing_is_a_target_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bot.sock");
    let bench = Bench::attempts(quick(&format!("http+unix:{}:/x", path.display())), 1);
    bench.send(1, 1);
    bench.wait("it is down", |status| status.targets[0].state == TargetState::Down);
    let _target = FakeServer::start_unix(&path, |_| async { ok() });
    bench.wait_handled(1);
    assert_eq!(bench.stop().handler_retries, 0);
}

#[test]
fn a_target_that_fails_several_times_in_a_row_is_left_alone_until_it_works() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let count = Arc::new(AtomicUsize::new(0));
    let script = (Arc::clone(&is_broken), Arc::clone(&count));
    let target = FakeServer::start(move |_| {
        let is_broken = script.0.load(SeqCst);
        let number = script.1.fetch_add(1, SeqCst);
        async move {
            match is_broken {
                true if number.is_multiple_of(2) => answer(502, "", ""),
                true => hang_up(),
                false => ok(),
            }
        }
    });
    let bench = Bench::attempts(quick(&target.url("/")).connections(4), 4);
    (0..40).for_each(|id| bench.send(id, id));
    bench.wait("it is down", |status| status.targets[0].state == TargetState::Down);
    bench.wait("all wait", |status| status.held + status.in_flight == 40 && status.in_flight <= 1);
    let before = bench.status();
    target.wait_count(before.sent as usize + 20);
    let after = bench.status();
    assert_eq!((after.retried, after.delivered), (before.retried, 0), "probes are no attempts");
    is_broken.store(false, SeqCst);
    bench.wait_handled(40);
    let report = bench.stop();
    assert_eq!((report.updates_handled, report.updates_failed), (40, 0));
}

#[test]
fn the_state_is_in_the_status_as_json() {
    let (target, _) = with_status(401);
    let bench = Bench::start(quick(&target.url("/bot123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_")));
    bench.send(1, 1);
    bench.wait("it waits", |status| status.held == 1);
    let status = serde_json::to_value(bench.status()).unwrap();
    let of_target = &status["targets"][0];
    assert_eq!(of_target["target"], target.url("/bot(hidden)"));
    assert_eq!((&of_target["state"], &of_target["status"]), (&"misconfigured".into(), &401.into()));
    assert_eq!(of_target["since"].as_str().unwrap().len(), "2026-12-01T03:00:00Z".len());
    assert!(of_target["oldest_waiting"].as_f64().unwrap() >= 0.0);
    assert!(!format!("{:?}", bench.forward).contains("AAbb"));
    bench.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_target_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    for keeps in [false, true] {
        let bench = Bench::with(quick(&format!("http://{}/", free_address())), |server| {
            let server = server.drain_timeout(Duration::from_secs(600));
            if keeps { server.journal(Journal::at(dir.path(), Ack::Written)) } else { server }
        });
        (0..20).for_each(|id| bench.send(id % 5, id));
        bench.wait("all wait", |status| status.held + status.in_flight == 5);
        let start = Instant::now();
        let report = bench.stop();
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        assert_eq!((report.updates_handled, report.updates_failed), (0, 0));
        assert_eq!(report.updates_abandoned, if keeps { 0 } else { 20 });
    }
    // They are still in the journal.
    let target = FakeServer::start(|_| async { ok() });
    let bench = Bench::with(quick(&target.url("/")), |server| {
        server.journal(Journal::at(dir.path(), Ack::Written))
    });
    bench.wait_handled(20);
    bench.stop();
}

#[test]
fn a_stop_waits_for_what_is_under_way() {
    let target = FakeServer::start(|_| async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        ok()
    });
    let bench = Bench::start(quick(&target.url("/")));
    (0..3).for_each(|id| bench.send(1, id));
    target.wait_count(1);
    let report = bench.stop();
    assert_eq!((report.updates_handled, report.updates_abandoned), (3, 0));
}

#[test]
fn a_stop_with_one_target_down_waits_for_the_other() {
    let target = FakeServer::start(|_| async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        ok()
    });
    let down = format!("http://{}/", free_address());
    let settings = quick(&target.url("/")).and_to(down.parse().unwrap());
    let bench = Bench::with(settings, |server| server.drain_timeout(Duration::from_secs(600)));
    for id in 0..60 {
        bench.send(id % 20, id);
    }
    bench.wait("some wait", |status| status.held > 0 && status.in_flight > 1);
    let start = Instant::now();
    let report = bench.stop();
    assert!(start.elapsed() < Duration::from_secs(60));
    let handled = report.updates_handled;
    assert!(
        handled > 0 && handled.is_multiple_of(3),
        "each chat is done whole or not at all: {handled}"
    );
    assert_eq!(report.updates_abandoned, 60 - handled);
}

#[test]
fn a_forward_that_is_stopped_gives_everything_back() {
    let bench = Bench::with(quick(&format!("http://{}/", free_address())), |server| {
        server.drain_timeout(Duration::from_secs(600))
    });
    (0..5).for_each(|id| bench.send(id, id));
    bench.wait("all wait", |status| status.held + status.in_flight == 5);
    assert!(bench.forward.is_running());
    assert!(bench.forward.stop(Duration::ZERO));
    assert!(!bench.forward.is_running() && bench.status().held == 0);
    let report = bench.server.stop();
    assert_eq!((report.updates_abandoned, report.abandoned.len()), (5, 5));
}

#[test]
fn a_target_that_is_back_gets_old_connections_no_more() {
    let address = free_address();
    let mut target = FakeServer::start_at(address, |_| async { ok() });
    let bench = Bench::attempts(quick(&format!("http://{address}/")), 1);
    (0..10).for_each(|id| bench.send(id, id));
    bench.wait_handled(10);
    target.stop();
    (10..20).for_each(|id| bench.send(id, id));
    bench.wait("it is down", |status| status.targets[0].state == TargetState::Down);
    let _target = FakeServer::start_at(address, |seen| async move {
        match seen.update_id() {
            15 => Act::Answer(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            ),
            _ => ok(),
        }
    });
    bench.wait_handled(20);
    let report = bench.stop();
    assert_eq!((report.updates_handled, report.handler_retries), (20, 0));
}
