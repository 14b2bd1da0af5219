//! Handshakes in progress: so many at a time, then so many that wait for theirs.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{AcceptedConnection, Shard};
use crate::{
    io::{
        connection::{self},
        runtime,
    },
    outcome::{CloseReason, TurnedAway},
};

/// How long a handshake may take while others wait for theirs. A client far away needs three round
/// trips of a quarter of a second; who takes longer holds up the others, with intent perhaps.
pub(super) const QUICK_ENOUGH: Duration = Duration::from_secs(1);

/// The handshakes in progress of a shard, and the connections that wait for theirs.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    running: Cell<usize>,
    waiting: RefCell<VecDeque<AcceptedConnection>>,
}

impl Handshakes {
    /// True where somebody waits for one of those in progress to end.
    pub(super) fn are_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }
}

/// A place among the handshakes in progress; it goes to the next that waits when this is dropped.
pub(crate) struct HandshakePlace {
    shard: Rc<Shard>,
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        let running = &self.shard.handshakes.running;
        running.set(running.get().saturating_sub(1));
        self.shard.begin_waiting();
    }
}

impl Shard {
    /// Begins to serve `accepted`, or lets it wait, or closes it where too many do.
    pub(super) fn begin(self: &Rc<Self>, accepted: AcceptedConnection) {
        let limits = self.limits();
        let Handshakes { running, waiting } = &self.handshakes;
        if running.get() < limits.handshakes {
            running.set(running.get() + 1);
            self.tasks.set(self.tasks.get() + 1);
            let place = HandshakePlace { shard: Rc::clone(self) };
            runtime::spawn(connection::serve(Rc::clone(self), accepted, place));
        } else if self.draining.get() {
            self.dismiss(accepted, CloseReason::Drained);
        } else if waiting.borrow().len() < limits.handshakes_waiting {
            waiting.borrow_mut().push_back(accepted);
        } else {
            // Before the peer can know.
            self.turned_away(accepted.peer, TurnedAway::Handshakes);
            drop(accepted);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Begins with those that wait, as many as there is room for.
    fn begin_waiting(self: &Rc<Self>) {
        let limit = self.limits().handshakes;
        while self.handshakes.running.get() < limit
            && let Some(accepted) = self.next_waiting()
        {
            self.begin(accepted);
        }
    }

    fn next_waiting(&self) -> Option<AcceptedConnection> {
        self.handshakes.waiting.borrow_mut().pop_front()
    }

    /// Closes up to `most` of those whose time is over before their handshake has begun: how many.
    /// They have come in order.
    pub(super) fn dismiss_late(&self, now: Instant, most: usize) -> usize {
        let timeout = self.limits().handshake_timeout;
        let is_late = |accepted: &AcceptedConnection| accepted.accepted_at + timeout <= now;
        let mut dismissed = 0;
        while dismissed < most
            && self.handshakes.waiting.borrow().front().is_some_and(is_late)
            && let Some(accepted) = self.next_waiting()
        {
            self.metrics.handshakes_failed.increment();
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
        self.metrics.closed(reason);
        drop(accepted);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
