//! The end: what is acknowledged is kept, what is under way is finished, no thread waits for ever.

use std::{
    io,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ringhook::{Error, ErrorKind, Outcome, Refused, Sink, SinkWriter, Update, report::CloseReason};

use crate::support::{self, TestServer, on_each_driver, request, update, wait_until};

/// Time that a stop may take beyond its drain timeout, plus the machine's own slowness.
const GRACE: Duration = Duration::from_secs(5);

/// Stops `server`, whose drain timeout is `timeout`, and checks that no more time is taken.
#[track_caller]
fn stop_in_time(server: TestServer, timeout: Duration) -> ringhook::Report {
    let start = Instant::now();
    let report = server.handle.stop();
    let took = start.elapsed();
    assert!(took >= timeout, "given up early: {took:?}");
    assert!(took < timeout + GRACE, "a stop took {took:?}");
    report
}

#[test]
fn a_handler_that_never_returns_is_given_up() {
    let timeout = Duration::from_millis(300);
    for driver in support::drivers() {
        let entered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&entered);
        let server = TestServer::with(|server| {
            server.driver(driver).workers(1).drain_timeout(timeout).handler(move |_: &Update| {
                count.fetch_add(1, Ordering::Relaxed);
                loop {
                    thread::park();
                }
            })
        });
        let mut client = server.connect();
        for id in 0..5 {
            assert_eq!(client.post(&update(id)).status, 200);
        }
        wait_until("the handler hangs", || entered.load(Ordering::Relaxed) == 1);
        drop(client);
        let report = stop_in_time(server, timeout);
        assert_eq!((report.updates_acknowledged, report.updates_handled), (5, 0));
        assert_eq!(report.updates_abandoned, 5);
        assert_eq!(entered.load(Ordering::Relaxed), 1, "the others are not begun any more");
    }
}

#[test]
fn a_handler_that_always_wants_to_retry_is_given_up() {
    let timeout = Duration::from_millis(300);
    let server = TestServer::with(|server| {
        let again = Outcome::Retry(Duration::from_secs(3600));
        server.workers(1).drain_timeout(timeout).handler(move |_: &Update| again.clone())
    });
    assert_eq!(server.connect().post(&update(1)).status, 200);
    wait_until("it waits", || server.handle.report().handler_retries == 1);
    let report = stop_in_time(server, timeout);
    assert_eq!((report.updates_abandoned, report.handler_retries), (1, 1));
}

/// To wait for ever is a wish like any other.
#[test]
fn the_longest_and_the_shortest_waits_are_no_panics() {
    for timeout in [Duration::ZERO, Duration::MAX] {
        let server = TestServer::with(|server| server.drain_timeout(timeout));
        assert_eq!(server.connect().post(&update(1)).status, 200);
        server.wait_handled(1);
        let (report, handled) = server.stop();
        assert_eq!((report.updates_handled, handled.ids()), (1, vec![1]));
    }
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    let server = TestServer::with(|server| {
        server
            .drain_timeout(Duration::from_millis(100))
            .on_failure(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
            .handler(|_: &Update| Outcome::Retry(Duration::MAX))
    });
    assert_eq!(server.connect().post(&update(1)).status, 200);
    wait_until("it waits", || server.handle.report().handler_retries == 1);
    assert_eq!(server.handle.stop().updates_abandoned, 1);
    assert_eq!(failures.load(Ordering::Relaxed), 0, "a thread has panicked");
}

/// A destination that never takes anything: it fails, or it blocks.
struct Stuck {
    blocks: bool,
}

impl Sink for Stuck {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Self { blocks: self.blocks }))
    }
}

impl SinkWriter for Stuck {
    fn write(&mut self, _: &Update) {}

    fn pending_bytes(&self) -> usize {
        0
    }

