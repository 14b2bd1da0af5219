//! More than can be handled: who is asked to come again, and that nothing is lost by it.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use loadtest::{ChatKey, PayloadOptions, chat_of};
use ringhook::{Limits, Outcome, Report, Update, report::Refusal};
use support::{
    TestServer,
    client::Client,
    load::Load,
    long, update_of,
    valve::{Calls, Valve},
    wait_until,
};

/// A server whose handler waits at the valve with each update.
fn held_up(workers: usize, limits: Limits) -> (TestServer, Calls, Valve) {
    let (calls, valve) = (Calls::default(), Valve::default());
    let (begin, pass) = (calls.clone(), valve.clone());
    let server = TestServer::with(|server| {
        server.shards(2).workers(workers).limits(limits).handler(move |update: &Update| {
            let _call = begin.begin(update);
            pass.pass();
            Outcome::Done
        })
    });
    (server, calls, valve)
}

#[track_caller]
fn assert_refused(client: &mut Client, chat: i64, id: i64) {
    let response = client.post(&update_of(chat, id));
    assert_eq!((response.status, &*response.headers["retry-after"]), (503, "1"));
    assert_ne!(response.headers.get("connection").map(String::as_str), Some("close"));
}

fn refused(report: &Report) -> Vec<(Refusal, u64)> {
    report.updates_refused.iter().map(|(cause, count)| (*cause, *count)).collect()
}

#[test]
fn a_full_chat_is_refused_and_its_bots_other_chats_are_not() {
    let mut limits = Limits::default();
    limits.chat_updates = 8;
    let (server, calls, valve) = held_up(2, limits);
    let mut clients = [server.connect(), server.connect()];
    let mut id = 0;
    // One is being handled; the other worker sees that the rest are too many.
    wait_until("the chat is full", || {
        id += 1;
        clients[0].post(&update_of(1, id)).status == 503
    });
    let accepted = id - 1;
    assert!(accepted >= 9, "only {accepted} were accepted");
    for client in &mut clients {
        assert_refused(client, 1, id);
    }
    for other in 2..40 {
        assert_eq!(clients[other % 2].post(&update_of(other as i64, 1000)).status, 200);
    }
    valve.open();
    wait_until("the chat has room", || clients[1].post(&update_of(1, id)).status == 200);
    let (report, _) = server.stop();
    assert_eq!(calls.of(1), (1..=id).collect::<Vec<_>>());
    let by_cause = refused(&report);
    assert!(matches!(*by_cause, [(Refusal::Chat, count)] if count >= 3), "{by_cause:?}");
    // The ids of the others are equal, so one of them was new.
    assert_eq!(report.updates_handled, id as u64 + 1);
}

#[test]
fn no_more_updates_are_under_way_than_the_limit_says() {
    for workers in [1, 2] {
        let mut limits = Limits::default();
        limits.queue_updates = 5;
        let (server, calls, valve) = held_up(workers, limits);
        // By one shard, for another's may have kept a place for itself.
        let mut client = server.connect();
        for id in 1..=5 {
            assert_eq!(client.post(&update_of(id, id)).status, 200);
        }
        for _ in 0..3 {
            assert_refused(&mut client, 6, 6);
        }
        // One out, one in.
        for id in 6..=8 {
            valve.admit(1);
            wait_until("there is room", || client.post(&update_of(id, id)).status == 200);
            assert_refused(&mut client, 9, 9);
        }
        valve.open();
        let (report, _) = server.stop();
        assert_eq!(calls.ids(), (1..=8).collect::<Vec<_>>());
        let by_cause = refused(&report);
        assert!(matches!(*by_cause, [(Refusal::Updates, count)] if count >= 6), "{by_cause:?}");
    }
}

/// Limits of bodies and of all that wait, in KiB.
fn kib(body: usize, queue: usize) -> Limits {
    let mut limits = Limits::default();
    limits.body_bytes = body * 1024;
    limits.queue_bytes = queue * 1024;
    limits
}

#[test]
fn no_more_bytes_are_under_way_than_the_limit_says() {
    let (server, calls, valve) = held_up(2, kib(16, 64));
    let mut client = server.connect();
    for id in 1..=4 {
        assert_eq!(client.post(&long(id, id, 15 * 1024)).status, 200);
    }
    for _ in 0..3 {
        let response = client.post(&long(5, 5, 15 * 1024));
        assert_eq!((response.status, &*response.headers["retry-after"]), (503, "1"));
    }
    // A shorter one still fits.
    assert_eq!(client.post(&update_of(6, 6)).status, 200);
    valve.open();
    wait_until("there is room", || client.post(&long(5, 5, 15 * 1024)).status == 200);
    let (report, _) = server.stop();
    assert_eq!(calls.ids(), (1..=6).collect::<Vec<_>>());
    let by_cause = refused(&report);
    assert!(matches!(*by_cause, [(Refusal::Bytes, count)] if count >= 3), "{by_cause:?}");
}

