//! Pictures of rows: the server's stages, and answers by status.

use std::collections::BTreeMap;

use maud::html;

use pagecharts::ranges::{Range, Row, ranges};

use super::{
    chart::{COLOURS, LETTER, Picture, fitted, px},
    input::{Latency, Run},
    scale::grouped,
};

/// Height of a row's name where it stands above its bars.
const NAME: f64 = 17.0;
/// Where the latencies of each stage lie, of each server.
pub(super) fn stages(runs: &[Run]) -> Option<Picture> {
    let mut rows: Vec<Row> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for (stage, latency) in run.server.iter().flat_map(|server| &server.latency_us) {
            let Latency { min, p50, p99, p999, max, .. } = *latency;
            let range = (index % COLOURS, Range { min, p50, p99, p999, max });
            match rows.iter_mut().find(|row| row.name == *stage) {
                Some(row) => row.ranges.push(range),
                None => rows.push(Row { name: stage.clone(), ranges: vec![range] }),
            }
        }
    }
    let with_server = runs.iter().enumerate().filter(|(_, run)| run.server.is_some());
    let legend = with_server.map(|(index, run)| (index % COLOURS, run.label.as_str()));
    let legend: Vec<_> = legend.filter(|_| runs.len() > 1).collect();
    ranges("stages", "The server's stages", &rows, &legend)
}

/// What becomes of a request, as a class of the style sheet and in words.
pub(super) fn outcomes(run: &Run) -> BTreeMap<&'static str, (String, u64)> {
    let mut outcomes: BTreeMap<&str, (String, u64)> = BTreeMap::new();
    let mut add = |class: &'static str, name: &str, count: u64| {
        if count > 0 {
            outcomes.entry(class).or_insert_with(|| (name.to_owned(), 0)).1 += count;
        }
    };
    for (status, count) in &run.statuses {
        match status.as_bytes().first() {
            Some(b'2') => add("o2", "2xx", *count),
            Some(b'4') => add("o4", "4xx", *count),
            Some(b'5') => add("o5", "5xx", *count),
            _ => add("o3", "other", *count),
        }
    }
    add("o9", "no answer", run.unanswered());
    outcomes
}

/// Answers by status: one bar for each run.
pub(super) fn statuses(runs: &[Run]) -> Option<Picture> {
    let told: Vec<_> = runs
        .iter()
        .map(|run| {
            let parts = outcomes(run).into_values().map(|(name, count)| format!("{count} {name}"));
            format!("{}: {}", run.label, parts.collect::<Vec<_>>().join(", "))
        })
        .collect();
    if runs.iter().all(|run| outcomes(run).is_empty()) {
        return None;
    }
    Some(Picture::new("statuses", "Answers by status", &told.join(". "), |size| {
        let mut svg = Vec::new();
        let (width, mut y) = (size.width(), 0.0);
        for run in runs {
            let outcomes = outcomes(run);
            let total: u64 = outcomes.values().map(|(_, count)| count).sum();
            if runs.len() > 1 {
                let label = fitted(&run.label, size.width() - 20.0);
                svg.push(html! { text.key x="0" y=(px(y + 12.0)) { (label) } });
                y += NAME + 2.0;
            }
            let mut x = 0.0;
            let mut names = Vec::new();
            for (class, (name, count)) in &outcomes {
                // What is rare is seen all the same.
                let part = (*count as f64 / total.max(1) as f64 * width).max(4.0).min(width - x);
                let length = (part - 1.0).max(1.0);
                svg.push(html! {
                    rect class=(class) x=(px(x)) y=(px(y)) width=(px(length)) height="16" rx="2" {}
                });
                names.push((*class, format!("{name}: {}", grouped(*count))));
                x += part;
            }
            y += 16.0;
            let mut x = 0.0;
            for (class, name) in names {
                svg.push(html! {
                    rect class=(class) x=(px(x)) y=(px(y + 8.0)) width="10" height="10" rx="2" {}
                    text.tick x=(px(x + 15.0)) y=(px(y + 17.0)) { (name) }
                });
                x += 15.0 + name.chars().count() as f64 * LETTER + 16.0;
            }
            y += 34.0;
        }
        (y, svg)
    }))
}
