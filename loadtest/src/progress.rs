//! How far a run has come.

use std::{fmt, time::Duration};

use crate::{clock::Nanos, load::Load, units::Short};

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
    /// Answers in this second.
    pub answered_recently: u64,
    /// The latency that 99 % of this second's answers did not exceed.
    pub p99_recently: Duration,
}

impl Progress {
    /// Takes the state, and begins a new second.
    pub(crate) fn take(load: &Load, elapsed: Nanos) -> Self {
        let mut record = load.record.borrow_mut();
        let answered: u64 = record.statuses.values().sum();
        let progress = Self {
            elapsed: Duration::from_nanos(elapsed),
            sent: record.sent,
            acknowledged: record.acknowledged,
            failed: answered - record.acknowledged + record.failures.total(),
            answered_recently: record.recent.count(),
            p99_recently: record.recent.quantile(0.99),
        };
        record.recent.clear();
        progress
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acknowledged, failed, answered_recently, .. } = self;
        let (seconds, p99) = (self.elapsed.as_secs(), Short(self.p99_recently));
        write!(
            f,
            "{seconds:>4} s  {answered_recently} answers/s  p99 {p99}  \
             (sent {sent}, acknowledged {acknowledged}, failed {failed})"
        )
    }
}
