//! The committer: writes the batches that have gathered, wakes the shards that wait for them, and
//! hands the updates on.
//!
//! Its work is done by a thread of its own, or by a worker that would sleep otherwise: the worker
//! has to be woken anyway for the update that is in the batch, so one wake serves both. It does so
//! only where that is a quick write to the open segment; what may be long is left to the thread.

use std::{
    mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;

use super::{
    Backlog, Batch, BatchReturn, Journal, Log,
    hand_over::{self, Next, Turns},
};
use crate::{
    control::operation::Step,
    dispatch::{Dispatcher, Origin, RecordId, Scheduler},
    duration::nanos,
    observe::metrics::CommitterMetrics,
    outcome::Refusal,
    proto::update::Update,
};

/// A commit that comes later than this after the hand-over is slow, because of the disk or because
/// of other work on the CPU: workers make none for some time.
const SLOW: Duration = Duration::from_millis(2);

/// Commits batches; there is one in a process.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) backlog: Arc<Backlog>,
    /// From the shards; `None` after a panic.
    pub(crate) batches: Option<Receiver<Batch>>,
    /// Updates to be handed on; empty between two commits.
    pub(crate) committed: Vec<Committed>,
    pub(crate) dispatcher: Dispatcher,
    /// What has been taken of `batches`.
    pub(crate) gathered: Vec<Batch>,
    /// By [`Batch::batch_return`].
    pub(crate) returns: Vec<BatchReturn>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<CommitterMetrics>,
}

/// The committer, and the threads that have their turns as it.
#[derive(Debug)]
pub(crate) struct Commits {
    committer: Turns<Committer>,
    journal: Arc<Journal>,
}

impl Commits {
    /// Makes `committer` one that workers find by its journal as long as the result lives.
    pub(crate) fn new(committer: Committer) -> Arc<Self> {
        let journal = Arc::clone(&committer.journal);
        let commits = Arc::new(Self { committer: Turns::new(committer), journal });
        commits.journal.helpers().set_commits(&commits);
        commits
    }

    /// The committer's thread: commits batches until every sender has been dropped.
    pub(crate) fn run(&self) {
        self.journal.attach_committer();
        let wake = || self.journal.wake_committer();
        hand_over::serve(&self.committer, wake, |committer| committer.guarded(Committer::work));
    }

    /// A worker of `own` commits what has gathered. It has to look for updates behind that.
    pub(super) fn help(&self, own: &Scheduler) {
        let wake = || self.journal.wake_committer();
        let help = |committer: &mut Committer| committer.guarded(|it| it.help(own));
        if self.committer.take(wake, help) == Some(false) {
            self.journal.wake_committer();
        }
    }
}

/// An update whose record is committed.
#[derive(Debug)]
pub(crate) struct Committed {
    batch_return: usize,
    is_fed: bool,
    record: RecordId,
    update: Update,
}

