//! A worker: takes updates from the lanes, gives them to the handler, the sink or the stream, and
//! settles them.

mod context;
mod direct;
mod orders;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    mem,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;

pub(crate) use self::{
    context::WorkerContext,
    orders::{Order, Orders},
};
use crate::{
    config::Dispatch,
    control::{
        operation::Step,
        panics::{self, Panicked},
    },
    delivery::{
        handler::{Handler, Outcome},
        sink::{Refused, SinkWriter},
        stream::{PendingUpdate, Settlement, Settlements, StreamSender},
    },
    dispatch::{Delivery, IDLE_SLEEP, Idle, Scheduler, Task},
    journal::Journal,
};

/// Updates that a sink gets before they are committed, where more are waiting.
const BATCH_UPDATES: usize = 128;
/// Longest wait between two looks at the flags.
const STEP: Duration = Duration::from_millis(50);

/// Where a worker's updates go.
pub(crate) enum Consumer {
    Handler(Arc<dyn Handler>),
    Sink(Box<dyn SinkWriter>),
    Stream(StreamSender, Settlements, Receiver<(Task, Settlement)>),
}

/// The state of one worker thread.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) context: WorkerContext,
    pub(crate) consumer: Consumer,
    /// Updates of a stream that are done and not settled; empty in between.
    pub(crate) done: Vec<Task>,
    /// Outcomes of the streams that it has served.
    settled: Option<Receiver<(Task, Settlement)>>,
}

/// The server abandons what is left: the worker ends.
struct Abandoned;

