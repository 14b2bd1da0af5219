//! How many lines of a kind go to the log: some for each period, then one with the number of the
//! others.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Lines of one kind in one [`PERIOD`].
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// A bound on the lines of `KINDS` kinds, shared by all threads that write them.
#[derive(Debug)]
pub(crate) struct Limited<const KINDS: usize> {
    epoch: Instant,
    /// The period in the upper half, what has come in it in the lower half.
    counts: [AtomicU64; KINDS],
}

/// Whether a line is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Admission {
    /// This one is.
    pub(crate) is_admitted: bool,
    /// So many of an earlier period were not, which has not been reported yet.
    pub(crate) suppressed: u32,
}

impl<const KINDS: usize> Limited<KINDS> {
    /// Periods are counted from `epoch`.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch, counts: [const { AtomicU64::new(0) }; KINDS] }
    }

    /// Counts a line of `kind` at `now`.
    pub(crate) fn admit(&self, kind: usize, now: Instant) -> Admission {
        let Some(count) = self.counts.get(kind) else {
            return Admission { is_admitted: false, suppressed: 0 };
        };
        let period = self.period(now);
        let next = |before| {
            let (of, come) = parts(before);
            // Another thread's clock may have been read a moment earlier.
            if of >= period { join(of, come.saturating_add(1)) } else { join(period, 1) }
        };
        let before = match count.fetch_update(Relaxed, Relaxed, |before| Some(next(before))) {
            Ok(before) | Err(before) => before,
        };
        let (of, come) = parts(before);
        if of >= period {
            Admission { is_admitted: come < LINES, suppressed: 0 }
        } else {
            Admission { is_admitted: true, suppressed: come.saturating_sub(LINES) }
        }
    }

    /// Of each kind whose period is over at `now`: how many lines were not written, returned once.
    pub(crate) fn ended(&self, now: Instant) -> impl Iterator<Item = (usize, u32)> {
        self.take_before(self.period(now))
    }

    /// As [`ended`](Self::ended), where no period will come any more.
    pub(crate) fn last(&self) -> impl Iterator<Item = (usize, u32)> {
        self.take_before(u32::MAX)
    }

    fn take_before(&self, period: u32) -> impl Iterator<Item = (usize, u32)> {
        self.counts.iter().enumerate().filter_map(move |(kind, count)| {
            let before = count.load(Relaxed);
            let (of, come) = parts(before);
            let suppressed = come.saturating_sub(LINES);
            // Where two threads look at once, the second one finds nothing left.
            let takes = of < period
                && suppressed > 0
                && count.compare_exchange(before, join(of, LINES), Relaxed, Relaxed).is_ok();
            takes.then_some((kind, suppressed))
        })
    }

    fn period(&self, now: Instant) -> u32 {
        let periods = now.saturating_duration_since(self.epoch).as_secs() / PERIOD.as_secs();
        u32::try_from(periods).unwrap_or(u32::MAX - 1)
    }
}

fn parts(count: u64) -> (u32, u32) {
    ((count >> 32) as u32, count as u32)
}

fn join(period: u32, come: u32) -> u64 {
    u64::from(period) << 32 | u64::from(come)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(limited: &Limited<2>, kind: usize, times: u32, now: Instant) -> (u32, u32) {
        (0..times).fold((0, 0), |(lines, suppressed), _| {
            let admission = limited.admit(kind, now);
            (lines + u32::from(admission.is_admitted), suppressed + admission.suppressed)
        })
    }

    #[test]
    fn a_period_has_so_many_lines_of_each_kind() {
        let start = Instant::now();
        let limited = Limited::<2>::new(start);
        assert_eq!(count(&limited, 0, 1000, start), (LINES, 0));
        assert_eq!(count(&limited, 1, LINES, start + PERIOD / 2), (LINES, 0), "its own");
        assert_eq!(limited.ended(start + PERIOD / 2).count(), 0);
        // The next line or the next look returns what was left out, and only once.
        assert_eq!(count(&limited, 0, 1, start + PERIOD), (1, 1000 - LINES));
        assert_eq!(limited.ended(start + PERIOD).count(), 0);
        assert_eq!(count(&limited, 0, LINES + 7, start + PERIOD), (LINES - 1, 0));
        let ended = |now| limited.ended(now).collect::<Vec<_>>();
        assert_eq!(ended(start + 2 * PERIOD), [(0, 8)]);
        assert_eq!(ended(start + 2 * PERIOD), []);
        assert_eq!(count(&limited, 0, 1, start + 2 * PERIOD), (1, 0));
        assert_eq!(count(&limited, 1, LINES + 1, start + 2 * PERIOD), (LINES, 0));
        assert_eq!(limited.last().collect::<Vec<_>>(), [(1, 1)]);
    }

    #[test]
    fn a_kind_that_is_not_there_has_no_lines_and_time_that_goes_back_starts_nothing_anew() {
        let start = Instant::now();
        let limited = Limited::<2>::new(start);
        assert_eq!(count(&limited, 2, 5, start), (0, 0));
        assert_eq!(count(&limited, 0, LINES, start + PERIOD), (LINES, 0));
        assert_eq!(count(&limited, 0, 1, start), (0, 0));
    }

    #[test]
    fn what_several_threads_leave_out_is_told_in_full() {
        let start = Instant::now();
        let limited = Limited::<1>::new(start);
        let of_thread = || {
            (0..10_000_u32).fold((0, 0), |(lines, left_out), n| {
                let admission = limited.admit(0, start + PERIOD * (n / 1000));
                (lines + u32::from(admission.is_admitted), left_out + admission.suppressed)
            })
        };
        let (lines, left_out) = std::thread::scope(|scope| {
            let threads = [(); 3].map(|()| scope.spawn(of_thread));
            threads.into_iter().filter_map(|thread| thread.join().ok()).fold(
                (0, 0),
                |(lines, left_out), (more_lines, more_left_out)| {
                    (lines + more_lines, left_out + more_left_out)
                },
            )
        });
        let left_out = left_out + limited.last().map(|(_, suppressed)| suppressed).sum::<u32>();
        // Each of the lines was written, or is among those that were reported.
        assert_eq!(lines + left_out, 30_000);
        assert!(lines <= 10 * LINES, "{lines}");
    }
}
