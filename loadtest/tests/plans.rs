//! Plans: what they ask for is done, and what they expect decides the exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use loadtest::{Expect, Phase, Plan, SlowPeers, Stop, run};
use support::{OK, Reply, Server, UNAVAILABLE};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a plan with this text against a server.
fn run_plan(server: &Server, plan: &str, more: &[&str]) -> (Output, serde_json::Value) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plan.toml");
    fs::write(&file, plan).unwrap();
    let target = format!("http://me:secret@127.0.0.1:{}/", server.port);
    let mut arguments = vec!["run", "--target", &target, "--plan", file.to_str().unwrap()];
    arguments.extend(["--json", "--quiet"]);
    arguments.extend(more);
    let output = loadtest(&arguments);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, report)
}

#[test]
fn the_list_names_every_plan_with_its_meaning() {
    let output = loadtest(&["plans"]);
    assert_eq!(output.status.code(), Some(0));
    let list = text(&output.stdout);
    for name in [
        "steady",
        "ramp",
        "burst",
        "flood-after-downtime",
        "saturate",
        "churn",
        "handshakes",
        "idle",
        "slow-peers",
        "soak",
    ] {
        let line = list.lines().find(|line| line.starts_with(name)).expect(name);
        assert!(line.len() > 50, "{line}");
        let output = loadtest(&["plans", name]);
        assert_eq!(text(&output.stdout), Plan::built_in().find(|plan| plan.0 == name).unwrap().1);
    }
    assert_eq!(loadtest(&["plans", "none"]).status.code(), Some(2));
}

