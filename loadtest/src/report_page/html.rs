//! The page around charts and tables.

use maud::{DOCTYPE, Markup, PreEscaped, Render as _, html};
use pagecharts::{CHART_STYLE, PAGE_STYLE, POLICY};
use serde_json::Value;

use super::{
    bars,
    chart::{Picture, Size},
    charts,
    input::Run,
    scale::{bytes, digits, duration, grouped},
    tables,
};

/// All pictures of the runs.
pub(super) fn pictures(runs: &[Run]) -> Vec<Picture> {
    let mut pictures: Vec<Picture> = charts::percentiles(runs).into_iter().collect();
    pictures.extend(charts::over_time(runs));
    pictures.extend(charts::throughput(runs));
    pictures.extend(bars::statuses(runs));
    pictures.extend(bars::stages(runs));
    pictures.extend(charts::stages_over_time(runs));
    pictures
}

pub(super) fn page(runs: &[Run]) -> Markup {
    let title = title(runs);
    let is_named = runs.len() > 1;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(CHART_STYLE)) (PreEscaped(PAGE_STYLE)) }
            }
            body {
                main {
                    header { h1 { (title) } (subtitle(runs)) }
                    @match runs {
                        [run] => (tiles(run)),
                        runs => (section(
                            "How they compare",
                            "The first run is 1.00.",
                            &tables::ratios(runs),
                        )),
                    }
                    (warnings(runs))
                    (expectations(runs))
                    (latencies(runs))
                    (answers(runs))
                    (stages(runs))
                    (section("How it was run", "", &html! {
                        @for run in runs { (how(run, is_named)) }
                    }))
                    footer {
                        "Made by " code { "loadtest report" }
                        ". This file needs no network and runs no script."
                    }
                }
            }
        }
    }
}

/// Latency by percentile and over time.
fn latencies(runs: &[Run]) -> Markup {
    let by_percentile = "Counted from when each request was due, so that a server that stalls \
                         cannot hide it by holding up the sender. Both axes are logarithmic: each \
                         step to the right is a rarer kind of slow.";
    let over_time = "Of the answers of each second, from due time.";
    let details = html! {
        @for run in runs.iter().filter(|run| !run.series.is_empty()) { (over_time_details(run)) }
    };
    html! {
        @if let Some(chart) = charts::percentiles(runs) {
            (section(&chart.title, by_percentile, &html! {
                (both(&chart)) (tables::percentiles(runs))
            }))
        }
        @match charts::over_time(runs).as_slice() {
            [] => {},
            [chart] => (section(&chart.title, over_time, &html! { (both(chart)) (details) })),
            charts => (section("Latency over time", over_time, &html! {
                div.pair {
                    @for chart in charts {
                        div { h3 { (chart.title) } (chart.svg(Size::Narrow)) }
                    }
                }
                (details)
            })),
        }
    }
}

/// How many answers there were, which, and what else came.
fn answers(runs: &[Run]) -> Markup {
    let asides = html! { @for run in runs { (asides(run, runs.len() > 1)) } };
    html! {
        @if let Some(chart) = charts::throughput(runs) {
            (section(&chart.title, "Answers of 2xx in each second.", &both(&chart)))
        }
        @if let Some(chart) = bars::statuses(runs) {
            (section(&chart.title, "", &html! { (both(&chart)) (tables::statuses(runs)) }))
        }
        @if !asides.0.is_empty() { (section("What else came of it", "", &asides)) }
    }
}

/// What the servers say.
fn stages(runs: &[Run]) -> Markup {
    let text = "What the server says itself of an update's way; the time axis is logarithmic.";
    html! {
        @if let Some(chart) = bars::stages(runs) {
            (section(&chart.title, text, &html! {
                (both(&chart)) (tables::stages(runs))
                @for slow in runs.iter().filter_map(tables::slow) { (slow) }
            }))
        }
        @for chart in charts::stages_over_time(runs) {
            (section(&chart.title, "From the server's interval log.", &both(&chart)))
        }
    }
}

/// A picture for wide screens and for narrow ones.
fn both(picture: &Picture) -> Markup {
    html! { (picture.svg(Size::Wide)) (picture.svg(Size::Narrow)) }
}

fn section(title: &str, text: &str, content: &Markup) -> Markup {
    html! {
        section {
            h2 { (title) }
            @if !text.is_empty() { p.sub { (text) } }
            (content)
        }
    }
}

fn title(runs: &[Run]) -> String {
    match runs {
        [run] => match &run.plan {
            Some(plan) => format!("Load test: {}", plan.name),
            None => format!("Load test: {}", run.label),
        },
        runs => runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>().join(" · "),
    }
}

fn subtitle(runs: &[Run]) -> Markup {
    let Some(run) = runs.first() else { return html! {} };
    let mut parts = Vec::new();
    if let Some(target) = run.options.get("target").and_then(Value::as_str) {
        parts.push(target.to_owned());
    }
    if let Some(connections) = run.options.get("connections").and_then(Value::as_u64) {
        parts.push(format!("{} connections", grouped(connections)));
    }
    parts.push(match run.rate_asked_per_s.or_else(|| run.options.get("rate_per_s")?.as_f64()) {
        Some(rate) => format!("{} updates a second asked", grouped(rate.round() as u64)),
        None => "as fast as it goes".to_owned(),
    });
    parts.push(format!("{} s", digits(run.duration_s)));
    if !run.started_at.is_empty() {
        parts.push(run.started_at.chars().take(16).collect::<String>().replace('T', " ") + " UTC");
    }
    let about = run.plan.as_ref().filter(|_| runs.len() == 1).map(|plan| plan.about.as_str());
    let about = about.filter(|about| !about.is_empty());
    html! {
        @if let Some(about) = about { p { (about) } }
        p.sub { (parts.join(" · ")) }
    }
}

