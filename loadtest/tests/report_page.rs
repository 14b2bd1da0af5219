//! The page of a report: what is in the file, and what a browser makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use hdrprofile::{Histogram, IntervalLog};
use serde_json::{Value, json};
use support::{OK, Reply, Server, browser::Browser};

const PROBE: &str = include_str!("support/probe.js");
/// What a file could bring in to be run, if it were let.
const EVIL: &str = "<script>alert(1)</script><img src=http://example.org/x>\"'&";

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

#[track_caller]
fn succeed(arguments: &[&str]) {
    let output = loadtest(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A latency whose percentiles rise from `base` microseconds, as they do.
fn latency(base: f64, count: u64) -> Value {
    let at = |quantile: f64| base * (1.0 / (1.0 - quantile).max(1.0 / count as f64)).powf(0.6);
    let curve: Vec<(f64, f64)> = (0..80)
        .map(|step| 1.0 - 0.5_f64.powf(f64::from(step) / 5.0))
        .take_while(|quantile| 1.0 / (1.0 - quantile) <= count as f64)
        .chain([1.0])
        .map(|quantile| (quantile, at(quantile)))
        .collect();
    json!({
        "count": count, "min": base, "mean": base * 1.4, "p50": at(0.5), "p90": at(0.9),
        "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0), "curve": curve,
    })
}

/// A report of a run of so many seconds, with a stall in the middle.
fn report(base: f64, seconds: u64) -> Value {
    let series: Vec<Value> = (1..=seconds)
        .map(|second| {
            // Neither even nor at random.
            let wave = 1.0 + (second * 7919 % 13) as f64 / 13.0;
            let stall = if second == seconds / 2 { 400.0 } else { 1.0 };
            let us = base * wave * stall;
            json!({
                "at_s": second as f64, "due": 1000, "sent": 1000, "acknowledged": 990 + second % 11,
                "refused": second % 3, "failed": 0, "in_flight": 1, "p50": us, "p99": us * 4.0,
                "p99.9": us * 9.0, "max": us * 20.0, "send_to_answer_p99": us,
            })
        })
        .collect();
    let count = seconds * 1000;
    json!({
        "started_at": "2026-11-21T15:00:00.000Z",
        "command": ["loadtest", "--target", "https://127.0.0.1:8443/a b", "--rate", "1000"],
        "machine": {"cpu": "Some CPU @ 3 GHz", "cpus": 2, "kernel": "Linux 6.18.1", "memory_bytes": 8_u64 << 30},
        "driver": "io_uring",
        "plan": {"name": "steady", "about": "A busy bot on an ordinary day"},
        "options": {"target": "https://127.0.0.1:8443/hook", "connections": 200, "seed": 1},
        "duration_s": seconds as f64, "planned": count, "sent": count, "acknowledged": count - 12,
        "statuses": {"200": count - 12, "503": 7}, "failures": {"timeout": 5, "closed": 0},
        "rate_asked_per_s": 1000.0, "rate_per_s": 999.5, "cpu_user_s": 1.0, "cpu_system_s": 2.0,
        "latency_us": latency(base, count), "send_to_answer_us": latency(base * 0.8, count),
        "lateness_us": latency(base / 20.0, count), "handshake_us": latency(2000.0, 200),
        "series": series,
        "expectations": [
            {"name": "p99", "bound": "at most 5.00 ms", "value": "3.10 ms", "ok": true},
            {"name": "lost", "bound": "at most 0", "value": "12", "ok": false},
        ],
        "retries": {"attempts": 60_050, "retried": 12, "pending": 0, "statuses": [{"200": 5}, {"503": 7}]},
        "copies": null,
        "telegram": [{
            "url": "https://127.0.0.1:8443/hook", "pending_update_count": 3, "delivered": 59_988,
            "last_error_message": EVIL,
        }],
        "warnings": ["the generator used 95 % of its CPU: it was the bottleneck"],
        "a key of later versions": {"which": "is unknown"},
    })
}

fn server_report() -> Value {
    json!({
        "driver": "io_uring", "shards": 1, "workers": 1, "updates_acknowledged": 60_000, "cpu_s": 1.5,
        "memory_peak_bytes": 40 << 20,
        "latency_us": {
            "whole": latency(90.0, 60_000), "parse": latency(1.4, 60_000), "read": latency(0.05, 60_000),
            "handshake_full": latency(900.0, 200), "answer": latency(40.0, 60_000),
        },
        "slow": {
            "bound_us": 5000.0, "answered": 3, "handled": 4,
            "requests": [{
                "bot": EVIL, "update_id": 77, "shard": 0, "received_s": 1.5,
                "stages_us": {"parse": 1.0, "whole": 7000.0},
            }],
        },
    })
}

/// The files of a test, in a directory of its own.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("a.json", &report(120.0, 60));
        files.write("b.json", &report(300.0, 45));
        files.write("c.json", &report(60.0, 60));
        files.write("server.json", &server_report());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, json: &Value) {
        fs::write(self.path(name), json.to_string()).unwrap();
    }

    /// Makes a page of these, with further arguments.
    fn page(&self, runs: &[&str], further: &[&str]) -> PathBuf {
        let page = self.at("page.html");
        let runs: Vec<String> = runs.iter().map(|run| self.at(run)).collect();
        let mut arguments = vec!["report", "-o", &page];
        arguments.extend(runs.iter().map(String::as_str));
        arguments.extend(further);
        succeed(&arguments);
        self.path("page.html")
    }
}

