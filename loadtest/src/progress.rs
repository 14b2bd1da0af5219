//! How far a run has come.

use std::{fmt, time::Duration};

use crate::{Second, clock::Nanos, record::Record, units::Short};

/// The state of a run after another second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the first request was due.
    pub elapsed: Duration,
    /// Requests sent so far.
    pub sent: u64,
    /// Requests answered with 2xx so far.
    pub acknowledged: u64,
    /// Requests answered otherwise, or not at all, so far.
    pub failed: u64,
    /// This second.
    pub second: Second,
}

impl Progress {
    /// The state at the end of a second.
    pub(crate) fn of(record: &Record, elapsed: Nanos) -> Self {
        let answered: u64 = record.statuses.values().sum();
        Self {
            elapsed: Duration::from_nanos(elapsed),
            sent: record.sent,
            acknowledged: record.acknowledged,
            failed: answered - record.acknowledged + record.failures.total(),
            second: record.series.seconds.last().copied().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acknowledged, failed, second, .. } = self;
        let answered_recently = second.acknowledged + second.refused;
        let p99 = Short(Duration::from_nanos((second.p99 * 1e3) as u64));
        let seconds = self.elapsed.as_secs();
        write!(
            f,
            "{seconds:>4} s  {answered_recently} answers/s  p99 {p99}  \
             (sent {sent}, acknowledged {acknowledged}, failed {failed})"
        )
    }
}
