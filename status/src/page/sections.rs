//! State, traffic, latency, journal, threads and config.

use std::time::Duration;

use maud::{Markup, html};
use pagecharts::{
    chart::{Picture, Size},
    scale::{digits, duration, grouped},
};
use ringhook::{Report, ServerView, Stage};

use super::{
    charts,
    words::{ago, bytes, percent},
};
use crate::{
    Program,
    history::{History, Totals},
    threads::Threads,
};

/// Threads that are listed.
const THREADS: usize = 32;
/// Bytes of the config that are shown.
const CONFIG_MAX: usize = 32 * 1024;

/// The page's title: what is wrong comes first, since a tab shows little of it.
pub(super) fn title(server: &ServerView) -> &'static str {
    match (server.obstacles().is_empty(), server.asides().is_empty()) {
        (true, true) => "ringhook: ok",
        (true, false) => "degraded: ringhook",
        (false, _) => "no updates taken: ringhook",
    }
}

/// Whether updates are taken, and what is wrong.
pub(super) fn state(server: &ServerView) -> Markup {
    let (obstacles, asides) = (server.obstacles(), server.asides());
    html! {
        section.state aria-label="State" {
            @match (obstacles.is_empty(), asides.is_empty()) {
                (true, true) => p { span.ok { "✓ Updates are taken." } },
                (true, false) => p { span.ok { "✓ Updates are taken." } " Degraded:" },
                (false, _) => p { span.broken { "✗ No updates are taken:" } },
            }
            @if !obstacles.is_empty() || !asides.is_empty() {
                ul { @for line in obstacles.iter().chain(&asides) { li { (line) } } }
            }
        }
    }
}

/// The figures that people look for first.
pub(super) fn tiles(history: &History, report: &Report, lag: Duration) -> Markup {
    let now = history.now();
    let rate = |pick: fn(&crate::history::Point) -> f64| {
        now.map_or("–".to_owned(), |point| digits(pick(point)))
    };
    let latency = |stage, pick: fn((f64, f64)) -> f64| {
        let at = now.and_then(|point| point.stage(stage)).map(pick);
        at.map_or("–".to_owned(), duration)
    };
    let tiles = [
        ("updates per second", rate(|it| it.updates_per_s)),
        ("requests per second", rate(|it| it.requests_per_s)),
        ("refused requests per second", rate(|it| it.refused_per_s)),
        ("failed updates per second", rate(|it| it.failed_per_s)),
        ("answered within, p50", latency(Stage::Answer, |(p50, _)| p50)),
        ("answered within, p99", latency(Stage::Answer, |(_, p99)| p99)),
        ("handled within, p99", latency(Stage::Whole, |(_, p99)| p99)),
        ("updates that wait", grouped(Totals::new(report).waiting)),
        ("age of the oldest, at least", ago(lag)),
        ("of one CPU", now.map_or("–".to_owned(), |point| percent(point.cpu))),
    ];
    html! {
        section.plain aria-labelledby="now" {
            h2 #now { "Now" }
            p.sub { "The last 5 s." }
            div.tiles {
                @for (name, value) in tiles { div.tile { b { (value) } span { (name) } } }
            }
        }
    }
}

/// The last hour, and the sums since the start.
pub(super) fn traffic(history: &History, report: &Report) -> Markup {
    let pictures = [charts::traffic(history), charts::waiting(history), charts::cpu(history)];
    section(
        "Traffic over the last hour",
        "One point for each 5 s; peaks are kept.",
        &html! {
            (all(&pictures))
            @if pictures.iter().all(Option::is_none) { p.sub { "Nothing is known yet." } }
            h3 { "Since the start" }
            dl { @for (name, count) in sums(report) { dt { (name) } dd { (grouped(count)) } } }
        },
    )
}

