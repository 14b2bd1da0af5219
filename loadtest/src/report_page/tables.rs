//! Tables beside the pictures.

use maud::{Markup, Render, html};
use serde_json::{Map, Value};

use super::{
    chart::Look,
    input::{Latency, Run, ServerSide},
    scale::{bytes, digits, duration, grouped},
};

/// Rows of a table over time; seconds are joined beyond it.
const ROWS: usize = 60;

/// A table: what it is of, the names of its columns, and rows of cells. The first cell of a row is
/// its name.
pub(super) fn table<C: Render>(caption: &str, columns: &[&str], rows: &[Vec<C>]) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table {
                @if !caption.is_empty() { caption { (caption) } }
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (cell) } }
                                @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The name of the run of number `index` with its line, as the charts have it.
fn named(runs: &[Run], index: usize) -> Markup {
    let name = runs.get(index).map_or("", |run| &run.label);
    html! {
        @if runs.len() > 1 {
            svg.swatch viewBox="0 0 26 8" aria-hidden="true" {
                path class=(Look::new(index).classes()) d="M1 4h24" {}
            }
        }
        (name)
    }
}

/// How the runs compare with the first one.
pub(super) fn ratios(runs: &[Run]) -> Markup {
    type Pick = fn(&Run) -> Option<f64>;
    let rows: [(&str, bool, Pick); 8] = [
        ("p50", false, |run| Some(run.latency_us.p50)),
        ("p99", false, |run| Some(run.latency_us.p99)),
        ("p99.9", false, |run| Some(run.latency_us.p999)),
        ("max", false, |run| Some(run.latency_us.max)),
        ("answers per second", true, |run| Some(run.rate_per_s)),
        ("server's CPU per update", false, Run::server_cpu_us),
        (PEAK, false, |run| run.server_memory_peak().map(|bytes| bytes as f64)),
        ("generator's CPU per request", false, |run| Some(run.generator_cpu_us())),
    ];
    let mut columns = vec![""];
    columns.extend(runs.iter().map(|run| run.label.as_str()));
    let rows: Vec<Vec<Markup>> = rows
        .into_iter()
        .filter_map(|(name, more_is_better, pick)| {
            let values: Vec<_> =
                runs.iter().map(|run| pick(run).filter(|value| *value > 0.0)).collect();
            values.iter().any(Option::is_some).then(|| {
                let first = values.first().copied().flatten();
                let cells = values.iter().map(|value| match (value, first) {
                    (None, _) => "–".render(),
                    (Some(value), None) => shown(name, *value).render(),
                    (Some(value), Some(first)) => {
                        // What the generator takes says nothing of the server.
                        let is_judged = !name.starts_with("generator");
                        ratio(value / first, more_is_better, is_judged, &shown(name, *value))
                    }
                });
                std::iter::once(name.render()).chain(cells).collect()
            })
        })
        .collect();
    table("ratios to the first run, and the figures", &columns, &rows)
}

const PEAK: &str = "server's memory at its peak";

fn shown(name: &str, value: f64) -> String {
    match name {
        "answers per second" => grouped(value as u64),
        PEAK => bytes(value as u64),
        _ => duration(value),
    }
}

fn ratio(ratio: f64, more_is_better: bool, is_judged: bool, figure: &str) -> Markup {
    // Less than five percent is within the noise of any machine.
    let class = match ratio {
        _ if !is_judged => "same",
        ratio if (0.95..=1.05).contains(&ratio) => "same",
        ratio if (ratio > 1.0) == more_is_better => "better",
        _ => "worse",
    };
    html! { span class=(class) { (format!("{ratio:.2}")) } " " span.sub { (figure) } }
}

/// The percentiles of each run: from due time, and from sending.
pub(super) fn percentiles(runs: &[Run]) -> Markup {
    let columns = ["", "min", "p50", "p90", "p99", "p99.9", "p99.99", "max", "count"];
    let cells = |name: Markup, latency: &Latency| {
        let at = |us: f64| duration(us).render();
        let p9999 = latency.at(0.9999).map_or_else(|| "–".render(), at);
        let Latency { min, p50, p90, p99, p999, max, count, .. } = *latency;
        vec![
            name,
            at(min),
            at(p50),
            at(p90),
            at(p99),
            at(p999),
            p9999,
            at(max),
            grouped(count).render(),
        ]
    };
    let mut rows = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let parts: [(&str, &Latency); 4] = [
            ("from due time to answer", &run.latency_us),
            ("from sending to answer", &run.send_to_answer_us),
            ("the generator's own lateness", &run.lateness_us),
            ("connecting, with the handshake", &run.handshake_us),
        ];
        for (part, (name, latency)) in parts.into_iter().enumerate() {
            if latency.count == 0 {
                continue;
            }
            let name = match (runs.len(), part) {
                (1, _) => name.render(),
                (_, 0) => named(runs, index),
                (_, 1) => html! { span.sub { (name) } },
                _ => continue,
            };
            rows.push(cells(name, latency));
        }
    }
    table("", &columns, &rows)
}

