//! Updates that are kept in a journal: what does not fit into memory, and what a restart finds.

use std::{collections::BTreeMap, path::Path, time::Duration};

use ringhook::{
    Ack, Bot, FeedError, Journal, Limits, Outcome, Report, ServerBuilder, Update, report::Refusal,
};

use crate::support::{
    self, PATH, SECRET, TestServer, long, update_of,
    valve::{Calls, Valve},
    wait_until,
};

/// A journal whose files are as small as they may be.
fn journal(dir: &Path, ack: Ack) -> Journal {
    let mut journal = Journal::at(dir.join("journal"), ack);
    journal.segment_bytes = 1 << 20;
    journal
}

/// A server with a journal in `dir`, whose handler waits at the valve with each update.
fn held_up(
    dir: &Path,
    change: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (TestServer, Calls, Valve) {
    let (calls, valve) = (Calls::default(), Valve::default());
    let (begin, pass) = (calls.clone(), valve.clone());
    let server = TestServer::with(|server| {
        let server = server.shards(2).workers(2).journal(journal(dir, Ack::Written));
        change(server.handler(move |update: &Update| {
            let _call = begin.begin(update);
            pass.pass();
            Outcome::Done
        }))
    });
    (server, calls, valve)
}

/// The same with a handler that deals with the first `count` updates and asks to have any other
/// much later: it does not hold up a stop. The calls are of those it has dealt with.
fn putting_off(
    dir: &Path,
    count: usize,
    change: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (TestServer, Calls) {
    let (calls, valve) = (Calls::default(), Valve::default());
    valve.admit(count);
    let (begin, pass) = (calls.clone(), valve.clone());
    let server = TestServer::with(|server| {
        let server = server.shards(2).workers(2).journal(journal(dir, Ack::Written));
        change(server.drain_timeout(Duration::ZERO).handler(move |update: &Update| {
            if !pass.try_pass() {
                return Outcome::Retry(Duration::from_secs(3600));
            }
            drop(begin.begin(update));
            Outcome::Done
        }))
    });
    (server, calls)
}

/// Posts updates `ids`, each to the chat of its number modulo `chats`, by several connections.
fn post_all(server: &TestServer, ids: std::ops::Range<i64>, chats: i64) {
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for id in ids {
        let client = &mut clients[(id % chats % 4) as usize];
        assert_eq!(client.post(&update_of(id % chats, id)).status, 200, "update {id}");
    }
}

fn by_chat(calls: &Calls) -> BTreeMap<i64, Vec<i64>> {
    let mut chats = BTreeMap::<_, Vec<_>>::new();
    for (chat, id) in calls.all() {
        chats.entry(chat).or_default().push(id);
    }
    chats
}

fn of_journal(report: &Report) -> ringhook::JournalReport {
    report.journal.clone().expect("a journal")
}

/// With `written` an idle worker commits what it is about to handle; with `synced` none does, and
/// none that is in a handler.
#[test]
fn an_idle_worker_commits_in_the_committers_place() {
    let by_workers = |server: &TestServer| of_journal(&server.handle.report()).commits_by_workers;
    let dir = tempfile::tempdir().unwrap();
    let (server, calls, valve) = held_up(dir.path(), |server| server);
    post_all(&server, 0..2, 2);
    wait_until("both workers are in the handler", || calls.len() == 2);
    let before = by_workers(&server);
    post_all(&server, 2..20, 20);
    assert_eq!(by_workers(&server), before);
    valve.open();
    let mut sent = 20;
    wait_until("a worker commits", || {
        post_all(&server, sent..sent + 1, 20);
        sent += 1;
        by_workers(&server) > before
    });
    wait_until("all are handled", || calls.len() as i64 == sent);
    drop(server.stop());
    assert_eq!(calls.ids(), (0..sent).collect::<Vec<_>>());

    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::with(|server| {
        server.journal(journal(dir.path(), Ack::Synced)).handler(|_: &Update| Outcome::Done)
    });
    post_all(&server, 0..50, 20);
    assert_eq!(by_workers(&server), 0);
}

#[test]
fn what_does_not_fit_into_the_queues_is_taken_and_handled_in_order() {
    for driver in support::drivers() {
        let dir = tempfile::tempdir().unwrap();
        let mut limits = Limits::default();
        limits.queue_updates = 64;
        let (server, calls, valve) =
            held_up(dir.path(), |server| server.driver(driver).limits(limits));
        post_all(&server, 0..3000, 20);
        let report = of_journal(&server.handle.report());
        assert!(report.left_records >= 2900, "{report:?}");
        assert_eq!(report.lag_records, 3000);
        valve.open();
        wait_until("everything is handled", || calls.len() >= 3000);
        // Caught up, updates go straight to the workers again.
        let before = of_journal(&server.handle.report()).left_records;
        wait_until("updates go straight on", || {
            let id = calls.len() as i64;
            post_all(&server, id..id + 1, 20);
            wait_until("it is handled", || calls.len() as i64 > id);
            let left = of_journal(&server.handle.report()).left_records;
            left == before || id > 3000 + (left - before) as i64
        });
        let (report, _) = server.stop();
        assert!(report.updates_refused.is_empty(), "{:?}", report.updates_refused);
        let ids = calls.len() as i64;
        assert_eq!(calls.ids(), (0..ids).collect::<Vec<_>>());
        for (chat, ids) in by_chat(&calls) {
            assert!(ids.is_sorted(), "chat {chat}: {ids:?}");
        }
        assert_eq!(of_journal(&report).lag_records, 0);
        assert_eq!(of_journal(&report).read_back_records, of_journal(&report).left_records);
    }
}

#[test]
fn a_chat_that_is_stuck_takes_what_comes_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.chat_updates = 8;
    limits.queue_updates = 256;
    let calls = Calls::default();
    let begin = calls.clone();
    let stuck = Valve::default();
    let pass = stuck.clone();
    let server = TestServer::with(|server| {
        server.workers(2).limits(limits).journal(journal(dir.path(), Ack::Written)).handler(
            move |update: &Update| {
                let _call = begin.begin(update);
                if support::valve::chat(update) == 1 {
                    pass.pass();
                }
                Outcome::Done
            },
        )
    });
    // Many more than the queue takes.
    let mut client = server.connect();
    for id in 0..1000 {
        assert_eq!(client.post(&update_of(1, id)).status, 200, "update {id}");
    }
    for id in 1000..1500 {
        assert_eq!(client.post(&update_of(2 + id % 9, id)).status, 200, "update {id}");
    }
    wait_until("the other chats are handled", || calls.len() >= 501);
    stuck.open();
    wait_until("all are handled", || calls.len() == 1500);
    for (chat, ids) in by_chat(&calls) {
        assert!(ids.is_sorted(), "chat {chat}: {ids:?}");
    }
    let (report, _) = server.stop();
    assert!(report.updates_refused.is_empty());
    assert_eq!(of_journal(&report).lag_records, 0);
}

#[test]
fn a_journal_that_is_full_refuses_until_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let (server, calls, valve) = held_up(dir.path(), |server| {
        let mut journal = journal(dir.path(), Ack::Written);
        journal.max_bytes = 2 << 20;
        server.journal(journal)
    });
    let mut client = server.connect();
    let text = "x".repeat(10_000);
    let body = |id| update_of(id % 5, id).replace("hello", &text);
    let mut id = 0;
    wait_until("the journal is full", || {
        id += 1;
        client.post(&body(id)).status == 503
    });
    assert!((190..230).contains(&id), "{id} updates of 10 KB in 2 MiB");
    let again = client.post(&body(id));
    assert_eq!((again.status, &*again.headers["retry-after"]), (503, "1"));
    valve.open();
    wait_until("there is room", || client.post(&body(id)).status == 200);
    wait_until("all are handled", || calls.len() as i64 == id);
    assert_eq!(calls.ids(), (1..=id).collect::<Vec<_>>());
    let (report, _) = server.stop();
    assert_eq!(report.updates_refused.keys().copied().collect::<Vec<_>>(), [Refusal::Journal]);
}

