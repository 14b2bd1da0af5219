//! Which charts there are.

use super::{
    chart::{Axis, Chart, Line, Look, Picture, Size},
    input::{Latency, Run, Second},
    scale::{Scale, digits, duration, grouped, plain, tick, time},
};

/// The name of the file and the ids of the chart of percentiles.
const PERCENTILES: &str = "percentiles";

/// Latency by percentile. Of one run also what it is made of.
pub(super) fn percentiles(runs: &[Run]) -> Option<Picture> {
    let line = |(index, (name, latency)): (usize, (&str, &Latency))| Line {
        name: name.to_owned(),
        look: Look::new(index),
        points: latency.one_in(),
    };
    let lines: Vec<Line> = match runs {
        [run] => [
            ("from due time to answer", &run.latency_us),
            ("from sending to answer", &run.send_to_answer_us),
            ("the generator's own lateness", &run.lateness_us),
        ]
        .into_iter()
        .filter(|(_, latency)| latency.count > 0)
        .enumerate()
        .map(line)
        .collect(),
        runs => {
            runs.iter().map(|run| (&*run.label, &run.latency_us)).enumerate().map(line).collect()
        }
    };
    let x_max = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).fold(1.0, f64::max);
    let told: Vec<String> = runs
        .iter()
        .map(|run| {
            let Latency { p50, p99, p999, max, .. } = run.latency_us;
            let [p50, p99, p999, max] = [p50, p99, p999, max].map(duration);
            format!("{}: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}", run.label)
        })
        .collect();
    let chart = Chart {
        name: PERCENTILES.to_owned(),
        title: "Latency by percentile".to_owned(),
        description: told.join(". "),
        y: latency_axis(&lines),
        lines,
        x: |size, max| Axis {
            scale: Scale::one_in(max),
            ticks: one_in_ticks(size, max),
            name: "one request in so many is slower".to_owned(),
        },
        x_max,
        keeps_peaks: true,
    };
    (x_max > 1.0).then(|| chart.picture())
}

fn one_in_ticks(size: Size, max: f64) -> Vec<(f64, String)> {
    let mut ticks = vec![(2.0, "50 %\n1 in 2".to_owned())];
    if size == Size::Wide {
        ticks.insert(0, (1.0, "0 %\nall".to_owned()));
    }
    let mut one_in = 10.0;
    while one_in <= max.max(10.0) * 1.000_001 {
        let share = plain(100.0 - 100.0 / one_in);
        let short = match one_in {
            one_in if one_in < 1e4 => format!("{one_in}"),
            one_in if one_in < 1e6 => format!("{}k", one_in / 1e3),
            _ => format!("{}M", one_in / 1e6),
        };
        ticks.push((one_in, format!("{share} %\n1 in {short}")));
        one_in *= 10.0;
    }
    ticks
}

/// Latency over time: of one run all percentiles in one chart, of several a chart for each of them.
pub(super) fn over_time(runs: &[Run]) -> Vec<Picture> {
    type Pick = fn(&Second) -> f64;
    let percentiles: [(&str, &str, Pick); 4] = [
        ("p50", "Median latency", |second| second.p50),
        ("p99", "99th percentile", |second| second.p99),
        ("p99.9", "99.9th percentile", |second| second.p999),
        ("max", "Slowest request", |second| second.max),
    ];
    let line = |run: &Run, name: &str, look: Look, pick: Pick| Line {
        name: name.to_owned(),
        look,
        // A second without an answer has no latency.
        points: run
            .series
            .iter()
            .filter(|second| second.max > 0.0)
            .map(|second| (second.at_s, pick(second)))
            .collect(),
    };
    let chart = |name: String, title: String, lines: Vec<Line>| {
        let description = lines.iter().map(describe).collect::<Vec<_>>().join(". ");
        let y = latency_axis(&lines);
        let x_max = longest(runs);
        Chart { name, title, description, lines, x: time_axis, x_max, y, keeps_peaks: true }
            .picture()
    };
    match runs {
        _ if runs.iter().all(|run| run.series.is_empty()) => Vec::new(),
        [run] => {
            let lines = percentiles.iter().enumerate();
            let lines =
                lines.map(|(index, (name, _, pick))| line(run, name, Look::new(index), *pick));
            vec![chart("latency".to_owned(), "Latency over time".to_owned(), lines.collect())]
        }
        runs => {
            let of = |(name, title, pick): &(&str, &str, Pick)| {
                let lines = runs.iter().enumerate();
                let lines =
                    lines.map(|(index, run)| line(run, &run.label, Look::new(index), *pick));
                let file = format!("latency-{}", name.replace('.', ""));
                chart(file, format!("{title} ({name})"), lines.collect())
            };
            percentiles.iter().map(of).collect()
        }
    }
}

