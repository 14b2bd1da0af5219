//! The promises of `ringhook serve` to the operator: what it makes, prints, writes and refuses,
//! and the codes it exits with.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    binary::process::{Ended, Process, ringhook, run, with_test_driver},
    support::{
        client::{self, Client, Response},
        external::{program, succeed},
        pki::{Issued, Pki, params, self_signed},
        request_to, update, wait_until,
    },
};

/// What the first run makes, in the directory it was started in.
const DATA: &str = "ringhook-data";
const CERT: &str = "ringhook-data/cert.pem";
const SECRET_FILE: &str = "ringhook-data/secret-token";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A connection to a server with the certificate in `cert`.
fn connect(server: &Process, cert: &Path) -> Client {
    let cert = fs::read_to_string(cert).unwrap();
    Client::connect_with(server.addr, client::trusting(&cert, rustls::ALL_VERSIONS))
}

/// Posts `body` to the bot that is there when no other is configured.
fn post(server: &Process, dir: &Path, body: &str) -> Response {
    let secret = fs::read_to_string(dir.join(SECRET_FILE)).unwrap();
    let mut client = connect(server, &dir.join(CERT));
    client.send(&request_to("/webhook", secret.trim(), body));
    client.response()
}

#[track_caller]
fn assert_code(ended: &Ended, code: i32) {
    assert_eq!(ended.status.code(), Some(code), "{:#?}", ended.stderr);
}

/// Runs `serve` with `args` to its end, which comes by itself: it exits with `code`, prints nothing
/// on stdout and one line on stderr, which is returned.
#[track_caller]
fn refused(dir: &Path, args: &[&str], code: i32) -> String {
    let (exit, stdout, stderr) = run(dir, &[&["serve"], args].concat());
    assert_eq!(exit, code, "{stderr}");
    assert_eq!(stdout, "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

/// Writes a config file and runs `serve` with it as [`refused`] does.
#[track_caller]
fn refused_config(dir: &Path, config: &str, code: i32) -> String {
    fs::write(dir.join("ringhook.toml"), config).unwrap();
    refused(dir, &["--config", "ringhook.toml", "--listen", "127.0.0.1:0"], code)
}

/// What the greeting says after `name`.
fn greeting<'a>(stderr: &'a [String], name: &str) -> &'a str {
    let line = stderr.iter().find_map(|line| line.strip_prefix("  ")?.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {stderr:#?}")).trim()
}

// The first run

#[test]
fn the_first_run_needs_nothing_and_the_next_keeps_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = Process::serve(dir.path(), &[]);
    assert_eq!(mode(&dir.path().join(DATA)), 0o700);
    let data = dir.path().join(DATA);
    assert!(names_in(&data).iter().eq(["cert.pem", "journal", "key.pem", "secret-token"]));
    assert_eq!(mode(&data.join("journal")), 0o700);
    assert_eq!(mode(&data.join("key.pem")), 0o600);
    assert_eq!(mode(&data.join("secret-token")), 0o600);
    let read =
        || ["cert.pem", "key.pem", "secret-token"].map(|name| fs::read(data.join(name)).unwrap());
    let made = read();
    assert_eq!(post(&first, dir.path(), &update(1)).status, 200);
    assert_code(&first.terminate(), 0);

    let second = Process::serve(dir.path(), &[]);
    assert_eq!(read(), made);
    assert_eq!(post(&second, dir.path(), &update(2)).status, 200);
    // Everything of the first run was handled, so there is nothing to be told of.
    assert!(!second.stderr().iter().any(|line| line.contains("  notice")));
    assert_code(&second.terminate(), 0);
    assert!(names_in(dir.path()).iter().eq([DATA]), "nothing else is made");
}

/// As a machine without a battery has it before it has heard of the time.
#[test]
fn a_first_run_with_a_clock_in_1970_serves_and_says_what_is_wrong() {
    // Where it is not installed, the unit tests of the certificate have to do.
    let Ok(preload) =
        Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output()
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut command = ringhook(dir.path());
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("LD_PRELOAD", String::from_utf8(preload.stdout).unwrap().trim())
        .env("FAKETIME", "@1970-01-01 00:01:00")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let server = Process::start(command);
    assert!(greeting(&server.stderr(), "notice").starts_with("the clock of this machine is wrong"));
    // Our own client's clock is right.
    assert_eq!(post(&server, dir.path(), &update(1)).status, 200);
    let found = ringhook::TlsConfig::from_pem_files(
        &dir.path().join(CERT),
        &dir.path().join("ringhook-data/key.pem"),
    )
    .unwrap()
    .findings(std::time::SystemTime::now());
    assert_eq!(found, []);
    assert_code(&server.terminate(), 0);
}

#[test]
fn two_first_runs_make_different_secrets_and_keys() {
    let read = |name| {
        let dir = tempfile::tempdir().unwrap();
        assert_code(&Process::serve(dir.path(), &["--output", "null"]).terminate(), 0);
        fs::read(dir.path().join(DATA).join(name)).unwrap()
    };
    for name in ["key.pem", "secret-token"] {
        assert_ne!(read(name), read(name), "{name}");
    }
}

#[test]
fn the_greeting_tells_what_runs_where_and_ends_with_ready() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::serve(dir.path(), &["--shards", "1", "--workers", "2"]);
    let lines = server.stderr();
    let url = format!("https://{}/webhook", server.addr);
    assert_eq!(greeting(&lines, "url"), format!("{url}  (default)"));
    assert!(["io_uring", "epoll"].contains(&greeting(&lines, "driver")));
    let threads = |name| greeting(&lines, name).to_owned();
    assert!(threads("shards").starts_with("1 (CPU "), "{lines:#?}");
    assert!(threads("workers").starts_with("2 (CPU "), "{lines:#?}");
    assert_eq!(greeting(&lines, "output"), "ndjson:-");
    assert_eq!(greeting(&lines, "cert"), CERT);
    assert_eq!(greeting(&lines, "secret"), SECRET_FILE);
    assert_eq!(lines.last().unwrap(), &format!("ready {url}"));
    assert_eq!(lines.iter().filter(|line| line.starts_with("ready ")).count(), 1);
    let ended = server.terminate();
    assert_code(&ended, 0);
    assert_eq!(ended.stdout, "", "stdout is for updates");
}

/// The directory's name has all that a shell would trip over.
#[test]
fn the_printed_curl_line_sends_an_update_that_comes_out_as_one_line() {
    if program("curl").is_none() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    for data in [DATA, "it's $HOME; \"a\" b"] {
        let server = Process::serve(parent.path(), &["--data-dir", data]);
        let line = greeting(&server.stderr(), "try").to_owned();
        assert!(line.starts_with("curl ") && !line.contains("--insecure"), "{line}");
        let line = format!("{line} --noproxy '*' -sS --max-time 30 -o answer -w '%{{http_code}}'");
        let mut runs = 0;
        // Each run is another update, not a copy of the one before.
        for shell in ["sh", "sh", "bash", "zsh"] {
            if shell == "sh" || program(shell).is_some() {
                let mut shell = Command::new(shell);
                let said = succeed(shell.args(["-c", &line]).current_dir(parent.path()));
                assert_eq!(said.stdout, "200", "{}", said.stderr);
                runs += 1;
            }
        }
        let ended = server.terminate();
        assert_code(&ended, 0);
        assert!(ended.stdout.ends_with('\n'));
        let mut ids = BTreeSet::new();
        for line in ended.stdout.lines() {
            let update: serde_json::Value = serde_json::from_str(line).unwrap();
            ids.insert(update["update_id"].as_u64().unwrap());
            assert_eq!(update["message"]["text"], "hello");
        }
        assert_eq!((ids.len(), ended.stdout.lines().count()), (runs, runs), "{}", ended.stdout);
    }
}

