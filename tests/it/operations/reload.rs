//! The promises of a reload: what changes at once, what stays, and that no connection notices.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ringhook::{Ack, AllowList, Bot, Config, Journal, Outcome, Update, update::BotId};

use crate::support::{
    self, PATH, SECRET, TestServer, client::Client, request_to, update, wait_until,
};

/// The settings of [`TestServer`] with these bots.
fn config(bots: &[(&str, &str, &str)]) -> Config {
    let mut config = Config::default();
    if let Ok(name) = std::env::var("RINGHOOK_TEST_DRIVER") {
        config.driver = name.parse().unwrap();
    }
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let bots = bots.iter().map(|(name, path, secret)| Bot::new(name, path, secret).unwrap());
    config.bots = bots.collect();
    config
}

/// The status that update `id` gets.
fn post(client: &mut Client, path: &str, secret: &str, id: i64) -> u16 {
    client.send(&request_to(path, secret, &update(id)));
    client.response().status
}

#[test]
fn bots_come_change_and_go_while_a_connection_stays() {
    for driver in support::drivers() {
        let server = TestServer::with(|server| server.driver(driver).shards(2));
        let mut client = server.connect();
        assert_eq!(post(&mut client, PATH, SECRET, 1), 200);
        assert_eq!(post(&mut client, "/new", "n3w", 2), 404);

        let mut with_new = config(&[("test", PATH, SECRET), ("new", "/new", "n3w")]);
        with_new.driver = driver;
        with_new.shards = Some(2);
        let reload = server.handle.reload(&with_new).unwrap();
        assert_eq!((reload.bots_added, reload.needs_restart), (vec!["new".to_owned()], vec![]));
        wait_until("the new bot is there", || post(&mut client, "/new", "n3w", 3) == 200);
        assert_eq!(post(&mut client, PATH, SECRET, 4), 200);

        let mut without = config(&[("new", "/newer", "n3wer")]);
        (without.driver, without.shards) = (driver, Some(2));
        let reload = server.handle.reload(&without).unwrap();
        assert_eq!(
            (reload.bots_changed, reload.bots_removed),
            (vec!["new".to_owned()], vec!["test".to_owned()])
        );
        wait_until("the new path is there", || post(&mut client, "/newer", "n3wer", 5) == 200);
        assert_eq!(post(&mut client, "/newer", "n3w", 6), 403, "the old secret");
        assert_eq!(post(&mut client, "/new", "n3w", 6), 404, "the old path");
        assert_eq!(post(&mut client, PATH, SECRET, 7), 404, "the bot that was removed");

        let names: Vec<_> = (0..3).map(|id| server.handle.bot_name(BotId::new(id))).collect();
        assert_eq!(names, [Some("test"), Some("new"), None]);
        let (report, handled) = server.stop();
        assert_eq!(handled.counts().into_keys().collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert_eq!(report.connections_accepted, 1);
        assert_eq!((report.config_reloads, report.config_reload_failures), (2, 0));
    }
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let server = TestServer::start();
    let mut wrong = config(&[("test", "/elsewhere", SECRET)]);
    wrong.limits.idle_timeout = Duration::ZERO;
    let error = server.handle.reload(&wrong).unwrap_err().to_string();
    assert!(error.starts_with("limits.idle_timeout"), "{error}");
    let broken = || Bot::new("test", PATH, "no token").map(|_| Config::default());
    assert!(server.handle.reload_from(broken).is_err());
    let mut client = server.connect();
    assert_eq!(post(&mut client, PATH, SECRET, 1), 200);
    let (report, _) = server.stop();
    assert_eq!((report.config_reloads, report.config_reload_failures), (0, 2));
}

#[test]
fn limits_change_and_what_cannot_change_is_named() {
    let server = TestServer::with(|server| server.workers(1));
    let mut next = config(&[("test", PATH, SECRET)]);
    next.workers = Some(2);
    next.limits.idle_timeout = Duration::from_millis(500);
    next.limits.body_bytes = 1024;
    next.limits.json_depth = 8;
    let reload = server.handle.reload(&next).unwrap();
    assert_eq!(reload.needs_restart, ["server.workers"]);
    let changed = ["limits.body_bytes", "limits.json_depth", "limits.idle_timeout"];
    assert_eq!(reload.changed, changed);
    assert_eq!(
        reload.to_string(),
        "changed: limits.body_bytes, limits.json_depth, limits.idle_timeout; changed in the config, \
         but in force only after a restart: server.workers"
    );
    let nested = r#"{"update_id":9,"message":{"chat":{"id":1},"x":[[[[[[[[1]]]]]]]]}}"#;
    wait_until("less deep bodies are asked for", || {
        let mut client = server.connect();
        client.send(&request_to(PATH, SECRET, nested));
        client.response().status == 400
    });
    let mut client = server.connect();
    client.send(&request_to(PATH, SECRET, &support::long(1, 1, 1025)));
    assert_eq!(client.response().status, 413);
    let mut client = server.connect();
    assert_eq!(post(&mut client, PATH, SECRET, 2), 200);
    client.assert_closed();
}

/// The bot's number and the update's id of each update that was handled.
type Seen = Arc<Mutex<Vec<(u32, i64)>>>;

/// A server with a journal in `dir` whose handler puts off all updates, or keeps which they are.
fn journaled(dir: &Path, bots: &[(&str, &str, &str)], seen: Option<Seen>) -> TestServer {
    TestServer::with(|server| {
        let mut config = config(bots);
        config.journal = Journal::at(dir.join("journal"), Ack::Written);
        config.drain_timeout = Duration::ZERO;
        server.config(config).handler(move |update: &Update| match &seen {
            None => Outcome::Retry(Duration::from_secs(3600)),
            Some(seen) => {
                seen.lock().unwrap().push((update.bot().index(), update.id().get()));
                Outcome::Done
            }
        })
    })
}

#[test]
fn what_a_new_bot_was_promised_outlives_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let first = journaled(dir.path(), &[("a", "/a", "aaa")], None);
    let mut client = first.connect();
    assert_eq!(post(&mut client, "/a", "aaa", 1), 200);
    let mut both = config(&[("a", "/a", "aaa"), ("b", "/b", "bbb")]);
    both.journal = Journal::at(dir.path().join("journal"), Ack::Written);
    both.drain_timeout = Duration::ZERO;
    assert_eq!(first.handle.reload(&both).unwrap().needs_restart, [""; 0]);
    wait_until("the new bot is there", || post(&mut client, "/b", "bbb", 2) == 200);
    assert_eq!(post(&mut client, "/a", "aaa", 3), 200);
    let report = first.handle.stop();
    assert_eq!(report.journal.unwrap().lag_records, 3);

    let seen = Seen::default();
    let bots = [("b", "/b", "bbb"), ("a", "/a", "aaa")];
    let second = journaled(dir.path(), &bots, Some(Arc::clone(&seen)));
    let all = || {
        let mut all = seen.lock().unwrap().clone();
        all.sort_unstable();
        all
    };
    wait_until("all are delivered", || all().len() == 3);
    assert_eq!(all(), [(0, 2), (1, 1), (1, 3)]);
    drop(second);
}