/// The run in numbers, in sixty rows at the most.
pub(super) fn over_time(run: &Run) -> Markup {
    let lot = run.series.len().div_ceil(ROWS).max(1);
    let columns =
        ["until", "due", "acknowledged", "refused", "no answer", "p50", "p99", "p99.9", "max"];
    let rows: Vec<Vec<String>> = run
        .series
        .chunks(lot)
        .map(|lot| {
            let sum = |pick: fn(&super::input::Second) -> u64| grouped(lot.iter().map(pick).sum());
            let worst = |pick: fn(&super::input::Second) -> f64| {
                duration(lot.iter().map(pick).fold(0.0, f64::max))
            };
            let until = lot.last().map_or(0.0, |second| second.at_s);
            vec![
                format!("{} s", digits(until)),
                sum(|second| second.due),
                sum(|second| second.acknowledged),
                sum(|second| second.refused),
                sum(|second| second.failed),
                worst(|second| second.p50),
                worst(|second| second.p99),
                worst(|second| second.p999),
                worst(|second| second.max),
            ]
        })
        .collect();
    let caption = match lot {
        1 => String::new(),
        lot => format!("{lot} seconds in each row; of their latencies the worst"),
    };
    table(&caption, &columns, &rows)
}

/// Answers by status, and requests without one.
pub(super) fn statuses(runs: &[Run]) -> Markup {
    let mut columns: Vec<String> = Vec::new();
    for run in runs {
        let failures = run.failures.iter().filter(|(_, count)| **count > 0).map(|(name, _)| name);
        for name in run.statuses.keys().chain(failures) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
    }
    let rows: Vec<Vec<Markup>> = runs
        .iter()
        .enumerate()
        .map(|(index, run)| {
            let counts = columns.iter().map(|name| {
                let count = run.statuses.get(name).or_else(|| run.failures.get(name));
                grouped(count.copied().unwrap_or(0)).render()
            });
            let name = if runs.len() > 1 { named(runs, index) } else { "answers".render() };
            std::iter::once(name).chain(counts).collect()
        })
        .collect();
    let names: Vec<String> = columns.iter().map(|name| name.replace('_', " ")).collect();
    let head: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    table("", &head, &rows)
}

/// The stages of the servers.
pub(super) fn stages(runs: &[Run]) -> Markup {
    let columns = ["", "count", "min", "p50", "p90", "p99", "p99.9", "max"];
    let of = |run: &Run, server: &ServerSide| {
        let rows: Vec<Vec<String>> = server
            .latency_us
            .iter()
            .map(|(stage, latency)| {
                let Latency { count, min, p50, p90, p99, p999, max, .. } = *latency;
                let times = [min, p50, p90, p99, p999, max].map(duration);
                [stage.clone(), grouped(count)].into_iter().chain(times).collect()
            })
            .collect();
        table(if runs.len() > 1 { &run.label } else { "" }, &columns, &rows)
    };
    html! {
        @for run in runs {
            @if let Some(server) = &run.server { (of(run, server)) }
        }
    }
}

/// What a run tells beside its requests, if anything: retries, copies, slow peers, and what
/// Telegram would say of the webhook.
pub(super) fn asides(run: &Run) -> Vec<(&'static str, Vec<(String, String)>)> {
    let lists = [
        ("Sent again", run.retries.as_ref()),
        ("Second copies", run.copies.as_ref()),
        ("Slow peers", run.slow_peers.as_ref()),
    ];
    let bots = run.telegram.iter().flatten();
    let bots = bots.map(|info| ("As getWebhookInfo would tell it", Some(info)));
    let all = lists.into_iter().chain(bots);
    let facts = all.filter_map(|(name, map)| Some((name, facts(map?))));
    facts.filter(|(_, facts)| !facts.is_empty()).collect()
}

/// The values of a map, as people read them; what is empty is left out.
fn facts(map: &Map<String, Value>) -> Vec<(String, String)> {
    let shown = |value: &Value| match value {
        Value::Null => None,
        Value::Number(number) => Some(number.as_u64().map_or_else(|| number.to_string(), grouped)),
        Value::String(text) => Some(text.clone()),
        Value::Bool(is_so) => Some(if *is_so { "yes" } else { "no" }.to_owned()),
        Value::Array(list) => {
            let parts: Vec<_> = list.iter().map(Value::to_string).collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        }
        Value::Object(map) => {
            let counts = map.iter().filter(|(_, count)| count.as_u64() != Some(0));
            let parts: Vec<_> = counts.map(|(name, count)| format!("{name}: {count}")).collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        }
    };
    let facts = map.iter().filter_map(|(name, value)| Some((name, shown(value)?)));
    facts.map(|(name, value)| (name.replace('_', " "), value)).collect()
}

/// Requests that are shown of those that a server has named as slow.
const SLOWEST: usize = 10;

/// The slowest requests of a server.
pub(super) fn slow(run: &Run) -> Option<Markup> {
    let slow = run.server.as_ref()?.slow.as_ref()?;
    let rows: Vec<Vec<Markup>> = slow
        .requests
        .iter()
        .take(SLOWEST)
        .map(|request| {
            let mut stages: Vec<_> = request.stages_us.iter().collect();
            stages.sort_by(|a, b| b.1.total_cmp(a.1));
            let stages = stages.iter().map(|(stage, us)| format!("{stage} {}", duration(**us)));
            let stages = stages.collect::<Vec<_>>().join(", ");
            let shard = request.shard.map_or_else(|| "–".to_owned(), |shard| shard.to_string());
            vec![
                html! { (request.bot) "/" (request.update_id) },
                shard.render(),
                format!("{:.3} s", request.received_s).render(),
                html! { span.text { (stages) } },
            ]
        })
        .collect();
    let (bound, answered, handled) =
        (duration(slow.bound_us), grouped(slow.answered), grouped(slow.handled));
    let caption = format!(
        "{}: slower than {bound}: {answered} answered, {handled} handled; the slowest of them",
        run.label
    );
    Some(table(&caption, &["update", "shard", "received", "stages"], &rows))
}