// Signals, and what is left at the end

#[test]
fn sigusr1_prints_the_table_and_the_service_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::serve(dir.path(), &[]);
    for round in 1..3 {
        assert_eq!(post(&server, dir.path(), &update(round)).status, 200);
        server.signal("USR1");
        let heads = || {
            let lines = server.stderr();
            let is_head = |line: &&String| line.starts_with("latency ") && line.contains("p99.9");
            lines.iter().filter(is_head).count() as i64
        };
        wait_until("another table is printed", || heads() == round);
    }
    let received = "updates      2 received";
    wait_until("the table has the counts", || {
        server.stderr().iter().any(|line| line.starts_with(received))
    });
    assert_eq!(post(&server, dir.path(), &update(3)).status, 200);
    let ended = server.terminate();
    assert_code(&ended, 0);
    assert_eq!(ended.stdout.lines().count(), 3, "tables do not get among the updates");
}

#[test]
fn sigterm_and_sigint_end_it_with_0_and_a_table_of_each_stage() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Process::serve(dir.path(), &[]);
        assert_eq!(post(&server, dir.path(), &update(1)).status, 200);
        server.signal(signal);
        let ended = server.wait();
        assert_code(&ended, 0);
        let table: Vec<&str> = ended
            .stderr
            .iter()
            .map(String::as_str)
            .skip_while(|line| !line.starts_with("ready "))
            .collect();
        assert!(table[1].starts_with(&format!("SIG{signal}")), "{table:#?}");
        for stage in [
            "handshake_full",
            "read",
            "parse",
            "answer",
            "queue_wait",
            "dispatch",
            "handler",
            "whole",
            "latency",
        ] {
            assert!(table.iter().any(|line| line.starts_with(stage)), "{stage} in {table:#?}");
        }
        assert!(table.iter().any(|line| line.starts_with("updates      1 received, 1 ack")));
    }
}

/// The answer is on the wire before the signal, so the update is promised: it must come out.
#[test]
fn what_was_acknowledged_before_a_signal_comes_out_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::serve(dir.path(), &[]);
    let secret = fs::read_to_string(dir.path().join(SECRET_FILE)).unwrap();
    let mut client = connect(&server, &dir.path().join(CERT));
    for id in 0..500 {
        client.send(&request_to("/webhook", secret.trim(), &update(id)));
        assert_eq!(client.response().status, 200);
    }
    let ended = server.terminate();
    assert_code(&ended, 0);
    let ids: BTreeSet<i64> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|update| update["update_id"].as_i64().unwrap())
        .collect();
    assert_eq!(ended.stdout.lines().count(), 500);
    assert!(ids.into_iter().eq(0..500));
}

#[test]
fn the_report_has_all_counters_and_percentiles() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::serve(dir.path(), &["--report", "report.json"]);
    assert_eq!(post(&server, dir.path(), &update(1)).status, 200);
    assert_eq!(post(&server, dir.path(), "{}").status, 400);
    // One session, resumed: the ticket has come with the answer.
    let cert = fs::read_to_string(dir.path().join(CERT)).unwrap();
    let config = client::trusting(&cert, rustls::ALL_VERSIONS);
    for _ in 0..2 {
        let mut client = Client::connect_with(server.addr, config.clone());
        client.send(&request_to("/webhook", "wrong", &update(2)));
        assert_eq!(client.response().status, 403);
    }
    assert_code(&server.terminate(), 0);
    let text = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, count) in [
        ("connections_accepted", 4),
        ("handshakes_full", 3),
        ("handshakes_resumed", 1),
        ("handshakes_failed", 0),
        ("updates_received", 1),
        ("updates_acknowledged", 1),
        ("updates_handled", 1),
        ("updates_failed", 0),
        ("updates_abandoned", 0),
    ] {
        assert_eq!(report[key], count, "{key} in {text}");
    }
    assert_eq!(report["requests_rejected"], serde_json::json!({"400": 1, "403": 2}));
    let journal = &report["journal"];
    assert_eq!(journal["ack"], "written");
    assert_eq!((&journal["appended_records"], &journal["lag_records"]), (&1.into(), &0.into()));
    assert_eq!(journal["batch_records"]["count"], 1);
    assert_eq!(journal["commit_us"]["count"], 1);
    assert!(["io_uring", "epoll"].contains(&report["driver"].as_str().unwrap()));
    let stages = report["latency_us"].as_object().unwrap();
    let names = [
        "accept_wait",
        "answer",
        "commit",
        "dispatch",
        "handler",
        "handshake_full",
        "handshake_resumed",
        "parse",
        "queue_wait",
        "read",
        "whole",
    ];
    assert_eq!(stages.keys().map(String::as_str).collect::<BTreeSet<_>>(), names.into());
    for (stage, values) in stages {
        let values = values.as_object().unwrap();
        let keys: BTreeSet<&str> = values.keys().map(String::as_str).collect();
        let expected = ["count", "min", "p50", "p90", "p99", "p99.9", "max"];
        assert_eq!(keys, expected.into(), "{stage}");
        let value = |key: &str| values[key].as_f64().unwrap();
        assert!(value("count") >= 1.0 && value("min") <= value("p50"));
        assert!(value("p50") <= value("p99.9") && value("p99.9") <= value("max") * 1.01, "{stage}");
    }
}

/// Fills a pipe whose reader stands still, so that a worker hangs in its write.
fn hanging_server(dir: &Path, ack: &str, drain_timeout: &str) -> (Process, fs::File) {
    succeed(Command::new("mkfifo").arg(dir.join("pipe")));
    // Both ends, or opening would wait for the other one.
    let pipe = OpenOptions::new().read(true).write(true).open(dir.join("pipe")).unwrap();
    let mut flags = vec!["--output", "ndjson:pipe", "--report", "report.json", "--ack", ack];
    flags.extend(["--drain-timeout", drain_timeout]);
    let server = Process::serve(dir, &flags);
    for id in 0..8 {
        // Eight of 32 KB; a pipe holds 64 KiB.
        let body = update(id).replace("hello", &"x".repeat(32_000));
        assert_eq!(post(&server, dir, &body).status, 200);
    }
    (server, pipe)
}

#[test]
fn a_second_signal_leaves_at_once_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _pipe) = hanging_server(dir.path(), "memory", "1h");
    server.signal("TERM");
    wait_until("it says that it stops", || {
        server.stderr().iter().any(|line| line.starts_with("SIGTERM: stopping"))
    });
    server.signal("INT");
    let ended = server.wait();
    assert_code(&ended, 1);
    assert!(
        ended.stderr.iter().any(|line| line.starts_with("second signal")),
        "{:#?}",
        ended.stderr
    );
    let last = ended.stderr.last().unwrap();
    assert!(last.starts_with("ringhook: left at the second signal with "), "{last}");
    // What is left is named.
    let left = ended.stderr.iter().find(|line| line.starts_with("abandoned")).unwrap();
    assert!(left.contains("default/"), "{left}");
}

