//! The end: what is acknowledged is kept, what is under way is finished, nobody waits for ever.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

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

use ringhook::{Error, ErrorKind, Outcome, Sink, SinkWriter, Update};
use support::{TestServer, on_each_driver, request, update, wait_until};

/// Time that a stop may take beyond its drain timeout, plus the machine's own slowness.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(feature = "cli")]
mod process {
    use std::{
        collections::BTreeMap,
        fs,
        io::{BufRead as _, BufReader},
        path::Path,
        process::{Command, Stdio},
    };

    use loadtest::{Options, Rate, Stop, Trust};

    use super::*;
    use crate::support::{
        PATH, SECRET,
        client::Client,
        pki::Pki,
        process::{Process, with_test_driver},
    };

    fn serve(pki: &Pki, args: &[&str]) -> Command {
        let config =
            format!("[[bot]]\nname = 'test'\npath = '{PATH}'\nsecret_token = '{SECRET}'\n");
        fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
        let mut command = support::process::ringhook(pki.dir());
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"])
            .args(["--cert", "cert.pem", "--key", "key.pem", "--report", "report"])
            .args(args);
        command
    }

    fn report(pki: &Pki) -> serde_json::Value {
        serde_json::from_slice(&fs::read(pki.dir().join("report")).unwrap()).unwrap()
    }

