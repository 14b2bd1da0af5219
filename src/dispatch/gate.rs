//! Where an idle worker sleeps, and how it is woken without a system call for each update.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::{self, Thread},
    time::Duration,
};

use crossbeam_utils::CachePadded;

/// Where a worker sleeps while there is nothing to do.
///
/// The flag and the queues are a Dekker pair: the worker raises the flag and then looks for work
/// again, whoever brings work looks at the flag afterwards; with a full fence between the two steps
/// on each side, at least one of them sees the other.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    asleep: CachePadded<AtomicBool>,
    thread: OnceLock<Thread>,
}

impl Gate {
    /// To be called once by the worker's thread before it first sleeps.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// Sleeps until it is woken, but no longer than `pause` says, which is asked behind the flag:
    /// not at all where there is work already, and not beyond what is due at a time.
    pub(crate) fn sleep(&self, pause: impl FnOnce() -> Option<Duration>) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Some(pause) = pause() {
            thread::park_timeout(pause);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the worker if it sleeps or is about to; false where it does not. What it should see
    /// has been written before, with a [`fence`] of sequential consistency in between.
    pub(crate) fn wake(&self) -> bool {
        // The plain load first: at saturation nobody sleeps and the line stays shared.
        let wakes =
            self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed);
        if wakes {
            self.wake_now();
        }
        wakes
    }

    /// Wakes the worker whatever it does.
    pub(crate) fn wake_now(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