/// What holds of every page, in every window: nothing is fetched, run or complained of; everything
/// can be read; nothing has to be pushed sideways.
#[track_caller]
fn look(browser: &mut Browser, page: &Path) -> Value {
    let mut found = Value::Null;
    for (width, scheme) in [(1000, "light"), (1000, "dark"), (400, "light"), (400, "dark")] {
        let opened = browser.open(page, width, scheme, PROBE);
        let context = format!("{scheme}, {width} px");
        assert_eq!(opened.complaints, Vec::<String>::new(), "{context}");
        assert_eq!(opened.requests, [format!("file://{}", page.display())], "{context}");
        found = opened.found;
        assert_eq!(found["scripts"], 0, "{context}");
        assert_eq!(found["window"], width, "{context}");
        assert!(found["width"].as_u64() <= Some(width.into()), "{context}: {}", found["width"]);
        let background = found["background"].as_f64().unwrap();
        assert_eq!(background < 0.2, scheme == "dark", "{context}: {background}");
        assert!(!(0.2..=0.8).contains(&background), "{context}: {background}");
        // What WCAG 2 asks of text (AA), and of lines.
        let faintest = &found["faintest"];
        assert!(faintest[0].as_f64().unwrap() >= 4.5, "{context}: {faintest}");
        for chart in found["charts"].as_array().unwrap() {
            let context = format!("{context}: {}", chart["title"]);
            assert_eq!(chart["described"], true, "{context}");
            assert_eq!(chart["overlaps"], json!([]), "{context}");
            assert_eq!(chart["outside"], json!([]), "{context}");
            assert!(chart["letters"].as_f64().unwrap() >= 10.5, "{context}: {}", chart["letters"]);
            for line in chart["lines"].as_array().unwrap() {
                assert!(line["contrast"].as_f64().unwrap() >= 3.0, "{context}: {line}");
                assert!(line["length"].as_f64().unwrap() > 100.0, "{context}: {line}");
            }
        }
    }
    found
}

fn chart<'a>(found: &'a Value, title: &str) -> &'a Value {
    let charts = found["charts"].as_array().unwrap();
    let chart = charts.iter().find(|chart| chart["title"].as_str().unwrap().contains(title));
    chart.unwrap_or_else(|| panic!("no chart {title:?} in {:?}", found["sections"]))
}

fn lines(found: &Value, title: &str) -> usize {
    chart(found, title)["lines"].as_array().unwrap().len()
}

