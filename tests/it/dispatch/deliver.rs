//! Updates that the program brings: by the way of those of the wire, without a listener if need be.

use std::path::Path;

use ringhook::{
    Ack, Bot, FeedError, Journal, Limits, Outcome, Server, ServerBuilder, Update,
    internals::update::ParseError,
};

use crate::support::{
    self, TestServer, update_of,
    valve::{Calls, Valve},
    wait_until,
};

/// A server without a listener whose handler notes its calls and goes through `valve`.
fn deaf(
    calls: &Calls,
    valve: &Valve,
    adapt: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> Server {
    let (begin, pass) = (calls.clone(), valve.clone());
    let server =
        Server::builder().without_listeners().bot(Bot::without_secret("test", "/")).workers(2);
    let server = server.handler(move |update: &Update| {
        let _call = begin.begin(update);
        pass.pass();
        Outcome::Done
    });
    adapt(server).start().unwrap()
}

fn kept_in(dir: &Path) -> Journal {
    let mut journal = Journal::default();
    journal.ack = Ack::Written;
    journal.dir = Some(dir.join("journal"));
    // A is_forced stop does not wait for the last threads.
    journal.lock_wait = support::PATIENCE;
    journal
}

fn updates(chat: i64, ids: impl IntoIterator<Item = i64>) -> Vec<String> {
    ids.into_iter().map(|id| update_of(chat, id)).collect()
}

#[test]
fn without_listeners_nothing_is_bound_and_no_shard_runs() {
    let (calls, valve) = (Calls::default(), Valve::default());
    valve.open();
    let server = deaf(&calls, &valve, |server| server);
    assert!(server.listeners().is_empty() && server.local_addrs().is_empty());
    assert!(server.placement().shards.is_empty() && server.is_healthy());
    assert_eq!(server.deliver("test", &updates(1, 1..=30)), Ok(30));
    assert_eq!(server.deliver("test", &updates(1, 20..=40)), Ok(21));
    assert_eq!(server.deliver::<&str>("test", &[]), Ok(0));
    let report = server.stop();
    assert_eq!(calls.of(1), (1..=40).collect::<Vec<_>>());
    assert_eq!((report.updates_delivered, report.updates_handled), (51, 40));
    assert_eq!((report.updates_duplicate, report.updates_abandoned), (11, 0));
}

#[test]
fn what_the_wire_has_brought_is_a_duplicate_and_the_other_way_round() {
    for ack in [Ack::Memory, Ack::Written] {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = kept_in(dir.path());
        journal.ack = ack;
        let calls = Calls::default();
        let begin = calls.clone();
        let server = TestServer::with(|server| {
            server.journal(journal).handler(move |update: &Update| {
                let _call = begin.begin(update);
                Outcome::Done
            })
        });
        let mut client = server.connect();
        assert_eq!(client.post(&update_of(1, 1)).status, 200);
        assert_eq!(server.handle.deliver("test", &updates(1, 1..=3)), Ok(3));
        assert_eq!(client.post(&update_of(1, 3)).status, 200);
        assert_eq!(client.post(&update_of(1, 4)).status, 200);
        let (report, _) = server.stop();
        assert_eq!(calls.of(1), [1, 2, 3, 4], "{ack}");
        assert_eq!((report.updates_received, report.updates_delivered), (3, 3));
        assert_eq!(report.updates_duplicate, 2);
    }
}

#[test]
fn the_first_refused_one_ends_a_batch_and_the_next_call_says_why() {
    for ack in [Ack::Memory, Ack::Written] {
        let dir = tempfile::tempdir().unwrap();
        let (calls, valve) = (Calls::default(), Valve::default());
        valve.open();
        let mut journal = kept_in(dir.path());
        journal.ack = ack;
        let server = deaf(&calls, &valve, |server| server.journal(journal));
        let deep = format!(r#"{{"update_id":3,"x":{}{}}}"#, "[".repeat(500), "]".repeat(500));
        let batch = [update_of(1, 1), update_of(1, 2), deep, update_of(1, 4)];
        assert_eq!(server.deliver("test", &batch), Ok(2));
        let refused = server.deliver("test", &batch[2..]);
        assert!(
            matches!(refused, Err(FeedError::NotAnUpdate(ParseError::TooDeep { .. }))),
            "{refused:?}"
        );
        assert_eq!(server.deliver("test", &batch[3..]), Ok(1));
        assert_eq!(server.deliver("absent", &batch), Err(FeedError::UnknownBot));
        let report = server.stop();
        assert_eq!(calls.of(1), [1, 2, 4]);
        assert_eq!(report.updates_delivered, 3, "{ack}");
    }
}

#[test]
fn full_queues_take_a_part_and_the_rest_later() {
    let (calls, valve) = (Calls::default(), Valve::default());
    let mut limits = Limits::default();
    limits.queue_updates = 10;
    let server = deaf(&calls, &valve, |server| server.limits(limits));
    let all = updates(1, 1..=25);
    assert_eq!(server.deliver("test", &all), Ok(10));
    assert_eq!(server.deliver("test", &all[10..]), Err(FeedError::Full));
    valve.open();
    let mut taken = 10;
    wait_until("the rest is taken", || {
        taken += server.deliver("test", &all[taken..]).unwrap_or(0);
        taken == 25
    });
    server.stop();
    assert_eq!(calls.of(1), (1..=25).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_one_write_and_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (calls, valve) = (Calls::default(), Valve::default());
    let mut limits = Limits::default();
    limits.queue_updates = 10;
    let keep = |server: ServerBuilder| server.limits(limits).journal(kept_in(dir.path()));
    let server = deaf(&calls, &valve, keep);
    // More than the queues hold: the journal does.
    assert_eq!(server.deliver("test", &updates(1, 1..=100)), Ok(100));
    let shutdown_handle = server.shutdown_handle();
    shutdown_handle.force();
    let stopping = std::thread::spawn(move || server.stop());
    wait_until("the stop has gone without the handlers", || stopping.is_finished());
    valve.open();
    let report = stopping.join().unwrap();
    let journal = report.journal.unwrap();
    assert_eq!((journal.appended_records, journal.batch_records.unwrap().count), (100, 1));
    // The ids are known to the next one as well.
    let calls = Calls::default();
    let server = deaf(&calls, &valve, keep);
    assert_eq!(server.deliver("test", &updates(1, 50..=101)), Ok(52));
    wait_until("all is read back", || calls.of(1).last() == Some(&101));
    let report = server.stop();
    let handled = calls.of(1);
    assert_eq!(handled.last(), Some(&101));
    assert!(handled.is_sorted_by(|a, b| a < b), "{handled:?}");
    assert_eq!(report.updates_duplicate, 51);
}
