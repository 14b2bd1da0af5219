//! Since when a shard's connection that has been idle longest is so.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Since when a shard's connection that has been idle longest is so. The shard tells it now and
/// then, the acceptor reads it.
#[derive(Debug)]
pub(crate) struct LongestIdle {
    epoch: Instant,
    /// Since the epoch; `u64::MAX` where none is idle.
    millis: AtomicU64,
}

impl Default for LongestIdle {
    fn default() -> Self {
        Self::from_epoch(Instant::now())
    }
}

impl LongestIdle {
    /// What is told of times before `epoch` counts as `epoch`.
    pub(crate) fn from_epoch(epoch: Instant) -> Self {
        Self { epoch, millis: AtomicU64::new(u64::MAX) }
    }

    pub(crate) fn set(&self, since: Option<Instant>) {
        // Rounded up: a connection that is idle for long enough by this is so by the shard's clock.
        let millis = since.map_or(u64::MAX, |since| {
            u64::try_from(since.saturating_duration_since(self.epoch).as_millis())
                .map_or(u64::MAX, |millis| millis.saturating_add(1))
        });
        self.millis.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        match self.millis.load(Ordering::Relaxed) {
            u64::MAX => None,
            millis => self.epoch.checked_add(Duration::from_millis(millis)),
        }
    }
}
