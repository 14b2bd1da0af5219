//! What the workers count, of those that are added while the server runs as well.

use std::sync::Arc;

use super::WorkerMetrics;

/// The metrics of all workers that a server has had since its start. Reading takes no lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllWorkers(Arc<boxcar::Vec<Arc<WorkerMetrics>>>);

impl AllWorkers {
    /// Those of `workers` workers.
    pub(crate) fn new(workers: usize) -> Self {
        let all = Self::default();
        (0..workers).for_each(|_| drop(all.add()));
        all
    }

    /// Those of one more, and its number.
    pub(crate) fn add(&self) -> (usize, Arc<WorkerMetrics>) {
        let metrics = Arc::<WorkerMetrics>::default();
        (self.0.push(Arc::clone(&metrics)), metrics)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<WorkerMetrics>> {
        self.0.iter().map(|(_, metrics)| metrics)
    }
}