/// The figures that people look for first.
fn tiles(run: &Run) -> Markup {
    let latency = &run.latency_us;
    let lost = run.planned.saturating_sub(run.acknowledged);
    let mut tiles = vec![
        ("p50".to_owned(), duration(latency.p50)),
        ("p99".to_owned(), duration(latency.p99)),
        ("p99.9".to_owned(), duration(latency.p999)),
        ("slowest".to_owned(), duration(latency.max)),
        ("answers per second".to_owned(), grouped(run.rate_per_s.round() as u64)),
        (format!("lost of {}", grouped(run.planned)), grouped(lost)),
    ];
    if let Some(us) = run.server_cpu_us() {
        tiles.push(("server's CPU per update".to_owned(), duration(us)));
    }
    if let Some(peak) = run.server_memory_peak() {
        tiles.push(("server's memory at its peak".to_owned(), bytes(peak)));
    }
    html! {
        div.tiles {
            @for (name, value) in tiles { div.tile { b { (value) } span { (name) } } }
        }
    }
}

/// The settings without which runs do not compare.
const LOAD: [&str; 9] = [
    "churn",
    "connections",
    "duplicates",
    "phases",
    "rate_per_s",
    "resume",
    "slow_peers",
    "time_scale",
    "tls",
];

/// Which of the settings are not the same in all runs.
fn differences(runs: &[Run]) -> Vec<String> {
    let of = |run: &Run, key: &str| run.options.get(key).cloned().unwrap_or_default();
    let differs = |key: &&str| {
        runs.windows(2).any(|pair| match pair {
            [a, b] => of(a, key) != of(b, key),
            _ => false,
        })
    };
    LOAD.into_iter().filter(differs).map(|key| key.replace('_', " ")).collect()
}

fn warnings(runs: &[Run]) -> Markup {
    let differences = differences(runs);
    let all = runs.iter().flat_map(|run| run.warnings.iter().map(move |text| (run, text)));
    html! {
        @if !differences.is_empty() {
            p.warn {
                b { "Be careful." }
                " The runs were not asked for the same: " (differences.join(", ")) "."
            }
        }
        @for (run, text) in all {
            p.warn {
                b { "Be careful." }
                " " @if runs.len() > 1 { (run.label) ": " } (text)
            }
        }
    }
}

fn expectations(runs: &[Run]) -> Markup {
    let mut rows = Vec::new();
    for run in runs {
        for it in &run.expectations {
            let verdict = match it.ok {
                true => html! { span.ok { "✓ holds" } },
                false => html! { span.broken { "✗ does not hold" } },
            };
            let mut row = Vec::new();
            if runs.len() > 1 {
                row.push(run.label.render());
            }
            row.extend([it.name.render(), it.bound.render(), it.value.render(), verdict]);
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return html! {};
    }
    let columns: &[&str] = match runs.len() {
        1 => &["", "expected", "found", ""],
        _ => &["run", "", "expected", "found", ""],
    };
    section("What was expected", "", &tables::table("", columns, &rows))
}

fn over_time_details(run: &Run) -> Markup {
    html! { details { summary { (run.label) " in numbers" } (tables::over_time(run)) } }
}

fn asides(run: &Run, is_named: bool) -> Markup {
    html! {
        @for (name, facts) in tables::asides(run) {
            h3 { @if is_named { (run.label) ": " } (name) }
            (definitions(&facts))
        }
    }
}

/// Names and what they stand for.
fn definitions(facts: &[(String, String)]) -> Markup {
    html! { dl { @for (name, value) in facts { dt { (name) } dd { (value) } } } }
}

/// Machine, command and everything that was asked for.
fn how(run: &Run, is_named: bool) -> Markup {
    let machine = &run.machine;
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push((name.to_owned(), value));
        }
    };
    if machine.cpus > 0 {
        fact(
            "machine",
            format!("{} × {}, {}", machine.cpus, machine.cpu, bytes(machine.memory_bytes)),
        );
    }
    fact("kernel", machine.kernel.clone());
    fact("generator's driver", run.driver.clone());
    if let Some(server) = &run.server {
        let threads = match (server.shards, server.workers) {
            (Some(shards), Some(workers)) => format!(", {shards} shards, {workers} workers"),
            _ => String::new(),
        };
        if !server.driver.is_empty() {
            fact("server", format!("{}{threads}", server.driver));
        }
        if let Some(cpu) = server.cpu_s {
            fact("server's CPU time", format!("{} s", digits(cpu)));
        }
    }
    if let Some(plan) = &run.plan {
        fact("plan", format!("{}: {}", plan.name, plan.about));
    }
    fact("started", run.started_at.clone());
    let cpu = (run.cpu_user_s + run.cpu_system_s, run.duration_s.max(1e-9));
    fact(
        "generator's CPU",
        format!(
            "{} of one CPU, {} for a request",
            percent(cpu.0 / cpu.1),
            duration(run.generator_cpu_us())
        ),
    );
    for (name, value) in &run.options {
        let value = match value {
            Value::Null | Value::Bool(false) => continue,
            Value::Array(list) if list.is_empty() => continue,
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        fact(&name.replace('_', " "), value);
    }
    let words: Vec<String> = run.command.iter().map(|word| quoted(word)).collect();
    html! {
        @if is_named { h3 { (run.label) } }
        @if !words.is_empty() { pre { (words.join(" ")) } }
        (definitions(&facts))
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
