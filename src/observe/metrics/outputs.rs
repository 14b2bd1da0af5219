//! What became of updates that did not go to exactly one output.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of updates that did not go to exactly one output. Threads that hand updates on write
/// them, but not for an update that goes to one.
#[derive(Debug, Default)]
pub(crate) struct OutputCounts {
    /// Updates that went to no output.
    dropped: AtomicU64,
    /// Deliveries beyond the first one of an update.
    further: AtomicU64,
}

impl OutputCounts {
    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    pub(crate) fn deliver_further(&self, deliveries: usize) {
        self.further.fetch_add(deliveries as u64, Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn further(&self) -> u64 {
        self.further.load(Relaxed)
    }
}