#[test]
fn a_drain_that_hangs_ends_with_its_timeout_and_counts_what_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _pipe) = hanging_server(dir.path(), "memory", "200ms");
    let start = Instant::now();
    let ended = server.terminate();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let text = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(count("updates_acknowledged"), 8);
    assert!(count("updates_abandoned") > 0, "{text}");
    assert_eq!(count("updates_handled") + count("updates_abandoned"), 8, "{text}");
    let abandoned = format!("{} abandoned", count("updates_abandoned"));
    assert!(ended.stderr.iter().any(|line| line.contains(&abandoned)), "{:#?}", ended.stderr);
}

#[test]
fn what_a_hanging_drain_leaves_is_delivered_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (server, pipe) = hanging_server(dir.path(), "written", "200ms");
    let ended = server.terminate();
    let text = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let left = report["journal"]["lag_records"].as_u64().unwrap();
    assert!(left > 0, "{text}");
    assert_eq!(report["updates_abandoned"], 0);
    let kept = format!("{left} update(s) stay in the journal for the next start");
    assert!(ended.stderr.contains(&kept), "{:#?}", ended.stderr);
    drop(pipe);
    let server = Process::serve(dir.path(), &["--output", "ndjson:file", "--ack", "memory"]);
    let told = format!("notice     {left} update(s) that an earlier run has left in ");
    assert!(server.stderr().iter().any(|line| line.contains(&told)), "{:#?}", server.stderr());
    assert_code(&server.terminate(), 0);
    let server =
        Process::serve(dir.path(), &["--output", "ndjson:file", "--report", "report.json"]);
    // Of the segment's 64 MiB only what was written is read.
    let found = format!(
        "notice     journal: {left} update(s) to be delivered again of 8 read (0.2 MiB in "
    );
    assert!(server.stderr().iter().any(|line| line.contains(&found)), "{:#?}", server.stderr());
    let lines =
        || fs::read_to_string(dir.path().join("file")).map_or(0, |text| text.lines().count());
    wait_until("the updates come out", || lines() as u64 == left);
    // Those that were seen before the stop are known.
    for id in 0..8 {
        assert_eq!(post(&server, dir.path(), &update(id)).status, 200);
    }
    assert_code(&server.terminate(), 0);
    assert_eq!(lines() as u64, left);
}

#[test]
fn a_reader_that_leaves_stdout_ends_it_with_1_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = ringhook(dir.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "200ms"]);
    // `head -c1` reads one byte and goes.
    let mut head = Command::new("head")
        .args(["-c", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let server = Process::start_with_stdout(command, head.stdin.take().unwrap().into());
    let big = update(1).replace("hello", &"x".repeat(1000));
    assert_eq!(post(&server, dir.path(), &big).status, 200);
    assert!(head.wait().unwrap().success());
    assert_eq!(post(&server, dir.path(), &update(2)).status, 200);
    let ended = server.wait();
    assert_code(&ended, 1);
    let last = ended.stderr.last().unwrap();
    assert!(last.starts_with("ringhook: the sink's reader is gone"), "{:#?}", ended.stderr);
}

/// As under `ringhook serve 2>&1 | head`: the reader closes, and the service must go on.
#[test]
fn a_reader_that_leaves_stderr_disturbs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = ringhook(dir.path());
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--output",
        "null",
        "--report",
        "report.json",
    ]);
    let mut child = with_test_driver(&mut command)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let ready = lines.find(|line| line.starts_with("ready https://")).expect("a ready line");
    let addr = ready.trim_start_matches("ready https://").trim_end_matches("/webhook");
    drop(lines);
    let pid = child.id().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    };
    // Its table has no reader.
    signal("USR1");
    let cert = fs::read_to_string(dir.path().join(CERT)).unwrap();
    let config = client::trusting(&cert, rustls::ALL_VERSIONS);
    let secret = fs::read_to_string(dir.path().join(SECRET_FILE)).unwrap();
    let mut client = Client::connect_with(addr.parse().unwrap(), config);
    client.send(&request_to("/webhook", secret.trim(), &update(1)));
    assert_eq!(client.response().status, 200);
    signal("TERM");
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    let report = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["updates_handled"], 1);
}

// Sinks

#[test]
fn a_file_sink_is_private_and_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    for id in 1..3 {
        let server = Process::serve(dir.path(), &["--output", "ndjson:updates.ndjson"]);
        assert_eq!(post(&server, dir.path(), &update(id)).status, 200);
        let ended = server.terminate();
        assert_code(&ended, 0);
        assert_eq!(ended.stdout, "");
    }
    let path = dir.path().join("updates.ndjson");
    assert_eq!(mode(&path), 0o600, "updates are private messages");
    let text = fs::read_to_string(path).unwrap();
    let ids: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["update_id"].clone())
        .collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn the_null_sink_takes_all_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::serve(dir.path(), &["--output", "null", "--report", "report.json"]);
    assert_eq!(post(&server, dir.path(), &update(1)).status, 200);
    let ended = server.terminate();
    assert_code(&ended, 0);
    assert_eq!(ended.stdout, "");
    let report = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["updates_handled"], 1);
    assert!(names_in(dir.path()).iter().eq(["report.json", DATA]));
}

// The config file

/// Three bots, one for each place where a secret can be.
const THREE_BOTS: &str = r#"
[server]
driver = "epoll"
shards = 1
[[output]]
name = 'out'
to = "ndjson:updates"
[[bot]]
name = "shop"
path = "/shop"
secret_token = "inline_SECRET-1"
[[bot]]
name = "news"
path = "/news/hook"
secret_token_file = "news-secret"
[[bot]]
name = "desk"
path = "/desk"
secret_token_env = "RINGHOOK_TEST_DESK_SECRET"
"#;
const THREE_SECRETS: [(&str, &str); 3] =
    [("/shop", "inline_SECRET-1"), ("/news/hook", "file_SECRET-2"), ("/desk", "env_SECRET-3")];

/// `serve` with [`THREE_BOTS`] and `args`.
fn three_bots(dir: &Path, args: &[&str]) -> Command {
    fs::write(dir.join("ringhook.toml"), THREE_BOTS).unwrap();
    fs::write(dir.join("news-secret"), "file_SECRET-2\n").unwrap();
    let mut command = ringhook(dir);
    command.env("RINGHOOK_TEST_DESK_SECRET", "env_SECRET-3");
    command.args(["serve", "--config", "ringhook.toml", "--listen", "127.0.0.1:0"]).args(args);
    command
}

#[test]
fn each_bot_of_a_config_file_has_its_path_and_its_secret() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(three_bots(dir.path(), &["--report", "report.json"]));
    let stderr = server.stderr();
    for (line, (path, _)) in
        stderr.iter().filter(|line| line.starts_with("  url")).zip(THREE_SECRETS)
    {
        assert!(line.contains(&format!("https://{}{path} ", server.addr)), "{line}");
    }
    assert_eq!(greeting(&stderr, "driver"), "epoll");
    let mut client = connect(&server, &dir.path().join(CERT));
    let mut expected = Vec::new();
    for (id, (path, secret)) in (1..).zip(THREE_SECRETS) {
        for (_, presented) in THREE_SECRETS {
            client.send(&request_to(path, presented, &update(id)));
            let status = client.response().status;
            assert_eq!(status, if presented == secret { 200 } else { 403 }, "{path}");
        }
        expected.push(id);
    }
    client.send(&request_to("/webhook", "inline_SECRET-1", &update(9)));
    assert_eq!(client.response().status, 404, "the default bot is there only without others");
    assert_code(&server.terminate(), 0);
    let text = fs::read_to_string(dir.path().join("updates")).unwrap();
    let mut ids: Vec<i64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        // Each line tells its bot beside the update.
        .map(|line| line["update"]["update_id"].as_i64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, expected);
    assert!(!dir.path().join(SECRET_FILE).exists(), "a secret that no bot needs is not made");
}

