//! Latency profiles of a running server: what HdrHistogram's own readers find in them, and what
//! happens where the disk takes none.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use hdrprofile::{Histogram, read_log};
use serde_json::Value;

use crate::{
    binary::process::Process,
    support::{
        client::{self, Client},
        external::succeed,
        request_to, update, wait_until,
    },
};

/// Sends the updates of `ids` on one connection and waits for their answers.
fn post(server: &Process, dir: &Path, ids: std::ops::Range<i64>) {
    let data = dir.join("ringhook-data");
    let cert = fs::read_to_string(data.join("cert.pem")).unwrap();
    let secret = fs::read_to_string(data.join("secret-token")).unwrap();
    let mut client =
        Client::connect_with(server.addr, client::trusting(&cert, rustls::ALL_VERSIONS));
    for id in ids {
        client.send(&request_to("/webhook", secret.trim(), &update(id)));
        assert_eq!(client.response().status, 200);
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The sum of all intervals, by tag.
fn sums(log: &Path) -> BTreeMap<String, Histogram<u64>> {
    let mut sums = BTreeMap::new();
    for interval in read_log(&fs::read(log).unwrap()).unwrap().intervals {
        let sum =
            sums.entry(interval.tag).or_insert_with(|| Histogram::new_from(&interval.histogram));
        *sum += interval.histogram;
    }
    sums
}

/// A Python with HdrHistogram's package, or the reason why there is none. Where
/// `RINGHOOK_TEST_CLIENTS` lists `hdrh`, there must be one.
fn python_with_hdrh() -> Option<String> {
    let python = std::env::var("RINGHOOK_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import hdrh"]).stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let required = std::env::var("RINGHOOK_TEST_CLIENTS").unwrap_or_default();
    assert!(!required.split_whitespace().any(|it| it == "hdrh"), "hdrh is required, not installed");
    eprintln!("skipped: {python} has no package hdrhistogram");
    None
}

#[test]
fn the_intervals_add_up_to_the_report_and_every_reader_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile");
    fs::write(dir.path().join("ringhook.toml"), "[profile]\ninterval = \"20ms\"\n").unwrap();
    let flags = ["--config", "ringhook.toml", "--profile", "profile", "--output", "null"];
    let server = Process::serve(dir.path(), &flags);
    post(&server, dir.path(), 0..100);
    // A signal has everything written at once.
    assert!(!profile.join("server.json").exists());
    // The last answer may be counted a moment after its client has it.
    wait_until("the profile is dumped", || {
        server.signal("USR1");
        let report = fs::read(profile.join("server.json")).unwrap_or_default();
        let report: Value = serde_json::from_slice(&report).unwrap_or_default();
        report["updates_acknowledged"] == 100
    });
    assert_eq!(sums(&profile.join("server.hlog"))["answer"].len(), 100);
    post(&server, dir.path(), 100..300);
    let ended = server.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);

    let report = json(&profile.join("server.json"));
    assert_eq!(report["profile_intervals_lost"], 0);
    assert!(report["cpu_s"].as_f64().unwrap() > 0.0);
    assert!(report["memory_peak_bytes"].as_u64().unwrap() > 1 << 20);
    let stages = report["latency_us"].as_object().unwrap();
    let sums = sums(&profile.join("server.hlog"));
    assert!(sums.keys().eq(stages.keys().collect::<std::collections::BTreeSet<_>>()));
    assert_eq!(sums["whole"].len(), 300);
    for (stage, values) in stages {
        let sum = &sums[stage];
        assert_eq!(values["count"], sum.len(), "{stage}");
        assert_eq!(values["p99"], sum.value_at_percentile(99.0) as f64 / 1e3, "{stage}");
        assert!(profile.join(format!("server-{stage}.hgrm")).exists(), "{stage}");
    }
    let names = fs::read_dir(&profile).unwrap().map(|it| it.unwrap().file_name());
    assert_eq!(names.count(), stages.len() + 2, "nothing else is left there");

    let Some(python) = python_with_hdrh() else { return };
    for (stage, sum) in &sums {
        let mut command = Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients/hdr.py"));
        command.args([profile.join("server.hlog").as_os_str(), stage.as_ref()]);
        command.arg(profile.join(format!("server-{stage}.hgrm")));
        let found: Value = serde_json::from_str(&succeed(&mut command).stdout).unwrap();
        assert_eq!(found["wrong"], serde_json::json!([]), "{stage}: {found}");
        assert!(found["lines"].as_u64() > Some(0), "{stage}: {found}");
        assert_eq!(found["count"], sum.len(), "{stage}");
        assert_eq!(found["p50"], sum.value_at_percentile(50.0), "{stage}");
        assert_eq!(found["p99"], sum.value_at_percentile(99.0), "{stage}");
        assert_eq!(found["max"], sum.max(), "{stage}");
    }
}

