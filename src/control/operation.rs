//! What each thread is doing and since when, so that a call that never returns is seen.
//!
//! A thread notes the beginning of what may hang, with a time that it has at hand: one relaxed
//! store to a cache line of its own. Health reads the notes, and takes no lock that a hanging
//! thread could hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::outcome::words;

/// Bits of an [`Operation`]'s state that are for the step.
const STEP_BITS: u32 = 8;

words! {
    /// Something of the server that may hang.
    Step {
        /// The acceptor takes connections.
        Accept = "accept",
        /// The operator's listener answers.
        Admin = "admin",
        /// The committer writes and syncs records.
        Commit = "commit",
        /// A worker writes dead letters.
        DeadLetters = "dead_letters",
        /// A program brings updates.
        Feed = "feed",
        /// A worker is in a handler.
        Handler = "handler",
        /// The housekeeper syncs, keeps ids or removes.
        Housekeep = "housekeep",
        /// A page of the program is made.
        Page = "page",
        /// The housekeeper makes the file of the next segment, which is long.
        Prepare = "prepare",
        /// Records are read back.
        ReadBack = "read_back",
        /// A worker notes in the journal what is settled.
        Settle = "settle",
        /// A shard's event loop goes round.
        Shard = "shard",
        /// A worker is in a sink.
        Sink = "sink",
        /// A worker waits for the program that reads the stream.
        Stream = "stream",
        /// The watcher looks at files.
        Watch = "watch",
    }
}

/// How many operations a [`Crowd`] records.
const CROWD: usize = 8;

/// What it means for the server that a step hangs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Severity {
    /// Updates are taken as before.
    Aside,
    /// No updates are taken.
    Obstacle,
    /// An output takes nothing. Those of other outputs are taken as before.
    OfOutput,
    /// An output takes nothing where all workers are in it: a single one may take as long as its
    /// program likes.
    OfAllWorkers,
}

impl Step {
    /// In words: the thread, and what has not returned.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Accept => "acceptor: taking connections",
            Self::Admin => "admin: an answer",
            Self::Commit => "journal: a write or sync of updates",
            Self::DeadLetters => "dead letters: a write",
            Self::Feed => "feed: taking the program's updates",
            Self::Handler => "handler: a call",
            Self::Housekeep => "journal: a sync or removal",
            Self::Page => "admin: a page of the program",
            Self::Prepare => "journal: making a file",
            Self::ReadBack => "journal: a read",
            Self::Settle => "journal: a note of settled updates",
            Self::Shard => "shard: a round",
            Self::Sink => "output: a write",
            Self::Stream => "output: handing an update to the stream",
            Self::Watch => "watcher: a look at files",
        }
    }

    /// The time after which it counts as hanging. A program's code may take as long as it likes, so
    /// for that the limit is only for a notice.
    pub(crate) const fn limit(self) -> Duration {
        match self {
            Self::Handler | Self::Stream => Duration::from_secs(60),
            // Tens of MiB of zeros, on a disk that others use.
            Self::Prepare => Duration::from_secs(30),
            _ => Duration::from_secs(5),
        }
    }

    pub(crate) const fn severity(self) -> Severity {
        match self {
            Self::Page | Self::Prepare | Self::Watch => Severity::Aside,
            Self::DeadLetters | Self::Sink => Severity::OfOutput,
            Self::Handler | Self::Stream => Severity::OfAllWorkers,
            _ => Severity::Obstacle,
        }
    }
}

/// What one thread is in the middle of. It has a pair of cache lines of its own, since it is
/// written for each batch of updates.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Operation {
    epoch: Instant,
    /// The milliseconds from the epoch to its beginning and one more, and the step behind them; 0
    /// where there is none.
    state: AtomicU64,
}

impl Default for Operation {
    fn default() -> Self {
        Self { epoch: Instant::now(), state: AtomicU64::new(0) }
    }
}