/// Curl as a client that is told a URL with user and password, as Telegram is.
#[test]
fn bots_of_one_path_are_told_apart_by_host_and_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"
        [[output]]
        name = "out"
        to = "ndjson:updates"
        [[bot]]
        name = "shop"
        path = "/hook"
        host = "shop.example"
        secret_token = "new"
        previous_secret_token = "old"
        previous_secret_token_until = "2100-01-01T00:00:00Z"
        [[bot]]
        name = "others"
        path = "/hook"
        host = "*.example"
        basic_auth_file = "user"
    "#;
    fs::write(dir.path().join("ringhook.toml"), config).unwrap();
    fs::write(dir.path().join("user"), "sender:pass word\n").unwrap();
    let mut command = ringhook(dir.path());
    command.args(["serve", "--config", "ringhook.toml", "--listen", "127.0.0.1:0"]);
    let server = Process::start(command);
    let stderr = server.stderr();
    assert!(stderr.iter().any(|line| line.starts_with("  secret") && line.contains(" user ")));
    let Some(mut curl) = program("curl") else { return };
    let port = server.addr.port();
    curl.current_dir(dir.path()).args([
        "-s",
        "--insecure",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} ",
    ]);
    curl.args([
        "-H",
        "Content-Type: application/json",
        "--connect-to",
        &format!("::{}", server.addr),
    ]);
    let body = update(1);
    let (new, old) =
        ("X-Telegram-Bot-Api-Secret-Token: new", "X-Telegram-Bot-Api-Secret-Token: old");
    let mut first = true;
    for (url, header) in [
        ("shop.example", new),
        ("SHOP.example", old),
        ("shop.example", "X-Other: none"),
        ("sender:pass%20word@news.example", "X-Other: none"),
        ("sender:wrong@news.example", new),
        ("news.example", new),
        ("sender:pass%20word@a.news.example", new),
        ("127.0.0.1", new),
    ] {
        if !std::mem::replace(&mut first, false) {
            curl.args(["--next", "-s", "--insecure", "-o", "/dev/null", "-w", "%{http_code} "]);
            curl.args(["--connect-to", &format!("::{}", server.addr)]);
        }
        curl.args(["-d", &body, "-H", header, &format!("https://{url}:{port}/hook")]);
    }
    assert_eq!(succeed(&mut curl).stdout.trim(), "200 200 403 200 403 403 404 404");
    assert_code(&server.terminate(), 0);
    // The same number of two bots is two updates, and a copy is none.
    let text = fs::read_to_string(dir.path().join("updates")).unwrap();
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ecdsa();
    let config = r#"
        [server]
        listen = "127.0.0.1:1"
        driver = "epoll"
        shards = 3
        workers = 3
        data_dir = "of-the-file"
        drain_timeout = "3s"
        [tls]
        cert = "cert-of-the-file"
        key = "key-of-the-file"
        [[output]]
        name = "out"
        to = "null"
    "#;
    fs::write(dir.path().join("ringhook.toml"), config).unwrap();
    let (cert, key) = (pki.cert_file(), pki.key_file());
    let flags = [
        ["--config", "ringhook.toml"],
        ["--listen", "127.0.0.1:7443"],
        ["--driver", "io-uring"],
        ["--shards", "1"],
        ["--workers", "2"],
        ["--data-dir", "of-the-flag"],
        ["--drain-timeout", "7s"],
        ["--output", "ndjson:of-the-flag"],
        ["--cert", cert.to_str().unwrap()],
        ["--key", key.to_str().unwrap()],
    ];
    let args = [&["serve", "--print-config"], &*flags.concat()].concat();
    let (code, stdout, stderr) = run(dir.path(), &args);
    assert_eq!((code, &*stderr), (0, ""));
    let printed: toml::Table = stdout.parse().unwrap();
    let expected = "listen = '127.0.0.1:7443'\ndriver = 'io-uring'\nshards = 1\nworkers = 2\n\
         data_dir = 'of-the-flag'\ndrain_timeout = '7s'\nreuse_port = false\ndate = true";
    assert_eq!(printed["server"], toml::Value::Table(expected.parse().unwrap()));
    assert_eq!(printed["output"][0]["to"].as_str(), Some("ndjson:of-the-flag"));
    assert_eq!(printed["tls"]["cert"].as_str(), cert.to_str());
    assert_eq!(printed["tls"]["key"].as_str(), key.to_str());
    assert!(!stdout.contains("of-the-file"), "{stdout}");
}

#[test]
fn one_file_of_a_pair_never_meets_the_other_one_of_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[tls]\ncert = 'c'\nkey = 'k'\n";
    fs::write(dir.path().join("ringhook.toml"), config).unwrap();
    for (flag, key, missing) in [("--cert", "tls.cert", "--key"), ("--key", "tls.key", "--cert")] {
        for config in [&[][..], &["--config", "ringhook.toml"]] {
            let said = refused(dir.path(), &[config, &[flag, "mine"]].concat(), 2);
            assert!(said.contains(&format!("{key} = mine: expected ")), "{said}");
            assert!(said.contains(missing), "{said}");
        }
    }
    assert!(names_in(dir.path()).iter().eq(["ringhook.toml"]), "nothing is made");
}

#[test]
fn print_config_shows_the_defaults_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(dir.path(), &["serve", "--print-config"]);
    assert_eq!((code, &*stderr), (0, ""));
    let printed: toml::Table = stdout.parse().unwrap();
    assert_eq!(printed["server"]["listen"].as_str(), Some("127.0.0.1:8443"));
    assert_eq!(printed["server"]["driver"].as_str(), Some("auto"));
    assert_eq!(printed["bot"][0]["path"].as_str(), Some("/webhook"));
    assert_eq!(printed["bot"][0]["secret_token_file"].as_str(), Some(SECRET_FILE));
    assert_eq!(printed["tls"]["cert"].as_str(), Some(CERT));
    assert_eq!(printed["output"][0]["to"].as_str(), Some("ndjson:-"));
    assert_eq!(printed["limits"]["idle_timeout"].as_str(), Some("1m 15s"));
    assert_eq!(printed["limits"]["connections"].as_integer(), Some(100_000));
    assert_eq!(printed["limits"]["connections_per_address"].as_integer(), Some(0));
    assert_eq!(names_in(dir.path()), BTreeSet::new());
}

/// `--print-config` with `args`; fed back, it prints itself.
#[track_caller]
fn printed_config(dir: &Path, args: &[&str]) -> String {
    let (code, printed, stderr) = run(dir, &[&["serve", "--print-config"], args].concat());
    assert_eq!(code, 0, "{stderr}");
    fs::write(dir.join("printed.toml"), &printed).unwrap();
    let again = ["serve", "--print-config", "--config", "printed.toml"];
    let (code, again, stderr) = run(dir, &again);
    assert_eq!((code, &*again), (0, &*printed), "{stderr}");
    printed
}