#[test]
fn a_restart_delivers_what_was_not_handled_and_knows_what_was() {
    for ack in [Ack::Written, Ack::Synced] {
        let dir = tempfile::tempdir().unwrap();
        let open = |count| {
            putting_off(dir.path(), count, |server| server.journal(journal(dir.path(), ack)))
        };
        let (server, calls) = open(30);
        post_all(&server, 0..100, 10);
        wait_until("thirty are handled", || server.handle.report().updates_handled == 30);
        let (report, _) = server.stop();
        assert_eq!((of_journal(&report).lag_records, report.updates_abandoned), (70, 0));

        let (server, again) = open(1000);
        let notices = server.handle.notices().join("\n");
        assert!(notices.contains("70 update(s) to be delivered again of 100"), "{notices}");
        // Old ones come before new ones of the same chat, and copies of all are known.
        post_all(&server, 100..110, 10);
        post_all(&server, 0..100, 10);
        wait_until("the rest is handled", || again.len() >= 80);
        wait_until("all is settled", || of_journal(&server.handle.report()).lag_records == 0);
        let (report, _) = server.stop();
        assert_eq!(report.updates_duplicate, 100);
        assert_eq!(of_journal(&report).recovered_records, 70);
        let mut all: Vec<_> = calls.ids().into_iter().chain(again.ids()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..110).collect::<Vec<_>>(), "{ack}: each was handled once");
        for (chat, ids) in by_chat(&again) {
            assert!(ids.is_sorted(), "chat {chat}: {ids:?}");
        }
    }
}

