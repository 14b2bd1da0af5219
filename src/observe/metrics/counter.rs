//! A counter with one writer: an increment is a plain load, add and store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts events of one thread; any thread may read it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Only the owning thread may call this, since two writers would lose counts.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`; see [`increment`](Self::increment).
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// The count so far.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
