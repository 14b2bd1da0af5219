//! What happens to an update behind its 200: in order, once, and no chat waits for another.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ringhook::{Bot, Dispatch, FeedError, Limits, Order, Outcome, Report, Update};

use crate::support::{
    self, TestServer,
    client::Client,
    request, request_to, update_of,
    valve::{Calls, Valve, chat, chats_of},
    wait_until,
};

/// Posts and expects 200.
#[track_caller]
fn accept(client: &mut Client, chat: i64, id: i64) {
    assert_eq!(client.post(&update_of(chat, id)).status, 200, "update {id} of chat {chat}");
}

#[test]
fn a_chat_is_handled_one_update_at_a_time_in_the_order_of_the_200s() {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        let (calls, valve) = (Calls::default(), Valve::default());
        let (begin, pass) = (calls.clone(), valve.clone());
        let server = TestServer::with(|server| {
            server.driver(driver).shards(2).workers(2).handler(move |update: &Update| {
                let _call = begin.begin(update);
                pass.pass();
                // Another worker that may handle this chat has time to do so.
                thread::yield_now();
                Outcome::Done
            })
        });
        let mut clients = [server.connect(), server.connect()];
        // The ids fall, so that no order but that of the 200s gives the expected one.
        let ids: Vec<i64> = (0..600).map(|n| 10_000 - 7 * n).collect();
        for (n, id) in ids.iter().enumerate() {
            accept(&mut clients[n % 2], 1, *id);
            accept(&mut clients[(n + 1) % 2], 2 + n as i64 % 5, 20_000 + id);
            if n == 150 {
                // The first quarter comes out of a queue, the rest as it arrives.
                valve.open();
            }
            if n > 150 {
                wait_until("the chat has room", || calls.of(1).len() + 200 > n);
            }
        }
        let (report, _) = server.stop();
        assert_eq!((report.updates_handled, report.updates_duplicate), (1200, 0));
        assert_eq!(calls.of(1), ids);
        for rest in 0..5 {
            let of_chat = ids.iter().enumerate().filter(|(n, _)| n % 5 == rest);
            let expected: Vec<i64> = of_chat.map(|(_, id)| 20_000 + id).collect();
            assert_eq!(calls.of(2 + rest as i64), expected);
        }
        assert_eq!(calls.at_once_in_a_chat(), 1);
        assert!(calls.at_once() > 1, "two workers have worked at once");
    }
}

/// A server with two workers, each of whose calls waits until there is another one beside it.
fn meeting(order: Order) -> (TestServer, Calls) {
    let (calls, both) = (Calls::default(), Barrier::new(2));
    let begin = calls.clone();
    let mut dispatch = Dispatch::default();
    dispatch.order = order;
    let server = TestServer::with(|server| {
        server.workers(2).dispatch(dispatch).handler(move |update: &Update| {
            let _call = begin.begin(update);
            both.wait();
            Outcome::Done
        })
    });
    (server, calls)
}

#[test]
fn two_chats_are_handled_at_once_whichever_workers_they_belong_to() {
    for pair in [[0, 1], [0, 0], [1, 1]] {
        let (server, calls) = meeting(Order::Chat);
        let first = chats_of(pair[0], 2, 1).next().unwrap();
        let second = chats_of(pair[1], 2, first + 1).next().unwrap();
        let mut client = server.connect();
        for id in 0..50 {
            accept(&mut client, [first, second][id as usize % 2], id);
        }
        wait_until("all have met", || server.handle.report().updates_handled == 50);
        assert_eq!((calls.at_once(), calls.at_once_in_a_chat()), (2, 1));
    }
}

#[test]
fn without_order_the_updates_of_one_chat_are_handled_at_once() {
    let (server, calls) = meeting(Order::None);
    let mut client = server.connect();
    for id in 0..50 {
        accept(&mut client, 1, id);
    }
    wait_until("all have met", || server.handle.report().updates_handled == 50);
    assert_eq!(calls.at_once_in_a_chat(), 2);
}

const SLOW: i64 = 1;

/// A server whose handler waits at the valve with each update of the chat [`SLOW`].
fn with_a_slow_chat(workers: usize) -> (TestServer, Calls, Valve) {
    let (calls, valve) = (Calls::default(), Valve::default());
    let (begin, pass) = (calls.clone(), valve.clone());
    let server = TestServer::with(|server| {
        server.shards(2).workers(workers).handler(move |update: &Update| {
            let _call = begin.begin(update);
            if chat(update) == SLOW {
                pass.pass();
            }
            Outcome::Done
        })
    });
    (server, calls, valve)
}