#[test]
fn an_update_that_is_fed_in_is_kept_although_its_id_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = putting_off(dir.path(), 1, |server| server);
    post_all(&server, 7..8, 10);
    wait_until("it is handled", || server.handle.report().updates_handled == 1);
    server.handle.feed("test", update_of(7, 7).as_bytes()).unwrap();
    assert!(matches!(server.handle.feed("test", b"{}"), Err(FeedError::NotAnUpdate(_))));
    server.stop();
    let (server, again) = putting_off(dir.path(), 1, |server| server);
    wait_until("it is handled", || of_journal(&server.handle.report()).lag_records == 0);
    server.stop();
    assert_eq!(again.all(), [(7, 7)]);
}

#[test]
fn what_is_larger_than_the_queue_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    (limits.body_bytes, limits.queue_bytes) = (1024, 2048);
    let (server, calls) = putting_off(dir.path(), usize::MAX / 4, |server| server.limits(limits));
    // Fed in, and later read back as well.
    server.handle.feed("test", long(1, 1, 10_000).as_bytes()).unwrap();
    post_all(&server, 2..20, 3);
    wait_until("all are handled", || calls.len() == 19);
    let much = vec![b' '; (64 << 20) + 1];
    assert_eq!(server.handle.feed("test", &much), Err(FeedError::TooLarge));
    server.stop();
    let (server, _) = putting_off(dir.path(), 0, |server| server);
    post_all(&server, 100..101, 3);
    let mut client = server.connect();
    assert_eq!(client.post(&long(2, 101, 10_000)).status, 200);
    server.stop();
    let (server, calls) = putting_off(dir.path(), usize::MAX / 4, |server| server.limits(limits));
    wait_until("both are handled", || calls.ids() == [100, 101]);
    server.stop();
}

#[test]
fn updates_of_a_bot_that_is_gone_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = putting_off(dir.path(), 0, |server| server);
    post_all(&server, 0..5, 5);
    server.stop();
    let other = || {
        let mut config = ringhook::Config::default();
        config.listen = Some("127.0.0.1:0".parse().unwrap());
        config.journal = journal(dir.path(), Ack::Written);
        config.bots.push(Bot::new("other", PATH, SECRET).unwrap());
        config
    };
    let server = TestServer::with(|server| server.config(other()));
    let notices = server.handle.notices().join("\n");
    assert!(notices.contains("5 update(s) of bots that are not configured"), "{notices}");
    let (report, handled) = server.stop();
    assert_eq!((handled.len(), of_journal(&report).lag_records), (0, 5));
    // The bot is back, at another place of the configuration.
    let server = TestServer::with(|server| {
        let mut config = other();
        config.bots.push(Bot::new("test", "/other", SECRET).unwrap());
        server.config(config)
    });
    server.wait_handled(5);
    let (report, handled) = server.stop();
    assert_eq!(handled.ids().len(), 5);
    assert_eq!(of_journal(&report).lag_records, 0);
}

