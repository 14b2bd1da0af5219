//! Handshakes in progress: so many at a time, then so many that wait for theirs.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::atomic::Ordering,
    time::Instant,
};

use super::Shard;
use crate::{
    io::{accepted::AcceptedConnection, connection, runtime},
    outcome::{CloseReason, TurnedAway},
};

/// The handshakes in progress of a shard, and the connections that wait for theirs.
#[derive(Debug, Default)]
pub(super) struct HandshakeAdmission {
    running: Cell<usize>,
    waiting: RefCell<VecDeque<AcceptedConnection>>,
}

impl HandshakeAdmission {
    /// True where a connection waits for one of those in progress to end.
    pub(super) fn are_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }
}

/// A place among the handshakes in progress; it goes to the next that waits when this is dropped.
struct HandshakePlace {
    shard: Rc<Shard>,
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        let running = &self.shard.admission.running;
        running.set(running.get().saturating_sub(1));
        self.shard.begin_waiting();
    }
}

impl Shard {
    /// Begins to serve `accepted`, or lets it wait, or closes it where too many do.
    pub(super) fn begin(self: &Rc<Self>, accepted: AcceptedConnection) {
        let limits = self.context.limits();
        let HandshakeAdmission { running, waiting } = &self.admission;
        if running.get() < limits.handshakes {
            running.set(running.get() + 1);
            self.tasks.set(self.tasks.get() + 1);
            let place = HandshakePlace { shard: Rc::clone(self) };
            let (shard, context) = (Rc::clone(self), Rc::clone(&self.context));
            runtime::spawn(async move {
                connection::serve(context, accepted, place).await;
                shard.connection_ended();
            });
        } else if self.context.is_draining.get() {
            self.dismiss(accepted, CloseReason::Drained);
        } else if waiting.borrow().len() < limits.handshakes_waiting {
            waiting.borrow_mut().push_back(accepted);
        } else {
            // Before the peer can know.
            self.context.turned_away(accepted.peer, TurnedAway::Handshakes);
            drop(accepted);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Begins with those that wait, as many as there is room for.
    fn begin_waiting(self: &Rc<Self>) {
        let limit = self.context.limits().handshakes;
        while self.admission.running.get() < limit
            && let Some(accepted) = self.next_waiting()
        {
            self.begin(accepted);
        }
    }

    fn next_waiting(&self) -> Option<AcceptedConnection> {
        self.admission.waiting.borrow_mut().pop_front()
    }

    /// Closes up to `most` of those whose time is over before their handshake has begun: how many.
    /// They have come in order.
    pub(super) fn dismiss_late(&self, now: Instant, most: usize) -> usize {
        let timeout = self.context.limits().handshake_timeout;
        let is_late = |accepted: &AcceptedConnection| accepted.accepted_at + timeout <= now;
        let mut dismissed = 0;
        while dismissed < most
            && self.admission.waiting.borrow().front().is_some_and(is_late)
            && let Some(accepted) = self.next_waiting()
        {
            self.context.metrics.handshakes_failed.increment();
            self.dismiss(accepted, CloseReason::HandshakeTimeout);
            dismissed += 1;
        }
        dismissed
    }

    /// Closes all that wait.
    pub(super) fn dismiss_waiting(&self) {
        while let Some(accepted) = self.next_waiting() {
            self.dismiss(accepted, CloseReason::Drained);
        }
    }

    fn dismiss(&self, accepted: AcceptedConnection, reason: CloseReason) {
        self.context.metrics.closed(reason);
        drop(accepted);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