#[test]
fn a_slow_chat_holds_up_no_other_while_a_worker_is_free() {
    let (server, calls, valve) = with_a_slow_chat(2);
    let mut clients = [server.connect(), server.connect()];
    for id in 1..=10 {
        accept(&mut clients[0], SLOW, id);
    }
    let slow_part = (0..2).find(|worker| chats_of(*worker, 2, SLOW).next() == Some(SLOW)).unwrap();
    let chats: Vec<i64> = [slow_part, 1 - slow_part]
        .iter()
        .flat_map(|worker| chats_of(*worker, 2, SLOW + 1).take(25))
        .collect();
    for n in 0..500 {
        accept(&mut clients[n % 2], chats[n % 50], 100 + n as i64);
    }
    wait_until("the others are handled", || server.handle.report().updates_handled == 500);
    assert_eq!(calls.of(SLOW), [1], "the slow call has not ended all the time");
    valve.open();
    let (report, _) = server.stop();
    assert_eq!(report.updates_handled, 510);
    assert_eq!(calls.of(SLOW), (1..=10).collect::<Vec<_>>());
    for (index, chat) in chats.iter().enumerate() {
        let expected: Vec<i64> = (0..10).map(|n| 100 + index as i64 + 50 * n).collect();
        assert_eq!(calls.of(*chat), expected);
    }
}

#[test]
fn where_there_is_one_worker_others_wait_for_one_slow_call() {
    let (server, calls, valve) = with_a_slow_chat(1);
    let mut client = server.connect();
    accept(&mut client, SLOW, 1);
    wait_until("the slow call has begun", || calls.len() == 1);
    for id in 2..=10 {
        accept(&mut client, SLOW, id);
    }
    // More than are taken out of the inbox at once.
    for chat in 100..300 {
        accept(&mut client, chat, chat);
    }
    valve.admit(1);
    wait_until("the second slow call has begun", || calls.of(SLOW).len() == 2);
    assert_eq!(calls.len(), 202, "the others come before the slow chat's second");
    for chat in 300..310 {
        accept(&mut client, chat, chat);
    }
    valve.admit(1);
    wait_until("the third slow call has begun", || calls.of(SLOW).len() == 3);
    assert_eq!(calls.len(), 213, "and again");
    valve.open();
    let (report, _) = server.stop();
    assert_eq!(report.updates_handled, 220);
    assert_eq!(calls.of(SLOW), (1..=10).collect::<Vec<_>>());
}

/// A worker that sleeps must wake up for a retry although the one that knew of it is held up.
#[test]
fn a_retry_comes_in_time_as_long_as_a_worker_is_free() {
    // Of whichever parts the chats are, one of three workers is free.
    for parts in [[0, 1, 1], [0, 0, 1], [0, 1, 2], [1, 0, 0], [2, 0, 0], [1, 2, 2]] {
        eprintln!("parts {parts:?}");
        let again = chats_of(parts[0], 3, 100).next().unwrap();
        let slow = [(parts[1], 200), (parts[2], 300)]
            .map(|(part, first)| chats_of(part, 3, first).next().unwrap());
        let (calls, valve) = (Calls::default(), Valve::default());
        let (begin, pass) = (calls.clone(), valve.clone());
        let server = TestServer::with(|server| {
            server.workers(3).handler(move |update: &Update| {
                let _call = begin.begin(update);
                if slow.contains(&chat(update)) {
                    pass.pass();
                } else if begin.of(chat(update)).len() == 1 {
                    return Outcome::Retry(Duration::from_millis(300));
                }
                Outcome::Done
            })
        });
        let mut client = server.connect();
        accept(&mut client, again, 1);
        wait_until("it is to come again", || server.handle.report().handler_retries == 1);
        for (id, chat) in (2..).zip(slow) {
            accept(&mut client, chat, id);
            wait_until("the slow call has begun", || calls.of(chat).len() == 1);
        }
        wait_until("the third worker handles it", || calls.of(again) == [1, 1]);
        valve.open();
        assert_eq!(server.stop().0.updates_handled, 3);
    }
}

