//! Workers that commit in the committer's place: when they are asked to, and when they do.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

use super::{committer::Commits, hand_over::CommitRequest};
use crate::{dispatch::Scheduler, duration::nanos};

/// How long workers commit nothing after a commit that was slow.
const SLOW_FOR: Duration = Duration::from_millis(100);

/// The workers that may commit, and what a shard asks of them.
#[derive(Debug)]
pub(crate) struct Helpers {
    /// Set at the start. Not owned: the committer owns the journal.
    commits: OnceLock<Weak<Commits>>,
    /// Whether a worker has been woken to commit and none has looked since.
    request: CachePadded<CommitRequest>,
    /// What `slow_until_ns` counts from.
    since: Instant,
    /// Until when workers commit nothing.
    slow_until_ns: AtomicU64,
    /// Not set where none of them commits.
    workers: OnceLock<Arc<Scheduler>>,
}

impl Default for Helpers {
    fn default() -> Self {
        Self {
            commits: OnceLock::new(),
            request: CachePadded::default(),
            since: Instant::now(),
            slow_until_ns: AtomicU64::new(0),
            workers: OnceLock::new(),
        }
    }
}

impl Helpers {
    /// To be called once, by what has been made of the committer.
    pub(super) fn set_commits(&self, commits: &Arc<Commits>) {
        let _ = self.commits.set(Arc::downgrade(commits));
    }

    pub(super) fn set_workers(&self, workers: &Arc<Scheduler>) {
        let _ = self.workers.set(Arc::clone(workers));
    }

    /// Wakes a worker that commits, if there is one that sleeps and commits are quick; false where
    /// none is woken. A wait for a worker that is awake would have no bound.
    pub(super) fn ask(&self, now: Instant) -> bool {
        self.workers.get().is_some_and(|workers| {
            let is_quick = self.slow_until_ns.load(Relaxed) <= self.elapsed_ns(now);
            is_quick && workers.has_sleepers() && self.request.make(|| workers.wake_helper())
        })
    }

    /// True where a worker has been asked to commit.
    pub(crate) fn are_asked(&self) -> bool {
        self.request.is_made()
    }

    /// Commits, where a worker has been asked to and none has yet. The caller is a worker of `own`,
    /// and calls [`Scheduler::next`] behind this.
    pub(crate) fn commit_if_asked(&self, own: &Scheduler) {
        // Without a committer all batches are back.
        if self.request.take()
            && let Some(commits) = self.commits.get().and_then(Weak::upgrade)
        {
            commits.help(own);
        }
    }

    /// To be called at `now`, the end of a commit that was slow.
    pub(super) fn was_slow(&self, now: Instant) {
        self.slow_until_ns.store(self.elapsed_ns(now + SLOW_FOR), Relaxed);
    }

    fn elapsed_ns(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.since))
    }
}
