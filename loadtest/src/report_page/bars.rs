//! Pictures of rows: the server's stages, and answers by status.

use std::collections::BTreeMap;

use maud::html;

use super::{
    chart::{COLOURS, LETTER, Picture, Size, fitted, px},
    input::{Latency, Run},
    scale::{Scale, duration, grouped, tick},
};

/// Height of a bar with the room around it.
const BAR: f64 = 22.0;
/// Height of a row's name where it stands above its bars.
const NAME: f64 = 17.0;

/// Where the latencies of each stage lie, of each server.
pub(super) fn stages(runs: &[Run]) -> Option<Picture> {
    let mut rows: Vec<(&str, Vec<(usize, &Latency)>)> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for (stage, latency) in run.server.iter().flat_map(|server| &server.latency_us) {
            match rows.iter_mut().find(|(known, _)| known == stage) {
                Some((_, bars)) => bars.push((index, latency)),
                None => rows.push((stage, vec![(index, latency)])),
            }
        }
    }
    if rows.is_empty() {
        return None;
    }
    let bars = || rows.iter().flat_map(|(_, bars)| bars);
    // A stage of nothing at all, as a request that one read brought, lies at the axis' beginning.
    let scale =
        Scale::log(bars().flat_map(|(_, latency)| [latency.p50.max(0.1), latency.max.max(0.1)]));
    let told: Vec<_> = rows
        .iter()
        .flat_map(|(stage, bars)| bars.iter().map(move |(index, latency)| (stage, index, latency)))
        .map(|(stage, index, latency)| {
            let run = runs.get(*index).map_or("", |run| &run.label);
            let (p50, p99) = (duration(latency.p50), duration(latency.p99));
            format!("{run}, {stage}: p50 {p50}, p99 {p99}")
        })
        .collect();
    let title = "The server's stages";
    Some(Picture::new("stages", title, &told.join(". "), |size| {
        let mut svg = Vec::new();
        let is_wide = size == Size::Wide;
        let (left, right) = (if is_wide { 142.0 } else { 4.0 }, size.width() - 20.0);
        let place = |us: f64| left + scale.place(us.max(0.1)) * (right - left);
        let top = 30.0;
        let mut y = top;
        let mut content = Vec::new();
        for (stage, bars) in &rows {
            if is_wide {
                let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
                content.push(html! {
                    text.key.end x=(px(left - 12.0)) y=(px(middle)) { (stage) }
                });
            } else {
                content.push(html! { text.key x="4" y=(px(y + 13.0)) { (stage) } });
                y += NAME;
            }
            for (index, latency) in bars {
                let (colour, middle) = (index % COLOURS, y + BAR / 2.0);
                let bar = middle - 5.0;
                let [min, p50, p99, p999, max] =
                    [latency.min, latency.p50, latency.p99, latency.p999, latency.max].map(place);
                let whisker = format!("M{min:.1} {middle:.1}H{max:.1}");
                content.push(html! {
                    path class={ "whisker c" (colour) } d=(whisker) {}
                    rect class={ "f" (colour) } x=(px(p50)) y=(px(bar))
                        width=(px((p99 - p50).max(2.0))) height="10" rx="2" {}
                    path class={ "mark c" (colour) } d=(format!("M{p999:.1} {bar:.1}v10")) {}
                    circle class={ "f" (colour) } cx=(px(max)) cy=(px(middle)) r="3" {}
                });
                y += BAR;
            }
            y += 6.0;
        }
        let bottom = y;
        for us in scale.ticks(if is_wide { 8 } else { 4 }) {
            let x = place(us);
            let text = tick(us);
            let half = text.chars().count() as f64 * LETTER / 2.0;
            let middle = x.clamp(half, size.width() - half);
            svg.push(html! {
                path.grid d=(format!("M{x:.1} {top:.1}V{bottom:.1}")) {}
                text.tick.mid x=(px(middle)) y=(px(bottom + 16.0)) { (text) }
            });
        }
        // What the shapes mean, and whose they are.
        svg.push(html! {
            rect.plain x="0" y="5" width="20" height="10" rx="2" {}
            text.key x="26" y="14" { "p50 to p99" }
            path.mark.plainline d="M112 5v10" {}
            text.key x="119" y="14" { "p99.9" }
            circle.plain cx="176" cy="10" r="3" {}
            text.key x="184" y="14" { "max" }
        });
        let mut x = 0.0;
        let mut foot = bottom + 26.0;
        if runs.len() > 1 {
            for (index, run) in runs.iter().enumerate().filter(|(_, run)| run.server.is_some()) {
                let width = 24.0 + run.label.chars().count() as f64 * LETTER + 18.0;
                if x > 0.0 && x + width > size.width() {
                    (x, foot) = (0.0, foot + 18.0);
                }
                let label = fitted(&run.label, size.width() - 20.0);
                svg.push(html! {
                    rect class={ "f" (index % COLOURS) } x=(px(x)) y=(px(foot + 3.0))
                        width="14" height="10" rx="2" {}
                    text.key x=(px(x + 20.0)) y=(px(foot + 12.0)) { (label) }
                });
                x += width;
            }
            foot += 18.0;
        }
        svg.extend(content);
        (foot + 2.0, svg)
    }))
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
