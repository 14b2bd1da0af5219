//! How a shard shows that it goes on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::operation::{Operation, Step};

/// A shard's sign of life, given by its sweep. The first one is its start.
#[derive(Debug)]
pub(crate) struct Heartbeat(Arc<Operation>);

impl Heartbeat {
    pub(crate) fn new() -> Self {
        let operation = Arc::<Operation>::default();
        operation.begin(Step::Shard, Instant::now());
        Self(operation)
    }

    /// What the shard is in the middle of.
    pub(crate) fn operation(&self) -> &Arc<Operation> {
        &self.0
    }

    /// To be called by the shard, now and then.
    pub(crate) fn beat(&self, now: Instant) {
        self.0.begin(Step::Shard, now);
    }

    /// To be called where the shard ends as it should.
    pub(crate) fn end(&self) {
        self.0.end();
    }

    /// Since when there has been no sign of life, as of `now`; `None` where it has ended.
    pub(crate) fn silent_for(&self, now: Instant) -> Option<Duration> {
        self.0.under_way(now).map(|(_, since)| since)
    }
}