#[test]
fn one_run_is_shown_with_all_its_curves() {
    let Some(mut browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.at("server.json");
    let page = files.page(&["a.json"], &["--server", &server]);
    let found = look(&mut browser, &page);
    assert_eq!(lines(&found, "Latency by percentile"), 3, "due, sent, own lateness");
    assert_eq!(lines(&found, "Latency over time"), 4, "p50, p99, p99.9, max");
    assert_eq!(lines(&found, "Throughput"), 3, "due, acknowledged, refused");
    chart(&found, "Answers by status");
    chart(&found, "The server's stages");
    let text = found["text"].as_str().unwrap();
    for part in [
        "Load test: steady",
        "loadtest --target 'https://127.0.0.1:8443/a b' --rate 1000",
        "2 × Some CPU @ 3 GHz, 8.00 GiB",
        "Linux 6.18.1",
        "io_uring, 1 shards, 1 workers",
        "does not hold",
        "the generator used 95 %",
        "25.0\u{a0}µs",
        "As getWebhookInfo would tell it",
        "pending update count",
        "60\u{202f}050",
        EVIL,
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn several_runs_are_laid_over_each_other_and_compared() {
    let Some(mut browser) = Browser::start() else { return };
    let files = Files::new();
    // A script's figures of two of the servers.
    for (name, base, cpu, memory) in [("a.json", 120.0, 12.5, 40), ("b.json", 300.0, 50.0, 10)] {
        let mut run = report(base, 60);
        run["server_cpu_us_per_update"] = cpu.into();
        run["server_memory_peak_bytes"] = (memory << 20).into();
        files.write(name, &run);
    }
    let labels = ["--label", "a server with quite a long name", "--label", EVIL];
    let page = files.page(&["a.json", "b.json", "c.json"], &labels);
    let found = look(&mut browser, &page);
    assert!(!found["text"].as_str().unwrap().contains("not asked for the same"));
    assert_eq!(lines(&found, "Latency by percentile"), 3);
    for title in ["p50", "p99", "p99.9", "max"] {
        assert_eq!(lines(&found, &format!("({title})")), 3, "{title}");
    }
    assert_eq!(lines(&found, "Throughput"), 4, "three, and what was due");
    // The percentiles of b are those of a by 300/120, those of c by 60/120.
    let rows = found["rows"].as_array().unwrap();
    let ratios = |name: &str| {
        let row = rows.iter().find(|row| row[0] == name);
        let cells = row.unwrap_or_else(|| panic!("{name} in {rows:?}")).as_array().unwrap();
        let ratio = |cell: &Value| cell.as_str().unwrap().split(' ').next().unwrap().to_owned();
        cells[1..].iter().map(ratio).collect::<Vec<_>>()
    };
    for name in ["p50", "p99", "p99.9"] {
        assert_eq!(ratios(name), ["1.00", "2.50", "0.50"], "{name}");
    }
    assert_eq!(ratios("answers per second"), ["1.00"; 3]);
    assert_eq!(ratios("server's CPU per update"), ["1.00", "4.00", "–"]);
    assert_eq!(ratios("server's memory at its peak"), ["1.00", "0.25", "–"]);

    let mut other = report(60.0, 60);
    other["options"]["connections"] = 10.into();
    other["options"]["rate_per_s"] = 1.into();
    files.write("other.json", &other);
    let html = fs::read_to_string(files.page(&["a.json", "other.json"], &[])).unwrap();
    assert!(html.contains("The runs were not asked for the same: connections, rate per s."));
}

#[test]
fn a_server_that_was_sent_copies_is_to_be_doubted() {
    let files = Files::new();
    let page = |copies: u64, meant: u64| {
        let mut server = server_report();
        server["updates_duplicate"] = copies.into();
        files.write("server.json", &server);
        let mut run = report(60.0, 60);
        run["copies"]["planned"] = meant.into();
        files.write("run.json", &run);
        let server = files.at("server.json");
        fs::read_to_string(files.page(&["run.json"], &["--server", &server])).unwrap()
    };
    let warning = "the server has dropped 58950 of 60000 updates (98 %) as copies";
    assert!(page(60_000, 1000).contains(warning));
    for (copies, meant) in [(0, 0), (1000, 1000), (1500, 1000)] {
        assert!(!page(copies, meant).contains("as copies"), "{copies} {meant}");
    }
}

/// Ten million updates over a day, and an interval log of the server beside it.
#[test]
fn a_long_run_has_no_more_marks_than_there_is_room_for() {
    let files = Files::new();
    let mut long = report(50.0, 2000);
    for second in long["series"].as_array_mut().unwrap() {
        second["at_s"] = (second["at_s"].as_f64().unwrap() * 43.2).into();
    }
    for key in ["latency_us", "send_to_answer_us", "lateness_us"] {
        long[key] = latency(0.2, 10_000_000);
    }
    files.write("long.json", &long);
    let log = files.path("server.hlog");
    let mut log = IntervalLog::create(&log, "a test", SystemTime::now()).unwrap();
    let second = Duration::from_secs(1);
    for round in 0..100_u32 {
        let mut parse = Histogram::new_with_bounds(1, 1 << 40, 2).unwrap();
        parse.record_n(1000 + u64::from(round) * 10, 5).unwrap();
        let mut whole = parse.clone();
        whole.record(1 << (20 + round % 9)).unwrap();
        log.append(second * round, second, [("whole", &whole), ("parse", &parse)]).unwrap();
    }
    let Some(mut browser) = Browser::start() else { return };
    let page = files.page(&["long.json"], &["--server", &files.at("server.hlog")]);
    let found = look(&mut browser, &page);
    assert_eq!(lines(&found, "Latency by percentile"), 3);
    assert_eq!(lines(&found, "stages over time"), 2);
    // The sum of the intervals, in the order of an update's way.
    let rows = found["rows"].as_array().unwrap();
    let row = |name: &str| rows.iter().position(|row| row[0] == name).unwrap();
    assert!(row("parse") < row("whole"));
    assert_eq!((&rows[row("parse")][1], &rows[row("whole")][1]), (&"500".into(), &"600".into()));
}

#[test]
fn a_report_of_an_older_version_still_makes_a_page() {
    let Some(mut browser) = Browser::start() else { return };
    let files = Files::new();
    let mut old = report(120.0, 10);
    let keys = old.as_object_mut().unwrap();
    for key in ["series", "machine", "command", "plan", "expectations", "rate_asked_per_s"] {
        keys.remove(key).unwrap();
    }
    for key in ["latency_us", "send_to_answer_us", "lateness_us", "handshake_us"] {
        keys[key].as_object_mut().unwrap().remove("curve").unwrap();
    }
    files.write("old.json", &old);
    let found = look(&mut browser, &files.page(&["old.json"], &[]));
    assert_eq!(lines(&found, "Latency by percentile"), 3);
    let found = look(&mut browser, &files.page(&["old.json", "a.json"], &[]));
    assert_eq!(lines(&found, "Latency by percentile"), 2);
    files.write("empty.json", &json!({}));
    look(&mut browser, &files.page(&["empty.json"], &[]));
}

/// From end to end: what `--profile` leaves is what the page is made of.
#[test]
fn a_profile_makes_a_page() {
    let server = Server::plain(|_| Reply::Write(OK));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let files = Files::new();
    let profile = files.at("profile");
    let run = ["--target", &target, "--rate", "200", "--duration", "1200ms", "--quiet"];
    succeed(&[&run[..], &["--profile", &profile]].concat());
    let page = files.page(&["profile"], &[]);
    let Some(mut browser) = Browser::start() else { return };
    let found = look(&mut browser, &page);
    assert!(lines(&found, "Latency by percentile") >= 2);
    assert!(found["text"].as_str().unwrap().contains(&target));
}

#[test]
fn the_file_stands_by_itself_and_so_does_each_picture() {
    let files = Files::new();
    let server = files.at("server.json");
    let pictures = files.at("svg");
    let page = files.page(&["a.json"], &["--server", &server, "--svg", &pictures, "--label", EVIL]);
    let html = fs::read_to_string(page).unwrap();
    assert!(html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    for part in ["<script", "<img", "<link", "url(", "@import", "onload"] {
        assert!(!html.contains(part), "{part}");
    }
    assert!(html.contains("&lt;script&gt;"));
    let mut names: Vec<_> = fs::read_dir(&pictures)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["latency.svg", "percentiles.svg", "stages.svg", "statuses.svg", "throughput.svg"]
    );
    for name in names {
        let svg = fs::read_to_string(files.path("svg").join(&name)).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(svg.contains("prefers-color-scheme:dark"), "{name}");
        // Every tag is closed, in its order.
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{svg}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split_whitespace().next().unwrap()),
            }
        }
        assert_eq!(open, Vec::<&str>::new(), "{name}");
    }
}