impl Operation {
    /// `step` begins at `now`, and any step before is over.
    pub(crate) fn begin(&self, step: Step, now: Instant) {
        self.state.store(self.state_of(step, now), Relaxed);
    }

    /// The same where nothing is under way; false where something is.
    fn begin_if_free(&self, step: Step, now: Instant) -> bool {
        self.state.compare_exchange(0, self.state_of(step, now), Relaxed, Relaxed).is_ok()
    }

    fn state_of(&self, step: Step, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        // Not as_millis, whose 128 bits cost a division.
        let millis = since.as_secs() * 1000 + u64::from(since.subsec_millis());
        (millis + 1) << STEP_BITS | step as u64
    }

    /// What was begun is over.
    pub(crate) fn end(&self) {
        self.state.store(0, Relaxed);
    }

    /// As [`begin`](Self::begin), until the result is dropped.
    pub(crate) fn during(&self, step: Step, now: Instant) -> During<'_> {
        self.begin(step, now);
        During(self)
    }

    /// What is under way, and for how long at `now`.
    pub(crate) fn under_way(&self, now: Instant) -> Option<(Step, Duration)> {
        let state = self.state.load(Relaxed);
        let millis = (state >> STEP_BITS).checked_sub(1)?;
        let step = Step::ALL.get((state & ((1 << STEP_BITS) - 1)) as usize)?;
        let since = self.epoch.checked_add(Duration::from_millis(millis))?;
        Some((*step, now.saturating_duration_since(since)))
    }
}

/// Things of one kind of which several may be under way at once.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    slots: [Arc<Operation>; CROWD],
}

impl Crowd {
    pub(crate) fn operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.slots.iter()
    }

    /// As [`Operation::during`]. `None` where as many are under way as are recorded, all of which
    /// have begun before.
    pub(crate) fn during(&self, step: Step, now: Instant) -> Option<During<'_>> {
        let mut slots = self.slots.iter();
        slots.find(|slot| slot.begin_if_free(step, now)).map(|slot| During(slot))
    }
}

/// Ends an operation when it is dropped, by a panic as well.
#[derive(Debug)]
#[must_use]
pub(crate) struct During<'a>(&'a Operation);

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_crowd_hides_no_other() {
        let crowd = Crowd::default();
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let ages = |at: u64| {
            let now = start + seconds(at);
            let ages = crowd.operations().filter_map(|it| it.under_way(now));
            ages.map(|(_, age)| age.as_secs_f64().round() as u64).collect::<Vec<_>>()
        };
        let first = crowd.during(Step::DeadLetters, start);
        let second = crowd.during(Step::DeadLetters, start + seconds(3));
        assert_eq!(ages(10), [10, 7]);
        drop(second);
        assert_eq!(ages(10), [10]);
        let more: Vec<_> = (0..CROWD).map(|_| crowd.during(Step::Feed, start)).collect();
        assert_eq!(more.iter().filter(|it| it.is_none()).count(), 1);
        drop((first, more));
        assert!(ages(10).is_empty());
    }

    #[test]
    fn an_operation_has_its_step_and_its_age_until_it_ends() {
        for (index, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, index);
            let same = Step::ALL.iter().filter(|it| it.as_str() == step.as_str());
            assert_eq!(same.count(), 1, "{step:?}");
        }
        let operation = Operation::default();
        let start = operation.epoch;
        let seconds = Duration::from_secs;
        assert_eq!(operation.under_way(start + seconds(100)), None);
        operation.begin(Step::Accept, start);
        assert_eq!(operation.under_way(start), Some((Step::Accept, seconds(0))));
        operation.begin(Step::Watch, start + seconds(3));
        let later = operation.under_way(start + seconds(10));
        assert_eq!(later, Some((Step::Watch, seconds(7))));
        // Another thread's clock may have been read a moment earlier.
        assert_eq!(operation.under_way(start), Some((Step::Watch, seconds(0))));
        drop(operation.during(Step::Sink, start));
        assert_eq!(operation.under_way(start + seconds(10)), None);
    }
}
