//! `/metrics` of a server under load, as Prometheus and other parsers read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    binary::service::Service,
    support::{
        PATH, SECRET,
        external::{program, skip, talk},
        port::Port,
        probe::ask_with,
        request_to, update, wait_until,
    },
};

pub(super) fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name)
}

/// A service whose admin listener has this port.
fn service(output: &str) -> (Service, Port) {
    let port = Port::reserve();
    let config = format!("[admin]\nlisten = '{}'\n", port.addr);
    (Service::new(&config, &["--output", output]), port)
}

/// A scrape in the form `accept`.
fn scrape(addr: SocketAddr, accept: &str) -> String {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    let (line, _, body) = ask_with(addr, request.as_bytes()).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK");
    body
}

/// All series and their values.
pub(super) fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn values_are_those_of_the_report_and_parsers_take_both_forms() {
    let (service, port) = service("ndjson:out");
    let server = service.start();
    let addr = port.addr;
    service.load(500).send();
    let mut client = service.connect();
    client.send(&request_to(PATH, "wrong", &update(1)));
    assert_eq!(client.response().status, 403);
    drop(client);
    let value = |name: &str| series(&scrape(addr, ""))[name];
    wait_until("all is settled and closed", || {
        value("ringhook_unsettled_updates") == 0.0 && value("ringhook_connections_open") == 0.0
    });
    let (text, open) = (scrape(addr, "text/plain"), scrape(addr, "application/openmetrics-text"));
    for text in [&text, &open] {
        assert!(!text.contains(SECRET) && !text.contains(PATH), "{text}");
    }
    // promtool reads Prometheus' own form only.
    if let Some(mut promtool) = program("promtool") {
        let said = talk(promtool.args(["check", "metrics"]), text.as_bytes());
        assert!(said.status.success() && said.stderr.is_empty(), "{}{}", said.stdout, said.stderr);
    }
    let python = std::env::var("RINGHOOK_TEST_PYTHON").unwrap_or("python3".to_owned());
    let parse = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as new\n\
        from prometheus_client.parser import text_string_to_metric_families as old\n\
        parse = new if sys.argv[1] == 'new' else old\n\
        print(sum(len(family.samples) for family in parse(sys.stdin.read())))\n";
    let imports = Command::new(&python).args(["-c", "import prometheus_client"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        for (form, text) in [("old", &text), ("new", &open)] {
            let said = talk(Command::new(&python).args(["-c", parse, form]), text.as_bytes());
            assert!(said.status.success(), "{}", said.stderr);
            assert_eq!(said.stdout.trim(), series(text).len().to_string());
        }
    } else {
        skip("prometheus_client", "not installed for Python");
    }

    let scraped = series(&open);
    assert!(server.terminate().status.success());
    let report = service.report();
    let of = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    for (name, pointer) in [
        ("connections_accepted_total", "/connections_accepted"),
        ("handshakes_total{kind=\"full\"}", "/handshakes_full"),
        ("handshakes_total{kind=\"resumed\"}", "/handshakes_resumed"),
        ("journal_records_total", "/journal/appended_records"),
        ("journal_written_bytes_total", "/journal/appended_bytes"),
        ("requests_forbidden_total{reason=\"credentials\"}", "/requests_forbidden_by/credentials"),
        ("requests_total{status=\"200\"}", "/updates_acknowledged"),
        ("requests_total{status=\"403\"}", "/requests_rejected/403"),
        ("updates_duplicate_total", "/updates_duplicate"),
        ("updates_handled_total", "/updates_handled"),
        ("updates_received_total{source=\"wire\"}", "/updates_received"),
        ("stage_duration_seconds_count{stage=\"answer\"}", "/latency_us/answer/count"),
        ("stage_duration_seconds_count{stage=\"commit\"}", "/latency_us/commit/count"),
        ("stage_duration_seconds_count{stage=\"whole\"}", "/latency_us/whole/count"),
    ] {
        assert_eq!(scraped[&format!("ringhook_{name}")], of(pointer), "{name}");
    }
    assert!(of("/updates_acknowledged") >= 500.0 && of("/updates_duplicate") > 0.0);
    assert_eq!(of("/requests_rejected/403"), 1.0);
}

/// The names of series in `text` that begin with `ringhook_` or `process_`.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let words = text.split(|letter| !is_part(letter)).map(str::to_owned);
    words.filter(|it| it.starts_with("ringhook_") || it.starts_with("process_")).collect()
}

#[test]
fn what_rules_dashboard_and_runbooks_name_exists() {
    let (service, port) = service("null");
    let server = service.start();
    let text = scrape(port.addr, "");
    let mut known = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        known.insert(name.to_owned());
        if kind == "histogram" {
            known.extend(["bucket", "count", "sum"].map(|it| format!("{name}_{it}")));
        }
    }
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let rules = read(&contrib("prometheus/rules.yml"));
    let dashboard = read(&contrib("grafana/ringhook.json"));
    let alerts = read(&contrib("../docs/operations/alerts.md"));
    for (file, text) in [("rules", &rules), ("dashboard", &dashboard), ("runbooks", &alerts)] {
        let named = named(text);
        assert!(named.len() > 5, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let recorded: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    for text in [&rules, &dashboard] {
        for (at, _) in text.match_indices("ringhook:") {
            let end = |letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter));
            let name = text[at..].split(end).next().unwrap();
            assert!(recorded.contains(name), "{name}");
        }
    }

    // Each alert has its section, and each section its alert.
    let names: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let sections: BTreeSet<_> =
        alerts.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(names, sections);
    for name in &names {
        let link = format!("runbook_url: docs/operations/alerts.md#{}\n", name.to_lowercase());
        assert_eq!(rules.matches(&link).count(), 1, "{name}");
    }

    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty());
            assert!(!panel["targets"].as_array().unwrap().is_empty());
        }
    }
    assert!(server.terminate().status.success());
}
