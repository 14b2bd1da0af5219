//! A worker: takes updates from its queue, gives them to the handler or the sink, settles them.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::{
    control::{self, Control},
    dispatch::{Delivery, Gate},
    error::{Error, ErrorKind},
    handler::{Handler, Outcome},
    metrics::{WorkerMetrics, nanos},
    sink::SinkWriter,
    update::{Recycled, Update},
};

/// Updates that a sink gets before they are committed, where more are waiting.
const BATCH_UPDATES: usize = 128;
/// Bytes that a sink gathers before they are committed.
const BATCH_BYTES: usize = 64 * 1024;
/// Sleep of an idle worker before it looks at the flags by itself.
const IDLE_SLEEP: Duration = Duration::from_secs(60);
/// First and longest pause before a sink that took nothing is tried again.
const COMMIT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Longest sleep between two looks at the flags while a retry is due later.
const RETRY_STEP: Duration = Duration::from_millis(50);

/// Where a worker's updates go.
pub(crate) enum Consumer {
    Handler(Arc<dyn Handler>),
    Sink(Box<dyn SinkWriter>),
}

/// One worker thread's state.
pub(crate) struct Worker {
    pub(crate) queue: Receiver<Delivery>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) consumer: Consumer,
    /// Where each shard takes memory back.
    pub(crate) returns: Vec<Sender<Recycled>>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<WorkerMetrics>,
}

/// The worker was told to leave what it has.
struct Abandoned;

impl Worker {
    /// Works until the queue is empty and all shards are gone, or until the server abandons.
    pub(crate) fn run(mut self) {
        self.gate.attach();
        let mut batch = Vec::with_capacity(BATCH_UPDATES);
        while !self.control.is_abandoned() {
            let outcome = match self.queue.try_recv() {
                Ok(delivery) => self.take(delivery, &mut batch),
                Err(TryRecvError::Empty) if !batch.is_empty() => self.commit(&mut batch),
                Err(TryRecvError::Empty) => {
                    self.sleep();
                    Ok(())
                }
                Err(TryRecvError::Disconnected) => {
                    let _ = self.commit(&mut batch);
                    return;
                }
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    fn sleep(&self) {
        let Self { queue, gate, control, .. } = self;
        gate.sleep_unless(
            || {
                // Whether the shards are gone shows in the next try_recv only, so a stop wakes.
                !queue.is_empty() || control.is_abandoned()
            },
            IDLE_SLEEP,
        );
    }

    fn take(&mut self, delivery: Delivery, batch: &mut Vec<Delivery>) -> Result<(), Abandoned> {
        let start = Instant::now();
        self.metrics.queue_wait.record(nanos(start - delivery.queued_at));
        match &mut self.consumer {
            Consumer::Handler(handler) => {
                let handler = Arc::clone(handler);
                self.handle(&*handler, &delivery.update)?;
                let end = Instant::now();
                self.settle(delivery, start, end);
                Ok(())
            }
            Consumer::Sink(sink) => {
                sink.write(&delivery.update);
                batch.push(Delivery { queued_at: start, ..delivery });
                if batch.len() < BATCH_UPDATES && sink.pending_bytes() < BATCH_BYTES {
                    return Ok(());
                }
                self.commit(batch)
            }
        }
    }

    /// Calls the handler until it is done with the update.
    fn handle(&self, handler: &dyn Handler, update: &Update) -> Result<(), Abandoned> {
        loop {
            match catch_unwind(AssertUnwindSafe(|| handler.handle(update))) {
                Ok(Outcome::Done) => {
                    self.metrics.handled.increment();
                    return Ok(());
                }
                Ok(Outcome::Failed(reason)) => {
                    self.failed(update, &reason);
                    return Ok(());
                }
                Err(_) => {
                    self.metrics.panicked.increment();
                    self.failed(update, "the handler panicked");
                    return Ok(());
                }
                Ok(Outcome::Retry(after)) => {
                    self.metrics.retried.increment();
                    self.wait(after)?;
                }
            }
        }
    }

    /// Counts a failed update, and logs it where the count has doubled: a handler that fails always
    /// must not flood the log.
    #[cold]
    fn failed(&self, update: &Update, reason: &str) {
        self.metrics.failed.increment();
        let failed = self.metrics.failed.get();
        if failed.is_power_of_two() {
            let (bot, id, kind) = (update.bot(), update.id(), update.kind());
            tracing::warn!(%bot, update_id = %id, %kind, reason, failed, "an update has failed");
        }
    }

    /// Waits in steps, so that a stop is not held up.
    fn wait(&self, duration: Duration) -> Result<(), Abandoned> {
        let due = control::deadline(duration);
        loop {
            if self.control.is_abandoned() {
                return Err(Abandoned);
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(RETRY_STEP));
        }
    }

    /// Commits the batch, however often that takes: these updates are acknowledged, so the worker
    /// stands still and its queue fills until the destination takes them.
    fn commit(&mut self, batch: &mut Vec<Delivery>) -> Result<(), Abandoned> {
        let Consumer::Sink(sink) = &mut self.consumer else { return Ok(()) };
        if batch.is_empty() {
            return Ok(());
        }
        let mut pause = COMMIT_PAUSE.0;
        while let Err(error) = sink.commit() {
            if pause == COMMIT_PAUSE.0 {
                tracing::warn!(%error, "the sink takes nothing, updates wait for it");
            }
            if error.kind() == io::ErrorKind::BrokenPipe {
                let message = "the sink's reader is gone, updates cannot be delivered";
                self.control.fail(&Error::with_source(ErrorKind::Sink, message, error));
            }
            self.metrics.retried.increment();
            let step = Instant::now() + pause;
            while Instant::now() < step {
                if self.control.is_abandoned() {
                    return Err(Abandoned);
                }
                thread::sleep(RETRY_STEP.min(pause));
            }
            pause = (pause * 2).min(COMMIT_PAUSE.1);
        }
        let end = Instant::now();
        for delivery in batch.drain(..) {
            self.metrics.handled.increment();
            let start = delivery.queued_at;
            self.settle(delivery, start, end);
        }
        Ok(())
    }

    /// Records the update's times and gives its memory back to its shard.
    fn settle(&self, delivery: Delivery, start: Instant, end: Instant) {
        self.metrics.handler.record(nanos(end - start));
        self.metrics.whole.record(nanos(end - delivery.update.received_at()));
        if let Some(shard) = self.returns.get(delivery.shard) {
            // Where the shard has enough, or is gone, the memory is freed here.
            let _ = shard.try_send(delivery.update.recycle());
        }
    }
}
