//! What a worker that runs is to do from now on.

use std::sync::{
    Mutex, PoisonError,
    atomic::{
        AtomicBool,
        Ordering::{Acquire, Release, SeqCst},
        fence,
    },
};

use super::Consumer;

/// What one worker has been told and has not taken notice of. It looks between two batches, and
/// while its destination takes nothing.
#[derive(Default)]
pub(crate) struct Orders {
    is_given: AtomicBool,
    next: Mutex<Option<Order>>,
}

/// What a worker is to do.
pub(crate) enum Order {
    /// To end. Nothing is under way, and nothing comes any more.
    End,
    /// To give its updates to this consumer.
    Serve(Consumer),
}

impl Orders {
    /// Gives an order in the place of one that was not taken notice of. The worker is to be woken
    /// afterwards.
    pub(crate) fn give(&self, order: Order) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let before = next.replace(order);
        self.is_given.store(true, Release);
        drop(next);
        // The worker attaches itself to its parker, then looks; who wakes it does so behind this.
        fence(SeqCst);
        // Not under the lock: it is the program's.
        drop(before);
    }

    #[inline]
    pub(super) fn is_given(&self) -> bool {
        self.is_given.load(Acquire)
    }

    pub(super) fn take(&self) -> Option<Order> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_given.store(false, Release);
        next.take()
    }
}
