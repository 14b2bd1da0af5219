//! The binary's exit codes and messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    fs,
    process::{Command, Output},
};

use support::{OK, Reply, Server, UNAVAILABLE};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn success_is_0_and_the_report_is_whole() {
    let server = Server::tls(|_| Reply::Write(OK));
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (certificate, token, json) = (file("cert.pem"), file("token"), file("report.json"));
    fs::write(&certificate, server.certificate()).unwrap();
    fs::write(&token, "t0ken_-\n").unwrap();
    let target = format!("https://127.0.0.1:{}/hook", server.port);
    let output = loadtest(&[
        "--target",
        &target,
        "--ca",
        &certificate,
        "--secret-token-file",
        &token,
        "--connections",
        "4",
        "--rate",
        "max",
        "--requests",
        "50",
        "--seed",
        "9",
        "--report",
        &json,
        "--quiet",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    let table = text(&output.stdout);
    for part in ["answered 2xx    50  [200: 50]", "own lateness", "p99.9"] {
        assert!(table.contains(part), "{table}");
    }
    let report = text(&fs::read(&json).unwrap());
    assert!(!report.contains("t0ken"), "{report}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["acknowledged"], 50);
    assert_eq!(report["options"]["seed"], 9);
    assert_eq!(report["options"]["secret_token"], true);
    assert_eq!(report["latency_us"]["count"], 50);
    assert!(report["latency_us"]["p99.9"].as_f64().unwrap() > 0.0);
    assert!(server.seen()[0].head.contains("\r\nX-Telegram-Bot-Api-Secret-Token: t0ken_-\r\n"));
}

#[test]
fn a_refusal_is_1() {
    let server = Server::plain(|number| Reply::Write(if number == 7 { UNAVAILABLE } else { OK }));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let output = loadtest(&["--target", &target, "--rate", "max", "--requests", "20", "--quiet"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("[200: 19]  [503: 1]"), "{output:?}");
}

#[test]
fn as_telegram_a_refusal_is_0() {
    let server = Server::plain(|number| Reply::Write(if number == 7 { UNAVAILABLE } else { OK }));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let mut arguments = vec!["--target", &target, "--rate", "max", "--requests", "200", "--quiet"];
    arguments.extend(["--as", "telegram", "--time-scale", "10"]);
    let output = loadtest(&arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = text(&output.stdout);
    for part in ["answered 2xx    200  [200: 200]  [503: 1]", "attempts        201", "pending 0)"] {
        assert!(table.contains(part), "{table}");
    }
}

#[test]
fn copies_are_counted() {
    let server = Server::plain(|_| Reply::Write(OK));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let report = json.to_str().unwrap();
    let mut arguments = vec!["--target", &target, "--rate", "max", "--requests", "200", "--quiet"];
    arguments.extend(["--duplicates", "10%", "--report", report]);
    let output = loadtest(&arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = text(&output.stdout);
    for part in ["answered 2xx    200  [200: 200]", "copies          "] {
        assert!(table.contains(part), "{table}");
    }
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["copies"]["planned"], report["copies"]["acknowledged"]);
    assert_eq!(report["options"]["duplicates"], 0.1);
}

#[test]
fn progress_is_a_line_per_second() {
    let server = Server::plain(|_| Reply::Write(OK));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let output = loadtest(&["--target", &target, "--rate", "100", "--duration", "1200ms"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let progress = text(&output.stderr);
    assert_eq!(progress.lines().count(), 1, "{progress}");
    assert!(progress.contains("answers/s") && !progress.contains('\x1b'), "{progress}");
}

#[test]
fn usage_is_2_and_says_what_is_wrong_in_one_line() {
    for (arguments, part) in [
        (&["--target", "ftp://example.org/"][..], "neither http nor https"),
        (&["--target", "https://127.0.0.1:1/"], "--ca FILE or --insecure"),
        (&["--target", "http://127.0.0.1:1/", "--connections", "0"], "connections"),
        (&["--target", "http://127.0.0.1:1/", "--rate", "0"], "rate"),
        (&["--target", "http://127.0.0.1:1/", "--rate", "fast"], "expected a number or max"),
        (&["--target", "http://127.0.0.1:1/", "--pin", "99999"], "CPU 99999"),
        (&["--target", "http://127.0.0.1:1/", "--duplicates", "many"], "2% or 0.02"),
        (&["--target", "http://127.0.0.1:1/", "--duplicates", "101%"], "0% to 100%"),
        (&["--target", "http://127.0.0.1:1/", "--time-scale", "2"], "required arguments"),
        (&["--target", "https://127.0.0.1:1/", "--ca", "no-such-file"], "no-such-file"),
        (&["--target", "https://127.0.0.1:1/", "--ca", "Cargo.toml"], "no certificate"),
        (&[], "--target"),
    ] {
        let output = loadtest(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let message = text(&output.stderr);
        let first = message.lines().next().unwrap();
        let whole = if arguments.is_empty() { message.as_str() } else { first };
        assert!(whole.contains(part), "{arguments:?}: {message}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn help_names_every_flag_and_exit_code() {
    let output = loadtest(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for flag in [
        "--target",
        "--connections",
        "--rate",
        "--duration",
        "--requests",
        "--secret-token-file",
        "--ca",
        "--insecure",
        "--tls",
        "--resume",
        "--churn",
        "--as",
        "--time-scale",
        "--duplicates",
        "verify",
        "--timeout",
        "--seed",
        "--chats",
        "--first-update-id",
        "--pin",
        "--report",
        "--quiet",
        "Exit status: 0",
    ] {
        assert!(help.contains(flag), "{flag} is missing: {help}");
    }
}

#[test]
fn silent_and_slow_connections_are_held_beside_a_run() {
    let server = Server::tls(|_| Reply::Write(OK));
    let directory = tempfile::tempdir().unwrap();
    let certificate = directory.path().join("cert.pem");
    fs::write(&certificate, server.certificate()).unwrap();
    let target = format!("https://127.0.0.1:{}/hook", server.port);
    let pid = std::process::id().to_string();
    let output = loadtest(&[
        "--target",
        &target,
        "--ca",
        certificate.to_str().unwrap(),
        "--connections",
        "1",
        "--rate",
        "max",
        "--requests",
        "3",
        "--idle",
        "5",
        "--idle-asked",
        "--slow",
        "4",
        "--server-pid",
        &pid,
        "--seed",
        "1",
        "--quiet",
    ]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let line = said.lines().find(|line| line.starts_with("beside it")).unwrap();
    assert!(line.contains("5 silent connections, 5 still open; 4 slow ones, 0 ended"), "{line}");
    assert!(line.contains("the server grew from "), "{line}");
    // Those of the run come after those of the silent connections.
    assert_eq!(server.update_ids(), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_second_run_against_a_server_sends_no_copies_of_the_first() {
    let server = Server::plain(|_| Reply::Write(OK));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let typed = ["--target", &target, "--rate", "max", "--requests", "30", "--json", "--quiet"];
    let run = |more: &[&str]| {
        let output = loadtest(&[&typed, more].concat());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let asked = |key: &str| report["options"][key].as_u64().unwrap();
        (asked("seed"), asked("first_update_id"))
    };
    let (first, second) = (run(&[]), run(&[]));
    assert!(first.0 != second.0 && first.1.abs_diff(second.1) >= 30, "{first:?} {second:?}");
    assert_eq!(server.update_ids().len(), 60);
    // What the report tells is all that is needed for the same again.
    assert_eq!(run(&["--seed", "7"]), (7, 1));
    assert_eq!(run(&["--seed", "7", "--first-update-id", "99"]), (7, 99));
    let table = text(&loadtest(&[&typed[..6], &["--seed", "7", "--quiet"]].concat()).stdout);
    assert!(table.contains("seed            7, ids from 1 on\n"), "{table}");
}

#[test]
fn a_token_in_the_targets_path_is_sent_and_not_shown() {
    const TOKEN: &str = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
    let server = Server::plain(|_| Reply::Write(OK));
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (report, page) = (file("report.json"), file("page.html"));
    let target = format!("http://127.0.0.1:{}/bot{TOKEN}", server.port);
    let bot = format!("url={target}");
    let run = ["--rate", "max", "--requests", "5", "--report", &report];
    let mut said = String::new();
    for arguments in [
        [&["--target", &target], &run[..]].concat(),
        [&["--as", "telegram", "--bot", &bot], &run[..]].concat(),
        vec!["report", &report, "--output", &page],
    ] {
        let output = loadtest(&arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        said += &(text(&output.stdout) + &text(&output.stderr));
    }
    assert!(server.seen()[0].head.starts_with(&format!("POST /bot{TOKEN} HTTP/1.1")));
    for target in [format!("ftp://h/bot{TOKEN}"), format!("http://h:x/bot{TOKEN}")] {
        let output = loadtest(&["--target", &target]);
        assert_eq!(output.status.code(), Some(2));
        said += &text(&output.stderr);
    }
    said += &text(&loadtest(&["--target", &target, TOKEN]).stderr);
    for text in [&report, &page].map(|file| fs::read_to_string(file).unwrap()).iter().chain([&said])
    {
        assert!(!text.contains("AAbbCC") && text.contains("/bot(hidden)"), "{text}");
    }
}

#[test]
fn a_signal_ends_the_run_with_its_report() {
    let server = Server::plain(|_| Reply::Write(OK));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["--target", &target, "--rate", "200", "--duration", "1h", "--quiet"]);
    command.stdout(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    while server.seen().len() < 10 {
        std::thread::yield_now();
    }
    // SAFETY: takes two numbers; the process is our own child, which was not waited for.
    let sent = unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    assert_eq!(sent, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("answered 2xx"), "{output:?}");
}
