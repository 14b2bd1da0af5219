//! How far a run has come.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{Failures, Second, clock::Nanos, record::Record, units::Short};

/// The state of a run after another second.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Since the first request was due.
    pub elapsed: Duration,
    /// Requests sent so far.
    pub sent: u64,
    /// Requests answered with 2xx so far.
    pub acknowledged: u64,
    /// Requests answered otherwise, or not at all, so far.
    pub failed: u64,
    /// Answers so far, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that got no answer so far, by the reason.
    pub failures: Failures,
    /// The latency from due time that 50, 99 and 99.9 % of all answers did not exceed, and the
    /// longest.
    pub latency: [Duration; 4],
    /// This second.
    pub second: Second,
    /// How many of this second's answers took so long: up to each of [`Progress::HEAT`], and
    /// longer.
    pub heat: [u64; Self::HEAT.len() + 1],
}

impl Progress {
    /// The bounds of [`Progress::heat`].
    pub const HEAT: [Duration; 8] = [
        Duration::from_micros(100),
        Duration::from_micros(300),
        Duration::from_millis(1),
        Duration::from_millis(3),
        Duration::from_millis(10),
        Duration::from_millis(30),
        Duration::from_millis(100),
        Duration::from_millis(300),
    ];

    /// The state at the end of a second.
    pub(crate) fn new(record: &Record, elapsed: Nanos) -> Self {
        let answered: u64 = record.statuses.values().sum();
        Self {
            elapsed: Duration::from_nanos(elapsed),
            sent: record.sent,
            acknowledged: record.acknowledged,
            failed: answered - record.acknowledged + record.failures.total(),
            statuses: record.statuses.clone(),
            failures: record.failures,
            latency: [0.5, 0.99, 0.999, 1.0].map(|quantile| record.latency.quantile(quantile)),
            second: record.series.seconds.last().copied().unwrap_or_default(),
            heat: record.series.heat,
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