/// The rest of a second at the end of a run, with one slow answer in it.
#[test]
fn a_run_that_ends_within_a_second_has_no_peak_there() {
    let files = Files::new();
    let of = |pictures: &str| {
        let page = files.at("page.html");
        let pictures = files.at(pictures);
        succeed(&["report", &files.at("run.json"), "-o", &page, "--svg", &pictures]);
        ["latency.svg", "throughput.svg"].map(|name| {
            let svg = fs::read_to_string(Path::new(&pictures).join(name)).unwrap();
            let paths = svg.split("<path class=\"line c").skip(1);
            // Those of the legend have no corners.
            let corners = paths.map(|path| path.matches('L').count()).filter(|count| *count > 0);
            corners.collect::<Vec<_>>()
        })
    };
    let mut run = report(100.0, 10);
    files.write("run.json", &run);
    let whole = of("whole");
    assert_eq!(whole[0], [9; 4], "ten seconds");
    let mut rest = run["series"][9].clone();
    rest["at_s"] = 10.02.into();
    rest["acknowledged"] = 1.into();
    rest["p50"] = 1e6.into();
    run["series"].as_array_mut().unwrap().push(rest.clone());
    files.write("run.json", &run);
    assert_eq!(of("short"), whole);
    rest["at_s"] = 10.5.into();
    run["series"][10] = rest;
    files.write("run.json", &run);
    assert_eq!(of("half")[0], [10; 4], "half a second is one of its own");
}

#[test]
fn what_cannot_be_read_or_written_is_named() {
    let files = Files::new();
    fs::write(files.path("no.json"), "{").unwrap();
    fs::write(files.path("no.hlog"), "nonsense\n").unwrap();
    let (page, a) = (files.at("page.html"), files.at("a.json"));
    for (arguments, part) in [
        (vec!["/nonexistent.json", "-o", &page], "cannot read /nonexistent.json: No such file"),
        (vec![&files.at("no.json"), "-o", &page], "no.json: EOF"),
        (vec![&a, "-o", &page, "--server", &files.at("no.hlog")], "no line of an interval log"),
        (vec![&a, "-o", "/nonexistent/x.html"], "cannot write /nonexistent/x.html"),
        (vec![&a, "-o", &page, "--label", "a", "--label", "b"], "more labels or servers than runs"),
        (vec![&a], "--output"),
    ] {
        let output = loadtest(&[&["report"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}