/// The end of a worker, by a panic as well: it may have been woken to commit, which is the
/// committer's part again.
struct Leaving(Option<Arc<Journal>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(journal) = &self.0 {
            journal.wake_committer();
        }
    }
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        scheduler: Arc<Scheduler>,
        context: WorkerContext,
        consumer: Consumer,
    ) -> Self {
        let settled = consumer.outcomes().cloned();
        Self { index, scheduler, context, consumer, done: Vec::new(), settled }
    }

    /// Works until the shards are gone and everything is settled, or until the server abandons.
    pub(crate) fn run(self) {
        let _leaving = Leaving(self.context.journal.clone());
        let Some(mut this) = self.lend() else { return };
        this.work_to_the_end();
        this.end();
    }

    fn end(mut self) {
        // Settlements that a stream's program has sent meanwhile.
        let _ = self.take_settlements();
        self.context.note_settled(Instant::now());
        let Self { consumer, context, .. } = self;
        context.operation.end();
        consumer.end(&context);
    }

    /// As [`run`](Self::run), but may be called again.
    pub(crate) fn work_to_the_end(&mut self) {
        if let Some(parker) = self.scheduler.parker(self.index) {
            parker.attach();
        }
        let mut batch = Vec::with_capacity(BATCH_UPDATES);
        let mut round = 0_u32;
        while !self.context.is_left() {
            round = round.wrapping_add(1);
            if self.context.orders.is_given() && self.obey().is_break() {
                return;
            }
            self.look_at_stream();
            if self.take_settlements().is_err() {
                return;
            }
            self.commit_if_asked();
            let limit = if matches!(self.consumer, Consumer::Sink(_)) { BATCH_UPDATES } else { 1 };
            let context = &mut self.context;
            // Where the last round had something to do, its end is the beginning of this one.
            let looked_at = context.settled_at.take().unwrap_or_else(Instant::now);
            let duplicate = |duplicate| context.drop_duplicate(duplicate);
            let idle =
                self.scheduler.next(self.index, round, looked_at, limit, &mut batch, duplicate);
            self.context.note_copies(looked_at);
            self.context.log_duplicates();
            let outcome = match idle {
                None => self.work(&mut batch, looked_at, Instant::now()),
                Some(Idle::Finished) => return,
                Some(Idle::Sleep) => {
                    self.sleep();
                    Ok(())
                }
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Does the committer's work where a shard has woken a worker for it.
    fn commit_if_asked(&mut self) {
        let WorkerContext { journal, operation, settled_at, .. } = &mut self.context;
        if let Some(journal) = journal
            && journal.helpers().are_asked()
        {
            // What hangs from now on is the commit.
            operation.end();
            *settled_at = None;
            journal.helpers().commit_if_asked(&self.scheduler);
        }
    }

    fn sleep(&mut self) {
        self.context.operation.end();
        self.context.settled_batch.empty();
        let WorkerContext { control, journal, orders, output_state, .. } = &self.context;
        let settlements = self.settled.as_ref();
        let stop = || {
            control.is_abandoned()
                || orders.is_given()
                || output_state.as_ref().is_some_and(|state| state.is_left())
                || settlements.is_some_and(|mailbox| !mailbox.is_empty())
                || journal.as_ref().is_some_and(|journal| journal.helpers().are_asked())
                || self.has_lost_stream()
        };
        self.scheduler.sleep(self.index, IDLE_SLEEP, stop);
    }

    /// Does what it has been told; breaks where it is to end.
    #[cold]
    fn obey(&mut self) -> ControlFlow<()> {
        match self.context.orders.take() {
            None => ControlFlow::Continue(()),
            Some(Order::End) => ControlFlow::Break(()),
            Some(Order::Serve(consumer)) => {
                // What the program still has of a stream comes back by the same way.
                self.settled = consumer.outcomes().cloned().or(self.settled.take());
                let before = mem::replace(&mut self.consumer, consumer);
                self.context.operation.end();
                before.end(&self.context);
                ControlFlow::Continue(())
            }
        }
    }

    /// True where the program has dropped its side of the stream, and no failure has been reported.
    /// A stop needs the stream no longer, unless an update is left.
    fn has_lost_stream(&self) -> bool {
        let Consumer::Stream(stream, ..) = &self.consumer else { return false };
        let WorkerContext { control, orders, output_state, .. } = &self.context;
        // One that is replaced is dropped after the order to leave it, and one of an output that
        // was taken out may be once it has nothing left.
        let is_left = || {
            let removed = output_state.as_ref().is_some_and(|state| state.removed().is_some());
            orders.is_given() || removed
        };
        stream.is_gone() && !is_left() && !control.is_stopping() && control.failure().is_none()
    }

    fn look_at_stream(&self) {
        if self.has_lost_stream() {
            self.context.lost_stream();
        }
    }

    /// Settles the updates whose outcomes the stream's program has sent.
    fn take_settlements(&mut self) -> Result<(), Abandoned> {
        let Some(settlements) = &self.settled else { return Ok(()) };
        let (mut done, mut outcome) = (mem::take(&mut self.done), Ok(()));
        for (mut task, settlement) in settlements.try_iter() {
            let started_at = task.delivery.queued_at;
            match settlement {
                Settlement::Outcome(Outcome::Done) => done.push(task),
                Settlement::Outcome(other) => {
                    outcome = self.context.settle(&self.scheduler, task, other, started_at);
                    if outcome.is_err() {
                        break;
                    }
                }
                Settlement::Postponed(after) => {
                    task.delivery.attempts = task.delivery.attempts.saturating_sub(1);
                    let due = Instant::now() + after.min(Dispatch::RETRY_MAX);
                    self.scheduler.retry(task.lane, task.delivery, due);
                }
            }
        }
        if !done.is_empty() {
            // One note in the journal is enough for all of them.
            let started_at = |delivery: &Delivery| delivery.queued_at;
            self.context.settle_all(&self.scheduler, &mut done, 0, started_at);
        }
        self.done = done;
        outcome
    }

    /// Handles the updates of `batch`, whose lanes are held since `now`; the worker looked for them
    /// at `looked_at`.
    fn work(
        &mut self,
        batch: &mut Vec<Task>,
        looked_at: Instant,
        now: Instant,
    ) -> Result<(), Abandoned> {
        let Self { scheduler, context, consumer, .. } = self;
        let drop_expired = scheduler.settings().drop_expired;
        if drop_expired {
            context.drop_expired(scheduler, batch, now);
        }
        context.time_taking(batch, looked_at, now);
        match consumer {
            Consumer::Handler(handler) => batch.drain(..).try_for_each(|mut task| {
                task.delivery.attempts += 1;
                context.operation.begin(Step::Handler, now);
                let delivery = &task.delivery;
                let call = || match &*delivery.rest {
                    [] => handler.handle(&delivery.update),
                    _ => handler.handle_album(&delivery.updates().collect::<Vec<_>>()),
                };
                let outcome = panics::caught(call).unwrap_or_else(|Panicked| {
                    context.metrics.panicked.increment();
                    Outcome::Failed(Cow::Borrowed("the handler panicked"))
                });
                context.settle(scheduler, task, outcome, now)
            }),
            Consumer::Sink(sink) => {
                context.operation.begin(Step::Sink, now);
                let updates = batch.iter().flat_map(|task| task.delivery.updates());
                let write = || updates.for_each(|update| sink.write(update));
                if panics::caught(write).is_err() {
                    return Err(context.lost_sink());
                }
                let mut refused = Refused::default();
                let is_taken = context.commit(Step::Sink, || {
                    refused.clear();
                    panics::caught(|| sink.commit(&mut refused))
                })?;
                if !is_taken {
                    scheduler.put_back(batch, Instant::now());
                    return Ok(());
                }
                let failed = match refused.is_empty() {
                    true => 0,
                    false => context.dead_letter_refused(batch, &refused)?,
                };
                context.settle_all(scheduler, batch, failed, |_| now);
                Ok(())
            }
            Consumer::Stream(stream, settlements, _) => batch.drain(..).try_for_each(|mut task| {
                task.delivery.attempts += 1;
                // From now on the time counts as the program's.
                task.delivery.queued_at = now;
                context.operation.begin(Step::Stream, now);
                let mut pending = PendingUpdate::new(task, settlements.clone());
                let mut is_reported = false;
                while let Err(refused) = stream.send(pending, STEP) {
                    pending = refused;
                    if context.orders.is_given() {
                        // Another one is to get it.
                        if let Some(Task { mut delivery, lane }) = pending.into_job() {
                            delivery.attempts = delivery.attempts.saturating_sub(1);
                            scheduler.retry(lane, delivery, Instant::now());
                        }
                        return Ok(());
                    }
                    if stream.is_gone() && !mem::replace(&mut is_reported, true) {
                        context.lost_stream();
                    }
                    if context.is_left() {
                        drop(pending.into_job());
                        return Err(Abandoned);
                    }
                }
                Ok(())
            }),
        }
    }
}

impl Consumer {
    /// Where the outcomes of a stream's updates come.
    fn outcomes(&self) -> Option<&Receiver<(Task, Settlement)>> {
        match self {
            Self::Stream(_, _, settled) => Some(settled),
            Self::Handler(_) | Self::Sink(_) => None,
        }
    }

    /// Drops it. It is the program's, so that may panic.
    fn end(self, context: &WorkerContext) {
        let name = self.name();
        if panics::caught(|| drop(self)).is_err() {
            context.lost(&format!("{name} panicked as it was dropped"));
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Handler(_) => "the handler",
            Self::Sink(_) => "the sink",
            Self::Stream(..) => "the stream",
        }
    }
}