    fn commit(&mut self, _: &mut Refused) -> io::Result<()> {
        if self.blocks {
            loop {
                thread::park();
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_sink_that_never_takes_anything_is_given_up() {
    let timeout = Duration::from_millis(300);
    for blocks in [false, true] {
        let server = TestServer::with(|server| {
            server.workers(1).drain_timeout(timeout).sink(Stuck { blocks })
        });
        let mut client = server.connect();
        for id in 0..5 {
            assert_eq!(client.post(&update(id)).status, 200);
        }
        drop(client);
        let report = stop_in_time(server, timeout);
        assert_eq!((report.updates_acknowledged, report.updates_handled), (5, 0));
        assert_eq!(report.updates_abandoned, 5);
    }
}

#[test]
fn a_peer_in_the_middle_of_a_request_is_cut_off_when_the_time_is_up() {
    let timeout = Duration::from_millis(300);
    for driver in support::drivers() {
        let server = TestServer::with(|server| server.driver(driver).drain_timeout(timeout));
        let mut client = server.connect();
        client.send(&[request(&update(1)), request(&update(2))[..50].to_vec()].concat());
        assert_eq!(client.response().status, 200);
        let handled = server.handled.clone();
        let report = stop_in_time(server, timeout);
        assert_eq!((report.updates_handled, report.updates_abandoned), (1, 0));
        assert_eq!(report.connections_closed.values().sum::<u64>(), 1);
        assert_eq!(handled.ids(), [1]);
    }
}

/// Health checks and port scanners connect and say nothing.
#[test]
fn a_connection_that_never_spoke_does_not_hold_up_a_stop() {
    on_each_driver(ringhook::Limits::default(), |server| {
        let _silent = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
        wait_until("it is accepted", || server.handle.report().connections_accepted == 1);
        let start = Instant::now();
        let report = server.handle.stop();
        assert!(start.elapsed() < GRACE, "a stop took {:?}", start.elapsed());
        assert_eq!(report.connections_closed.values().sum::<u64>(), 1);
    });
}

/// Times a scene may be repeated in which this machine was too slow for anything to be seen.
const TRIES: usize = 20;
/// What a busy connection gets is 300 ms: a client that is delayed for most of that proves nothing.
const SEEN: Duration = Duration::from_millis(200);

/// A sender that finds its connection closed between two requests calls that an error.
#[test]
fn who_was_busy_is_answered_once_more_and_told_to_close() {
    for driver in support::drivers() {
        let mut id = 0;
        let seen = (0..TRIES).any(|_| {
            let server = TestServer::with(|server| server.driver(driver));
            let mut client = server.connect();
            assert_eq!(client.post(&update(0)).status, 200);
            let stopped = thread::spawn(move || server.handle.stop());
            loop {
                let answered_at = Instant::now();
                // The stop comes while nothing is under way.
                thread::sleep(Duration::from_millis(30));
                id += 1;
                let sent = io::Write::write_all(&mut client.stream, &request(&update(id)));
                let answer = sent.ok().and_then(|()| client.try_response());
                let Some(answer) = answer else {
                    let took = answered_at.elapsed();
                    assert!(took > SEEN, "{driver}: closed {took:?} after an answer");
                    stopped.join().unwrap();
                    return false;
                };
                assert_eq!(answer.status, 200);
                if answer.headers.contains_key("connection") {
                    assert_eq!(answer.headers["connection"], "close");
                    client.assert_clean_end();
                    let report = stopped.join().unwrap();
                    assert_eq!(report.updates_handled, report.updates_acknowledged);
                    return true;
                }
            }
        });
        assert!(seen, "{driver}: each time this machine was too slow");
    }
}

#[test]
fn who_has_been_idle_gets_its_end_at_once_and_who_was_busy_later() {
    for driver in support::drivers() {
        let seen = (0..TRIES).any(|_| {
            let server = TestServer::with(|server| server.driver(driver));
            let [mut idle, mut busy, never] = [(); 3].map(|()| server.connect());
            assert_eq!(idle.post(&update(1)).status, 200);
            // It is the time without a word that makes it idle.
            thread::sleep(Duration::from_millis(1_100));
            assert_eq!(busy.post(&update(2)).status, 200);
            let ends = [idle, never, busy].map(|mut client| {
                thread::spawn(move || {
                    client.assert_clean_end();
                    Instant::now()
                })
            });
            let began_at = Instant::now();
            let report = server.handle.stop();
            let took = began_at.elapsed();
            let [idle, never, busy] = ends.map(|end| end.join().unwrap() - began_at);
            assert_eq!(report.connections_closed.get(&CloseReason::Drained), Some(&3));
            eprintln!("{driver}: idle {idle:?}, never used {never:?}, busy {busy:?}, all {took:?}");
            idle.max(never) < SEEN && busy > SEEN && took < Duration::from_secs(1)
        });
        assert!(seen, "{driver}: never as it should be");
    }
}

#[test]
fn a_quiet_server_stops_at_once() {
    for driver in support::drivers() {
        let seen = (0..TRIES).any(|_| {
            let server = TestServer::with(|server| server.driver(driver));
            assert_eq!(server.connect().post(&update(1)).status, 200);
            server.wait_handled(1);
            wait_until("the peer's end is known", || {
                server.handle.report().connections_closed.get(&CloseReason::Peer) == Some(&1)
            });
            let began_at = Instant::now();
            server.handle.stop();
            began_at.elapsed() < SEEN
        });
        assert!(seen, "{driver}: it always took longer");
    }
}

#[test]
fn dropping_the_handle_stops_the_server() {
    on_each_driver(ringhook::Limits::default(), |server| {
        let mut idle = server.connect();
        assert_eq!(idle.post(&update(1)).status, 200);
        let (addr, handled) = (server.handle.local_addr().unwrap(), server.handled.clone());
        let reader = thread::spawn(move || idle.assert_clean_end());
        drop(server);
        reader.join().unwrap();
        assert_eq!(handled.ids(), [1]);
        let error = TcpStream::connect(addr).expect_err("nothing listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_failed_start_leaves_nothing_behind() {
    /// Cannot be opened by the second worker.
    struct Half(AtomicUsize);
    impl Sink for Half {
        fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
            if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
                return Ok(Box::new(Stuck { blocks: true }));
            }
            // The only way to an error of a sink from outside.
            Err(ringhook::NdjsonSink::file("/".as_ref()).unwrap_err())
        }
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = TestServer::try_with(|server| {
        server.listen(port).workers(2).sink(Half(AtomicUsize::new(0)))
    });
    assert_eq!(outcome.err().map(|error| error.kind()), Some(ErrorKind::Sink));
    TcpListener::bind(port).expect("the port is free again");
}