/// What was counted since the start.
fn sums(report: &Report) -> [(&'static str, u64); 9] {
    let totals = Totals::new(report);
    [
        ("requests", totals.requests),
        ("of these, not answered with 200", totals.refused),
        ("of these, without the right secret", report.requests_forbidden_by.values().sum()),
        ("updates", totals.updates),
        ("of these, answered 503", report.updates_refused.values().sum()),
        ("of these, duplicates", report.updates_duplicate),
        ("updates handled, by all outputs", report.updates_handled),
        ("updates that failed", totals.failed),
        ("connections", report.connections_accepted),
    ]
}

/// Percentiles.
pub(super) fn latency(history: &History, report: &Report) -> Markup {
    let pictures = [charts::latency(history), charts::stages(history), charts::ranges(report)];
    let columns = ["stage", "count", "p50", "p90", "p99", "p99.9", "max"];
    section(
        "Latency",
        "",
        &html! {
            (all(&pictures))
            @if report.latency_us.is_empty() { p.sub { "Nothing has come yet." } }
            @else {
                div.scroll tabindex="0" role="region" aria-label="Latency in numbers" {
                    table.numbers {
                        caption { "Each stage since the start" }
                        thead { tr { @for name in columns { th scope="col" { (name) } } } }
                        tbody {
                            @for (stage, at) in &report.latency_us {
                                tr {
                                    th scope="row" { (stage.as_str()) }
                                    td { (grouped(at.count)) }
                                    @for us in [at.p50, at.p90, at.p99, at.p999, at.max] {
                                        td { (duration(us)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// The journal, whose records may have `max_bytes`.
pub(super) fn journal(report: &Report, max_bytes: u64) -> Markup {
    let Some(journal) = &report.journal else {
        return section("Journal", "There is none: updates are kept in memory only.", &html! {});
    };
    let mut facts = vec![
        ("a 200 promises", journal.ack.clone()),
        ("not settled", format!("{} update(s)", grouped(journal.lag_records))),
        ("their size", bytes(journal.lag_bytes)),
        ("size", format!("{} of at most {}", bytes(journal.bytes), bytes(max_bytes))),
        ("segments", grouped(journal.segments as u64)),
        ("written", format!("{} update(s)", grouped(journal.appended_records))),
    ];
    if let Some(commit) = &journal.commit_us {
        facts.push((
            "commits",
            format!("p50 {}, p99 {}", duration(commit.p50), duration(commit.p99)),
        ));
    }
    let asides = [
        ("failed writes", journal.failed_batches),
        ("left in it, since the queues were full", journal.left_records),
        ("read back", journal.read_back_records),
        ("of bots that are not configured", journal.orphaned_records),
        ("corrupt", journal.corrupt_records),
    ];
    let asides = asides.into_iter().filter(|(_, count)| *count > 0);
    facts.extend(asides.map(|(name, count)| (name, grouped(count))));
    facts.extend(journal.failures.iter().map(|(what, count)| (what.as_str(), grouped(*count))));
    section(
        "Journal",
        "",
        &html! {
            dl { @for (name, value) in facts { dt { (name) } dd { (value) } } }
        },
    )
}

/// The threads of the process.
pub(super) fn threads(report: &Report, threads: &Threads) -> Markup {
    let list = |cpus: &[usize]| {
        let mut cpus = cpus.to_vec();
        cpus.dedup();
        match cpus.is_empty() {
            true => "–".to_owned(),
            false => cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    };
    let all = threads.uses();
    section(
        "Threads and CPUs",
        "",
        &html! {
            dl {
                dt { "CPUs of the shards" } dd { (list(&report.shard_cpus)) }
                dt { "CPUs of the workers" } dd { (list(&report.worker_cpus)) }
                @if let Some(peak) = report.memory_peak_bytes {
                    dt { "memory at its peak" } dd { (bytes(peak)) }
                }
            }
            @if !all.is_empty() {
                div.scroll tabindex="0" role="region" aria-label="Threads" {
                    table.numbers {
                        caption { "Over the last 5 s, the busiest first" }
                        thead { tr {
                            th scope="col" { "thread" }
                            th scope="col" { "of one CPU" }
                            th scope="col" { "last on CPU" }
                        } }
                        tbody {
                            @for it in all.iter().take(THREADS) {
                                tr {
                                    th scope="row" { (it.name) }
                                    td { (percent(it.share)) }
                                    td { (it.cpu) }
                                }
                            }
                        }
                    }
                }
                (more(all.len(), THREADS))
            }
        },
    )
}

/// The settings in force.
pub(super) fn config(program: &dyn Program) -> Markup {
    let config = program.config();
    let Some(config) = config else { return html! {} };
    let mut end = config.text.len().min(CONFIG_MAX);
    while !config.text.is_char_boundary(end) {
        end -= 1;
    }
    let (shown, left) = config.text.split_at(end);
    section(
        "Config",
        "As it was read last. Secrets are hidden.",
        &html! {
            @if !config.pending.is_empty() {
                p.warn { "In force after a restart only: " (config.pending.join(", ")) "." }
            }
            details {
                summary { "Settings" }
                pre { (shown) }
                @if !left.is_empty() {
                    p.sub { "And " (bytes(left.len() as u64)) " more: " code { "ringhook serve --print-config" } }
                }
            }
        },
    )
}

/// A part of the page.
pub(super) fn section(title: &str, text: &str, content: &Markup) -> Markup {
    html! {
        section {
            h2 { (title) }
            @if !text.is_empty() { p.sub { (text) } }
            (content)
        }
    }
}

/// How many rows of a list are not there.
pub(super) fn more(count: usize, shown: usize) -> Markup {
    html! {
        @if count > shown { p.sub { "And " (grouped((count - shown) as u64)) " more." } }
    }
}

/// Pictures with their headings, for wide screens and for narrow ones.
fn all(pictures: &[Option<Picture>]) -> Markup {
    html! {
        @for picture in pictures.iter().flatten() {
            h3 { (picture.title) }
            (picture.svg(Size::Wide)) (picture.svg(Size::Narrow))
        }
    }
}
