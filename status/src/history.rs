//! What the server has done over the last hour: one point for each five seconds, in memory of a
//! fixed size.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;
use ringhook::{Report, ServerView, Stage, internals::observe::metrics::Intervals};

use crate::metrics::accepted_and_settled;

/// Between two points.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// Points that are kept: an hour's.
pub(crate) const POINTS: usize = 720;

/// What happened between the point before and this one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Point {
    /// Seconds after the server's start.
    pub(crate) at_s: f64,
    /// Updates that came in, per second.
    pub(crate) updates_per_s: f64,
    /// Requests that were answered, per second.
    pub(crate) requests_per_s: f64,
    /// Of these, those not answered with 200.
    pub(crate) refused_per_s: f64,
    /// Updates that an output has finally not taken, per second.
    pub(crate) failed_per_s: f64,
    /// Updates that were not settled at the end of it.
    pub(crate) waiting: u64,
    /// Of one CPU, by all threads of the process: 1 is all of one.
    pub(crate) cpu: f64,
    /// Median and 99th percentile of each stage in microseconds, by the place in [`Stage::ALL`];
    /// `None` where it had no values.
    pub(crate) stages: [Option<(f32, f32)>; Stage::ALL.len()],
}

/// Sums since the server's start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    at_s: f64,
    pub(crate) updates: u64,
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    cpu_s: f64,
    /// Updates that are not settled.
    pub(crate) waiting: u64,
}

impl Totals {
    pub(crate) fn new(report: &Report) -> Self {
        let refused = report.requests_rejected.values().sum();
        let updates = report.updates_received + report.updates_delivered + report.updates_fed;
        let (accepted, settled) = accepted_and_settled(report);
        Self {
            at_s: report.uptime_s,
            updates,
            requests: report.updates_acknowledged + refused,
            refused,
            failed: report.updates_failed,
            cpu_s: report.cpu_s,
            waiting: accepted.saturating_sub(settled),
        }
    }
}

/// The last hour.
pub(crate) struct History {
    /// Gives what each stage has recorded between two points.
    intervals: Option<Intervals>,
    last: Option<Totals>,
    points: VecDeque<Point>,
}

impl Default for History {
    fn default() -> Self {
        Self { intervals: None, last: None, points: VecDeque::with_capacity(POINTS) }
    }
}

impl History {
    /// Adds the point of this moment.
    pub(crate) fn tick(&mut self, server: &ServerView, report: &Report) {
        let intervals = self.intervals.get_or_insert_with(|| server.intervals());
        let stages = intervals.look();
        intervals.settle();
        self.add(Totals::new(report), &stages);
    }

    fn add(&mut self, totals: Totals, stages: &[(Stage, Histogram<u64>)]) {
        let last = self.last.replace(totals).unwrap_or_default();
        let elapsed = totals.at_s - last.at_s;
        if elapsed <= 0.0 {
            return;
        }
        let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        let mut point = Point {
            at_s: totals.at_s,
            updates_per_s: per_s(totals.updates, last.updates),
            requests_per_s: per_s(totals.requests, last.requests),
            refused_per_s: per_s(totals.refused, last.refused),
            failed_per_s: per_s(totals.failed, last.failed),
            waiting: totals.waiting,
            cpu: (totals.cpu_s - last.cpu_s).max(0.0) / elapsed,
            stages: [None; Stage::ALL.len()],
        };
        for (stage, histogram) in stages.iter().filter(|(_, histogram)| !histogram.is_empty()) {
            let us = |percentile| (histogram.value_at_percentile(percentile) as f64 / 1e3) as f32;
            if let Some(place) = point.stages.get_mut(*stage as usize) {
                *place = Some((us(50.0), us(99.0)));
            }
        }
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// All points, the oldest first.
    pub(crate) fn points(&self) -> impl DoubleEndedIterator<Item = &Point> + ExactSizeIterator {
        self.points.iter()
    }

    /// The newest point.
    pub(crate) fn now(&self) -> Option<&Point> {
        self.points.back()
    }
}

impl Point {
    /// Median and 99th percentile of `stage` in microseconds.
    pub(crate) fn stage(&self, stage: Stage) -> Option<(f64, f64)> {
        let (p50, p99) = self.stages.get(stage as usize).copied().flatten()?;
        Some((p50.into(), p99.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn totals(at_s: f64, updates: u64) -> Totals {
        Totals { at_s, updates, requests: 2 * updates, cpu_s: at_s / 4.0, ..Totals::default() }
    }

    #[test]
    fn a_point_is_the_difference_to_the_one_before() {
        let mut history = History::default();
        let mut parse = Histogram::new(2).unwrap();
        (1..=100).for_each(|us: u64| parse.record(us * 1000).unwrap());
        history.add(totals(5.0, 100), &[(Stage::Parse, parse)]);
        history.add(totals(10.0, 150), &[]);
        let points: Vec<_> = history.points().collect();
        let rates = points.iter().map(|it| (it.updates_per_s, it.requests_per_s));
        assert_eq!(rates.collect::<Vec<_>>(), [(20.0, 40.0), (10.0, 20.0)]);
        assert!(points.iter().all(|it| it.cpu == 0.25));
        let (p50, p99) = points.first().unwrap().stage(Stage::Parse).unwrap();
        assert!((49.0..=51.0).contains(&p50) && (98.0..=100.0).contains(&p99), "{p50} {p99}");
        assert_eq!(history.now().unwrap().stage(Stage::Parse), None, "nothing was parsed in it");
        history.add(totals(10.0, 150), &[]);
        assert_eq!(history.points().len(), 2, "no time has passed");
    }

    #[test]
    fn an_hour_is_kept() {
        let mut history = History::default();
        for n in 1..=2000 {
            history.add(totals(f64::from(n) * 5.0, 0), &[]);
        }
        assert_eq!(history.points().len(), POINTS);
        assert_eq!(history.now().unwrap().at_s, 10_000.0);
        assert!(history.points.capacity() < 2 * POINTS);
    }
}