/// A limit on the size of files stands in for the full disk: it meets the log and spares the rest.
#[test]
fn a_full_disk_costs_intervals_is_told_once_and_harms_no_update() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ringhook.toml"), "[profile]\ninterval = \"10ms\"\n").unwrap();
    // A first run makes what a server needs.
    Process::serve(dir.path(), &["--ack", "memory", "--output", "null"]).terminate();
    let mut command = Command::new("bash");
    command.current_dir(dir.path()).stdin(Stdio::null()).args([
        "-c",
        "ulimit -f 16; exec \"$@\"",
        "bash",
        env!("CARGO_BIN_EXE_ringhook"),
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--config",
        "ringhook.toml",
        "--profile",
        "profile",
        "--ack",
        "memory",
        "--output",
        "null",
    ]);
    let server = Process::start(command);
    let warned = || {
        let stderr = server.stderr();
        stderr.iter().filter(|line| line.contains("cannot be written, serving goes on")).count()
    };
    let mut id = 0;
    wait_until("the log is full", || {
        post(&server, dir.path(), id..id + 10);
        id += 10;
        warned() > 0
    });
    post(&server, dir.path(), id..id + 100);
    let ended = server.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
    let told = |part: &str| ended.stderr.iter().filter(|line| line.contains(part)).count();
    assert_eq!(told("cannot be written, serving goes on"), 1, "{:#?}", ended.stderr);
    let profile = dir.path().join("profile");
    let report = json(&profile.join("server.json"));
    assert!(report["profile_intervals_lost"].as_u64().unwrap() > 0);
    assert_eq!(report["updates_handled"], id + 100);
    // What was written before is whole.
    let sums = sums(&profile.join("server.hlog"));
    assert!((1..=id as u64).contains(&sums["whole"].len()));
}

#[test]
fn a_directory_that_cannot_be_made_is_found_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let (code, _, stderr) = crate::binary::process::run(
        dir.path(),
        &["serve", "--listen", "127.0.0.1:0", "--profile", "file/profile"],
    );
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("profile.dir = file/profile"), "{stderr}");
}

#[test]
fn what_is_slow_can_be_changed_and_where_profiles_go_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let config = |text: &str| fs::write(dir.path().join("ringhook.toml"), text).unwrap();
    config("");
    let server = Process::serve(dir.path(), &["--config", "ringhook.toml", "--output", "null"]);
    post(&server, dir.path(), 0..10);
    config("[profile]\nslow = \"1us\"\ndir = \"profile\"\n");
    server.signal("HUP");
    wait_until("the config is reloaded", || {
        server.stderr().iter().any(|line| {
            line.contains("changed: profile.slow") && line.contains("after a restart: profile.dir")
        })
    });
    post(&server, dir.path(), 10..30);
    let ended = server.terminate();
    let told = |part: &str| ended.stderr.iter().any(|line| line.starts_with(part));
    assert!(told("slower than 1.0 us: 20 answered, 20 handled"), "{:#?}", ended.stderr);
    assert!(!dir.path().join("profile").exists());
}

#[test]
fn slow_requests_are_named_with_their_stages() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing is faster than that.
    let flags = ["--profile", "profile", "--profile-slow", "1us", "--output", "null"];
    // The log of the run before is kept.
    Process::serve(dir.path(), &flags).terminate();
    assert!(!dir.path().join("profile/server.1.hlog").exists());
    let server = Process::serve(dir.path(), &flags);
    assert!(dir.path().join("profile/server.1.hlog").exists());
    post(&server, dir.path(), 0..200);
    // The last answer may be counted a moment after its client has it.
    wait_until("the table is printed", || {
        server.signal("USR1");
        server.stderr().iter().any(|line| line.starts_with("slower than 1.0 us: 200 answered"))
    });
    let ended = server.terminate();
    assert!(
        ended.stderr.iter().any(|line| line.contains("  default/") && line.contains("shard 0"))
    );
    let slow = &json(&dir.path().join("profile/server.json"))["slow"];
    assert_eq!((&slow["answered"], &slow["handled"]), (&200.into(), &200.into()));
    assert_eq!(slow["bound_us"], 1.0);
    let requests = slow["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 64);
    let worst = |request: &Value| {
        let stages = request["stages_us"].as_object().unwrap();
        stages.values().map(|us| us.as_f64().unwrap()).fold(0.0, f64::max)
    };
    assert!(requests.iter().map(worst).is_sorted_by(|a, b| a >= b));
    let first = &requests[0];
    assert_eq!((&first["bot"], &first["shard"]), (&"default".into(), &0.into()));
    for request in requests {
        let keys: Vec<_> = request.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["bot", "received_s", "shard", "stages_us", "update_id"], "no content");
    }
    // Shard and worker both know the slowest ones.
    let stages = first["stages_us"].as_object().unwrap();
    assert!(stages.contains_key("whole") || stages.contains_key("answer"), "{stages:?}");
}