#[test]
fn copies_on_two_connections_at_once_and_later_are_handled_once() {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        let server = TestServer::with(|server| server.driver(driver).shards(2).workers(2));
        let clients = [server.connect(), server.connect()];
        let together = Barrier::new(2);
        let rounds = 0..300;
        thread::scope(|scope| {
            for mut client in clients {
                let (together, rounds) = (&together, rounds.clone());
                scope.spawn(move || {
                    for id in rounds {
                        together.wait();
                        accept(&mut client, id % 7, id);
                    }
                });
            }
        });
        let mut late = server.connect();
        for id in rounds.clone() {
            accept(&mut late, id % 7, id);
        }
        let (report, handled) = server.stop();
        assert_eq!(handled.counts(), rounds.map(|id| (id, 1)).collect());
        assert_eq!((report.updates_acknowledged, report.updates_handled), (900, 300));
        assert_eq!((report.updates_duplicate, report.updates_abandoned), (600, 0));
    }
}

#[test]
fn a_copy_of_an_update_that_waits_is_not_handled_either() {
    let (server, calls, valve) = with_a_slow_chat(2);
    let mut clients = [server.connect(), server.connect()];
    for id in [1, 2, 2, 1, 3, 3, 2] {
        for client in &mut clients {
            accept(client, SLOW, id);
        }
    }
    valve.open();
    let (report, _) = server.stop();
    assert_eq!(calls.of(SLOW), [1, 2, 3]);
    assert_eq!((report.updates_duplicate, report.updates_handled), (11, 3));
}

#[test]
fn an_update_that_was_refused_is_new_when_it_comes_again() {
    let (calls, valve) = (Calls::default(), Valve::default());
    let (begin, pass) = (calls.clone(), valve.clone());
    let mut limits = Limits::default();
    limits.queue_updates = 1;
    let server = TestServer::with(|server| {
        server.limits(limits).handler(move |update: &Update| {
            let _call = begin.begin(update);
            pass.pass();
            Outcome::Done
        })
    });
    let mut client = server.connect();
    accept(&mut client, 1, 1);
    for _ in 0..3 {
        assert_eq!(client.post(&update_of(2, 2)).status, 503);
    }
    valve.open();
    wait_until("there is room", || client.post(&update_of(2, 2)).status == 200);
    wait_until("it is handled", || calls.ids() == [1, 2]);
    // And now it is known.
    wait_until("there is room", || client.post(&update_of(2, 2)).status == 200);
    let (report, _) = server.stop();
    assert_eq!(calls.ids(), [1, 2]);
    assert_eq!((report.updates_handled, report.updates_duplicate), (2, 1));
}

#[test]
fn ids_may_jump_and_fall() {
    let server = TestServer::start();
    let ids = [1_000_000_000, 5, i64::MAX, 4, 999_999_999, 0, 3, -1, i64::MIN, 2, 1 << 40];
    let mut client = server.connect();
    for id in ids {
        assert_eq!(client.post(&format!("{{\"update_id\":{id}}}")).status, 200);
    }
    let (report, handled) = server.stop();
    assert_eq!(handled.counts(), ids.map(|id| (id, 1)).into());
    assert_eq!(report.updates_duplicate, 0);
}

#[test]
fn equal_ids_of_two_bots_are_two_updates() {
    let server =
        TestServer::with(|server| server.bot(Bot::new("other", "/other", "token").unwrap()));
    let mut client = server.connect();
    for _ in 0..2 {
        accept(&mut client, 1, 1);
        client.send(&request_to("/other", "token", &update_of(1, 1)));
        assert_eq!(client.response().status, 200);
    }
    let (report, handled) = server.stop();
    assert_eq!(handled.counts(), [(1, 2)].into());
    assert_eq!(report.updates_duplicate, 2);
}

#[test]
fn a_chat_waits_for_its_retry_and_no_other_does() {
    for driver in support::drivers() {
        let calls = Calls::default();
        let begin = calls.clone();
        let server = TestServer::with(|server| {
            server.driver(driver).workers(2).handler(move |update: &Update| {
                let _call = begin.begin(update);
                let id = update.id().get();
                match begin.of(chat(update)).iter().filter(|of| **of == id).count() {
                    1 | 2 if id % 10 == 3 => Outcome::Retry(Duration::from_millis(20)),
                    _ => Outcome::Done,
                }
            })
        });
        let mut clients = [server.connect(), server.connect()];
        for id in 0..200 {
            accept(&mut clients[id as usize % 2], id / 10 % 4, id);
        }
        let (report, _) = server.stop();
        assert_eq!((report.updates_handled, report.handler_retries), (200, 40));
        for chat in 0..4 {
            let of_chat = (0..200).filter(|id| id / 10 % 4 == chat);
            let expected: Vec<i64> =
                of_chat.flat_map(|id| vec![id; if id % 10 == 3 { 3 } else { 1 }]).collect();
            assert_eq!(calls.of(chat), expected, "three calls for one in ten, in their places");
        }
    }
}

