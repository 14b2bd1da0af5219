//! `/metrics` of a server in this process: the documented families, the bound on series, the cost.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use ringhook::{Bot, Outcome, Server, ServerBuilder, Update};
use ringhook_outputs::forward::ForwardStatus;
use ringhook_status::{BOTS_MAX, Program, Status};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

struct Quiet;

impl Program for Quiet {
    fn config(&self) -> Option<std::sync::Arc<ringhook_status::ShownConfig>> {
        None
    }

    fn meaning(&self, _: &str) -> Option<ringhook_status::Meaning> {
        None
    }

    fn stderr_lines_dropped(&self) -> u64 {
        7
    }

    fn forwards(&self) -> Vec<(String, ForwardStatus)> {
        Vec::new()
    }
}

fn start(bots: usize) -> Server {
    let bots = (0..bots).map(|n| Bot::without_secret(&format!("bot{n}"), &format!("/secret{n}")));
    let server = Server::builder().without_listeners().admin("127.0.0.1:0".parse().unwrap());
    let server = bots.fold(server, ServerBuilder::bot).admin_pages(Status::new("1.2.3", Quiet));
    server.handler(|_: &Update| Outcome::Done).start().unwrap()
}

/// Status line with fields, and body.
fn get(server: &Server, accept: &str) -> (String, String) {
    let mut client = TcpStream::connect(server.admin_addr().unwrap()).unwrap();
    write!(client, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Families by name: type and help.
fn families(text: &str) -> BTreeMap<&str, (&str, &str)> {
    let mut helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let (helped, help) = helps.next().unwrap().split_once(' ').unwrap();
            assert_eq!(name, helped);
            (name, (kind, help))
        })
        .collect()
}

fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} in {text}")).parse().unwrap()
}