/// On a machine where nothing has been made yet, as for a unit file that is written first.
#[test]
fn the_printed_config_of_a_first_run_can_be_served_with() {
    let dir = tempfile::tempdir().unwrap();
    printed_config(dir.path(), &[]);
    let server = Process::serve(dir.path(), &["--config", "printed.toml"]);
    assert_eq!(post(&server, dir.path(), &update(1)).status, 200);
    assert_code(&server.terminate(), 0);
}

#[test]
fn a_printed_config_means_what_it_was_printed_from() {
    let dir = tempfile::tempdir().unwrap();
    let odd = "[limits]\nhead_bytes = 1537\nbody_bytes = 1234567\njson_depth = 99\n\
               handshake_timeout = '1234ms'\nidle_timeout = '2h 3s 4ms'\n\
               [server]\ndrain_timeout = '1m 1us'\nallow = ['telegram', '::1', '10.0.0.0/8']\n\
               [[bot]]\nname = 'open'\npath = '/open'\nauth = 'none'\n";
    fs::write(dir.path().join("odd.toml"), odd).unwrap();
    let printed: toml::Table =
        printed_config(dir.path(), &["--config", "odd.toml"]).parse().unwrap();
    let limits = &printed["limits"];
    assert_eq!(limits["handshake_timeout"].as_str(), Some("1s 234ms"));
    assert_eq!(limits["idle_timeout"].as_str(), Some("2h 3s 4ms"));
    assert_eq!(printed["server"]["drain_timeout"].as_str(), Some("1m 1us"));
    assert_eq!(printed["server"]["allow"].to_string(), r#"["telegram", "::1", "10.0.0.0/8"]"#);
    // 1.2 MiB would be 23,731 bytes more than was asked for.
    let bytes = |key: &str| limits[key].as_str().unwrap().parse::<bytesize::ByteSize>().unwrap();
    assert_eq!(bytes("body_bytes").as_u64(), 1_234_567, "{limits}");
    assert_eq!(bytes("head_bytes").as_u64(), 1537, "{limits}");
}

// Mistakes

#[test]
fn an_unknown_key_is_refused_with_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    for (config, line, key) in [
        ("[server]\n\nlistn = '127.0.0.1:0'", 3, "listn"),
        ("[limits]\nbody = '1MiB'", 2, "body"),
        ("[tls]\ncertificate = 'a'", 2, "certificate"),
        ("[[output]]\nname = 'out'\nfile = 'a'", 3, "file"),
        ("[[bot]]\nname = 'a'\npath = '/a'\ntokens = 'a'", 4, "tokens"),
        ("[servers]\n", 1, "servers"),
    ] {
        let said = refused_config(dir.path(), config, 2);
        assert!(said.contains("ringhook.toml"), "{said}");
        assert!(said.contains(&format!("line {line}: unknown field `{key}`")), "{said}");
        assert!(said.contains("expected one of") || said.contains("expected `"), "{said}");
    }
    assert!(!dir.path().join(DATA).exists(), "nothing is made before the config is right");
}

/// Each line says which key, which value, and what would do.
#[test]
fn a_wrong_value_is_refused_with_key_value_and_expectation() {
    let dir = tempfile::tempdir().unwrap();
    let bot = |rest: &str| format!("[[bot]]\nname = 'a'\npath = '/a'\n{rest}");
    for (config, key, value, expectation) in [
        ("[server]\nlisten = 'localhost'", "server.listen", "localhost", "127.0.0.1:8443"),
        ("[server]\nallow = ['telegrm']", "server.allow", "telegrm", "10.0.0.0/8"),
        ("[server]\nallow = ['10.0.0.1/8']", "server.allow", "10.0.0.1/8", "\"10.0.0.0/8\""),
        ("[server]\nallow = ['10.0.0.0/33']", "server.allow", "10.0.0.0/33", "0 to 32"),
        ("[server]\nallow = []", "server.allow", "[]", "leave the key out"),
        ("[server]\nallow = 'telegram'", "server.allow", "telegram", "a sequence"),
        ("[server]\ndriver = 'uring'", "server.driver", "uring", "io-uring"),
        ("[server]\nshards = 'two'", "server.shards", "two", "expected"),
        ("[server]\nshards = 0", "server.shards", "0", "1 to 1024"),
        ("[server]\nworkers = 1025", "server.workers", "1025", "1 to 1024"),
        ("[server]\nworkers = -1", "server.workers", "-1", "expected"),
        ("[server]\ndrain_timeout = 'soon'", "server.drain_timeout", "soon", "10s"),
        ("[server]\ndrain_timeout = 10", "server.drain_timeout", "10", "expected"),
        ("[limits]\nhead_bytes = '100B'", "limits.head_bytes", "100", "512 to 65536"),
        ("[limits]\nbody_bytes = 'many'", "limits.body_bytes", "many", "1MiB"),
        ("[limits]\njson_depth = 7", "limits.json_depth", "7", "8 to 1024"),
        ("[limits]\nidle_timeout = '1ms'", "limits.idle_timeout", "1ms", "10ms to 24h"),
        ("[limits]\nqueue_updates = 0", "limits.queue_updates", "0", "1 to 16777216"),
        ("[limits]\nconnections = 0", "limits.connections", "0", "1 to 16777216"),
        ("[limits]\nconnections_per_address = -1", "connections_per_address", "-1", "expected"),
        ("[[output]]\nname = 'out'\nto = 'kafka:a'", "output.to", "kafka:a", "ndjson:FILE"),
        ("[[output]]\nname = 'out'\nto = 'ndjson:'", "output.to", "ndjson:", "ndjson:FILE"),
        (&bot("auth = 'basic'"), "bot.auth", "basic", "none"),
        (&bot(""), "bot \"a\"", "0", "one of secret_token"),
        (&bot("auth = 'none'\nsecret_token = 'x'"), "bot \"a\"", "1", "none of them"),
        (&bot("secret_token_env = 'NOT_SET_HERE'"), "secret_token_env", "NOT_SET_HERE", "is set"),
        (&bot("secret_token = 'a b'"), "bot.secret_token", "(hidden)", "1 to 256"),
        (&bot("auth = 'none'").replace("/a", "a"), "bot.path", "\"a\"", "begins with /"),
        (&bot("auth = 'none'").replace("'a'", "''"), "bot.name", "\"\"", "a printable name"),
    ] {
        let said = refused_config(dir.path(), config, 2);
        for part in [key, value, expectation] {
            assert!(said.contains(part), "{part:?} is not in: {said}\n(config: {config})");
        }
    }
}

#[test]
fn a_bot_listed_twice_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bot = |name: &str, path: &str| {
        format!("[[bot]]\nname = '{name}'\npath = '{path}'\nauth = 'none'\n")
    };
    let said = refused_config(dir.path(), &(bot("a", "/a") + &bot("b", "/a")), 2);
    assert!(said.contains("bot.path = /a: expected a path of its own"), "{said}");
    let said = refused_config(dir.path(), &(bot("a", "/a") + &bot("a", "/b")), 2);
    assert!(said.contains("bot.name = a: expected a name of its own"), "{said}");
}

