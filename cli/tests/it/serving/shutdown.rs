//! The end of `ringhook serve`: by a signal, by two, and where its output is not read.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use loadtest::{Options, Rate, Stop, Trust};

use crate::{
    binary::process::{Process, ringhook, with_test_driver},
    support::{self, PATH, SECRET, client::Client, pki::Pki, request, update, wait_until},
};

/// Time that a stop may take beyond its drain timeout, plus the machine's own slowness.
const GRACE: Duration = Duration::from_secs(5);

fn serve(pki: &Pki, args: &[&str]) -> Command {
    let config = format!("[[bot]]\nname = 'test'\npath = '{PATH}'\nsecret_token = '{SECRET}'\n");
    fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
    let mut command = ringhook(pki.dir());
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
        let args = ["--output", "ndjson:updates", "--driver", &driver];
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
        let args = ["--output", "ndjson:updates", "--driver", &driver, "--drain-timeout", "60s"];
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
    let args = ["--output", "null", "--drain-timeout", "1h"];
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
    let args = ["--output", "ndjson:-"];
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
    let lines: Vec<_> = ended.stderr.iter().filter(|line| line.starts_with("ringhook: ")).collect();
    assert_eq!(lines.len(), 1, "{:?}", ended.stderr);
    assert!(lines[0].contains("reader is gone") && lines[0].contains("Broken pipe"));
    assert_eq!(report(&pki)["journal"]["lag_records"], 1, "kept for the next start");
    // There is nothing to wait for.
    assert!(start.elapsed() < GRACE, "it took {:?} to leave", start.elapsed());
}

#[test]
fn a_stderr_that_is_not_read_does_no_harm() {
    let pki = Pki::ecdsa();
    let mut command = serve(&pki, &["--output", "ndjson:updates"]);
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