fn deliver(server: &Server, bot: usize, ids: std::ops::Range<u32>) {
    let updates = ids.map(|id| format!(r#"{{"update_id":{id},"message":{{"chat":{{"id":1}}}}}}"#));
    let updates: Vec<_> = updates.collect();
    assert_eq!(server.deliver(&format!("bot{bot}"), &updates), Ok(updates.len()));
}

#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn both_forms_say_the_same_each_by_its_rules() {
    let server = start(2);
    deliver(&server, 0, 1..4);
    deliver(&server, 1, 1..2);
    wait_until(|| server.report().updates_handled == 4);
    let (head, text) = get(&server, "*/*");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let (head, open) = get(&server, OPEN_METRICS);
    let kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(head.contains(kind), "{head}");

    assert!(open.ends_with("# EOF\n") && !text.contains("# EOF") && !text.contains("# UNIT"));
    assert!(open.contains("# UNIT ringhook_stage_duration_seconds seconds\n"));
    let (old, new) = (families(&text), families(&open));
    for (name, (kind, help)) in &new {
        let plain = match *kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => (*name).to_owned(),
        };
        let kind = if *kind == "info" { "gauge" } else { kind };
        assert_eq!(old.get(&*plain), Some(&(kind, *help)), "{name}");
        let is_ours = name.starts_with("ringhook_") || name.starts_with("process_");
        assert!(is_ours && !help.is_empty() && !help.ends_with('.'), "{name}");
    }
    assert_eq!(old.len(), new.len());
    // The order of labels does not matter, nor how the number of a bound is written.
    let name = |line: &str| {
        let (name, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels = labels.trim_end_matches('}').split(',').map(|label| {
            let bound =
                label.strip_prefix("le=").and_then(|it| it.trim_matches('"').parse::<f64>().ok());
            bound.map_or_else(|| label.to_owned(), |bound| format!("le={bound}"))
        });
        let labels: BTreeSet<_> = labels.collect();
        format!("{name} {labels:?}")
    };
    let names = |text| series(text).into_iter().map(name);
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (names(&text).collect(), names(&open).collect());
    let differing: Vec<_> = one.symmetric_difference(&other).collect();
    assert!(differing.is_empty(), "{differing:?}");
    assert_eq!(one.len(), series(&text).len(), "no series twice");

    for (series, expected) in [
        ("ringhook_bot_deliveries_total{bot=\"bot0\"}", 3.0),
        ("ringhook_bot_deliveries_total{bot=\"bot1\"}", 1.0),
        ("ringhook_bot_failures_total{bot=\"bot1\"}", 0.0),
        ("ringhook_bots", 2.0),
        ("ringhook_build_info{version=\"1.2.3\",driver=\"io_uring\"}", 1.0),
        ("ringhook_deliveries_total{kind=\"message\"}", 4.0),
        ("ringhook_deliveries_total{kind=\"poll\"}", 0.0),
        ("ringhook_log_lines_dropped_total", 7.0),
        ("ringhook_output_handled_total{output=\"handler\"}", 4.0),
        ("ringhook_output_up{output=\"handler\"}", 1.0),
        ("ringhook_ready", 1.0),
        ("ringhook_stage_duration_seconds_count{stage=\"whole\"}", 4.0),
        ("ringhook_stage_duration_seconds_bucket{le=\"+Inf\",stage=\"whole\"}", 4.0),
        ("ringhook_unsettled_updates", 0.0),
        ("ringhook_updates_received_total{source=\"program\"}", 4.0),
    ] {
        assert_eq!(value(&open, series), expected, "{series}");
    }
    let start = value(&text, "process_start_time_seconds");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((0.0..600.0).contains(&(now - start)), "{start} {now}");
    assert!(value(&text, "process_open_fds") > 3.0);
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    assert!(!text.contains("secret"), "a path");
    server.stop();
}

#[test]
fn histograms_never_fall_from_bucket_to_bucket() {
    let server = start(1);
    deliver(&server, 0, 1..500);
    wait_until(|| server.report().updates_handled == 499);
    let (_, text) = get(&server, "");
    let mut last: (String, f64) = Default::default();
    let mut compared = 0;
    for line in series(&text) {
        let Some(rest) = line.strip_prefix("ringhook_stage_duration_seconds_bucket{") else {
            continue;
        };
        let (labels, count) = rest.rsplit_once(' ').unwrap();
        let stage = labels.split("stage=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let count: f64 = count.parse().unwrap();
        assert!(stage != last.0 || count >= last.1, "{line}");
        compared += u32::from(stage == last.0);
        last = (stage, count);
    }
    assert_eq!(compared, 11 * 17);
    let sum = value(&text, "ringhook_stage_duration_seconds_sum{stage=\"whole\"}");
    let whole = server.report().latency(ringhook::Stage::Whole).unwrap();
    assert!(sum > 0.0 && sum <= whole.max * 499.0 / 1e6 * 1.01);
    server.stop();
}

#[test]
fn two_thousand_bots_have_a_bounded_number_of_series() {
    let few = start(1);
    let many = start(2_000);
    for bot in [0, 199, 200, 1_999] {
        deliver(&many, bot, 1..3);
    }
    wait_until(|| many.report().updates_handled == 8);
    let ((_, few_text), (_, text)) = (get(&few, ""), get(&many, ""));
    let by_bot = series(&text).iter().filter(|line| line.contains("bot=\"")).count();
    // Two families of counters; nothing is known of webhooks here.
    assert_eq!(by_bot, 2 * (BOTS_MAX + 1));
    assert_eq!(value(&text, "ringhook_bot_deliveries_total{bot=\"bot199\"}"), 2.0);
    assert_eq!(value(&text, "ringhook_bot_deliveries_total{bot=\"other\"}"), 4.0);
    assert_eq!(series(&text).len() - by_bot, series(&few_text).len() - 2);
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let start = Instant::now();
            get(&many, OPEN_METRICS);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "2,000 bots: {} series, {} KiB, median {:?}, worst {:?}",
        series(&text).len(),
        text.len() / 1024,
        times[10],
        times[20]
    );
    few.stop();
    many.stop();
}

/// The table of the documents is what a scrape says. `RINGHOOK_BLESS=1` renews it.
#[test]
fn the_documents_name_every_family() {
    const MARK: &str = "<!-- families, renewed by a test -->\n";
    let server = start(1);
    let (_, text) = get(&server, "");
    let mut table = String::from("| metric | type | what |\n|---|---|---|\n");
    for (name, (kind, help)) in families(&text) {
        writeln!(table, "| `{name}` | {kind} | {help} |").unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations/metrics.md");
    let document = fs::read_to_string(&file).unwrap();
    let (before, rest) = document.split_once(MARK).unwrap();
    let (old, after) = rest.split_once(MARK).unwrap();
    let old = old.trim();
    if std::env::var_os("RINGHOOK_BLESS").is_some() {
        fs::write(&file, format!("{before}{MARK}\n{table}\n{MARK}{after}")).unwrap();
    } else {
        assert_eq!(old, table.trim(), "RINGHOOK_BLESS=1 renews {}", file.display());
    }
    server.stop();
}