#[test]
fn one_directory_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _, valve) = held_up(dir.path(), |server| server);
    let second = TestServer::try_with(|server| server.journal(journal(dir.path(), Ack::Written)));
    let error = second.err().expect("a refusal").to_string();
    assert!(error.contains("still held by this process"), "{error}");
    valve.open();
    server.stop();
    held_up(dir.path(), |server| server).0.stop();
}

/// Settings with these bots, all with the same secret, and a journal in `dir`.
fn config(dir: &Path, bots: &[(&str, &str)]) -> ringhook::Config {
    let mut config = ringhook::Config::default();
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.journal = journal(dir, Ack::Written);
    config.bots.extend(bots.iter().map(|(name, path)| Bot::new(name, path, SECRET).unwrap()));
    config
}

/// What an earlier run has left of a bot comes before what is sent after the reload that brings the
/// bot back, and what was handled does not come again.
#[test]
fn updates_of_a_bot_that_a_reload_brings_back_come_first_and_in_order() {
    for few in [10_000, 20] {
        let dir = tempfile::tempdir().unwrap();
        let (server, calls) = putting_off(dir.path(), 5, |server| server);
        post_all(&server, 0..5, 1);
        wait_until("some are handled", || calls.len() == 5);
        post_all(&server, 5..300, 3);
        server.stop();
        // The queues are so small that most has to be read back.
        let mut limits = Limits::default();
        limits.queue_updates = few;
        limits.chat_updates = few / 2;
        let mut without = config(dir.path(), &[("other", "/other")]);
        without.limits = limits;
        let mut with = config(dir.path(), &[("other", "/other"), ("test", PATH)]);
        with.limits = limits;
        let server = TestServer::with(|server| server.config(without).workers(2));
        let reload = server.handle.reload(&with).unwrap();
        assert_eq!(reload.bots_added, ["test"]);
        let mut client = server.connect();
        wait_until("the bot is there", || client.post(&update_of(0, 1000)).status == 200);
        for id in 1001..1020 {
            assert_eq!(client.post(&update_of(id % 3, id)).status, 200);
        }
        // Copies of what was handled, and of what was not.
        for id in [2, 200] {
            assert_eq!(client.post(&update_of(id % 3, id)).status, 200);
        }
        server.wait_handled(295 + 20);
        let (report, handled) = server.stop();
        let mut chats = BTreeMap::<_, Vec<_>>::new();
        for update in handled.all() {
            let id = update["update_id"].as_i64().unwrap();
            let chat = update["message"]["chat"]["id"].as_i64().unwrap();
            chats.entry(chat).or_default().push(id);
        }
        for (chat, ids) in &chats {
            assert!(ids.is_sorted(), "chat {chat}: {ids:?}");
        }
        let mut ids = handled.ids();
        ids.sort_unstable();
        assert_eq!(ids, (5..300).chain(1000..1020).collect::<Vec<_>>());
        assert_eq!(of_journal(&report).lag_records, 0);
    }
}

/// Half of the journal is of a bot that is not configured any more. What the other bot fills of the
/// rest is given back when it is handled.
#[test]
fn a_full_journal_takes_updates_again_once_they_are_handled() {
    let dir = tempfile::tempdir().unwrap();
    let small = |mut config: ringhook::Config| {
        config.journal.max_bytes = 2 << 20;
        config
    };
    let (server, _) = putting_off(dir.path(), 0, |server| server);
    let mut client = server.connect();
    for id in 0..150 {
        assert_eq!(client.post(&long(id, id, 10_000)).status, 200);
    }
    server.stop();
    let without = small(config(dir.path(), &[("other", PATH)]));
    let server = TestServer::with(|server| server.config(without));
    let mut client = server.connect();
    let mut id = 1000;
    wait_until("it is full", || {
        id += 1;
        client.post(&long(1, id, 10_000)).status == 503
    });
    wait_until("it has room", || {
        id += 1;
        client.post(&long(1, id, 10_000)).status == 200
    });
    let (report, _) = server.stop();
    assert_eq!(of_journal(&report).lag_records, 150);
}
