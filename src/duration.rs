//! Durations as deadlines, and as histograms take them.

use std::time::{Duration, Instant};

/// Longer than any wait that is meant.
const AGE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// When a wait that a caller chose ends. Adding it up would panic where it means "for ever".
pub(crate) fn deadline(wait: Duration) -> Instant {
    Instant::now() + wait.min(AGE)
}

/// The nanoseconds of `duration`, as histograms take them.
#[inline]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
