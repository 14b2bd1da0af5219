//! Updates as a stream, for programs that live in an async runtime.

use std::{
    borrow::Cow,
    fmt,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError, bounded};
use futures_core::Stream;

use crate::{
    control::panics,
    delivery::handler::Outcome,
    dispatch::{Scheduler, Task},
    proto::update::Update,
};

/// The receiver's side of a server's updates: a bounded stream under any async runtime.
///
/// Each update has to be settled by [`done`](PendingUpdate::done), [`retry`](PendingUpdate::retry)
/// or [`failed`](PendingUpdate::failed); until then its chat's next update does not come. What the
/// stream holds and what is not settled counts against the server's limits, so a slow program
/// slows the sender down and nothing else.
///
/// To drop it while the server runs is a failure of the server, as a sink's reader that goes is:
/// its owner is told ([`on_failure`](crate::ServerBuilder::on_failure)), and `/healthz` says so.
#[derive(Debug)]
pub struct Updates {
    queue: Receiver<PendingUpdate>,
    shared: Arc<Shared>,
}

/// The workers' side of a stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamSender {
    queue: Sender<PendingUpdate>,
    shared: Arc<WakeOnDrop>,
}

/// A worker whose work is done on the thread that polls the stream.
pub(crate) trait Direct: Send + Sync {
    /// The next update. Where there is none, `register` has been called before the last look.
    fn poll_next(&self, register: &dyn Fn()) -> Direction;
}

/// What there is to be had of [`Direct`].
pub(crate) enum Direction {
    Next(PendingUpdate),
    Wait,
    /// The worker's thread does the work from now on.
    Queue,
}

/// What both sides of a stream share.
#[derive(Default)]
struct Shared {
    /// Whether the program does the work of the output's worker.
    is_direct: AtomicBool,
    /// That worker, once it runs.
    direct: OnceLock<Arc<dyn Direct>>,
    /// Whether the receiver's side is gone.
    is_gone: AtomicBool,
    /// Updates of a chat that a program gets before it settles the first of them; 0 as 1.
    run: AtomicUsize,
    /// Of the receiver's task.
    waker: AtomicWaker,
    /// Whose workers are woken when the receiver is dropped, once there are any.
    workers: OnceLock<Weak<Scheduler>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("is_gone", &self.is_gone).finish_non_exhaustive()
    }
}

impl Shared {
    fn wake(&self) {
        // The waker is the program's.
        if panics::caught(|| self.waker.wake()).is_err() {
            tracing::error!("the waker of the program that reads the stream has panicked");
        }
    }
}

/// Wakes the stream's task when the last worker has ended, so that it sees the end.
#[derive(Debug)]
struct WakeOnDrop(Arc<Shared>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// Wakes the workers, so that they notice without an update to send.
impl Drop for Updates {
    fn drop(&mut self) {
        self.shared.is_gone.store(true, SeqCst);
        if let Some(workers) = self.shared.workers.get().and_then(Weak::upgrade) {
            workers.wake_all();
        }
    }
}

/// A stream that holds up to `capacity` updates.
pub(crate) fn stream(capacity: usize) -> (StreamSender, Updates) {
    let (sender, queue) = bounded(capacity.max(1));
    let shared = Arc::<Shared>::default();
    let sender = StreamSender { queue: sender, shared: Arc::new(WakeOnDrop(Arc::clone(&shared))) };
    (sender, Updates { queue, shared })
}

impl Updates {
    /// Spares the worker's thread between the server and the program. The thread that polls the
    /// stream takes updates from the server's queues, and settles them when it polls next, which
    /// saves two wakes of a thread for each update.
    ///
    /// A task that was told that there is nothing yet has to poll again whenever it is woken. A
    /// poll notes in the journal what has been settled, writes dead letters, and with
    /// [`Ack::Written`](crate::Ack::Written) commits updates, for as long as the disk takes for
    /// that. Where the task does not poll, a commit waits for up to 2 s.
    ///
    /// To be called before the server starts. The output needs one worker, and uses no further one.
    #[must_use]
    pub fn direct(self) -> Self {
        self.shared.is_direct.store(true, SeqCst);
        self
    }

    /// Gives up to `updates` of a chat before the first of them is settled; 1 by default. They come
    /// in their order. One that is to come again does so once the others that were given are
    /// settled, so a program that settles a later one first changes that order.
    ///
    /// Without [`direct`](Self::direct) it has no effect. To be called before the server starts.
    #[must_use]
    pub fn runs_of(self, updates: usize) -> Self {
        self.shared.run.store(updates, SeqCst);
        self
    }
}

impl StreamSender {
    /// True where the program does the work of the output's worker.
    pub(crate) fn is_direct(&self) -> bool {
        self.shared.0.is_direct.load(SeqCst)
    }

    /// Updates of a chat that the program gets before it settles the first of them.
    pub(crate) fn run(&self) -> usize {
        self.shared.0.run.load(SeqCst).max(1)
    }

    /// Gives the work of a worker to the thread that polls the stream.
    pub(crate) fn lend(&self, worker: Arc<dyn Direct>) {
        let _ = self.shared.0.direct.set(worker);
        self.shared.0.wake();
    }

    /// Wakes the receiver's task. It does not keep the stream open.
    pub(crate) fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared.0);
        move || shared.wake()
    }

    /// Has the workers of `scheduler` woken when the receiver is dropped.
    pub(crate) fn serve(&self, scheduler: &Arc<Scheduler>) {
        let _ = self.shared.0.workers.set(Arc::downgrade(scheduler));
    }

    /// True where the receiver has been dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.shared.0.is_gone.load(SeqCst)
    }

    /// Sends an update, waiting for room up to `timeout`. Waits all of it where the receiver has
    /// been dropped, for the caller tries again until it is stopped.
    ///
    /// # Errors
    /// The update, where there is no room yet or the receiver has been dropped.
    // The update itself comes back; a box for it would cost every update an allocation.
    #[allow(clippy::result_large_err)]
    pub(crate) fn send(
        &self,
        update: PendingUpdate,
        timeout: Duration,
    ) -> Result<(), PendingUpdate> {
        let outcome = self.queue.send_timeout(update, timeout);
        self.shared.0.wake();
        if let Err(SendTimeoutError::Disconnected(_)) = outcome {
            thread::sleep(timeout);
        }
        outcome.map_err(SendTimeoutError::into_inner)
    }
}

