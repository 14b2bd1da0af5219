//! Updates as a stream, under tokio.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use ringhook::{
    Ack, Dispatch, Journal, Limits, OnDrop, PendingUpdate, Report, Server, ServerBuilder, Stage,
    Updates,
};
use tokio::{runtime::Runtime, sync::Semaphore, time::timeout};

use crate::support::{
    self, TestServer, update_of,
    valve::{Calls, chat},
    wait_until,
};

thread_local! {
    /// Whether streams are read directly.
    static IS_DIRECT: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test with streams that workers fill, and with those that are read directly.
fn both(test: impl Fn()) {
    for is_direct in [false, true] {
        IS_DIRECT.set(is_direct);
        test();
    }
    IS_DIRECT.set(false);
}

/// A server whose updates come as a stream of `capacity`.
fn streaming(
    capacity: usize,
    change: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (TestServer, Updates, Runtime) {
    let mut updates = None;
    let server = TestServer::with(|server| {
        let (server, stream) = change(server).updates(capacity);
        updates = Some(if IS_DIRECT.get() { stream.direct() } else { stream });
        server
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    (server, updates.unwrap(), runtime.unwrap())
}

/// The next update; fails the test where none comes.
async fn next(updates: &mut Updates) -> PendingUpdate {
    timeout(support::PATIENCE, updates.next()).await.expect("an update in time").expect("no end")
}

/// Asserts that nothing comes for a while.
async fn assert_silent(updates: &mut Updates) {
    let outcome = timeout(Duration::from_millis(200), updates.next()).await;
    assert!(outcome.is_err(), "{:?}", outcome.unwrap());
}

/// Stops the server beside the test's tasks.
fn stop(handle: Server) -> thread::JoinHandle<Report> {
    thread::spawn(move || handle.stop())
}

#[test]
fn an_update_that_is_postponed_comes_again_before_its_chats_next_and_no_attempt_is_counted() {
    both(|| {
        let (server, mut updates, runtime) = streaming(4, |server| {
            let mut dispatch = Dispatch::default();
            dispatch.max_attempts = 2;
            server.workers(1).dispatch(dispatch)
        });
        let mut client = server.connect();
        for id in [1, 2] {
            assert_eq!(client.post(&update_of(7, id)).status, 200);
        }
        runtime.block_on(async {
            for _ in 0..5 {
                let update = next(&mut updates).await;
                assert_eq!(update.id().get(), 1);
                update.postpone(Duration::from_millis(1));
            }
            // The first attempt that counts, and the last one.
            for _ in 0..2 {
                let update = next(&mut updates).await;
                assert_eq!(update.id().get(), 1);
                update.retry(Duration::ZERO);
            }
            let update = next(&mut updates).await;
            assert_eq!(update.id().get(), 2);
            update.done();
        });
        let report = stop(server.handle).join().unwrap();
        assert_eq!((report.updates_failed, report.handler_retries), (1, 2));
    });
}

#[test]
fn a_body_is_as_received_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let text = "{ \"update_id\":5,\n\"message\":{\"text\":\"caf\\u00e9 \\/ \\ud83d\\ude00\"}}";
    for journal in [false, true] {
        let (server, mut updates, runtime) = streaming(4, |server| match journal {
            true => server.journal(Journal::at(dir.path(), Ack::Written)),
            false => server,
        });
        assert_eq!(server.connect().post(text).status, 200);
        assert_eq!(server.handle.deliver("test", &[text.replace(":5", ":6")]), Ok(1));
        runtime.block_on(async {
            for id in [":5", ":6"] {
                let update = next(&mut updates).await;
                let expected = text.replace(":5", id);
                assert_eq!(
                    update.payload().unwrap().get("text").unwrap().as_str(),
                    Some("café / 😀")
                );
                assert_eq!(update.body(), expected.as_bytes());
                update.done();
            }
        });
        stop(server.handle).join().unwrap();
    }
}

#[test]
fn each_chat_comes_in_order_and_one_at_a_time_to_tasks_that_settle_as_they_like() {
    both(|| {
        let (server, mut updates, runtime) =
            streaming(16, |server: ServerBuilder| server.shards(2).workers(2));
        let calls = Calls::default();
        let begin = calls.clone();
        let program = runtime.spawn(async move {
            let mut tasks = Vec::new();
            while let Some(update) = updates.next().await {
                let call = begin.begin(&update);
                tasks.push(tokio::spawn(async move {
                    let pause = update.id().get().cast_unsigned() * 7919 % 4;
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    drop(call);
                    update.done();
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
        let mut clients = [server.connect(), server.connect()];
        for id in 0..600 {
            let response = clients[id as usize % 2].post(&update_of(id / 2 % 7, 10_000 - id));
            assert_eq!(response.status, 200);
        }
        let report = stop(server.handle).join().unwrap();
        // The stream ends with the server, so the program does.
        runtime.block_on(async { timeout(support::PATIENCE, program).await }).unwrap().unwrap();
        for chat in 0..7 {
            let of_chat = (0..600).filter(|id| id / 2 % 7 == chat);
            assert_eq!(calls.of(chat), of_chat.map(|id| 10_000 - id).collect::<Vec<_>>());
        }
        assert_eq!(calls.at_once_in_a_chat(), 1);
        assert!(calls.at_once() > 1, "chats are settled beside each other");
        assert_eq!((report.updates_handled, report.updates_abandoned), (600, 0));
    });
}

#[test]
fn several_tasks_may_take_turns_at_the_stream() {
    both(|| {
        let (server, updates, runtime) = streaming(1, |server| server.workers(2));
        let updates = Arc::new(tokio::sync::Mutex::new(updates));
        let handled = server.handled.clone();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (updates, handled) = (Arc::clone(&updates), handled.clone());
                runtime.spawn(async move {
                    let mut count = 0;
                    loop {
                        let Some(update) = updates.lock().await.next().await else { return count };
                        handled.push(&update);
                        count += 1;
                        tokio::task::yield_now().await;
                        update.done();
                    }
                })
            })
            .collect();
        let mut client = server.connect();
        for id in 0..200 {
            assert_eq!(client.post(&update_of(id % 20, id)).status, 200);
        }
        let report = stop(server.handle).join().unwrap();
        let counts = tasks.into_iter().map(|task| runtime.block_on(task).unwrap());
        assert_eq!(counts.sum::<i32>(), 200);
        assert_eq!(handled.counts(), (0..200).map(|id| (id, 1)).collect());
        assert_eq!((report.updates_handled, report.updates_abandoned), (200, 0));
    });
}

#[test]
fn a_program_that_settles_nothing_makes_the_sender_come_again() {
    both(|| {
        let mut limits = Limits::default();
        limits.queue_updates = 20;
        let (server, mut updates, runtime) =
            streaming(4, |server| server.workers(2).limits(limits));
        let mut client = server.connect();
        for id in 0..20 {
            assert_eq!(client.post(&update_of(id % 10, id)).status, 200);
        }
        assert_eq!(client.post(&update_of(50, 50)).status, 503);
        runtime.block_on(async {
            // One of each chat, and no second one before that is settled.
            let mut held = Vec::new();
            for _ in 0..10 {
                held.push(next(&mut updates).await);
            }
            let mut chats: Vec<i64> = held.iter().map(|update| chat(update)).collect();
            chats.sort_unstable();
            assert_eq!(chats, (0..10).collect::<Vec<_>>());
            assert_silent(&mut updates).await;
            assert_eq!(client.post(&update_of(50, 50)).status, 503);
            // One that is settled makes room for one, and its chat goes on.
            let settled = held.pop().unwrap();
            let (chat_of_it, id) = (chat(&settled), settled.id().get());
            settled.done();
            let following = next(&mut updates).await;
            assert_eq!((chat(&following), following.id().get()), (chat_of_it, id + 10));
            wait_until("there is room", || client.post(&update_of(50, 50)).status == 200);
            assert_eq!(next(&mut updates).await.id().get(), 50);
        });
        server.handle.shutdown_handle().force();
        let report = server.handle.stop();
        let mut left: Vec<i64> = report.abandoned.iter().map(|(_, id)| *id).collect();
        left.sort_unstable();
        assert_eq!((report.updates_handled, report.updates_abandoned, left.len()), (1, 20, 20));
        left.dedup();
        assert_eq!(left.len(), 20, "each is named once");
    });
}

/// The ids that a stream gives, and what is told by the report, where `settle` deals with each.
fn settled_by(
    on_drop: OnDrop,
    settle: impl Fn(PendingUpdate, usize) + Send + 'static,
) -> (Vec<i64>, Report) {
    let mut dispatch = Dispatch::default();
    dispatch.max_attempts = 3;
    let (server, mut updates, runtime) =
        streaming(8, |server| server.workers(2).dispatch(dispatch).on_drop(on_drop));
    let mut client = server.connect();
    for id in 1..=3 {
        assert_eq!(client.post(&update_of(1, id)).status, 200);
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ids = Arc::clone(&seen);
    let program = runtime.spawn(async move {
        while let Some(update) = updates.next().await {
            let id = update.id().get();
            let attempt = {
                let mut ids = ids.lock().unwrap();
                ids.push(id);
                ids.iter().filter(|of| **of == id).count()
            };
            settle(update, attempt);
        }
    });
    let report = stop(server.handle).join().unwrap();
    runtime.block_on(program).unwrap();
    let ids = seen.lock().unwrap().clone();
    (ids, report)
}

#[test]
fn a_retry_comes_again_before_its_chat_goes_on_and_not_for_ever() {
    both(|| {
        let (ids, report) =
            settled_by(OnDrop::default(), |update, attempt| match update.id().get() {
                1 if attempt == 1 => update.retry(Duration::from_millis(20)),
                2 => update.retry(Duration::ZERO),
                _ => update.done(),
            });
        assert_eq!(ids, [1, 1, 2, 2, 2, 3]);
        assert_eq!((report.updates_handled, report.updates_failed), (2, 1));
        assert_eq!((report.handler_retries, report.updates_abandoned), (4, 0));
    });
}

#[test]
fn a_failure_is_counted_and_its_chat_goes_on() {
    both(|| {
        let (ids, report) = settled_by(OnDrop::default(), |update, _| match update.id().get() {
            2 => update.failed("no"),
            _ => update.done(),
        });
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!((report.updates_handled, report.updates_failed), (2, 1));
    });
}

#[test]
fn an_update_that_is_dropped_comes_again_after_a_second() {
    both(|| {
        let start = Instant::now();
        let (ids, report) = settled_by(OnDrop::Retry, |update, attempt| match attempt {
            1 if update.id().get() == 2 => drop(update),
            _ => update.done(),
        });
        assert_eq!(ids, [1, 2, 2, 3]);
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!((report.updates_handled, report.handler_retries), (3, 1));
    });
}

#[test]
fn an_update_that_is_dropped_has_failed_where_that_is_asked_for() {
    both(|| {
        let (ids, report) = settled_by(OnDrop::Failed, |update, _| match update.id().get() {
            2 => drop(update),
            _ => update.done(),
        });
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!((report.updates_handled, report.updates_failed), (2, 1));
    });
}

#[test]
fn a_task_that_panics_gives_its_update_back() {
    both(|| {
        let (server, mut updates, runtime) = streaming(8, |server| server);
        assert_eq!(server.connect().post(&update_of(1, 1)).status, 200);
        runtime.block_on(async {
            let update = next(&mut updates).await;
            let task = tokio::spawn(async move { panic!("on purpose, with {}", update.id()) });
            task.await.expect_err("a panic");
            next(&mut updates).await.done();
        });
        let report = server.handle.stop();
        assert_eq!((report.updates_handled, report.handler_retries), (1, 1));
    });
}

#[test]
fn a_stop_waits_for_what_is_not_settled_and_then_the_stream_ends() {
    both(|| {
        let (server, mut updates, runtime) = streaming(8, |server| server.workers(2));
        let mut client = server.connect();
        for id in 1..=2 {
            assert_eq!(client.post(&update_of(id, id)).status, 200);
        }
        let release = Arc::new(Semaphore::new(0));
        runtime.block_on(async {
            let (one, two) = (next(&mut updates).await, next(&mut updates).await);
            let stop = stop(server.handle);
            let waits = Arc::clone(&release);
            tokio::spawn(async move {
                waits.acquire().await.unwrap().forget();
                one.done();
            });
            assert_silent(&mut updates).await;
            assert!(!stop.is_finished());
            release.add_permits(1);
            two.done();
            let end = timeout(support::PATIENCE, updates.next()).await.expect("the end in time");
            assert!(end.is_none(), "{end:?}");
            let report = stop.join().unwrap();
            assert_eq!((report.updates_handled, report.updates_abandoned), (2, 0));
        });
    });
}

#[test]
fn what_is_settled_after_the_server_has_gone_does_no_harm() {
    both(|| {
        let timeout = Duration::from_millis(200);
        let (server, mut updates, runtime) = streaming(8, |server| server.drain_timeout(timeout));
        let mut client = server.connect();
        for id in 1..=3 {
            assert_eq!(client.post(&update_of(id, id)).status, 200);
        }
        let (one, two) =
            runtime.block_on(async { (next(&mut updates).await, next(&mut updates).await) });
        let report = server.handle.stop();
        let mut left = report.abandoned;
        left.sort();
        assert_eq!(left, [1, 2, 3].map(|id| ("test".to_owned(), id)));
        one.done();
        drop(two);
        drop(updates);
    });
}

#[test]
fn what_is_settled_without_a_reader_is_not_named_as_left_behind() {
    let (server, mut updates, runtime) = streaming(1, |server| server.workers(1));
    let mut client = server.connect();
    for id in 1..=4 {
        assert_eq!(client.post(&update_of(id, id)).status, 200);
    }
    runtime.block_on(async {
        let first = next(&mut updates).await;
        assert_eq!(first.id().get(), 1);
        // By now the worker waits for room, and would take no notice.
        wait_until("the worker waits", || {
            let waited = server.handle.report().latency(Stage::QueueWait);
            waited.is_some_and(|waited| waited.count == 3)
        });
        first.done();
    });
    server.handle.shutdown_handle().force();
    let report = server.handle.stop();
    let mut left: Vec<i64> = report.abandoned.iter().map(|(_, id)| *id).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 3, 4]);
    assert_eq!((report.updates_handled, report.updates_abandoned), (1, 3));
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Alone in its process: a spinning worker would be seen as CPU time of the whole.
#[test]
fn a_program_that_has_let_go_of_the_stream_costs_no_cpu() {
    const ALONE: &str = "RINGHOOK_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name =
            concat!(module_path!(), "::a_program_that_has_let_go_of_the_stream_costs_no_cpu");
        let (_, name) = name.split_once("::").unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output();
        let said = output.unwrap();
        let (stdout, stderr) = (&said.stdout, String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success(), "{stderr}");
        let stdout = String::from_utf8_lossy(stdout);
        assert!(stdout.contains("1 passed"), "{name} is not its name: {stdout}");
        return;
    }
    let (server, updates, _runtime) =
        streaming(8, |server| server.workers(2).drain_timeout(Duration::from_millis(100)));
    drop(updates);
    let mut client = server.connect();
    for id in 1..=3 {
        assert_eq!(client.post(&update_of(id, id)).status, 200);
    }
    let (before, start) = (cpu_time(), Instant::now());
    // What is measured is a second of doing nothing.
    thread::sleep(Duration::from_secs(1));
    let (spent, passed) = (cpu_time() - before, start.elapsed());
    assert!(spent < passed / 4, "{spent:?} of CPU in {passed:?}");
    let report = server.handle.stop();
    assert_eq!((report.updates_abandoned, report.abandoned.len()), (3, 3));
}

/// Drops the stream of a running server; what is said of it.
fn let_go(
    server: impl FnOnce(ServerBuilder) -> ServerBuilder,
    before: impl FnOnce(&TestServer, &mut Updates, &Runtime),
) -> (TestServer, String) {
    let (tell, told) = std::sync::mpsc::channel();
    let (server, mut updates, runtime) = streaming(8, |it| {
        server(it.workers(2)).on_failure(move |error| tell.send(error.to_string()).unwrap())
    });
    before(&server, &mut updates, &runtime);
    assert!(server.handle.is_healthy());
    drop(updates);
    // No update has to come for that.
    let said = told.recv_timeout(support::PATIENCE).expect("on_failure is called");
    assert!(!server.handle.is_healthy());
    (server, said)
}

#[test]
fn a_stream_that_is_dropped_is_a_failure_and_what_comes_is_abandoned() {
    both(|| {
        let (server, said) = let_go(|server| server, |_, _, _| {});
        assert!(said.starts_with("the stream's receiver was dropped"), "{said}");
        let mut client = server.connect();
        for id in 1..=20 {
            assert_eq!(client.post(&update_of(id, id)).status, 200);
        }
        let report = server.handle.stop();
        assert_eq!((report.updates_abandoned, report.abandoned.len()), (20, 20));
    });
}

/// Where dropping one is its failure, that is true of those only that the program has seen.
#[test]
fn what_is_in_a_stream_that_is_dropped_stays_in_the_journal() {
    both(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut dispatch = Dispatch::default();
        dispatch.max_attempts = 1;
        let journal = |server: ServerBuilder| server.journal(Journal::at(dir.path(), Ack::Written));
        let (server, _) = let_go(
            |server| journal(server).dispatch(dispatch).on_drop(OnDrop::Failed),
            |server, updates, runtime| {
                let mut client = server.connect();
                for id in 1..=6 {
                    assert_eq!(client.post(&update_of(id, id)).status, 200);
                }
                runtime.block_on(async { next(updates).await.done() });
                wait_until("the others are in the stream", || {
                    let waited = server.handle.report().latency(Stage::QueueWait);
                    // Read directly, they stay in their queue until they are asked for.
                    let count = if IS_DIRECT.get() { 1 } else { 6 };
                    waited.is_some_and(|waited| waited.count == count)
                });
            },
        );
        let report = server.handle.stop();
        assert_eq!((report.updates_handled, report.updates_failed), (1, 0));
        let again = TestServer::with(journal);
        again.wait_handled(5);
        assert_eq!(again.stop().1.len(), 5);
    });
}
