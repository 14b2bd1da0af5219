//! Where an idle worker sleeps, and how it is woken without a system call for each update.

use std::{fmt, sync::atomic::Ordering};

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicBool, AtomicU64, OnceLock, Thread, current, fence};

/// Where a worker sleeps while there is nothing to do.
///
/// The flag and the queues are a Dekker pair. The worker raises the flag and then looks for work
/// again; a thread that brings work looks at the flag afterwards. With a full fence between the two
/// steps on each side, at least one of them sees the other.
#[derive(Debug, Default)]
pub(crate) struct WorkerParker {
    asleep: CachePadded<AtomicBool>,
    /// When the worker wakes up by itself, on the scheduler's clock. Valid while it sleeps.
    until_ns: AtomicU64,
    thread: OnceLock<Thread>,
    /// What is woken in the place of the thread, while it stands in for it.
    stand_in: OnceLock<StandIn>,
    stands_in: AtomicBool,
}

/// Wakes what does a worker's work on another thread.
pub(crate) struct StandIn(pub(crate) Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandIn")
    }
}

impl WorkerParker {
    /// To be called once by the worker's thread before its first sleep.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(current());
    }

    /// The first half of the worker's part: from now on it can be woken. It has to look for work
    /// once more before it parks, and to [`cancel_park`](Self::cancel_park) in any case.
    pub(crate) fn prepare_park(&self, until_ns: u64) {
        self.until_ns.store(until_ns, Ordering::Relaxed);
        // The waker that takes the flag down has to see the thread that was attached.
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn cancel_park(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// True where the worker sleeps, and no longer than until `due_ns`. The caller has published
    /// the time before, with a fence in between, so a worker that goes to sleep now has seen it.
    pub(crate) fn is_up_by(&self, due_ns: u64) -> bool {
        self.asleep.load(Ordering::Relaxed) && self.until_ns.load(Ordering::Relaxed) <= due_ns
    }

    /// Whether the worker's flag says that it is parked.
    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Wakes the worker if it sleeps or is about to; false where it does not. What it should see
    /// has been written before, with [`published`] in between.
    pub(crate) fn wake(&self) -> bool {
        // The plain load first: at saturation no worker sleeps and the line stays shared.
        let wakes =
            self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Acquire);
        if wakes {
            self.wake_now();
        }
        wakes
    }

    /// Wakes the worker, also where it does not sleep.
    pub(crate) fn wake_now(&self) {
        match self.stand_in.get().filter(|_| self.stands_in.load(Ordering::Acquire)) {
            Some(StandIn(wake)) => wake(),
            None => self.wake_thread(),
        }
    }

    /// Has `stand_in` woken from now on. To be called once, by the worker's thread while it is
    /// awake.
    pub(crate) fn begin_stand_in(&self, stand_in: StandIn) {
        let is_first = self.stand_in.set(stand_in).is_ok();
        debug_assert!(is_first, "it has stood in before");
        self.stands_in.store(true, Ordering::Release);
    }

    /// Has the thread woken again. To be called by the thread while it is awake: what is brought
    /// before its next [`prepare_park`](Self::prepare_park) it looks for itself.
    pub(crate) fn end_stand_in(&self) {
        self.stands_in.store(false, Ordering::Release);
    }

    /// Wakes the thread, also where another one does its work.
    pub(crate) fn wake_thread(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The waker's half of the Dekker pair: to be called between the writing of what a worker should
/// see and the look at who sleeps.
#[inline]
pub(crate) fn published() {
    fence(Ordering::SeqCst);
}