#[test]
fn a_retry_for_ever_is_not_begun_again_before_its_time() {
    let count = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&count);
    let server = TestServer::with(|server| {
        server.drain_timeout(Duration::ZERO).workers(1).handler(move |update: &Update| {
            calls.fetch_add(1, Ordering::Relaxed);
            if chat(update) == 1 { Outcome::Retry(Duration::MAX) } else { Outcome::Done }
        })
    });
    let mut client = server.connect();
    for id in 0..100 {
        accept(&mut client, id % 2, id);
    }
    wait_until("the other chat is handled", || server.handle.report().updates_handled == 50);
    let (report, _) = server.stop();
    assert_eq!(count.load(Ordering::Relaxed), 51);
    assert_eq!((report.updates_abandoned, report.abandoned.len()), (50, 50));
}

/// What a file of dead letters holds.
fn letters(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The settings under test with a file of dead letters in `dir`.
fn with_letters(dir: &Path) -> (Dispatch, PathBuf) {
    let path = dir.join("dead.ndjson");
    let mut dispatch = Dispatch::default();
    dispatch.dead_letters = Some(path.clone());
    dispatch.max_attempts = 3;
    (dispatch, path)
}

#[test]
fn what_finally_fails_is_a_dead_letter_and_harms_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (dispatch, path) = with_letters(dir.path());
    let calls = Calls::default();
    for run in [0, 1] {
        let begin = calls.clone();
        let server = TestServer::with(|server| {
            server.workers(2).dispatch(dispatch.clone()).handler(move |update: &Update| {
                let _call = begin.begin(update);
                match update.id().get() % 10 {
                    1 => Outcome::Failed("it \"cannot\" be".into()),
                    2 => panic!("on purpose: this is printed by a test that passes"),
                    3 => Outcome::Retry(Duration::from_millis(1)),
                    _ => Outcome::Done,
                }
            })
        });
        let mut client = server.connect();
        for id in 10 * run..10 * run + 10 {
            accept(&mut client, 1, id);
        }
        wait_until("all are settled", || {
            let report = server.handle.report();
            report.updates_handled + report.updates_failed == 10
        });
        // What is counted is in the file.
        assert_eq!(letters(&path).len() as i64, 3 * (run + 1));
        let (report, _) = server.stop();
        assert_eq!((report.updates_handled, report.updates_failed), (7, 3));
        assert_eq!((report.handler_retries, report.handler_panics), (3, 1));
        assert_eq!(report.updates_abandoned, 0);
    }
    let ids = (0..20).flat_map(|id| vec![id; if id % 10 == 3 { 3 } else { 1 }]);
    assert_eq!(calls.of(1), ids.collect::<Vec<_>>());
    let expected = |id: i64, reason: &str, attempts: i64| {
        let update: serde_json::Value = serde_json::from_str(&update_of(1, id)).unwrap();
        serde_json::json!({
            "bot": "test", "update_id": id, "reason": reason, "attempts": attempts,
            "update": update,
        })
    };
    let letters = letters(&path);
    for (letters, run) in letters.chunks(3).zip([0, 10]) {
        assert_eq!(letters[0], expected(run + 1, "it \"cannot\" be", 1));
        assert_eq!(letters[1], expected(run + 2, "the handler panicked", 1));
        assert_eq!(letters[2], expected(run + 3, "given up after 3 attempts", 3));
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_of_dead_letters_that_cannot_be_had_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatch = Dispatch::default();
    dispatch.dead_letters = Some(dir.path().to_owned());
    let error = TestServer::try_with(|server| server.dispatch(dispatch)).err().unwrap();
    assert!(error.to_string().starts_with("dispatch.dead_letters = "), "{error}");
}

#[test]
fn a_dead_letter_that_is_fed_in_again_is_handled_in_its_chats_order() {
    let dir = tempfile::tempdir().unwrap();
    let (dispatch, path) = with_letters(dir.path());
    let (calls, valve) = (Calls::default(), Valve::default());
    let (begin, pass) = (calls.clone(), valve.clone());
    let server = TestServer::with(|server| {
        server.dispatch(dispatch).handler(move |update: &Update| {
            let _call = begin.begin(update);
            match update.id().get() {
                7 if begin.len() == 1 => return Outcome::Failed("not yet".into()),
                8 => pass.pass(),
                _ => {}
            }
            Outcome::Done
        })
    });
    let mut client = server.connect();
    accept(&mut client, 1, 7);
    wait_until("it has failed", || server.handle.report().updates_failed == 1);
    // As a copy by the wire it is known, and fed in it is not.
    accept(&mut client, 1, 7);
    accept(&mut client, 1, 8);
    let letter = letters(&path)[0]["update"].to_string();
    for _ in 0..2 {
        server.handle.feed("test", letter.as_bytes()).unwrap();
    }
    accept(&mut client, 1, 9);
    valve.open();
    let (report, _) = server.stop();
    assert_eq!(calls.of(1), [7, 8, 7, 7, 9]);
    assert_eq!((report.updates_fed, report.updates_received), (2, 4));
    assert_eq!((report.updates_handled, report.updates_duplicate), (4, 1));
    assert_eq!((report.updates_failed, report.updates_abandoned), (1, 0));
}

#[test]
fn what_cannot_be_fed_in_is_refused_and_not_counted() {
    let valve = Valve::default();
    let pass = valve.clone();
    let mut limits = Limits::default();
    limits.queue_updates = 2;
    let server = TestServer::with(|server| {
        server.limits(limits).handler(move |_: &Update| {
            pass.pass();
            Outcome::Done
        })
    });
    let feed = |bot: &str, update: &str| server.handle.feed(bot, update.as_bytes());
    assert_eq!(feed("absent", &update_of(1, 1)), Err(FeedError::UnknownBot));
    for bytes in ["", "{}", "[]", "{\"update_id\":\"1\"}", "{\"update_id\":1", "\0"] {
        assert!(matches!(feed("test", bytes), Err(FeedError::NotAnUpdate(_))), "{bytes:?}");
    }
    assert_eq!(feed("test", &update_of(1, 1)), Ok(()));
    assert_eq!(feed("test", &update_of(2, 2)), Ok(()));
    assert_eq!(feed("test", &update_of(3, 3)), Err(FeedError::Full));
    // The wire and the feed share the limits.
    assert_eq!(server.connect().post(&update_of(3, 3)).status, 503);
    valve.open();
    wait_until("there is room", || feed("test", &update_of(3, 3)) == Ok(()));
    let (report, _) = server.stop();
    assert_eq!((report.updates_fed, report.updates_handled, report.updates_abandoned), (3, 3, 0));
}

#[test]
fn a_stop_in_the_middle_of_a_load_handles_all_that_was_acknowledged() {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        let (calls, valve) = (Calls::default(), Valve::default());
        let (begin, pass) = (calls.clone(), valve.clone());
        let server = TestServer::with(|server| {
            server.driver(driver).shards(2).workers(2).handler(move |update: &Update| {
                pass.pass();
                let _call = begin.begin(update);
                let again = update.id().get() % 20 == 0 && begin.of(chat(update)).len() % 2 == 1;
                if again { Outcome::Retry(Duration::from_millis(5)) } else { Outcome::Done }
            })
        });
        let clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        let addr = server.handle.local_addr().unwrap();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..)
            .zip(clients)
            .map(|(number, mut client)| {
                let acknowledged = Arc::clone(&acknowledged);
                thread::spawn(move || {
                    let mut ids = Vec::new();
                    for id in (number..).step_by(4) {
                        // The end of the connection may come at any point.
                        let bytes = request(&update_of(id % 60, id));
                        if client.stream.write_all(&bytes).is_err() {
                            break;
                        }
                        match client.try_response() {
                            Some(response) if response.status == 200 => ids.push(id),
                            Some(response) => assert_eq!(response.status, 503),
                            None => break,
                        }
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    ids
                })
            })
            .collect();
        // There is a queue when the stop begins, and the load goes on.
        wait_until("a queue has grown", || acknowledged.load(Ordering::Relaxed) > 500);
        let stop = thread::spawn(move || server.handle.stop());
        wait_until("nothing listens", || TcpStream::connect(addr).is_err());
        valve.open();
        let mut sent: Vec<i64> =
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        let report = stop.join().unwrap();
        sent.sort_unstable();
        let mut handled = calls.ids();
        handled.dedup();
        assert_eq!(handled, sent, "acknowledged and handled are the same");
        assert_eq!(report.updates_handled, sent.len() as u64);
        assert_eq!((report.updates_abandoned, report.abandoned), (0, vec![]));
        assert_eq!(calls.at_once_in_a_chat(), 1);
    }
}

