//! `--profile DIR`: what other readers find in the generator's files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};
use serde_json::Value;
use support::{OK, Reply, Server};

/// The sums of all intervals by tag, and how many there are of each: with HdrHistogram's own
/// reader.
fn sums(log: &Path) -> BTreeMap<String, (Histogram<u64>, usize)> {
    let text = fs::read(log).unwrap();
    let mut sums: BTreeMap<String, (Histogram<u64>, usize)> = BTreeMap::new();
    for entry in IntervalLogIterator::new(&text) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        let bytes = base64_of(interval.encoded_histogram());
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        let (sum, count) = sums
            .entry(interval.tag().unwrap().as_str().to_owned())
            .or_insert_with(|| (Histogram::new_from(&histogram), 0));
        *sum += histogram;
        *count += 1;
    }
    sums
}

/// By a program of another project.
fn base64_of(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut base64 = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    base64.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    base64.wait_with_output().unwrap().stdout
}

#[test]
fn intervals_add_up_to_the_report_and_a_stall_is_in_its_second() {
    // Request 150 of 100 a second waits half a second, and with it those behind it.
    let slow = Duration::from_millis(500);
    let server = Server::plain(move |number| match number {
        150 => Reply::WriteAfter(slow, OK),
        _ => Reply::Write(OK),
    });
    let target = format!("http://127.0.0.1:{}/", server.port);
    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("made/profile");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["--target", &target, "--connections", "1", "--rate", "100", "--duration", "2500ms"])
        .args(["--quiet", "--profile", profile.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value =
        serde_json::from_slice(&fs::read(profile.join("client.json")).unwrap()).unwrap();
    let sums = sums(&profile.join("client.hlog"));
    assert!(sums.keys().eq(["latency", "lateness", "service"]));
    for (tag, key) in
        [("latency", "latency_us"), ("service", "send_to_answer_us"), ("lateness", "lateness_us")]
    {
        let (sum, intervals) = &sums[tag];
        assert!(*intervals >= 3, "{tag}: one for each second, and one for the rest");
        assert_eq!(report[key]["count"], sum.len(), "{tag}");
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let us = report[key][name].as_f64().unwrap();
            assert_eq!(us, sum.value_at_quantile(quantile) as f64 / 1e3, "{tag} {name}");
        }
    }
    // The one that was slow, and those that were due meanwhile.
    let above = |tag: &str| sums[tag].0.count_between(100_000_000, u64::MAX);
    assert!(
        above("service") >= 1 && above("latency") >= 35,
        "{} {}",
        above("service"),
        above("latency")
    );

    let distribution = fs::read_to_string(profile.join("client-latency.hgrm")).unwrap();
    let last = distribution.lines().rfind(|line| line.starts_with(' ')).unwrap();
    let cells: Vec<f64> = last.split_whitespace().map(|cell| cell.parse().unwrap()).collect();
    assert_eq!(cells, [report["latency_us"]["max"].as_f64().unwrap(), 1.0, 250.0]);
    assert!(distribution.contains("Total count    =          250]"), "{distribution}");
}

#[test]
fn a_directory_that_cannot_be_made_is_found_at_the_start() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["--target", "http://127.0.0.1:1/", "--profile", "/dev/null/profile"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot write a profile to /dev/null/profile: Not a directory"),
        "{stderr}"
    );
}
