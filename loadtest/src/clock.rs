//! Time as the run counts it.

use std::time::{Duration, Instant};

/// Nanoseconds since the generator's thread began.
pub(crate) type Nanos = u64;

/// Reads the time.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Nanos {
        nanos(self.0.elapsed())
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