impl Stream for Updates {
    type Item = PendingUpdate;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PendingUpdate>> {
        let register = || self.shared.waker.register(context.waker());
        for registered in [false, true] {
            match self.shared.direct.get().map(|direct| direct.poll_next(&register)) {
                Some(Direction::Next(mut update)) => {
                    update.is_taken = true;
                    return Poll::Ready(Some(update));
                }
                Some(Direction::Wait) => return Poll::Pending,
                Some(Direction::Queue) | None => {}
            }
            match self.queue.try_recv() {
                Ok(mut update) => {
                    update.is_taken = true;
                    return Poll::Ready(Some(update));
                }
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                // Registering comes before the second look, so that no update is missed in between.
                Err(TryRecvError::Empty) if !registered => register(),
                Err(TryRecvError::Empty) => {}
            }
        }
        Poll::Pending
    }
}

/// What a program says of an update that it got from a stream.
#[derive(Debug)]
pub(crate) enum Settlement {
    Outcome(Outcome),
    /// It has not tried: the update comes again after this time.
    Postponed(Duration),
}

/// A worker's mailbox for what is said of the updates that it sent to a stream.
#[derive(Clone, Debug)]
pub(crate) struct Settlements {
    pub(crate) mailbox: Sender<(Task, Settlement)>,
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
    /// Whether the program has got it from the stream.
    is_taken: bool,
    /// `None` once it is settled.
    task: Option<Task>,
    settlements: Settlements,
}

impl PendingUpdate {
    pub(crate) fn new(task: Task, settlements: Settlements) -> Self {
        Self { is_taken: false, task: Some(task), settlements }
    }

    /// All updates to be settled at once: this one, and the further messages of its album where
    /// [`Dispatch::media_groups`](crate::Dispatch::media_groups) gathers them.
    pub fn updates(&self) -> impl Iterator<Item = &Update> {
        self.task.iter().flat_map(|task| task.delivery.updates())
    }

    /// The update has been dealt with.
    pub fn done(mut self) {
        self.settle(Settlement::Outcome(Outcome::Done));
    }

    /// The update comes again after `after`, before any later one of its chat.
    pub fn retry(mut self, after: Duration) {
        self.settle(Settlement::Outcome(Outcome::Retry(after)));
    }

    /// As [`retry`](Self::retry), but counts as no attempt, however often it is called: for a
    /// destination that is down, which says nothing of the update.
    pub fn postpone(mut self, after: Duration) {
        self.settle(Settlement::Postponed(after));
    }

    /// The update will never be dealt with; `reason` must not quote the message.
    pub fn failed(mut self, reason: impl Into<Cow<'static, str>>) {
        self.settle(Settlement::Outcome(Outcome::Failed(reason.into())));
    }

    /// Returns the task unsettled.
    pub(crate) fn into_job(mut self) -> Option<Task> {
        self.task.take()
    }

    fn settle(&mut self, settlement: Settlement) {
        if let Some(task) = self.task.take() {
            // Where the worker has ended, the server has stopped and has counted the update.
            let _ = self.settlements.mailbox.send((task, settlement));
            self.settlements.scheduler.wake(self.settlements.worker);
        }
    }
}

impl Deref for PendingUpdate {
    type Target = Update;

    #[allow(clippy::expect_used)]
    fn deref(&self) -> &Update {
        // Settling consumes the value, so a settled one has no other reader.
        &self.task.as_ref().expect("an update that is not settled").delivery.update
    }
}

impl Drop for PendingUpdate {
    fn drop(&mut self) {
        // Where the stream is dropped with updates in it, their outcome is not known.
        self.settle(match self.settlements.on_drop {
            _ if !self.is_taken => Settlement::Postponed(Duration::ZERO),
            OnDrop::Failed => {
                Settlement::Outcome(Outcome::Failed("dropped without being settled".into()))
            }
            OnDrop::Retry => Settlement::Outcome(Outcome::Retry(Duration::from_secs(1))),
        });
    }
}

impl fmt::Debug for PendingUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingUpdate")
            .field(&self.task.as_ref().map(|task| &task.delivery))
            .finish()
    }
}
