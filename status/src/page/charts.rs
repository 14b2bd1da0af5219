//! The pictures of the last hour.

use pagecharts::{
    chart::{Axis, Chart, Line, Look, Picture, Size},
    ranges::{self, Range, Row},
    scale::{Scale, digits, duration, plain, tick},
};
use ringhook::{Report, Stage};

use crate::history::{History, Point};

/// Points of a line: more could not be told apart, and the page is to be small.
const SHOWN: usize = 240;

/// Updates and refusals per second.
pub(super) fn traffic(history: &History) -> Option<Picture> {
    // Most requests bring an update, so that the two lines lie over each other.
    let mut requests = line(history, "requests", 4, |it| Some(it.requests_per_s));
    requests.look.dash = 2;
    let lines = [
        line(history, "updates", 0, |it| Some(it.updates_per_s)),
        requests,
        line(history, "refused requests", 1, |it| Some(it.refused_per_s)),
        line(history, "failed updates", 3, |it| Some(it.failed_per_s)),
    ];
    linear(history, "traffic", "Updates and refused requests", "per second", lines.into())
}

/// Updates that wait.
pub(super) fn waiting(history: &History) -> Option<Picture> {
    let line = line(history, "updates that are not settled", 2, |it| Some(it.waiting as f64));
    linear(history, "waiting", "Updates that are not settled", "updates", vec![line])
}

/// What the process has used of the CPUs.
pub(super) fn cpu(history: &History) -> Option<Picture> {
    let line = line(history, "CPU time", 5, |it| Some(it.cpu * 100.0));
    linear(history, "cpu", "CPU time of the process", "% of one CPU", vec![line])
}

/// Median and 99th percentile of the answer and of the whole way.
pub(super) fn latency(history: &History) -> Option<Picture> {
    let of = |stage: Stage, name: &str, colour: usize| {
        let mut p50 = line(history, &format!("{name} p50"), colour, |it| Some(it.stage(stage)?.0));
        let p99 = line(history, &format!("{name} p99"), colour, |it| Some(it.stage(stage)?.1));
        p50.look.dash = 2;
        [p50, p99]
    };
    let lines = [of(Stage::Answer, "answer", 0), of(Stage::Whole, "handled", 1)];
    let title = "From a request's last byte to its answer, and to the end of its handling";
    logarithmic(history, "latency", title, lines.into_iter().flatten().collect())
}

/// The 99th percentile of each stage.
pub(super) fn stages(history: &History) -> Option<Picture> {
    let lines = Stage::ALL.into_iter().enumerate().map(|(index, stage)| {
        let mut line = line(history, stage.as_str(), 0, |it| Some(it.stage(stage)?.1));
        // What is never above nothing cannot be drawn.
        line.points.retain(|(_, us)| *us > 0.0);
        line.look = Look::new(index);
        line
    });
    logarithmic(history, "stages", "99th percentile of each stage", lines.collect())
}

/// Where the values of each stage lie since the start.
pub(super) fn ranges(report: &Report) -> Option<Picture> {
    let rows: Vec<_> = report
        .latency_us
        .iter()
        .map(|(stage, at)| {
            let range = Range { min: at.min, p50: at.p50, p99: at.p99, p999: at.p999, max: at.max };
            Row { name: stage.as_str().to_owned(), ranges: vec![(0, range)] }
        })
        .collect();
    ranges::ranges("ranges", "Each stage since the start", &rows, &[])
}

/// A line through what `pick` finds; of neighbours that are joined, it goes through the largest.
fn line(
    history: &History,
    name: &str,
    colour: usize,
    pick: impl Fn(&Point) -> Option<f64>,
) -> Line {
    let start = history.now().map_or(0.0, |now| now.at_s - span(history));
    let all: Vec<_> = history.points().collect();
    let lot = all.len().div_ceil(SHOWN).max(1);
    let points = all.rchunks(lot).rev().filter_map(|lot| {
        let at = lot.last()?.at_s - start;
        let most = lot.iter().filter_map(|point| pick(point)).reduce(f64::max)?;
        (at >= 0.0).then_some((at, most))
    });
    let look = Look { colour, dash: 0, is_filled: false, is_faint: false };
    Line { name: name.to_owned(), look, points: points.collect() }
}

/// Seconds that the charts go back: as far as is known, in round numbers.
fn span(history: &History) -> f64 {
    let known = match (history.points().next(), history.now()) {
        (Some(first), Some(last)) => last.at_s - first.at_s,
        _ => 0.0,
    };
    [300.0, 900.0, 1800.0].into_iter().find(|span| known <= *span).unwrap_or(3600.0)
}

fn linear(
    history: &History,
    name: &str,
    title: &str,
    unit: &str,
    mut lines: Vec<Line>,
) -> Option<Picture> {
    // A line of nothing says nothing, unless it is the first.
    let mut is_first = true;
    lines.retain(|line| {
        std::mem::take(&mut is_first) || line.points.iter().any(|(_, value)| *value > 0.0)
    });
    if let [line] = lines.as_mut_slice() {
        line.look.is_filled = true;
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, it)| *it).fold(1.0, f64::max);
    let scale = Scale::linear(most);
    let ticks = scale.ticks(5).into_iter().map(|value| (value, plain(value))).collect();
    let y = Axis { scale, ticks, name: unit.to_owned() };
    chart(history, name, title, y, lines, digits)
}

fn logarithmic(
    history: &History,
    name: &str,
    title: &str,
    mut lines: Vec<Line>,
) -> Option<Picture> {
    lines.retain(|line| !line.points.is_empty());
    let scale = Scale::log(lines.iter().flat_map(|line| &line.points).map(|(_, us)| *us));
    let ticks = scale.ticks(7).into_iter().map(|us| (us, tick(us))).collect();
    let y = Axis { scale, ticks, name: "logarithmic".to_owned() };
    chart(history, name, title, y, lines, duration)
}

fn chart(
    history: &History,
    name: &str,
    title: &str,
    y: Axis,
    lines: Vec<Line>,
    shown: fn(f64) -> String,
) -> Option<Picture> {
    if lines.iter().all(|line| line.points.is_empty()) {
        return None;
    }
    let told: Vec<_> = lines.iter().filter_map(|line| describe(line, shown)).collect();
    let chart = Chart {
        name: name.to_owned(),
        title: title.to_owned(),
        description: told.join(". "),
        lines,
        x: time_axis,
        x_max: span(history),
        y,
        keeps_peaks: true,
    };
    Some(chart.picture())
}

/// The last value of a line and the largest, for those who do not see it.
fn describe(line: &Line, shown: fn(f64) -> String) -> Option<String> {
    let (_, last) = line.points.last()?;
    let most = line.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    Some(format!("{}: {} now, {} at most", line.name, shown(*last), shown(most)))
}

/// Minutes before now.
fn time_axis(size: Size, max: f64) -> Axis {
    let wanted = if size == Size::Wide { 6.0 } else { 3.0 };
    let steps = [60.0, 300.0, 600.0, 900.0, 1200.0];
    let step = steps.into_iter().find(|step| max / step <= wanted).unwrap_or(max);
    let count = (max / step) as usize;
    let ticks = (0..=count).rev().map(|index| {
        let ago = index as f64 * step;
        let text =
            if index == 0 { "now".to_owned() } else { format!("−{} min", plain(ago / 60.0)) };
        (max - ago, text)
    });
    Axis { scale: Scale::linear_to(max), ticks: ticks.collect(), name: String::new() }
}
