//! The committer: writes the batches that have gathered, wakes the shards that wait for them, and
//! hands the updates on.

use std::{sync::Arc, thread, time::Instant};

use crossbeam_channel::Receiver;

use super::{Backlog, Batch, BatchReturn, Journal, Log, hand_over};
use crate::{
    control::operation::Step,
    dispatch::{Dispatcher, Origin, RecordId},
    duration::nanos,
    observe::metrics::CommitterMetrics,
    outcome::Refusal,
    proto::update::Update,
};

/// Commits batches; there is one in a process.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) backlog: Arc<Backlog>,
    /// Updates to be handed on; empty between two commits.
    pub(crate) committed: Vec<Committed>,
    pub(crate) dispatcher: Dispatcher,
    /// By [`Batch::batch_return`].
    pub(crate) returns: Vec<BatchReturn>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<CommitterMetrics>,
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
    /// Commits batches until every sender has been dropped.
    pub(crate) fn run(mut self, batches: &Receiver<Batch>) {
        self.journal.attach_committer();
        hand_over::receive(batches, |gathered| {
            if gathered.is_empty() {
                self.log.make_room();
                self.journal.operations.committer.end();
            } else {
                self.commit(gathered, Instant::now());
            }
        });
        let _closing = self.journal.operations.committer.during(Step::Commit, Instant::now());
        self.log.close();
    }

    /// Commits `batches` together, returns them and hands their updates on.
    pub(crate) fn commit(&mut self, batches: &mut Vec<Batch>, now: Instant) {
        // Until the next one, or the sleep.
        self.journal.operations.committer.begin(Step::Commit, now);
        let records: u64 = batches.iter().map(|batch| batch.entries.len() as u64).sum();
        let bytes: u64 = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        let outcome = self.log.append(batches, now);
        self.journal.tried(outcome.is_ok(), now);
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
                self.return_batches(batches, Instant::now());
                self.hand_on((segment.number, start));
            }
            Err(_) => {
                self.metrics.failed_batches.increment();
                self.metrics.failed_records.add(records);
                self.return_batches(batches, Instant::now());
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
    fn hand_on(&mut self, end: (u32, u64)) {
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
        self.dispatcher.wake_workers();
        if wakes {
            self.backlog.wake();
        }
    }
}

/// A panic must not leave connections waiting, and with them a stop: the shards learn that no batch
/// is returned any more.
impl Drop for Committer {
    fn drop(&mut self) {
        if !thread::panicking() {
            // The shards have ended before.
            return;
        }
        self.returns.drain(..).for_each(BatchReturn::end);
    }
}
