//! The committer's side of the hand-over of batches; the shards' side is the intake.
//!
//! A batch goes to the committer through a channel and is followed by a wake of the thread, or of a
//! worker that does the committer's work in its [turn](Turns). It comes back through the channel of
//! its home and is followed by a wake of the home's task. Either side looks into its channel after
//! it has become one that can be woken and before it sleeps.

use std::sync::{
    Arc,
    atomic::Ordering::{Acquire, Relaxed, SeqCst},
};

use super::Batch;
use crate::{
    proto::update::Recycled,
    sync::{
        AtomicBool, AtomicWaker, Mutex, OnceLock, Receiver, Sender, Thread, TryLockError,
        TryRecvError, current, fence, park,
    },
};

/// Batches and bytes that are written together at the most: what has gathered waits for one write.
const BATCHES_MAX: usize = 256;
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where a batch goes back to.
#[derive(Debug)]
pub(crate) struct BatchReturn {
    pub(crate) batches: Sender<Batch>,
    /// Where the memory of updates goes that stay in the journal for now.
    pub(crate) recycled: Option<Sender<Recycled>>,
    /// Wakes the task that waits for the batches.
    pub(crate) waker: Arc<AtomicWaker>,
}

impl BatchReturn {
    pub(super) fn give_back(&self, batch: Batch) {
        // A shard stays until its batches are back.
        let _ = self.batches.send(batch);
        self.waker.wake();
    }

    /// Tells the home that no batch comes back any more.
    pub(super) fn end(self) {
        // First: the woken task looks whether anything can come.
        drop(self.batches);
        self.waker.wake();
    }
}

/// The committer's thread, once it runs.
#[derive(Debug, Default)]
pub(crate) struct CommitterThread(OnceLock<Thread>);

impl CommitterThread {
    /// To be called by that thread before it looks for the first batch.
    pub(super) fn attach(&self) {
        let _ = self.0.set(current());
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// Whether a worker is to do the committer's work.
#[derive(Debug, Default)]
pub(super) struct CommitRequest(AtomicBool);

impl CommitRequest {
    /// Asks a worker, if `wake` finds one that sleeps: true where it does. `wake` has a full fence
    /// before it looks, and so has a worker between becoming one that can be woken and its last
    /// look at this.
    pub(super) fn make(&self, wake: impl FnOnce() -> bool) -> bool {
        self.0.store(true, Relaxed);
        wake()
    }

    /// True where it has been made and not been taken.
    pub(super) fn is_made(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Takes it. Who does has to have a turn.
    pub(super) fn take(&self) -> bool {
        self.is_made() && self.0.swap(false, Acquire)
    }
}

/// What one thread at a time works with: the committer, or a worker in its place.
///
/// No thread waits for it. One that finds it taken leaves what it would have done to the committer,
/// which is woken when it is free again.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// Whether a thread has found it taken since the last turn ended.
    is_wanted: AtomicBool,
    work: Mutex<T>,
}

impl<T> Turns<T> {
    pub(super) fn new(work: T) -> Self {
        Self { is_wanted: AtomicBool::new(false), work: Mutex::new(work) }
    }

    /// Does `step` now; `None` where another thread has its turn, behind which `wake` is called.
    pub(super) fn take<R>(&self, wake: impl Fn(), step: impl FnOnce(&mut T) -> R) -> Option<R> {
        let taken = || match self.work.try_lock() {
            Ok(work) => Some(work),
            // A panic has ended it in an orderly way.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        // Dropped behind the lock, by a panic as well.
        let mut released = Released { is_wanted: &self.is_wanted, wake, had_turn: false };
        let mut work = taken().or_else(|| {
            self.is_wanted.store(true, Relaxed);
            // Either the other thread finds this when it has released the lock, or this one finds
            // it released.
            fence(SeqCst);
            taken()
        })?;
        released.had_turn = true;
        Some(step(&mut work))
    }
}

/// The end of a turn.
struct Released<'a, W: Fn()> {
    is_wanted: &'a AtomicBool,
    wake: W,
    had_turn: bool,
}

impl<W: Fn()> Drop for Released<'_, W> {
    fn drop(&mut self) {
        if !self.had_turn {
            return;
        }
        fence(SeqCst);
        if self.is_wanted.load(Relaxed) && self.is_wanted.swap(false, Relaxed) {
            (self.wake)();
        }
    }
}

/// What the committer's thread does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// No batch can come any more.
    End,
    /// There may be more.
    Look,
    /// There was none.
    Sleep,
}

/// The committer's thread: has turns until no batch can come any more.
pub(super) fn serve<T>(turns: &Turns<T>, wake: impl Fn(), mut step: impl FnMut(&mut T) -> Next) {
    loop {
        match turns.take(&wake, &mut step) {
            Some(Next::End) => return,
            Some(Next::Look) => {}
            // Not the channel's own wait: it yields before it sleeps, and on a machine whose CPUs
            // are all busy a thread that yields is not run again for a tick of the kernel, which
            // is milliseconds.
            Some(Next::Sleep) | None => park(),
        }
    }
}

/// Takes what is there, up to the bounds of one write; true where nothing can come any more.
pub(super) fn gather(batches: &Receiver<Batch>, gathered: &mut Vec<Batch>) -> bool {
    let mut bytes: usize = gathered.iter().map(Batch::len).sum();
    loop {
        match batches.try_recv() {
            Ok(batch) => {
                bytes += batch.len();
                gathered.push(batch);
                if bytes >= BYTES_MAX || gathered.len() >= BATCHES_MAX {
                    return false;
                }
            }
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => return true,
        }
    }
}
