//! When each request is due.

use crate::{
    clock::{Nanos, nanos},
    options::{Options, Rate, Stop},
    phases::Phases,
};

/// Hands out requests one by one, in the order in which they are due.
///
/// Nothing is queued: a request that is due while every connection is busy is simply not taken yet,
/// and keeps its due time for when it is.
pub(crate) struct Schedule {
    /// When the first request is due.
    start: Nanos,
    /// How many were taken.
    taken: u64,
    pace: Pace,
}

/// The schedule's next request.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// There is none any more.
    End,
    /// This one, now.
    Request(Request),
    /// One that is due at this time, which lies ahead.
    Wait(Nanos),
}

/// A request of the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Request {
    /// Its place in the schedule, from 0.
    pub(crate) index: u64,
    /// When it is due.
    pub(crate) due: Nanos,
}

enum Pace {
    /// Due as soon as a connection is free, until a number of requests and a time.
    Closed { total: u64, until: Nanos },
    /// Due on a grid. `period` is in nanoseconds and has a fraction, so that the grid keeps its
    /// rate over hours.
    Open { total: u64, period: f64 },
    /// Due as phases say, of which each has its own rate.
    Phased { total: u64, phases: Phases },
}

impl Schedule {
    /// A schedule that does not start before [`Schedule::start`], of `limit` requests at most.
    pub(crate) fn new(options: &Options, limit: Option<u64>) -> Self {
        let mut pace = match (options.rate, options.stop) {
            _ if !options.phases.is_empty() => {
                let phases = Phases::new(&options.phases);
                let total = match options.stop {
                    Stop::After(time) => phases.count_before(nanos(time)),
                    Stop::Requests(total) => total,
                };
                Pace::Phased { total, phases }
            }
            (Rate::Max, Stop::After(time)) => Pace::Closed { total: u64::MAX, until: nanos(time) },
            (Rate::Max, Stop::Requests(total)) => Pace::Closed { total, until: Nanos::MAX },
            (Rate::PerSecond(rate), stop) => {
                let total = match stop {
                    Stop::After(time) => (time.as_secs_f64() * rate).ceil() as u64,
                    Stop::Requests(total) => total,
                };
                Pace::Open { total, period: 1e9 / rate }
            }
        };
        let (Pace::Closed { total, .. } | Pace::Open { total, .. } | Pace::Phased { total, .. }) =
            &mut pace;
        *total = (*total).min(limit.unwrap_or(u64::MAX));
        Self { start: Nanos::MAX, taken: 0, pace }
    }

    /// Makes the first request due at `now`.
    pub(crate) fn start(&mut self, now: Nanos) {
        self.start = now;
    }

    /// Takes the next request if it is due at `now`.
    pub(crate) fn take(&mut self, now: Nanos) -> Next {
        let next = self.next(now);
        if matches!(next, Next::Request(_)) {
            self.taken += 1;
            if let Pace::Phased { phases, .. } = &mut self.pace {
                phases.advance(self.taken);
            }
        }
        next
    }

    /// Says what [`Schedule::take`] would give.
    pub(crate) fn next(&self, now: Nanos) -> Next {
        if self.start == Nanos::MAX {
            return Next::Wait(Nanos::MAX);
        }
        let index = self.taken;
        let (total, due) = match &self.pace {
            Pace::Closed { total, until } => {
                let over = index >= *total || now.saturating_sub(self.start) >= *until;
                return if over { Next::End } else { Next::Request(Request { index, due: now }) };
            }
            Pace::Open { total, period } => (*total, (index as f64 * period) as Nanos),
            Pace::Phased { total, phases } => (*total, phases.due(index)),
        };
        let due = self.start.saturating_add(due);
        match () {
            () if index >= total => Next::End,
            () if due > now => Next::Wait(due),
            () => Next::Request(Request { index, due }),
        }
    }

    /// When the last request is due, if that is known and there is any.
    pub(crate) fn last_due(&self) -> Option<Nanos> {
        if self.start == Nanos::MAX {
            return None;
        }
        let offset = match &self.pace {
            Pace::Open { total, period } if *total > 0 => ((total - 1) as f64 * period) as Nanos,
            Pace::Phased { total, phases } if *total > 0 => phases.due_of_any(total - 1),
            _ => return None,
        };
        Some(self.start.saturating_add(offset))
    }

    /// Whether requests are due whenever a connection is free.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