#[test]
fn duplicates_of_a_new_bot_are_known_and_its_ids_are_its_own() {
    let server = TestServer::start();
    let mut client = server.connect();
    assert_eq!(post(&mut client, PATH, SECRET, 1), 200);
    let both = config(&[("test", PATH, SECRET), ("b", "/b", "bbb")]);
    server.handle.reload(&both).unwrap();
    wait_until("the new bot is there", || post(&mut client, "/b", "bbb", 1) == 200);
    assert_eq!(post(&mut client, "/b", "bbb", 1), 200, "again");
    // Taken out and put back, it is the same bot.
    server.handle.reload(&config(&[("test", PATH, SECRET)])).unwrap();
    wait_until("the bot is gone", || post(&mut client, "/b", "bbb", 1) == 404);
    server.handle.reload(&both).unwrap();
    wait_until("the bot is back", || post(&mut client, "/b", "bbb", 1) == 200);
    let (report, handled) = server.stop();
    assert_eq!(handled.counts().into_iter().collect::<Vec<_>>(), [(1, 2)]);
    assert!(report.updates_duplicate >= 2);
}

#[test]
fn who_may_connect_and_how_many_change_with_a_reload() {
    let server = TestServer::start();
    let mut before = server.connect();
    assert_eq!(post(&mut before, PATH, SECRET, 1), 200);
    let pki = &server.pki;
    let connects = || {
        let config = support::client::config(pki, rustls::ALL_VERSIONS);
        Client::try_connect(server.handle.local_addr().unwrap(), config).is_ok()
    };
    let mut next = config(&[("test", PATH, SECRET)]);
    next.allow = Some(AllowList::new(["192.0.2.0/24"]).unwrap());
    assert_eq!(server.handle.reload(&next).unwrap().changed, ["server.allow"]);
    wait_until("no client can connect", || !connects());
    assert_eq!(post(&mut before, PATH, SECRET, 2), 200, "who was there stays");

    next.allow = None;
    next.limits.connections_per_address = 1;
    let changed = server.handle.reload(&next).unwrap().changed;
    assert_eq!(changed, ["server.allow", "limits.connections_per_address"]);
    let mut held = None;
    wait_until("one gets in", || {
        let config = support::client::config(pki, rustls::ALL_VERSIONS);
        held = Client::try_connect(server.handle.local_addr().unwrap(), config).ok();
        held.is_some()
    });
    wait_until("no second one gets in", || !connects());

    next.limits.connections_per_address = 0;
    next.bots[0].allow = Some(AllowList::new(["192.0.2.0/24"]).unwrap());
    assert_eq!(server.handle.reload(&next).unwrap().bots_changed, ["test"]);
    // The only bot's list is that of the listener, and one more line of defence on old connections.
    wait_until("no client can connect", || !connects());
    // The shard hears of it when the acceptor does, or a moment later.
    wait_until("who was there is refused", || post(&mut before, PATH, SECRET, 3) == 403);
}