#[test]
fn wrong_flags_are_refused_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for (args, said) in [
        (&["serve", "--listne", "x"][..], "--listne"),
        (&["serve", "--listen", "localhost"], "--listen"),
        (&["serve", "--driver", "uring"], "auto, io-uring or epoll"),
        (&["serve", "--shards", "two"], "--shards"),
        (&["serve", "--shards", "0"], "server.shards = 0: expected 1 to 1024"),
        (&["serve", "--drain-timeout", "soon"], "--drain-timeout"),
        (&["serve", "--output", "stdout"], "output.to = stdout: expected ndjson:-"),
        (&["serve", "--config", "missing.toml"], "missing.toml: No such file"),
        (&["serve", "--report", "missing/report.json"], "--report missing/report.json"),
        (&["serve", "surplus"], "surplus"),
        (&["server"], "server"),
        (&["--config", "x"], "--config"),
        (&[], "Usage"),
    ] {
        let (code, stdout, stderr) = run(dir.path(), args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert_eq!(stdout, "");
        assert!(stderr.contains(said), "{said:?} is not in: {stderr}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_by_the_names_of_both_files() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Pki::ecdsa(), Pki::ecdsa());
    let (cert, key) = (one.cert_file(), two.key_file());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let args = ["--listen", "127.0.0.1:0", "--cert", cert, "--key", key];
    let said = refused(dir.path(), &args, 1);
    assert!(said.contains(cert) && said.contains(key), "{said}");
    // Swapped, missing and empty files are told apart by name, too.
    let swapped = ["--listen", "127.0.0.1:0", "--cert", key, "--key", cert];
    assert!(refused(dir.path(), &swapped, 1).contains(key));
    let missing = ["--listen", "127.0.0.1:0", "--cert", "missing.pem", "--key", key];
    assert!(refused(dir.path(), &missing, 1).contains("missing.pem"));
    fs::write(dir.path().join("empty.pem"), "").unwrap();
    let empty = ["--listen", "127.0.0.1:0", "--cert", cert, "--key", "empty.pem"];
    assert!(refused(dir.path(), &empty, 1).contains("empty.pem"));
}

#[test]
fn a_given_pair_is_served_and_no_other_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ecdsa();
    let (cert, key) = (pki.cert_file(), pki.key_file());
    let args = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let server = Process::serve(dir.path(), &args);
    let secret = fs::read_to_string(dir.path().join(SECRET_FILE)).unwrap();
    let mut client = connect(&server, &cert);
    client.send(&request_to("/webhook", secret.trim(), &update(1)));
    assert_eq!(client.response().status, 200);
    assert_code(&server.terminate(), 0);
    assert!(names_in(&dir.path().join(DATA)).iter().eq(["journal", "secret-token"]));
}

#[test]
fn a_port_in_use_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let said = refused(dir.path(), &["--listen", &address], 1);
    assert!(said.contains(&address) && said.contains("another program has the port"), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    // Under a file, since permissions would not keep root out.
    fs::write(dir.path().join("file"), "").unwrap();
    let said = refused(dir.path(), &["--listen", "127.0.0.1:0", "--data-dir", "file/data"], 1);
    assert!(said.contains("file/data"), "{said}");
    let said = refused(dir.path(), &["--listen", "127.0.0.1:0", "--data-dir", "file"], 1);
    assert!(said.contains("file"), "{said}");
}

#[test]
fn a_file_sink_that_cannot_be_opened_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--output", "ndjson:missing/updates"];
    let said = refused(dir.path(), &args, 1);
    assert!(said.contains("ndjson:missing/updates: No such file"), "{said}");
}

// Certificates