impl Committer {
    /// A panic must not leave connections waiting, and with them a stop: the shards learn that no
    /// batch is returned any more.
    fn guarded<R>(&mut self, step: impl FnOnce(&mut Self) -> R) -> R {
        struct Guard<'a>(&'a mut Committer);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.batches = None;
                    self.0.gathered.clear();
                    self.0.returns.drain(..).for_each(BatchReturn::end);
                }
            }
        }
        let guard = Guard(self);
        step(&mut *guard.0)
    }

    /// One step of its thread.
    fn work(&mut self) -> Next {
        let Some(batches) = &self.batches else { return Next::End };
        let is_over = hand_over::gather(batches, &mut self.gathered);
        if !self.gathered.is_empty() {
            self.commit_gathered(Instant::now(), None);
            return Next::Look;
        }
        if is_over {
            let _closing = self.journal.operations.committer.during(Step::Commit, Instant::now());
            self.log.close();
            return Next::End;
        }
        self.log.make_room();
        self.journal.operations.committer.end();
        Next::Sleep
    }

    /// A step of a worker of `own`; false where the committer is to go on.
    fn help(&mut self, own: &Scheduler) -> bool {
        let Some(batches) = &self.batches else { return true };
        hand_over::gather(batches, &mut self.gathered);
        self.help_with_gathered(Instant::now(), own)
    }

    /// Commits what has gathered if that is a quick write; false where it is not.
    pub(super) fn help_with_gathered(&mut self, now: Instant, own: &Scheduler) -> bool {
        if self.gathered.is_empty() {
            return true;
        }
        if !self.log.is_open_for(&self.gathered) {
            return false;
        }
        self.commit_gathered(now, Some(own));
        self.metrics.by_workers.increment();
        self.journal.operations.committer.end();
        true
    }

    /// Commits what has gathered, returns it and hands the updates on. Workers of `own` are not
    /// woken: the caller is one, and looks for the updates itself.
    pub(super) fn commit_gathered(&mut self, now: Instant, own: Option<&Scheduler>) {
        let mut gathered = mem::take(&mut self.gathered);
        self.commit(&mut gathered, now, own);
        debug_assert!(gathered.is_empty(), "a batch that does not go back");
        self.gathered = gathered;
    }

    fn commit(&mut self, batches: &mut Vec<Batch>, now: Instant, own: Option<&Scheduler>) {
        // Until the next one, or the sleep.
        self.journal.operations.committer.begin(Step::Commit, now);
        let records: u64 = batches.iter().map(|batch| batch.entries.len() as u64).sum();
        let bytes: u64 = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        let outcome = self.log.append(batches, now);
        let ended = Instant::now();
        self.journal.tried(outcome.is_ok(), now);
        let is_slow = |batch: &Batch| ended.saturating_duration_since(batch.submitted_at) > SLOW;
        if batches.iter().any(is_slow) {
            self.journal.helpers().was_slow(ended);
        }
        match outcome {
            Ok((segment, at)) => {
                let mut start = at;
                for batch in &mut *batches {
                    batch.is_committed = true;
                    let batch_return = batch.batch_return;
                    self.committed.extend(batch.entries.iter_mut().filter_map(|entry| {
                        // A segment is smaller than 4 GiB.
                        debug_assert!(start + entry.at as u64 <= u64::from(u32::MAX));
                        let offset = (start + entry.at as u64) as u32;
                        let record = RecordId { segment: segment.number, offset };
                        debug_assert!(entry.update.is_some(), "a record that is never settled");
                        let update = entry.update.take()?;
                        Some(Committed { batch_return, is_fed: entry.is_fed, record, update })
                    }));
                    start += batch.bytes.len() as u64;
                }
                debug_assert_eq!(self.committed.len() as u64, records);
                debug_assert_eq!(start, at + bytes);
                self.metrics.records.add(records);
                self.metrics.bytes.add(bytes);
                self.metrics.batch_records.record(records);
                self.return_batches(batches, ended);
                self.hand_on((segment.number, start), own);
            }
            Err(_) => {
                self.metrics.failed_batches.increment();
                self.metrics.failed_records.add(records);
                self.return_batches(batches, ended);
            }
        }
    }

    fn return_batches(&self, batches: &mut Vec<Batch>, now: Instant) {
        for batch in batches.drain(..) {
            self.metrics.commit.record(nanos(now.saturating_duration_since(batch.submitted_at)));
            let has_return = batch.batch_return < self.returns.len();
            debug_assert!(has_return, "its connections would wait for ever");
            if let Some(batch_return) = self.returns.get(batch.batch_return) {
                batch_return.give_back(batch);
            }
        }
    }

    /// Hands updates to the workers, or leaves them in the journal, which ends at `end` now.
    fn hand_on(&mut self, end: (u32, u64), own: Option<&Scheduler>) {
        let now = Instant::now();
        let mut state = self.backlog.lock();
        let was_empty = state.is_empty();
        for Committed { batch_return, is_fed, record, update } in self.committed.drain(..) {
            let outcome = if state.is_behind {
                Err(update)
            } else {
                let origin = Origin {
                    is_part: false,
                    is_replayed: is_fed,
                    record: Some(record),
                    shard: batch_return,
                };
                let journal = &self.journal;
                state.hand_on(&self.dispatcher, journal, update, now, origin).map_err(
                    |(refusal, update)| {
                        if refusal != Refusal::Chat {
                            state.fall_behind(record);
                        }
                        update
                    },
                )
            };
            if let Err(update) = outcome {
                self.metrics.left.increment();
                if let Some(recycled) =
                    self.returns.get(batch_return).and_then(|it| it.recycled.as_ref())
                {
                    let _ = recycled.try_send(update.recycle());
                }
            }
        }
        debug_assert!(state.committed <= end, "{end:?} is before {:?}", state.committed);
        state.committed = end;
        let wakes = was_empty && !state.is_empty();
        let mut unrouted = state.take_unrouted();
        drop(state);
        self.journal.settle_unrouted(&mut unrouted, &self.metrics.unrouted);
        self.dispatcher.wake_workers_but(own);
        if wakes {
            self.backlog.wake();
        }
    }
}
