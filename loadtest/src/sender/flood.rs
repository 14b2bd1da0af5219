//! How fast new connections may be made.

use super::SECOND;
use crate::clock::Nanos;

/// Lets so many through at once, and then one after each `period`.
pub(super) struct Flood {
    burst: u64,
    period: Nanos,
    /// When the whole burst is there again, in terms of an empty bucket that fills up: each event
    /// puts it off by a period.
    full_at: Nanos,
}

impl Flood {
    /// A burst of 10, then 20 per second.
    pub(super) fn active() -> Self {
        Self { burst: 10, period: SECOND / 20, full_at: 0 }
    }

    /// One per 2 s.
    pub(super) fn pending() -> Self {
        Self { burst: 1, period: 2 * SECOND, full_at: 0 }
    }

    /// When the next one may come, if that is after `now`.
    pub(super) fn ready_at(&self) -> Nanos {
        self.full_at.saturating_sub((self.burst - 1) * self.period)
    }

    /// Whether one may come now; if so it is taken.
    pub(super) fn take(&mut self, now: Nanos) -> bool {
        if self.ready_at() > now {
            return false;
        }
        self.full_at = self.full_at.max(now) + self.period;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of the first ones goes through, if as many come as may.
    fn times(mut flood: Flood, start: Nanos, count: usize) -> Vec<Nanos> {
        let mut now = start;
        let mut times = Vec::new();
        while times.len() < count {
            match flood.take(now) {
                true => times.push((now - start) / (SECOND / 1000)),
                false => now = flood.ready_at(),
            }
        }
        times
    }

    #[test]
    fn ten_at_once_and_twenty_per_second() {
        let expected: Vec<Nanos> = [0; 10].into_iter().chain((1..=20).map(|n| n * 50)).collect();
        assert_eq!(times(Flood::active(), 123 * SECOND, 30), expected);
    }

    #[test]
    fn one_every_two_seconds() {
        assert_eq!(times(Flood::pending(), 5, 4), [0, 2000, 4000, 6000]);
    }
}
