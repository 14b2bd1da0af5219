//! The context of a worker: what it needs to settle updates.

use std::{
    io, mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use tracing::level_filters::LevelFilter;

use super::{Abandoned, Orders, STEP};
use crate::{
    bots::BotId,
    config::Dispatch,
    control::{
        Control, OutputState,
        operation::{Operation, Step},
        panics::Panicked,
    },
    delivery::{dead_letters::DeadLetters, handler::Outcome, sink::Refused},
    dispatch::{Delivery, LaneRef, RecordId, Scheduler, SettledBatch, Task},
    duration::nanos,
    error::{Error, ErrorKind},
    journal::{self, Journal},
    observe::metrics::{SlowRecord, Stage, WorkerMetrics},
    proto::update::{Recycled, Update, UpdateId, UpdateKind},
};

/// First and longest pause before a disk or pipe that took nothing is tried again.
const COMMIT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// The most duplicates that are logged of one round.
const DUPLICATES_MAX: usize = 1024;

/// What a worker needs to settle an update.
pub(crate) struct WorkerContext {
    pub(crate) control: Arc<Control>,
    /// Records of copies that have been dropped.
    pub(crate) copies: Vec<RecordId>,
    pub(crate) dead_letters: Option<Arc<DeadLetters>>,
    /// Duplicates that have been dropped and are to be logged; empty in between.
    pub(crate) duplicates: Vec<(BotId, UpdateId)>,
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// What may hang. It is begun with a time that is at hand and ends with the next one or where
    /// the worker sleeps, so an update costs no more than a store.
    pub(crate) operation: Arc<Operation>,
    pub(crate) orders: Arc<Orders>,
    /// The number of the output that it works for.
    pub(crate) output: usize,
    /// The state of that output.
    pub(crate) output_state: Option<Arc<OutputState>>,
    /// Records that are settled by this output and not by others, which the journal does not know
    /// yet.
    pub(crate) parts: Vec<RecordId>,
    /// Lanes to release together; empty in between.
    pub(crate) lanes: Vec<LaneRef>,
    /// Where each shard takes memory back.
    pub(crate) returns: Vec<Sender<Recycled>>,
    /// When the last update before this round was settled.
    pub(crate) settled_at: Option<Instant>,
    /// Records of settled updates that the journal does not know yet.
    pub(crate) settled: Vec<RecordId>,
    pub(crate) settled_batch: SettledBatch,
}

impl WorkerContext {
    /// Settles an update that has been handled, and releases its lane.
    pub(super) fn settle(
        &mut self,
        scheduler: &Scheduler,
        task: Task,
        outcome: Outcome,
        started_at: Instant,
    ) -> Result<(), Abandoned> {
        let Task { delivery, lane } = task;
        let end = Instant::now();
        self.metrics.handler.record(nanos(end - started_at));
        match outcome {
            Outcome::Done => {
                self.metrics.handled.add(1 + delivery.rest.len() as u64);
                self.settled_at = Some(end);
            }
            Outcome::Retry(after) => {
                self.metrics.retried.increment();
                let attempts = delivery.attempts;
                if attempts < scheduler.settings().max_attempts {
                    let due = end + after.min(Dispatch::RETRY_MAX);
                    scheduler.retry(lane, delivery, due);
                    return Ok(());
                }
                let reason = format!("given up after {attempts} attempts");
                self.dead_letter(delivery.updates(), attempts, &reason)?;
            }
            Outcome::Failed(reason) => {
                self.dead_letter(delivery.updates(), delivery.attempts, &reason)?;
            }
        }
        self.time(&delivery, started_at, end);
        // The update is gone before its lane goes on, for good: after a crash it must not come
        // behind later ones.
        self.release(delivery);
        self.note_settled(end);
        scheduler.finish(lane, |duplicate| self.drop_duplicate(duplicate));
        Ok(())
    }

    /// Keeps those of a batch as dead letters that the sink has refused; how many these are.
    #[cold]
    pub(super) fn dead_letter_refused(
        &mut self,
        batch: &[Task],
        refused: &Refused,
    ) -> Result<usize, Abandoned> {
        let mut count = 0;
        let updates = batch.iter().flat_map(|task| {
            let attempts = task.delivery.attempts + 1;
            task.delivery.updates().map(move |update| (update, attempts))
        });
        for (index, (update, attempts)) in updates.enumerate() {
            if let Some(reason) = refused.reason(index) {
                self.dead_letter([update].into_iter(), attempts, reason)?;
                count += 1;
            }
        }
        debug_assert_eq!(count, refused.len(), "an update that was not written is refused");
        Ok(count)
    }

    /// Settles a batch that has been taken but for `refused` of its updates, lane by lane.
    pub(super) fn settle_all(
        &mut self,
        scheduler: &Scheduler,
        batch: &mut Vec<Task>,
        refused: usize,
        started_at: impl Fn(&Delivery) -> Instant,
    ) {
        let end = Instant::now();
        let mut lanes = mem::take(&mut self.lanes);
        self.settled_at = Some(end);
        let updates: usize = batch.iter().map(|task| 1 + task.delivery.rest.len()).sum();
        self.metrics.handled.add((updates - refused) as u64);
        for Task { delivery, lane } in batch.drain(..) {
            let started_at = started_at(&delivery);
            self.metrics.handler.record(nanos(end - started_at));
            self.time(&delivery, started_at, end);
            self.release(delivery);
            lanes.push(lane);
        }
        self.note_settled(end);
        scheduler.finish_all(&lanes, |duplicate| self.drop_duplicate(duplicate));
        lanes.clear();
        self.lanes = lanes;
    }

    /// Times how long the updates of `batch` have waited that were looked for at `looked_at` and
    /// are there at `now`.
    pub(super) fn time_taking(&self, batch: &[Task], looked_at: Instant, now: Instant) {
        let taking = nanos(now - looked_at);
        for task in batch {
            let queued_at = task.delivery.queued_at;
            let (waited, taken) = if queued_at <= looked_at {
                (nanos(looked_at - queued_at), taking)
            } else {
                // What came into the inbox after the look has waited from then on.
                (0, nanos(now - queued_at))
            };
            self.metrics.queue_wait.record(waited);
            self.metrics.dispatch.record(taken);
        }
    }

    /// Times the whole path of updates whose handling is over, and records those that were slow.
    /// Updates that an earlier process has received are left out: what they waited for is not
    /// known.
    #[inline]
    fn time(&self, delivery: &Delivery, started_at: Instant, end: Instant) {
        for update in delivery.updates() {
            let whole = nanos(end - update.received_at());
            self.metrics.whole.record(whole);
            self.metrics.finished.finish(update);
            if self.metrics.slow.is_slow(whole) && !delivery.is_replayed {
                let waited = started_at.saturating_duration_since(delivery.queued_at);
                self.metrics.slow.note(SlowRecord {
                    bot: update.bot(),
                    received_at: update.received_at(),
                    shard: delivery.shard,
                    stages: vec![
                        (Stage::QueueWait, nanos(waited)),
                        (Stage::Handler, nanos(end - started_at)),
                        (Stage::Whole, whole),
                    ],
                    update_id: update.id().get(),
                });
            }
        }
    }

    /// Counts failed updates, keeps them where there is a file of dead letters, and logs the first
    /// of them where the count has doubled: a handler that fails always must not flood the log.
    #[cold]
    fn dead_letter<'a>(
        &mut self,
        updates: impl Iterator<Item = &'a Update> + Clone,
        attempts: u32,
        reason: &str,
    ) -> Result<(), Abandoned> {
        if let Some(letters) = self.dead_letters.clone() {
            let mut lines = Vec::new();
            for update in updates.clone() {
                letters.write(update, reason, attempts, &mut lines);
            }
            self.commit(Step::DeadLetters, || Ok(letters.commit(&mut lines)))?;
        }
        self.metrics.failed.add(updates.clone().count() as u64);
        updates.clone().for_each(|update| self.metrics.finished.fail(update));
        let failed = self.metrics.failed.get();
        if failed.is_power_of_two()
            && let Some(update) = updates.into_iter().next()
        {
            let (bot, id, kind) = (update.bot(), update.id(), update.kind());
            tracing::warn!(%bot, update_id = %id, %kind, reason, failed, "an update has failed");
        }
        Ok(())
    }

    /// Skips updates to which Telegram takes no answer any more.
    pub(super) fn drop_expired(
        &mut self,
        scheduler: &Scheduler,
        batch: &mut Vec<Task>,
        now: Instant,
    ) {
        let is_expired = |task: &Task| {
            let update = &task.delivery.update;
            life(update.kind()).is_some_and(|life| now - update.received_at() > life)
        };
        if !batch.iter().any(is_expired) {
            return;
        }
        let mut kept = Vec::with_capacity(batch.len());
        let mut gone = Vec::new();
        for task in batch.drain(..) {
            if is_expired(&task) {
                self.metrics.expired(task.delivery.update.kind());
                gone.push(task.lane);
                self.release(task.delivery);
            } else {
                kept.push(task);
            }
        }
        self.note_settled(now);
        for lane in gone {
            scheduler.finish(lane, |duplicate| self.drop_duplicate(duplicate));
        }
        *batch = kept;
    }

    /// Commits, however often that takes: these updates are acknowledged, so the worker waits and
    /// its queue fills until the destination takes them. Only the sink's code can panic.
    ///
    /// False where a sink has taken nothing and the worker is to leave it.
    pub(super) fn commit(
        &mut self,
        step: Step,
        mut commit: impl FnMut() -> Result<io::Result<()>, Panicked>,
    ) -> Result<bool, Abandoned> {
        let is_sink = step == Step::Sink;
        let output_state = self.output_state.clone().filter(|_| is_sink);
        let mut pause = COMMIT_PAUSE.0;
        let mut waiting = None;
        let mut logged = Vec::new();
        loop {
            // A sink's operation has begun with its first write.
            if !is_sink || pause > COMMIT_PAUSE.0 {
                self.operation.begin(step, Instant::now());
            }
            let error = match commit() {
                Ok(Ok(())) => {
                    output_state.iter().for_each(|state| state.set_up());
                    return Ok(true);
                }
                Ok(Err(error)) => error,
                Err(Panicked) => return Err(self.lost_sink()),
            };
            self.operation.end();
            match &output_state {
                Some(state) => state.set_down(&format!("it takes nothing ({})", error.kind())),
                None if waiting.is_none() => waiting = Some(self.control.wait_for_disk()),
                None => {}
            }
            self.settled_batch.empty();
            // What keeps it from taking anything may become something else meanwhile.
            if !logged.contains(&error.kind()) {
                logged.push(error.kind());
                let output = output_state.as_ref().map_or("dead letters", |state| state.name());
                tracing::warn!(output, %error, "an output takes nothing, updates wait for it");
            }
            // Where there are others, they go on.
            let is_sole = output_state.as_ref().is_some_and(|state| state.is_sole());
            if is_sole && error.kind() == io::ErrorKind::BrokenPipe {
                let message = "the sink's reader is gone, updates cannot be delivered";
                self.control.fail(&Error::with_source(ErrorKind::Sink, message, error));
            }
            self.metrics.retried.increment();
            let due = Instant::now() + pause;
            while Instant::now() < due {
                if self.is_left() {
                    return Err(Abandoned);
                }
                if is_sink && self.orders.is_given() {
                    return Ok(false);
                }
                thread::sleep(STEP.min(pause));
            }
            pause = (pause * 2).min(COMMIT_PAUSE.1);
        }
    }

    /// Reports that the sink has panicked. What it has written and what it would do next is not
    /// known, so the worker ends.
    #[cold]
    pub(super) fn lost_sink(&self) -> Abandoned {
        self.lost("the sink panicked: its worker has ended, and what it had is not delivered");
        Abandoned
    }

    /// Reports that the program has dropped its stream. A stop waits for it no longer.
    #[cold]
    pub(super) fn lost_stream(&self) {
        let message = "the stream's receiver was dropped, updates cannot be delivered";
        self.control.fail(&Error::new(ErrorKind::Sink, message));
    }

    /// Reports what the program's own code has done to a worker.
    #[cold]
    pub(super) fn lost(&self, message: &str) {
        self.control.fail(&Error::new(ErrorKind::Thread, message));
    }

    /// Notes in the journal at `now` which updates are settled, so that they do not come again
    /// after a crash.
    pub(super) fn note_settled(&mut self, now: Instant) {
        let Some(journal) = &self.journal else { return };
        if !self.settled.is_empty() {
            self.operation.begin(Step::Settle, now);
            journal.settle(&mut self.settled);
        }
        if !self.parts.is_empty() {
            self.operation.begin(Step::Settle, now);
            journal.settle_parts(&mut self.parts, self.output);
        }
    }

    /// The same for the duplicates that have been dropped, in this round and when lanes were
    /// released before.
    pub(super) fn note_copies(&mut self, now: Instant) {
        if !self.copies.is_empty()
            && let Some(journal) = &self.journal
        {
            self.operation.begin(Step::Settle, now);
            journal.settle_copies(&mut self.copies);
        }
    }

    pub(super) fn drop_duplicate(&mut self, delivery: Delivery) {
        self.metrics.duplicates.increment();
        // The lanes are locked, and a subscriber is foreign code: it is called later.
        if LevelFilter::current() >= LevelFilter::DEBUG && self.duplicates.len() < DUPLICATES_MAX {
            self.duplicates.push((delivery.update.bot(), delivery.update.id()));
        }
        let before = self.settled.len();
        self.release(delivery);
        self.copies.extend(self.settled.drain(before..));
    }

    /// Logs the duplicates that have been dropped since the last time.
    pub(super) fn log_duplicates(&mut self) {
        for (bot, id) in self.duplicates.drain(..) {
            tracing::debug!(%bot, update_id = %id, "dropped a copy: its id has been accepted before");
        }
    }

    /// True where the worker is to end, whatever is left.
    pub(super) fn is_left(&self) -> bool {
        self.control.is_abandoned()
            || self.output_state.as_ref().is_some_and(|state| state.is_left())
    }

    /// True where no other output has still to settle `record`.
    fn is_settled(&self, record: RecordId, is_part: bool) -> bool {
        !is_part || self.journal.as_ref().is_none_or(|it| it.parts().settle(record, self.output))
    }

    /// Gives back an update's share of the limits and its memory.
    fn release(&mut self, delivery: Delivery) {
        for further in delivery.rest {
            self.release(further);
        }
        let bytes = delivery.update.byte_len() as u64;
        self.settled_batch.take(bytes);
        if let Some(record) = delivery.record {
            if self.is_settled(record, delivery.is_part) {
                self.metrics.settled.increment();
                self.metrics.settled_bytes.add(journal::record_len(bytes));
                self.settled.push(record);
            } else {
                self.parts.push(record);
            }
        }
        if let Some(shard) = self.returns.get(delivery.shard) {
            // Where the shard has enough, or is gone, the memory is freed here.
            let _ = shard.try_send(delivery.update.recycle());
        }
    }
}

/// How long Telegram takes an answer to an update of `kind`; `None` where it is a day or more.
fn life(kind: UpdateKind) -> Option<Duration> {
    match kind {
        UpdateKind::CallbackQuery | UpdateKind::PreCheckoutQuery | UpdateKind::ShippingQuery => {
            Some(Duration::from_secs(150))
        }
        UpdateKind::InlineQuery => Some(Duration::from_secs(30)),
        _ => None,
    }
}