    /// How often each update is in the file at `path`.
    fn written(path: &Path) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(path).unwrap().lines() {
            let update: serde_json::Value = serde_json::from_str(line).expect("a whole line");
            *counts.entry(update["update_id"].as_u64().unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn a_stop_under_load_keeps_every_acknowledged_update_once() {
        for (driver, signal) in support::drivers().into_iter().zip(["TERM", "INT"]) {
            eprintln!("driver {driver}");
            let pki = Pki::ecdsa();
            let driver = driver.to_string();
            let args = ["--sink", "ndjson:updates", "--driver", &driver];
            let process = Process::start(serve(&pki, &args));
            let url = format!("https://{}{PATH}", process.addr);
            let mut options = Options::new(url.parse().unwrap());
            options.connections = 50;
            options.rate = Rate::Max;
            options.stop = Stop::After(Duration::from_secs(600));
            options.secret_token = Some(SECRET.to_owned());
            options.trust = Trust::pem(pki.cert.as_bytes()).unwrap();
            options.keep_ids = true;
            let over = Arc::clone(&options.cancel);
            let load = thread::spawn(move || loadtest::run(&options).unwrap());
            let path = pki.dir().join("updates");
            wait_until("the load flows", || fs::metadata(&path).unwrap().len() > 1_000_000);
            process.signal(signal);
            let ended = process.wait();
            over.store(true, Ordering::Relaxed);
            let sent = load.join().unwrap();
            assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
            let report = report(&pki);
            let written = written(&path);
            assert!(written.values().all(|count| *count == 1), "an update came twice");
            assert_eq!(report["updates_received"], written.len());
            assert_eq!(report["updates_handled"], written.len());
            assert_eq!(report["updates_acknowledged"], written.len());
            assert_eq!(report["updates_abandoned"], 0);
            let acknowledged = sent.ids.unwrap().acknowledged;
            assert!(acknowledged.len() > 500);
            let lost: Vec<_> = acknowledged.iter().filter(|id| !written.contains_key(id)).collect();
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
            // An answer lost on its way would bring the update again, which is allowed, but on
            // this machine none is.
            assert_eq!(acknowledged.len(), written.len());
        }
    }

    #[test]
    fn what_is_idle_ends_at_once_and_what_has_begun_is_finished() {
        for driver in support::drivers() {
            eprintln!("driver {driver}");
            let pki = Pki::ecdsa();
            let driver = driver.to_string();
            let args = ["--sink", "ndjson:updates", "--driver", &driver, "--drain-timeout", "60s"];
            let mut process = Process::start(serve(&pki, &args));
            let addr = process.addr;
            let mut fresh = Client::connect(addr, &pki);
            let mut used = Client::connect(addr, &pki);
            assert_eq!(used.post(&update(1)).status, 200);
            // With the first one's answer the second one's half has been read for certain.
            let mut half = Client::connect(addr, &pki);
            let (whole, second) = (request(&update(2)), request(&update(3)));
            let cut = second.len() / 2;
            half.send(&[&whole, &second[..cut]].concat());
            assert_eq!(half.response().status, 200);
            process.signal("TERM");
            fresh.assert_clean_end();
            used.assert_clean_end();
            wait_until("the port can be had again", || TcpListener::bind(addr).is_ok());
            assert!(process.child.try_wait().unwrap().is_none(), "the half request is awaited");
            half.send(&second[cut..]);
            let response = half.response();
            assert_eq!((response.status, &*response.headers["connection"]), (200, "close"));
            half.assert_clean_end();
            drop((fresh, used, half));
            let ended = process.wait();
            assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
            assert_eq!(written(&pki.dir().join("updates")), (1..=3).map(|id| (id, 1)).collect());
            assert_eq!(report(&pki)["connections_closed"]["drained"], 3);
        }
    }

    #[test]
    fn a_second_signal_leaves_at_once() {
        let pki = Pki::ecdsa();
        let args = ["--sink", "null", "--drain-timeout", "1h"];
        let process = Process::start(serve(&pki, &args));
        let mut half = Client::connect(process.addr, &pki);
        half.send(&[request(&update(1)), request(&update(2))[..50].to_vec()].concat());
        assert_eq!(half.response().status, 200);
        process.signal("TERM");
        wait_until("the first one is heard", || {
            process.stderr().iter().any(|line| line.starts_with("SIGTERM: stopping"))
        });
        let ended = process.terminate();
        assert_eq!(ended.status.code(), Some(1));
        let second = |line: &String| line.starts_with("second signal");
        assert!(ended.stderr.iter().any(second), "{:?}", ended.stderr);
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_process_with_one_line() {
        let pki = Pki::ecdsa();
        let (reader, writer) = io::pipe().unwrap();
        let args = ["--sink", "ndjson:-"];
        let process = Process::start_with_stdout(serve(&pki, &args), Stdio::from(writer));
        let mut client = Client::connect(process.addr, &pki);
        assert_eq!(client.post(&update(1)).status, 200);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        let first: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(first["update_id"], 1);
        // The reader has gone with the line.
        let start = Instant::now();
        client.send(&request(&update(2)));
        let ended = process.wait();
        assert_eq!(ended.status.code(), Some(1), "{:?}", ended.stderr);
        let lines: Vec<_> =
            ended.stderr.iter().filter(|line| line.starts_with("ringhook: ")).collect();
        assert_eq!(lines.len(), 1, "{:?}", ended.stderr);
        assert!(lines[0].contains("reader is gone") && lines[0].contains("Broken pipe"));
        assert_eq!(report(&pki)["journal"]["lag_records"], 1, "kept for the next start");
        // There is nothing to wait for.
        assert!(start.elapsed() < GRACE, "it took {:?} to leave", start.elapsed());
    }

    #[test]
    fn nobody_listening_on_stderr_does_no_harm() {
        let pki = Pki::ecdsa();
        let mut command = serve(&pki, &["--sink", "ndjson:updates"]);
        let command = with_test_driver(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let addr = stderr
            .find_map(|line| line.unwrap().strip_prefix("ready https://").map(str::to_owned))
            .unwrap();
        drop(stderr);
        let addr = addr.split('/').next().unwrap().parse().unwrap();
        let mut client = Client::connect(addr, &pki);
        assert_eq!(client.post(&update(1)).status, 200);
        for (id, name) in [(2, "USR1"), (3, "TERM")] {
            assert_eq!(client.post(&update(id)).status, 200);
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        }
        drop(client);
        let mut status = None;
        wait_until("the process ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0));
        assert_eq!(report(&pki)["updates_handled"], 3);
        assert_eq!(written(&pki.dir().join("updates")), [(1, 1), (2, 1), (3, 1)].into());
    }
}

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

    fn commit(&mut self) -> io::Result<()> {
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
/// What a busy connection gets is 300 ms: whoever is held up for most of that has seen nothing.
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
            assert_eq!(report.connections_closed.get("drained"), Some(&3));
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
                server.handle.report().connections_closed.get("peer") == Some(&1)
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
        let error = TcpStream::connect(addr).expect_err("nobody listens");
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
