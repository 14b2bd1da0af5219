//! What became of updates that did not go to exactly one output, and the outputs' part of the
//! report.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::Serialize;

use super::WorkerMetrics;

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

/// One output of several.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OutputReport {
    /// Its name.
    pub name: String,
    /// Updates that it has taken.
    pub handled: u64,
    /// Updates that it has finally not taken.
    pub failed: u64,
    /// Times that it took nothing, or asked for an update again.
    pub retried: u64,
    /// What keeps it from taking anything now, and since when; `None` where it takes what comes.
    pub down: Option<String>,
}

impl OutputReport {
    /// Sums what the workers of one output have counted.
    pub(crate) fn new(name: &str, down: Option<String>, workers: &[Arc<WorkerMetrics>]) -> Self {
        let sum = |pick: fn(&WorkerMetrics) -> u64| workers.iter().map(|it| pick(it)).sum();
        Self {
            name: name.to_owned(),
            handled: sum(|worker| worker.handled.get()),
            failed: sum(|worker| worker.failed.get()),
            retried: sum(|worker| worker.retried.get()),
            down,
        }
    }
}