    /// How many requests were due by `now`, whether they were taken or not.
    pub(crate) fn due_by(&self, now: Nanos) -> u64 {
        let elapsed = now.saturating_sub(self.start);
        let due = match &self.pace {
            Pace::Closed { .. } => self.taken,
            Pace::Open { total, period } => ((elapsed as f64 / period) as u64 + 1).min(*total),
            Pace::Phased { total, phases } => {
                phases.count_before(elapsed.saturating_add(1)).min(*total)
            }
        };
        due.max(self.taken)
    }

    /// Ends it at `now`; gives how many requests were due by then and not taken.
    pub(crate) fn end(&mut self, now: Nanos) -> u64 {
        let missed = self.due_by(now) - self.taken;
        self.pace = Pace::Closed { total: 0, until: 0 };
        missed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::time::Duration;

    use super::*;
    use crate::Phase;

    fn schedule(rate: Rate, stop: Stop) -> Schedule {
        let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
        options.rate = rate;
        options.stop = stop;
        Schedule::new(&options, None)
    }

    #[test]
    fn requests_are_evenly_spaced_without_drift() {
        let mut schedule = schedule(Rate::PerSecond(30_000.0), Stop::After(Duration::from_secs(2)));
        schedule.start(500);
        let mut last = 0;
        for index in 0..60_000 {
            let Next::Request(request) = schedule.take(u64::MAX - 1) else {
                unreachable!("{index}")
            };
            assert_eq!(request.index, index);
            last = request.due;
        }
        assert_eq!(last, 500 + 59_999 * 1_000_000_000 / 30_000);
        assert_eq!(schedule.take(u64::MAX - 1), Next::End);
    }

    #[test]
    fn a_request_waits_until_it_is_due() {
        let mut schedule = schedule(Rate::PerSecond(1000.0), Stop::Requests(2));
        assert_eq!(schedule.take(7), Next::Wait(Nanos::MAX));
        schedule.start(0);
        assert_eq!(schedule.take(0), Next::Request(Request { index: 0, due: 0 }));
        assert_eq!(schedule.take(999_999), Next::Wait(1_000_000));
        assert_eq!(schedule.take(5_000_000), Next::Request(Request { index: 1, due: 1_000_000 }));
        assert_eq!(schedule.take(5_000_000), Next::End);
    }

    #[test]
    fn a_closed_loop_is_due_at_once_until_time_is_up() {
        let mut schedule = schedule(Rate::Max, Stop::After(Duration::from_nanos(10)));
        schedule.start(100);
        assert_eq!(schedule.take(109), Next::Request(Request { index: 0, due: 109 }));
        assert_eq!(schedule.take(110), Next::End);
    }

    #[test]
    fn an_ended_schedule_tells_what_was_due() {
        let mut schedule = schedule(Rate::PerSecond(1000.0), Stop::Requests(100));
        schedule.start(0);
        schedule.take(0);
        assert_eq!(schedule.end(9_500_000), 9);
        assert_eq!(schedule.take(9_500_000), Next::End);
    }

    #[test]
    fn phases_follow_each_other_and_begin_again() {
        let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
        let phase = |rate, seconds| Phase::steady(rate, Duration::from_secs(seconds));
        options.phases = vec![phase(10.0, 9), phase(100.0, 1)];
        options.stop = Stop::After(Duration::from_secs(25));
        let mut schedule = Schedule::new(&options, None);
        schedule.start(7);
        // Two rounds of 190, and half of a third one.
        assert_eq!(schedule.last_due(), Some(7 + 24_900_000_000));
        let mut per_second = [0; 25];
        while let Next::Request(request) = schedule.take(u64::MAX - 1) {
            per_second[((request.due - 7) / 1_000_000_000) as usize] += 1;
        }
        let expected: Vec<u64> =
            (0..25).map(|second| if second % 10 == 9 { 100 } else { 10 }).collect();
        assert_eq!(per_second.to_vec(), expected);
    }

    #[test]
    fn an_ended_phase_tells_what_was_due() {
        let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
        options.phases = vec![Phase::steady(1000.0, Duration::from_secs(1))];
        options.stop = Stop::After(Duration::from_secs(3));
        let mut schedule = Schedule::new(&options, None);
        schedule.start(0);
        schedule.take(0);
        assert_eq!(schedule.due_by(1_009_500_000), 1010);
        assert_eq!(schedule.end(1_009_500_000), 1009);
    }
}