/// A server of two bots with certificates of their own, one of whose keys is encrypted, and no
/// certificate of the data directory.
#[test]
fn bots_bring_their_certificates_and_a_new_one_is_served_without_a_restart() {
    let Some(mut openssl) = program("openssl") else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let make = |cn: &str, dns: &[&str]| self_signed(&params(cn, dns, &[]));
    let (shop, news) = (make("shop", &["shop.example"]), make("news", &["old.example"]));
    for (name, text) in [
        ("shop.pem", &*shop.cert),
        ("shop.key", &shop.key),
        ("news.pem", &news.cert),
        ("news.plain", &news.key),
        ("news.password", "s3cret\n"),
        (
            "ringhook.toml",
            "[[bot]]\nname = 'shop'\npath = '/shop'\nauth = 'none'\nhost = 'shop.example'\n\
             cert = 'shop.pem'\nkey = 'shop.key'\n\
             [[bot]]\nname = 'news'\npath = '/news'\nauth = 'none'\nhost = '*.news.example'\n\
             cert = 'news.pem'\nkey = 'news.key'\nkey_password_file = 'news.password'\n",
        ),
    ] {
        fs::write(at(name), text).unwrap();
    }
    let encrypt = "pkcs8 -topk8 -in news.plain -passout file:news.password -out news.key";
    succeed(openssl.args(encrypt.split(' ')).current_dir(dir.path()));
    let args = ["--config", "ringhook.toml", "--output", "null", "--report", "report.json"];
    let server = Process::serve(dir.path(), &args);
    assert!(!at(CERT).exists(), "none is made where a bot has one");
    let lines = server.stderr();
    let has = |line: &str| lines.iter().any(|it| it == line);
    assert!(
        has("  cert       news.pem  (news)") && has("  key        news.key  (news)"),
        "{lines:#?}"
    );
    let notice = greeting(&lines, "notice");
    let expected = "news.pem: is for old.example, not for *.news.example, and Telegram refuses it";
    assert!(notice.starts_with(expected), "{lines:#?}");

    let served = |sni: &str| {
        let config = Arc::new(client::trusting_all());
        let client = Client::try_connect_as(server.addr, config, sni).unwrap();
        client.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let der = |issued: &Issued| CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap();
    assert_eq!(served("shop.example"), der(&shop));
    assert_eq!(served("a.news.example"), der(&news));
    assert_eq!(served("elsewhere.example"), der(&shop), "the first one is the default");

    let next = make("next", &["shop.example"]);
    fs::write(at("shop.pem"), "half of it").unwrap();
    wait_until("the broken one is told", || {
        server.stderr().iter().any(|line| line.contains("certificate not reloaded"))
    });
    assert_eq!(served("shop.example"), der(&shop));
    fs::write(at("shop.pem"), &next.cert).unwrap();
    fs::write(at("shop.key"), &next.key).unwrap();
    wait_until("the new one is served", || served("shop.example") == der(&next));
    wait_until("that is told", || {
        server.stderr().iter().any(|line| line.contains("certificates reloaded"))
    });
    let ended = server.terminate();
    assert_code(&ended, 0);
    let broken = ended.stderr.iter().filter(|line| line.contains("certificate not reloaded"));
    assert_eq!(broken.count(), 1, "{:#?}", ended.stderr);
    assert!(ended.stderr.iter().any(|line| line == "certificates 1 reloaded, 1 not"));
    let report = fs::read_to_string(at("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["certificate_reloads"], 1);
    assert_eq!(report["certificate_reload_failures"], 1);
    // The tests' certificates end with the year 2029.
    assert!(report["certificate_expires_in_days"].is_i64());
    assert!(!ended.stderr.concat().contains("s3cret"));
}

#[test]
fn the_password_of_a_key_comes_from_a_flag_a_file_or_a_variable() {
    let Some(mut openssl) = program("openssl") else { return };
    let pki = Pki::ecdsa();
    let dir = pki.dir();
    fs::write(dir.join("password"), "s3cret\n").unwrap();
    fs::write(dir.join("wrong"), "guess\n").unwrap();
    let encrypt = "pkcs8 -topk8 -in key.pem -passout file:password -out sealed.pem";
    succeed(openssl.args(encrypt.split(' ')).current_dir(dir));
    let flags = ["--cert", "cert.pem", "--key", "sealed.pem"];
    let said = refused(dir, &flags, 1);
    assert!(said.contains("sealed.pem: the key is encrypted: give its password"), "{said}");
    let with = |file| [&flags[..], &["--key-password-file", file]].concat();
    let said = refused(dir, &with("wrong"), 1);
    assert!(said.ends_with("sealed.pem: the password does not open the encrypted key"), "{said}");
    let said = refused(dir, &with("nowhere"), 2);
    assert!(said.contains("tls.key_password_file = nowhere: No such file"), "{said}");
    assert_code(&Process::serve(dir, &with("password")).terminate(), 0);

    let pair = "[tls]\ncert = 'cert.pem'\nkey = 'sealed.pem'\n";
    let write =
        |more: &str| fs::write(dir.join("ringhook.toml"), format!("{pair}{more}\n")).unwrap();
    let serve = || {
        let mut command = ringhook(dir);
        command.args(["serve", "--config", "ringhook.toml", "--listen", "127.0.0.1:0"]);
        command.env("RINGHOOK_TEST_PASSWORD", "s3cret");
        assert_code(&Process::start(command).terminate(), 0);
    };
    for more in [
        "key_password = 's3cret'",
        "key_password_file = 'password'",
        "key_password_env = 'RINGHOOK_TEST_PASSWORD'",
    ] {
        write(more);
        serve();
    }
    write("key_password = 'guess'");
    let said = refused(dir, &["--config", "ringhook.toml", "--listen", "127.0.0.1:0"], 1);
    assert!(said.contains("does not open") && !said.contains("guess"), "{said}");
    // A password typed for the pair of the file is not tried on that of the flags.
    write("key_password = 's3cret'");
    let mut args = vec!["--config", "ringhook.toml"];
    args.extend(flags);
    assert!(refused(dir, &args, 1).contains("give its password"));
}

#[test]
fn keys_of_certificates_are_printed_as_they_are_typed_and_secrets_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[tls]\ncert = 'a'\nkey = 'b'\nkey_password_env = 'C'\n\
                  [[bot]]\nname = 'x'\npath = '/x'\nauth = 'none'\nhost = 'x.example'\n\
                  cert = 'd'\nkey = 'e'\nkey_password_file = 'f'\n";
    fs::write(dir.path().join("ringhook.toml"), config).unwrap();
    let printed = printed_config(dir.path(), &["--config", "ringhook.toml"]);
    let printed: toml::Table = printed.parse().unwrap();
    let typed: toml::Table = config.parse().unwrap();
    assert_eq!(printed["tls"], typed["tls"]);
    for key in ["cert", "key", "key_password_file"] {
        assert_eq!(printed["bot"][0][key], typed["bot"][0][key]);
    }
    let said = refused_config(dir.path(), &config.replace("key = 'e'\n", ""), 2);
    assert!(said.contains("bot.cert = d: expected bot.key beside it"), "{said}");
}

// Help and secrets

#[test]
fn help_shows_the_defaults_and_fits_a_hundred_columns() {
    let dir = tempfile::tempdir().unwrap();
    let mut texts = Vec::new();
    for args in [&["--help"][..], &["-h"], &["serve", "--help"], &["serve", "-h"]] {
        let (code, stdout, stderr) = run(dir.path(), args);
        assert_eq!((code, &*stderr), (0, ""));
        for line in stdout.lines() {
            assert!(line.chars().count() <= 100, "too wide: {line}");
        }
        texts.push(stdout);
    }
    let serve = texts[0].lines().find_map(|line| line.trim().strip_prefix("serve "));
    assert!(serve.unwrap().trim().starts_with("Receive updates"), "{}", texts[0]);
    for serve in &texts[2..] {
        for default in
            ["127.0.0.1:8443", "auto", "one for two CPUs", "ringhook-data", "ndjson:-", "10s"]
        {
            // Lines may be broken anywhere between words.
            let words: Vec<&str> = serve.split_whitespace().collect();
            let default = format!("[default: {default}");
            assert!(words.join(" ").contains(&default), "{default} is not in: {serve}");
        }
    }
    assert!(texts[2].contains("SIGUSR1"), "the long help tells the signals");
}

#[test]
fn no_secret_is_ever_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut shown = vec![];
    let printed = three_bots(dir.path(), &["--print-config"]).output().unwrap();
    assert!(printed.status.success());
    shown.push(String::from_utf8(printed.stdout).unwrap());
    shown.push(String::from_utf8(printed.stderr).unwrap());

    let server = Process::start(three_bots(dir.path(), &["--report", "report.json"]));
    let arguments = fs::read(format!("/proc/{}/cmdline", server.child.id())).unwrap();
    shown.push(String::from_utf8(arguments).unwrap());
    let mut client = connect(&server, &dir.path().join(CERT));
    for (path, secret) in THREE_SECRETS {
        for presented in [secret, "a_wrong_SECRET-4"] {
            client.send(&request_to(path, presented, &update(1)));
            client.response();
        }
    }
    server.signal("USR1");
    let ended = server.terminate();
    assert_code(&ended, 0);
    assert!(ended.stderr.iter().any(|line| line.contains("6 received") || line.contains("403: 3")));
    shown.push(ended.stdout);
    shown.extend(ended.stderr);
    shown.push(fs::read_to_string(dir.path().join("report.json")).unwrap());

    // Mistakes beside a secret must not show it, either.
    for broken in [
        THREE_BOTS.replace("\"inline_SECRET-1\"", "\"inline_SECRET-1\" x"),
        THREE_BOTS.replace("\"inline_SECRET-1\"", "inline_SECRET-1"),
        THREE_BOTS.replace("\"inline_SECRET-1\"", "\"inline_SECRET-1"),
        THREE_BOTS.replace("inline_SECRET-1", "inline_SECRET-1 !"),
        THREE_BOTS.replace("secret_token = ", "secret_tokn = "),
        THREE_BOTS.replace("\"inline_SECRET-1\"", "{ a = \"inline_SECRET-1\" }"),
    ] {
        shown.push(refused_config(dir.path(), &broken, 2));
    }
    let secret_file = THREE_BOTS.replace("secret_token = \"inline_SECRET-1\"", "auth = \"none\"");
    fs::write(dir.path().join("news-secret"), "file_SECRET-2 and more\n").unwrap();
    shown.push(refused_config(dir.path(), &secret_file, 2));
    for text in shown {
        assert!(!text.contains("SECRET-"), "a secret is shown: {text}");
    }
}

// Reloading

#[test]
fn a_hangup_reads_config_and_secrets_again_and_a_mistake_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let bot = |name: &str| {
        format!("[[bot]]\nname = \"{name}\"\npath = \"/{name}\"\nsecret_token_file = \"secret\"\n")
    };
    fs::write(path("secret"), "one").unwrap();
    let null = "[[output]]\nname = 'out'\nto = \"null\"\n";
    fs::write(path("ringhook.toml"), format!("{null}{}", bot("a"))).unwrap();
    let args = ["--config", "ringhook.toml", "--report", "report.json"];
    let server = Process::serve(dir.path(), &args);
    let mut client = connect(&server, &path(CERT));
    let mut post = |path: &str, secret: &str, id: i64| {
        client.send(&request_to(path, secret, &update(id)));
        client.response().status
    };
    let says = |text: &str| server.stderr().iter().filter(|line| line.contains(text)).count();
    assert_eq!(post("/a", "one", 1), 200);

    fs::write(path("secret"), "two").unwrap();
    server.signal("HUP");
    wait_until("the new secret is in force", || post("/a", "two", 2) == 200);
    assert_eq!(post("/a", "one", 3), 403);
    wait_until("it is logged", || says("config reloaded: bots changed: a") >= 1);

    // A token of that kind would not be taken by setWebhook.
    fs::write(path("secret"), "no token\u{1b}[31m").unwrap();
    server.signal("HUP");
    wait_until("the mistake is told", || says("bot.secret_token_file (secret)") >= 1);
    assert_eq!(says("31m"), 0, "a secret is not shown: {:#?}", server.stderr());
    assert_eq!(post("/a", "two", 4), 200);

    fs::write(path("secret"), "two").unwrap();
    fs::write(path("ringhook.toml"), format!("{null}{}[[bot", bot("b"))).unwrap();
    server.signal("HUP");
    wait_until("the mistake is told", || says("config ringhook.toml: line 8") >= 1);
    assert_eq!(post("/a", "two", 5), 200);

    let config =
        format!("[[output]]\nname = 'out'\nto = \"ndjson:-\"\n[server]\nworkers = 3\n{}", bot("b"));
    fs::write(path("ringhook.toml"), config).unwrap();
    server.signal("HUP");
    wait_until("the other bot is there", || post("/b", "two", 6) == 200);
    assert_eq!(post("/a", "two", 7), 404);
    let told = "in force only after a restart: server.workers";
    wait_until("what needs a restart is named", || says(told) >= 1);

    let ended = server.terminate();
    assert_code(&ended, 0);
    let report = fs::read_to_string(path("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["config_reloads"], 2);
    // The server may have looked at the files by itself before it was told to.
    assert!((2..=4).contains(&report["config_reload_failures"].as_u64().unwrap()));
    assert_eq!(report["connections_accepted"], 1, "no connection was dropped");
}

#[test]
fn changed_files_are_read_again_without_being_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let bot = |name: &str| {
        format!(
            "[[bot]]\nname = \"{name}\"\npath = \"/{name}\"\nsecret_token_file = \"{name}.token\"\n"
        )
    };
    fs::write(path("a.token"), "one").unwrap();
    fs::write(path("b.token"), "bee").unwrap();
    fs::write(path("ringhook.toml"), bot("a")).unwrap();
    let server = Process::serve(dir.path(), &["--config", "ringhook.toml", "--output", "null"]);
    let mut client = connect(&server, &path(CERT));
    let mut post = |path: &str, secret: &str, id: i64| {
        client.send(&request_to(path, secret, &update(id)));
        client.response().status
    };
    assert_eq!(post("/a", "one", 1), 200);
    // In place, by renaming, and a file that the config did not name before.
    fs::write(path("a.token"), "two").unwrap();
    wait_until("the new secret is in force", || post("/a", "two", 2) == 200);
    fs::write(path("new.toml"), bot("a") + &bot("b")).unwrap();
    fs::rename(path("new.toml"), path("ringhook.toml")).unwrap();
    wait_until("the new bot is there", || post("/b", "bee", 3) == 200);
    fs::write(path("b.token"), "wasp").unwrap();
    wait_until("its new secret is in force", || post("/b", "wasp", 4) == 200);

    // A bot with a certificate of its own, while the connection goes on.
    let own = self_signed(&params("b.example", &["b.example"], &[]));
    fs::write(path("b.pem"), &own.cert).unwrap();
    fs::write(path("b.key"), &own.key).unwrap();
    let extended = "host = \"b.example\"\ncert = \"b.pem\"\nkey = \"b.key\"\n";
    fs::write(path("ringhook.toml"), bot("a") + &bot("b") + extended).unwrap();
    let with = client::trusting(&own.cert, rustls::ALL_VERSIONS);
    wait_until("the new certificate is served", || {
        Client::try_connect_as(server.addr, Arc::clone(&with), "b.example").is_ok()
    });
    assert_eq!(post("/a", "two", 5), 200);
    assert_code(&server.terminate(), 0);
}

#[test]
fn what_goes_missing_or_odd_while_it_runs_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let config = "[[bot]]\nname = \"a\"\npath = \"/a\"\nsecret_token_file = \"ringhook-data/secret-token\"\n";
    fs::write(path("ringhook.toml"), config).unwrap();
    let server = Process::serve(dir.path(), &["--config", "ringhook.toml", "--output", "null"]);
    let secret = fs::read_to_string(path(SECRET_FILE)).unwrap();
    let mut client = connect(&server, &path(CERT));
    let mut post = |id: i64| {
        client.send(&request_to("/a", secret.trim(), &update(id)));
        client.response().status
    };
    let failures = || {
        let lines = server.stderr();
        lines.iter().filter(|line| line.contains("the one before stays in force")).count()
    };
    let expect_failure = |what: &str| {
        let before = failures();
        server.signal("HUP");
        wait_until(what, || failures() > before);
    };
    assert_eq!(post(1), 200);
    // A secret and a certificate of our own are not made anew under a running server.
    fs::remove_file(path(SECRET_FILE)).unwrap();
    expect_failure("the missing secret is told");
    assert!(!path(SECRET_FILE).exists());
    fs::write(path(SECRET_FILE), &secret).unwrap();
    for name in ["cert.pem", "key.pem"] {
        fs::rename(path(DATA).join(name), path(name)).unwrap();
    }
    expect_failure("the missing certificate is told");
    for name in ["cert.pem", "key.pem"] {
        fs::rename(path(name), path(DATA).join(name)).unwrap();
    }
    // Nothing blocks, nothing endless is read, and no bot is dropped for an empty file.
    fs::remove_file(path("ringhook.toml")).unwrap();
    succeed(Command::new("mkfifo").arg(path("ringhook.toml")));
    expect_failure("the pipe is told");
    fs::remove_file(path("ringhook.toml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("ringhook.toml")).unwrap();
    expect_failure("the device is told");
    fs::remove_file(path("ringhook.toml")).unwrap();
    fs::write(path("ringhook.toml"), "").unwrap();
    expect_failure("the empty file is told");
    assert_eq!(post(2), 200);
    fs::write(path("ringhook.toml"), config).unwrap();
    assert_code(&server.terminate(), 0);
}

#[test]
fn a_stop_before_the_start_is_over_does_not_wait_for_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let first = Process::serve(dir.path(), &["--output", "null"]);
    let mut command = ringhook(dir.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--output", "null"]);
    with_test_driver(&mut command);
    let mut second =
        command.args(["--wait-for-lock", "10m"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("belongs to another process: waiting")));
    let pid = second.id().to_string();
    succeed(Command::new("kill").args(["-TERM", &pid]));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_code(&first.terminate(), 0);
}