#[test]
fn an_idle_connection_has_the_new_limits_with_its_next_request() {
    let server = TestServer::start();
    let mut client = server.connect();
    let mut fresh = server.connect();
    assert_eq!(post(&mut client, PATH, SECRET, 1), 200);
    let mut next = config(&[("test", PATH, SECRET)]);
    next.limits.body_bytes = 1024;
    server.handle.reload(&next).unwrap();
    wait_until("the limit is in force", || {
        let mut client = server.connect();
        client.send(&request_to(PATH, SECRET, &support::long(1, 2, 1025)));
        client.response().status == 413
    });
    for client in [&mut client, &mut fresh] {
        client.send(&request_to(PATH, SECRET, &support::long(1, 3, 1025)));
        assert_eq!(client.response().status, 413);
    }
}

/// A reload that allows longer bodies does not allow more bytes to wait.
#[test]
fn the_queue_has_its_bound_also_where_a_reload_allows_longer_bodies() {
    const BODY: usize = 1_900_000;
    let valve = support::valve::Valve::default();
    let held = valve.clone();
    let mut limits = ringhook::Limits::default();
    (limits.queue_bytes, limits.body_bytes) = (8 << 20, 16 << 10);
    let server = TestServer::with(|server| {
        server.limits(limits).handler(move |_: &Update| {
            held.pass();
            Outcome::Done
        })
    });
    let mut next = config(&[("test", PATH, SECRET)]);
    next.limits = limits;
    next.limits.body_bytes = 2 << 20;
    let reload = server.handle.reload(&next).unwrap();
    assert_eq!((reload.changed, reload.needs_restart), (vec!["limits.body_bytes"], vec![]));
    let mut client = server.connect();
    wait_until("longer bodies are taken", || {
        client = server.connect();
        client.post(&support::long(0, 0, BODY)).status == 200
    });
    let more = (1..40).take_while(|id| client.post(&support::long(*id, *id, BODY)).status == 200);
    assert_eq!(1 + more.count(), 4, "of 1.9 MB in 8 MiB");
    valve.open();
    wait_until("there is room", || client.post(&support::long(0, 50, BODY)).status == 200);
    server.stop();
}

#[test]
fn a_reload_within_a_reload_is_refused_and_others_wait_for_their_turn() {
    let server = TestServer::start();
    let next = config(&[("test", "/next", SECRET)]);
    let mut inner = None;
    let outer = server.handle.reload_from(|| {
        inner = Some(server.handle.reload(&config(&[("test", "/inner", SECRET)])));
        assert!(server.handle.is_healthy() && server.handle.report().config_reloads == 0);
        Ok(next.clone())
    });
    assert_eq!(outer.unwrap().bots_changed, ["test"]);
    assert_eq!(inner.unwrap().unwrap_err().kind(), ringhook::ErrorKind::Reload);
    // What was read later is in force later, however long the first one takes.
    std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let handle = &server.handle;
        let first = scope.spawn(move || {
            handle.reload_from(|| {
                begun.send(()).unwrap();
                // It is slow, so that the other one has to wait.
                std::thread::sleep(Duration::from_millis(50));
                Ok(config(&[("test", "/first", SECRET)]))
            })
        });
        has_begun.recv().unwrap();
        handle.reload(&config(&[("test", "/second", SECRET)])).unwrap();
        first.join().unwrap().unwrap();
    });
    let mut client = server.connect();
    wait_until("the second one is in force", || post(&mut client, "/second", SECRET, 1) == 200);
    // One that panics has had its turn.
    let broken = std::panic::AssertUnwindSafe(|| server.handle.reload_from(|| panic!("broken")));
    assert!(std::panic::catch_unwind(broken).is_err());
    assert!(server.handle.reload(&next).is_ok());
}