/// A server whose handler never returns for chat 1, and asks for chat 2 again in an hour.
fn that_never_ends(timeout: Duration) -> (TestServer, Calls) {
    let calls = Calls::default();
    let begin = calls.clone();
    let server = TestServer::with(|server| {
        let other = Bot::new("other", "/other", "token").unwrap();
        server.bot(other).workers(2).drain_timeout(timeout).handler(move |update: &Update| {
            let _call = begin.begin(update);
            match chat(update) {
                1 => loop {
                    thread::park();
                },
                2 => Outcome::Retry(Duration::from_secs(3600)),
                _ => Outcome::Done,
            }
        })
    });
    let mut client = server.connect();
    for id in 0..30 {
        accept(&mut client, id % 3, id);
    }
    client.send(&request_to("/other", "token", &update_of(2, 5)));
    assert_eq!(client.response().status, 200);
    wait_until("nothing goes on", || {
        let report = server.handle.report();
        calls.of(1).len() == 1 && report.updates_handled == 10 && report.handler_retries == 2
    });
    (server, calls)
}

#[track_caller]
fn assert_abandoned(report: Report) {
    let of_test = (0..30).filter(|id| id % 3 != 0).map(|id| ("test".to_owned(), id));
    let expected: Vec<_> = [("other".to_owned(), 5)].into_iter().chain(of_test).collect();
    let mut abandoned = report.abandoned;
    abandoned.sort();
    assert_eq!(abandoned, expected);
    assert_eq!((report.updates_abandoned, report.updates_handled), (21, 10));
}