#[test]
fn a_plan_that_holds_is_0_and_the_report_tells_it() {
    let server = Server::plain(|_| Reply::Write(OK));
    let plan = "about = \"Lunch\"\nconnections = 3\nrate = 200\nrequests = 60\n[payload]\n\
                chats = 7\n[expect]\np99 = \"10s\"\nerrors = 0\nrate = \"1%\"";
    let (output, report) = run_plan(&server, plan, &["--requests", "40"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(report["plan"]["about"], "Lunch");
    assert_eq!(report["options"]["connections"], 3);
    assert_eq!(report["options"]["chats"], 7);
    // Flags win.
    assert_eq!(report["planned"], 40);
    let names: Vec<&str> = report["expectations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|expectation| expectation["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["p99", "lost", "errors", "rate"]);
    assert!(!report["machine"]["cpu"].as_str().unwrap().is_empty());
    let command = report["command"].to_string();
    assert!(command.contains("--plan") && !command.contains("secret"), "{command}");
    let answered: u64 = report["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|second| second["acknowledged"].as_u64().unwrap())
        .sum();
    assert_eq!(answered, 40, "{report}");
    let curve = report["latency_us"]["curve"].as_array().unwrap();
    assert_eq!(curve.last().unwrap()[0], 1.0);
    // As exact as the histogram: three digits.
    let max = report["latency_us"]["max"].as_f64().unwrap();
    assert!((curve.last().unwrap()[1].as_f64().unwrap() / max - 1.0).abs() < 0.002, "{report}");
}

#[test]
fn an_expectation_that_fails_is_1_and_named_with_value_and_bound() {
    let server = Server::plain(|number| match number {
        5 => Reply::Write(UNAVAILABLE),
        _ => Reply::WriteAfter(Duration::from_millis(5), OK),
    });
    let plan = "about = \"x\"\nconnections = 5\nrate = 500\nrequests = 50\n\
                expect = { p50 = \"1ms\", lost = 3, errors = 0 }";
    let (output, report) = run_plan(&server, plan, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = text(&output.stderr);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("loadtest: expect.p50 FAILED: "), "{lines:?}");
    assert!(lines[0].ends_with(" ms, expected at most 1.00 ms"), "{lines:?}");
    assert_eq!(lines[1], "loadtest: expect.errors FAILED: 1, expected at most 0");
    assert_eq!(report["expectations"][1]["ok"], true, "{report}");
    // A bound of its own decides about what is lost.
    let loose = plan.replace("p50 = \"1ms\", ", "").replace("errors = 0", "errors = 50");
    assert_eq!(run_plan(&server, &loose, &[]).0.status.code(), Some(0));
}

#[test]
fn mistakes_are_2_and_named() {
    let server = Server::plain(|_| Reply::Write(OK));
    for (plan, message) in [
        (
            "about = \"x\"\nexpect.p99 = \"soon\"",
            "expect.p99 = soon: expected a duration as in 5ms",
        ),
        ("about = \"x\"\nrates = 5", "rates = 5: expected one of the keys about, "),
        ("about = 1", "about = 1: expected a text"),
    ] {
        let (output, _) = run_plan(&server, plan, &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(message), "{output:?}");
    }
    let target = format!("http://127.0.0.1:{}/", server.port);
    for (arguments, message) in [
        (["--plan", "stedy"], "--plan = stedy: expected a file such as ./stedy.toml, or one of st"),
        (["--plan", "no/such.toml"], "cannot read no/such.toml"),
        (["--expect", "p99"], "expect.p99 = : expected a duration as in 5ms"),
    ] {
        let output = loadtest(&[&["run", "--target", &target][..], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(message), "{output:?}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn phases_send_as_many_as_they_say() {
    let server = Server::plain(|_| Reply::Write(OK));
    let mut options = server.options();
    let half = Duration::from_millis(500);
    options.phases =
        vec![Phase::steady(100.0, half), Phase { duration: half, from: 0.0, to: 800.0 }];
    options.stop = Stop::After(Duration::from_secs(1));
    let report = run(&options).unwrap();
    assert!(report.is_ok() && report.planned == 250, "{report}");
    assert_eq!(report.rate_asked_per_s, Some(250.0));
    assert_eq!(report.series.iter().map(|second| second.due).sum::<u64>(), 250);
}

#[test]
fn what_happens_in_the_warmup_is_counted_and_not_timed() {
    let server = Server::plain(|number| match number {
        0..50 => Reply::WriteAfter(Duration::from_millis(10), OK),
        _ => Reply::Write(OK),
    });
    let mut options = server.options();
    options.rate = loadtest::Rate::PerSecond(200.0);
    options.stop = Stop::Requests(200);
    options.warmup = Duration::from_millis(500);
    let report = run(&options).unwrap();
    assert!(report.is_ok() && report.acknowledged == 200, "{report}");
    assert_eq!(report.latency_us.count(), 100, "{report}");
    assert_eq!(report.send_to_answer_us.count(), 100, "{report}");
    assert_eq!(report.lateness_us.count(), 100, "{report}");
}

/// The server closes what takes too long; the peers come again, and the load goes on.
#[test]
fn slow_peers_drip_beside_the_load() {
    for tls in [false, true] {
        let script = |_| Reply::Write(OK);
        let server = if tls { Server::tls(script) } else { Server::plain(script) };
        let mut options = server.options();
        options.connections = 2;
        options.rate = loadtest::Rate::PerSecond(50.0);
        options.stop = Stop::Requests(100);
        options.slow_peers = Some(SlowPeers { connections: 5, every: Duration::from_millis(20) });
        options.expect = Expect { lost: Some(0), ..Expect::default() };
        let report = run(&options).unwrap();
        assert!(report.is_ok() && report.is_as_expected(), "{report}");
        let peers = report.slow_peers.unwrap();
        assert_eq!((peers.connections, peers.closed, peers.failed), (5, 0, 0), "{report}");
        assert!(peers.bytes > 25, "{report}");
        assert_eq!(server.connections(), 7);
        // None of them ever made a request.
        assert_eq!(server.seen().len(), 100);
    }
}

/// Each as it is, but shorter; slow peers have a test of their own.
#[test]
fn every_built_in_plan_runs() {
    let server = Server::tls(|_| Reply::Write(OK));
    for (name, text) in Plan::built_in().filter(|(name, _)| !["idle", "slow-peers"].contains(name))
    {
        let mut options = server.options();
        Plan::parse(name, text).unwrap().apply(&mut options).unwrap();
        options.connections = options.connections.min(20);
        options.stop = Stop::Requests(150);
        options.warmup = Duration::ZERO;
        // How fast it is, is not the question here.
        options.expect = Expect { lost: Some(0), ..Expect::default() };
        let report = run(&options).unwrap();
        assert!(report.is_as_expected() && report.acknowledged == 150, "{name}: {report}");
        assert_eq!(report.plan.unwrap().name, name);
        assert_eq!(options.telegram.is_some(), name == "flood-after-downtime");
    }
}
