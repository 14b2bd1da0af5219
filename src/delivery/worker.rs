//! A worker: takes updates from the lanes, gives them to the handler, the sink or the stream, and
//! settles them.

mod context;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;

pub(crate) use self::context::WorkerContext;
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
    dispatch::{IDLE_SLEEP, Idle, Scheduler, Task},
    duration::nanos,
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
    /// Works until the shards are gone and everything is settled, or until the server abandons.
    pub(crate) fn run(mut self) {
        let _leaving = Leaving(self.context.journal.clone());
        self.work_to_the_end();
        // Settlements that a stream's program has sent meanwhile.
        let _ = self.take_settlements();
        self.context.note_settled(Instant::now());
        let Self { consumer, context, .. } = self;
        context.operation.end();
        // The consumer is the program's, so its drop may panic.
        let name = consumer.name();
        if panics::caught(|| drop(consumer)).is_err() {
            context.lost(&format!("{name} panicked as it was dropped"));
        }
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
        let control = &self.context.control;
        let settlements = match &self.consumer {
            Consumer::Stream(_, _, settlements) => Some(settlements),
            Consumer::Handler(_) | Consumer::Sink(_) => None,
        };
        let WorkerContext { journal, output_state, .. } = &self.context;
        let stop = || {
            control.is_abandoned()
                || output_state.as_ref().is_some_and(|state| state.is_left())
                || settlements.is_some_and(|mailbox| !mailbox.is_empty())
                || journal.as_ref().is_some_and(|journal| journal.helpers().are_asked())
                || self.has_lost_stream()
        };
        self.scheduler.sleep(self.index, IDLE_SLEEP, stop);
    }

    /// True where the program has dropped its side of the stream, and no failure has been reported.
    /// A stop needs the stream no longer, unless an update is left.
    fn has_lost_stream(&self) -> bool {
        let Consumer::Stream(stream, ..) = &self.consumer else { return false };
        let control = &self.context.control;
        stream.is_gone() && !control.is_stopping() && control.failure().is_none()
    }

    fn look_at_stream(&self) {
        if self.has_lost_stream() {
            self.context.lost_stream();
        }
    }

    /// Settles the updates whose outcomes the stream's program has sent.
    fn take_settlements(&mut self) -> Result<(), Abandoned> {
        let Consumer::Stream(_, _, settlements) = &self.consumer else { return Ok(()) };
        for (mut task, settlement) in settlements.try_iter() {
            let started_at = task.delivery.queued_at;
            match settlement {
                Settlement::Outcome(outcome) => {
                    self.context.settle(&self.scheduler, task, outcome, started_at)?;
                }
                Settlement::Postponed(after) => {
                    task.delivery.attempts = task.delivery.attempts.saturating_sub(1);
                    let due = Instant::now() + after.min(Dispatch::RETRY_MAX);
                    self.scheduler.retry(task.lane, task.delivery, due);
                }
            }
        }
        Ok(())
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
        let taking = nanos(now - looked_at);
        for task in &*batch {
            let queued_at = task.delivery.queued_at;
            let (waited, taken) = if queued_at <= looked_at {
                (nanos(looked_at - queued_at), taking)
            } else {
                // What came into the inbox after the look has waited from then on.
                (0, nanos(now - queued_at))
            };
            context.metrics.queue_wait.record(waited);
            context.metrics.dispatch.record(taken);
        }
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
                context.commit(Step::Sink, || {
                    refused.clear();
                    panics::caught(|| sink.commit(&mut refused))
                })?;
                let failed = match refused.is_empty() {
                    true => 0,
                    false => context.dead_letter_refused(batch, &refused)?,
                };
                context.settle_all(scheduler, batch, failed, now);
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
    fn name(&self) -> &'static str {
        match self {
            Self::Handler(_) => "the handler",
            Self::Sink(_) => "the sink",
            Self::Stream(..) => "the stream",
        }
    }
}
