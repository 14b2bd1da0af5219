//! When each request is due.

use crate::{
    clock::{Nanos, nanos},
    options::{Rate, Stop},
};

/// Hands out requests one by one, in the order in which they are due.
///
/// Nothing is queued: a request that is due while every connection is busy is simply not taken yet,
/// and keeps its due time for when it is.
pub(crate) struct Plan {
    /// When the first request is due.
    start: Nanos,
    /// How many were taken.
    taken: u64,
    pace: Pace,
}

/// The plan's next request.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// There is none any more.
    End,
    /// This one, now.
    Request(Request),
    /// One that is due at this time, which lies ahead.
    Wait(Nanos),
}

/// A request of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Request {
    /// Its place in the plan, from 0.
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
}

impl Plan {
    /// A plan that does not start before [`Plan::start`].
    pub(crate) fn new(rate: Rate, stop: Stop) -> Self {
        let pace = match (rate, stop) {
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
        }
        next
    }

    /// Says what [`Plan::take`] would give.
    pub(crate) fn next(&self, now: Nanos) -> Next {
        if self.start == Nanos::MAX {
            return Next::Wait(Nanos::MAX);
        }
        let index = self.taken;
        match self.pace {
            Pace::Closed { total, until } => {
                let over = index >= total || now.saturating_sub(self.start) >= until;
                if over { Next::End } else { Next::Request(Request { index, due: now }) }
            }
            Pace::Open { total, period } => {
                let due = self.start + (index as f64 * period) as Nanos;
                match () {
                    () if index >= total => Next::End,
                    () if due > now => Next::Wait(due),
                    () => Next::Request(Request { index, due }),
                }
            }
        }
    }

    /// When the last request is due, if that is known and there is any.
    pub(crate) fn last_due(&self) -> Option<Nanos> {
        match self.pace {
            Pace::Open { total, period } if total > 0 && self.start != Nanos::MAX => {
                Some(self.start + ((total - 1) as f64 * period) as Nanos)
            }
            _ => None,
        }
    }

    /// Whether requests are due whenever a connection is free.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

    /// When no more requests are made, if a time was set for it.
    pub(crate) fn closes(&self) -> Option<Nanos> {
        match self.pace {
            Pace::Closed { until, .. } if until != Nanos::MAX => {
                Some(self.start.saturating_add(until))
            }
            _ => None,
        }
    }

    /// Ends the plan at `now`; gives how many requests were due by then and not taken.
    pub(crate) fn end(&mut self, now: Nanos) -> u64 {
        let missed = match self.pace {
            Pace::Closed { .. } => 0,
            Pace::Open { total, period } => {
                let elapsed = now.saturating_sub(self.start) as f64;
                let due = ((elapsed / period) as u64 + 1).min(total);
                due.saturating_sub(self.taken)
            }
        };
        self.pace = Pace::Closed { total: 0, until: 0 };
        missed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_are_evenly_spaced_without_drift() {
        let mut plan = Plan::new(Rate::PerSecond(30_000.0), Stop::After(Duration::from_secs(2)));
        plan.start(500);
        let mut last = 0;
        for index in 0..60_000 {
            let Next::Request(request) = plan.take(u64::MAX - 1) else { unreachable!("{index}") };
            assert_eq!(request.index, index);
            last = request.due;
        }
        assert_eq!(last, 500 + 59_999 * 1_000_000_000 / 30_000);
        assert_eq!(plan.take(u64::MAX - 1), Next::End);
    }

    #[test]
    fn a_request_waits_until_it_is_due() {
        let mut plan = Plan::new(Rate::PerSecond(1000.0), Stop::Requests(2));
        assert_eq!(plan.take(7), Next::Wait(Nanos::MAX));
        plan.start(0);
        assert_eq!(plan.take(0), Next::Request(Request { index: 0, due: 0 }));
        assert_eq!(plan.take(999_999), Next::Wait(1_000_000));
        assert_eq!(plan.take(5_000_000), Next::Request(Request { index: 1, due: 1_000_000 }));
        assert_eq!(plan.take(5_000_000), Next::End);
    }

    #[test]
    fn a_closed_loop_is_due_at_once_until_time_is_up() {
        let mut plan = Plan::new(Rate::Max, Stop::After(Duration::from_nanos(10)));
        plan.start(100);
        assert_eq!(plan.take(109), Next::Request(Request { index: 0, due: 109 }));
        assert_eq!(plan.take(110), Next::End);
    }

    #[test]
    fn an_ended_plan_tells_what_was_due() {
        let mut plan = Plan::new(Rate::PerSecond(1000.0), Stop::Requests(100));
        plan.start(0);
        plan.take(0);
        assert_eq!(plan.end(9_500_000), 9);
        assert_eq!(plan.take(9_500_000), Next::End);
    }
}