#[test]
fn a_stop_that_is_out_of_time_names_what_it_leaves() {
    let (server, calls) = that_never_ends(Duration::from_millis(300));
    let (report, _) = server.stop();
    assert_abandoned(report);
    assert_eq!(calls.len(), 13, "nothing new has been begun");
}

#[test]
fn a_stop_can_be_hurried_before_and_while_it_waits() {
    for before in [true, false] {
        let (server, _) = that_never_ends(Duration::from_secs(3600));
        let (shutdown_handle, addr) =
            (server.handle.shutdown_handle(), server.handle.local_addr().unwrap());
        assert!(!shutdown_handle.is_forced());
        if before {
            shutdown_handle.force();
        }
        let start = Instant::now();
        let stop = thread::spawn(move || server.handle.stop());
        if !before {
            wait_until("nothing listens", || TcpStream::connect(addr).is_err());
            assert!(!stop.is_finished());
            shutdown_handle.force();
        }
        assert_abandoned(stop.join().unwrap());
        assert!(shutdown_handle.is_forced());
        assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    }
}

#[test]
fn a_stop_waits_for_a_retry() {
    let calls = Calls::default();
    let begin = calls.clone();
    let server = TestServer::with(|server| {
        server.handler(move |update: &Update| {
            let _call = begin.begin(update);
            let first = begin.len() == 1;
            if first { Outcome::Retry(Duration::from_millis(300)) } else { Outcome::Done }
        })
    });
    accept(&mut server.connect(), 1, 1);
    let (report, _) = server.stop();
    assert_eq!((report.updates_handled, report.updates_abandoned), (1, 0));
    assert_eq!(calls.of(1), [1, 1]);
}

/// What has waited too long is skipped: see the tests of the worker, which need not wait.
#[test]
fn a_query_that_is_answered_in_time_is_not_skipped() {
    let mut dispatch = Dispatch::default();
    dispatch.drop_expired = true;
    let server = TestServer::with(|server| server.dispatch(dispatch).workers(2));
    let mut client = server.connect();
    let kinds = ["inline_query", "callback_query", "shipping_query", "pre_checkout_query"];
    for (id, kind) in kinds.iter().enumerate() {
        let update = format!("{{\"update_id\":{id},\"{kind}\":{{\"from\":{{\"id\":1}}}}}}");
        assert_eq!(client.post(&update).status, 200);
    }
    let (report, handled) = server.stop();
    assert_eq!(handled.ids(), [0, 1, 2, 3]);
    assert!(report.updates_expired.is_empty(), "{report}");
}
