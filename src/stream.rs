//! Updates as a stream, for programs that live in an async runtime.

use std::{
    borrow::Cow,
    fmt,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError, bounded};
use futures_core::Stream;

use crate::{
    dispatch::{Job, Scheduler},
    handler::Outcome,
    update::Update,
};

/// The receiver's side of a server's updates: a bounded stream under any async runtime.
///
/// Each update has to be settled by [`done`](PendingUpdate::done), [`retry`](PendingUpdate::retry)
/// or [`failed`](PendingUpdate::failed); until then its chat's next update does not come. What the
/// stream holds and what is not settled counts against the server's limits, so a slow program
/// slows the sender down and nothing else.
#[derive(Debug)]
pub struct Updates {
    queue: Receiver<PendingUpdate>,
    waker: Arc<AtomicWaker>,
}

/// The workers' side of a stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamSender {
    queue: Sender<PendingUpdate>,
    waker: Arc<WakeOnDrop>,
}

/// Wakes the stream's task when the last worker has gone, so that it sees the end.
#[derive(Debug)]
struct WakeOnDrop(Arc<AtomicWaker>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// A stream that holds up to `capacity` updates.
pub(crate) fn stream(capacity: usize) -> (StreamSender, Updates) {
    let (sender, queue) = bounded(capacity.max(1));
    let waker = Arc::<AtomicWaker>::default();
    let sender = StreamSender { queue: sender, waker: Arc::new(WakeOnDrop(Arc::clone(&waker))) };
    (sender, Updates { queue, waker })
}

impl StreamSender {
    /// Hands an update over, waiting for room up to `timeout`; all of it where nobody listens any
    /// more, for the caller tries again until it is told to stop.
    ///
    /// # Errors
    /// The update, where there is no room yet or nobody listens any more.
    // The update itself comes back; a box for it would cost every update an allocation.
    #[allow(clippy::result_large_err)]
    pub(crate) fn send(
        &self,
        update: PendingUpdate,
        timeout: Duration,
    ) -> Result<(), PendingUpdate> {
        let outcome = self.queue.send_timeout(update, timeout);
        self.waker.0.wake();
        if let Err(SendTimeoutError::Disconnected(_)) = outcome {
            thread::sleep(timeout);
        }
        outcome.map_err(SendTimeoutError::into_inner)
    }
}

impl Stream for Updates {
    type Item = PendingUpdate;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PendingUpdate>> {
        for registered in [false, true] {
            match self.queue.try_recv() {
                Ok(update) => return Poll::Ready(Some(update)),
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                // Registering comes before the second look, so that no update slips between.
                Err(TryRecvError::Empty) if !registered => self.waker.register(context.waker()),
                Err(TryRecvError::Empty) => {}
            }
        }
        Poll::Pending
    }
}

/// A worker's mailbox for what has become of updates it sent to a stream.
#[derive(Clone, Debug)]
pub(crate) struct Settlements {
    pub(crate) mailbox: Sender<(Job, Outcome)>,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) worker: usize,
    /// What dropping an update unsettled means.
    pub(crate) on_drop: OnDrop,
}

/// What it means that a program drops an update without settling it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnDrop {
    /// It failed.
    Failed,
    /// It comes again, after one second.
    #[default]
    Retry,
}

/// An update that has to be settled.
pub struct PendingUpdate {
    /// `None` once it is settled.
    job: Option<Job>,
    settlements: Settlements,
}

impl PendingUpdate {
    pub(crate) fn new(job: Job, settlements: Settlements) -> Self {
        Self { job: Some(job), settlements }
    }

    /// All updates to be settled at once: this one, and the further messages of its album where
    /// [`Dispatch::media_groups`](crate::Dispatch::media_groups) gathers them.
    pub fn updates(&self) -> impl Iterator<Item = &Update> {
        self.job.iter().flat_map(|job| job.delivery.updates())
    }

    /// The update has been dealt with.
    pub fn done(mut self) {
        self.settle(Outcome::Done);
    }

    /// The update comes again after `after`, before any later one of its chat.
    pub fn retry(mut self, after: Duration) {
        self.settle(Outcome::Retry(after));
    }

    /// The update will never be dealt with; `reason` must not quote the message.
    pub fn failed(mut self, reason: impl Into<Cow<'static, str>>) {
        self.settle(Outcome::Failed(reason.into()));
    }

    /// Gives the job back unsettled.
    pub(crate) fn into_job(mut self) -> Option<Job> {
        self.job.take()
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(job) = self.job.take() {
            // Where the worker is gone the server has stopped and has counted the update.
            let _ = self.settlements.mailbox.send((job, outcome));
            self.settlements.scheduler.wake(self.settlements.worker);
        }
    }
}

impl Deref for PendingUpdate {
    type Target = Update;

    #[allow(clippy::expect_used)]
    fn deref(&self) -> &Update {
        // Settling consumes the value, so nobody can look at a settled one.
        &self.job.as_ref().expect("an update that is not settled").delivery.update
    }
}

impl Drop for PendingUpdate {
    fn drop(&mut self) {
        self.settle(match self.settlements.on_drop {
            OnDrop::Failed => Outcome::Failed("dropped without being settled".into()),
            OnDrop::Retry => Outcome::Retry(Duration::from_secs(1)),
        });
    }
}

impl fmt::Debug for PendingUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingUpdate").field(&self.job.as_ref().map(|job| &job.delivery)).finish()
    }
}