/// What another shard keeps for its next updates must not be missing for ever.
#[test]
fn the_longest_body_gets_in_by_each_shard_when_nothing_waits() {
    let mut limits = kib(16, 16);
    // The least that is allowed.
    while TestServer::try_with(|server| server.limits(limits)).is_err() {
        limits.queue_bytes += 1024;
        assert!(limits.queue_bytes <= 16 * limits.body_bytes);
    }
    let server = TestServer::with(|server| server.shards(4).workers(2).limits(limits));
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    let mut ids = 0..;
    for length in [300, limits.body_bytes, 300, limits.body_bytes] {
        // Not in the same order: a shard may use up what it has kept itself.
        clients.reverse();
        for client in &mut clients {
            let id = ids.next().unwrap();
            let body = long(1, id, length);
            wait_until("it gets in", || client.post(&body).status == 200);
            server.wait_handled(id as usize + 1);
        }
    }
}

/// A run that sends again what is refused.
fn load(server: &TestServer, updates: u64, chats: u32) -> Load {
    let mut load = Load::new(server.handle.local_addr().unwrap(), &server.pki, updates);
    load.connections = 40;
    load.rate = Some(2000.0);
    load.payload.chats = chats;
    load
}

/// The updates that were dealt with as lines of JSON, in that order.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn push(&self, update: &Update) {
        let mut lines = self.0.lock().unwrap();
        serde_json::to_writer(&mut *lines, &update.root()).unwrap();
        lines.push(b'\n');
    }

    /// Asserts that all that was sent is there once, unaltered, each chat in its order.
    #[track_caller]
    fn assert_complete(&self, load: &Load) {
        let expected = load.expected();
        assert!(expected.ordered && expected.once);
        let verified = loadtest::verify(&expected, &**self.0.lock().unwrap()).unwrap();
        assert!(verified.ok, "{verified}");
    }
}

/// Memory of the process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn ten_times_too_many_come_again_until_all_are_handled_once_and_in_order() {
    let mut limits = kib(32, 96);
    limits.queue_updates = 64;
    limits.chat_updates = 4;
    let lines = Lines::default();
    let keep = lines.clone();
    let server = TestServer::with(|server| {
        server.shards(2).workers(2).limits(limits).handler(move |update: &Update| {
            // 200 a second.
            thread::sleep(Duration::from_millis(10));
            keep.push(update);
            Outcome::Done
        })
    });
    // What the first updates and connections bring with them is no growth.
    let mut first = load(&server, 100, 100);
    first.first_update_id = 1_000_000;
    let refused_first = first.send().refused;
    wait_until("they are handled", || server.handle.report().updates_handled == 100);
    lines.0.lock().unwrap().clear();
    let before = resident();
    let load = load(&server, 1200, 100);
    let sent = load.send();
    let after = resident();
    wait_until("all are handled", || server.handle.report().updates_handled == 1300);
    lines.assert_complete(&load);
    let grown = after.saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more than before");
    // The load is over and all clients are served at once.
    assert_eq!(server.connect().post(&update_of(1, 5_000_000)).status, 200);
    let (report, _) = server.stop();
    assert_eq!((report.updates_handled, report.updates_abandoned), (1301, 0));
    let by_cause: BTreeMap<_, _> = refused(&report).into_iter().collect();
    assert!(by_cause.contains_key(&Refusal::Chat), "{by_cause:?}");
    assert!(
        by_cause.contains_key(&Refusal::Updates) || by_cause.contains_key(&Refusal::Bytes),
        "{by_cause:?}"
    );
    // Each refusal is one answer that the sender saw.
    let rejected: u64 = report.updates_refused.values().sum();
    assert_eq!((refused_first + sent.refused, sent.failed), (rejected, 0));
    assert_eq!(report.requests_rejected, [(503, rejected)].into());
    assert_eq!(report.updates_received - rejected, 1301);
}

#[test]
fn five_thousand_chats_survive_failures_copies_and_slow_ones() {
    const UPDATES: u64 = 5000;
    let payload = PayloadOptions { chats: 5000, ..PayloadOptions::default() };
    let (lines, failed) = (Lines::default(), Mutex::new(HashSet::new()));
    let keep = lines.clone();
    let slow = hottest(&payload, UPDATES, 8);
    let server = TestServer::with(|server| {
        server.shards(2).workers(2).handler(move |update: &Update| {
            let id = update.id().get().cast_unsigned();
            if slow.contains(&chat_of(&payload, id)) {
                // Slow ones.
                thread::sleep(Duration::from_millis(4));
            }
            // One in twenty fails the first time.
            if id % 20 == 7 && failed.lock().unwrap().insert(id) {
                return Outcome::Retry(Duration::from_millis(id % 8));
            }
            keep.push(update);
            Outcome::Done
        })
    });
    let mut load = load(&server, UPDATES, 5000);
    load.has_copies = true;
    let sent = load.send();
    let (report, _) = server.stop();
    lines.assert_complete(&load);
    assert_eq!((sent.copies, sent.failed), (UPDATES / 50, 0));
    assert_eq!(report.updates_duplicate, sent.copies);
    assert_eq!((report.updates_handled, report.handler_retries), (UPDATES, UPDATES / 20));
    assert_eq!((report.updates_failed, report.updates_abandoned), (0, 0));
}

/// The chats with the most of the updates from 1 to `updates`.
fn hottest(payload: &PayloadOptions, updates: u64, chats: usize) -> Vec<ChatKey> {
    let mut counts: BTreeMap<ChatKey, u64> = BTreeMap::new();
    for id in 1..=updates {
        *counts.entry(chat_of(payload, id)).or_default() += 1;
    }
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by_key(|(_, count)| Reverse(*count));
    all.into_iter().take(chats).map(|(chat, _)| chat).collect()
}