/// Answers per second, and what was asked for.
pub(super) fn throughput(runs: &[Run]) -> Option<Picture> {
    let line = |run: &Run, name: &str, look: Look, pick: fn(&Second) -> u64| Line {
        name: name.to_owned(),
        look,
        points: rates(run, pick),
    };
    let faint = Look { is_faint: true, ..Look::new(0) };
    let mut lines = Vec::new();
    // Where all were asked for the same, one line says so.
    if let Some(first) = runs.first().filter(|run| run.series.iter().any(|second| second.due > 0))
        && runs.iter().all(|run| run.rate_asked_per_s == first.rate_asked_per_s)
        && first.rate_asked_per_s.is_some()
    {
        lines.push(line(first, "due", faint, |second| second.due));
    }
    match runs {
        [run] => {
            let filled = Look { is_filled: true, ..Look::new(0) };
            lines.push(line(run, "acknowledged", filled, |second| second.acknowledged));
            if run.series.iter().any(|second| second.refused > 0) {
                lines.push(line(run, "refused", Look::new(1), |second| second.refused));
            }
            if run.series.iter().any(|second| second.failed > 0) {
                lines.push(line(run, "no answer", Look::new(3), |second| second.failed));
            }
        }
        runs => lines.extend(runs.iter().enumerate().map(|(index, run)| {
            line(run, &run.label, Look::new(index), |second| second.acknowledged)
        })),
    }
    if lines.iter().all(|line| line.points.is_empty()) {
        return None;
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(0.0, f64::max);
    let scale = Scale::linear(most);
    let ticks = scale.ticks(6).into_iter().map(|rate| (rate, grouped(rate as u64))).collect();
    let told: Vec<_> = runs
        .iter()
        .map(|run| {
            format!("{}: {} answers per second on average", run.label, digits(run.rate_per_s))
        })
        .collect();
    let chart = Chart {
        name: "throughput".to_owned(),
        title: "Throughput over time".to_owned(),
        description: told.join(". "),
        lines,
        x: time_axis,
        x_max: longest(runs),
        y: Axis { scale, ticks, name: "updates per second".to_owned() },
        keeps_peaks: false,
    };
    Some(chart.picture())
}

/// p99 of the server's stages over time, from its interval log; one chart for each server.
pub(super) fn stages_over_time(runs: &[Run]) -> Vec<Picture> {
    let servers = runs.iter().enumerate().filter_map(|(index, run)| {
        let server = run.server.as_ref().filter(|server| !server.over_time.is_empty())?;
        Some((index, run, server))
    });
    servers
        .map(|(index, run, server)| {
            // Connections come and go in moments; a line through them would say nothing.
            let steady = server.over_time.iter().filter(|(stage, points)| {
                points.len() > 1 && !stage.starts_with("handshake") && stage != "accept_wait"
            });
            let lines: Vec<Line> = steady
                .enumerate()
                .map(|(index, (stage, points))| Line {
                    name: stage.clone(),
                    look: Look { dash: index / 2, ..Look::new(index) },
                    points: points.clone(),
                })
                .collect();
            let x_max =
                lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).fold(1.0, f64::max);
            let title = match runs {
                [_] => "The server's stages over time (p99)".to_owned(),
                _ => format!("The server's stages over time (p99): {}", run.label),
            };
            Chart {
                name: format!("stages-over-time-{index}"),
                title,
                description: lines.iter().map(describe).collect::<Vec<_>>().join(". "),
                y: latency_axis(&lines),
                lines,
                x: |size, max| Axis {
                    name: "since the server's profile began".to_owned(),
                    ..time_axis(size, max)
                },
                x_max,
                keeps_peaks: true,
            }
        })
        .filter(|chart| !chart.lines.is_empty())
        .map(|chart| chart.picture())
        .collect()
}

/// Counts of each second as rates: the last one may be shorter.
fn rates(run: &Run, pick: fn(&Second) -> u64) -> Vec<(f64, f64)> {
    let mut before = 0.0;
    let mut rates: Vec<(f64, f64)> = Vec::with_capacity(run.series.len() + 1);
    for second in &run.series {
        let length = second.at_s - before;
        before = second.at_s;
        // A few milliseconds at the end of a run are no rate.
        if length > 0.2 {
            let rate = pick(second) as f64 / length;
            if rates.is_empty() {
                rates.push((0.0, rate));
            }
            rates.push((second.at_s, rate));
        }
    }
    rates
}

fn longest(runs: &[Run]) -> f64 {
    let ends = runs.iter().filter_map(|run| run.series.last().map(|second| second.at_s));
    ends.fold(1.0, f64::max)
}

fn latency_axis(lines: &[Line]) -> Axis {
    let scale = Scale::log(lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y));
    let ticks = scale.ticks(11).into_iter().map(|us| (us, tick(us))).collect();
    Axis { scale, ticks, name: "latency, logarithmic".to_owned() }
}

fn time_axis(size: Size, max: f64) -> Axis {
    const STEPS: [f64; 20] = [
        0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
        3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0, 864_000.0,
    ];
    let wanted = size.ticks() as f64;
    let step = STEPS.into_iter().find(|step| max / step <= wanted).unwrap_or(max);
    let count = (max / step * 1.000_001) as usize;
    let ticks = (0..=count).map(|index| index as f64 * step);
    let ticks = ticks.map(|at| (at, time(at, max))).collect();
    Axis { scale: Scale::linear_to(max), ticks, name: "since the first request was due".to_owned() }
}

/// The description of a line for readers who do not see it.
fn describe(line: &Line) -> String {
    let values = || line.points.iter().map(|(_, us)| *us);
    let least = values().fold(f64::INFINITY, f64::min);
    let most = values().fold(0.0, f64::max);
    let least = if least.is_finite() { least } else { 0.0 };
    format!("{}: between {} and {}", line.name, duration(least), duration(most))
}
