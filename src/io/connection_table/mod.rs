//! The connections of a shard: what each of them waits for, and until when.
//!
//! | file | what is in it |
//! |---|---|
//! | `watch` | one connection's entry |

mod watch;

use std::{
    cell::{Cell, RefCell},
    os::fd::RawFd,
    rc::Rc,
    time::{Duration, Instant},
};

use slab::Slab;

use self::watch::Watch;
pub(crate) use self::watch::{End, Phase, Registration};
use crate::{
    config::Limits,
    io::{
        longest_idle::LongestIdle,
        runtime::{self, Shutdown},
    },
};

/// Time for a handshake, or a first request, that a stop finds unfinished.
pub(crate) const DRAIN_HANDSHAKE: Duration = Duration::from_millis(600);
/// Time for the next request of a connection that a stop finds busy: its last one came less than
/// [`BUSY`] ago. A request on its way that meets a FIN is an error at the sender, one that is
/// answered with `Connection: close` is not.
pub(crate) const DRAIN_BUSY: Duration = Duration::from_millis(300);
const BUSY: Duration = Duration::from_secs(1);

/// How long a connection must have been idle to be closed for a new one. In a shorter time a peer's
/// next request may be on its way, and unauthorized peers could push out the busiest of senders.
pub(crate) const IDLE_ENOUGH: Duration = Duration::from_secs(1);
/// Idle connections kept from one look at all, and the time until the next one: with ever new
/// peers, a look for each of them would take all of the shard's time.
const IDLE_CANDIDATES: usize = 1024;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How long a handshake may take while others wait for theirs. A client far away needs three round
/// trips of a quarter of a second; one that takes longer holds up the others.
const QUICK_ENOUGH: Duration = Duration::from_secs(1);

/// Connections that a sweep ends, and looks at, before all other tasks run. An end is a last
/// answer, encrypted and sent, and a look mostly a miss of the cache.
pub(crate) const SWEEP_ENDS: usize = 2;
const SWEEP_LOOKS: usize = 256;

/// All connections of a shard.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTable {
    watches: RefCell<Slab<Rc<Watch>>>,
    /// The connections that were idle at the last look at all, the longest last: since when, and
    /// the key.
    idle_candidates: RefCell<Vec<(Instant, usize)>>,
    looked_at: Cell<Option<Instant>>,
}

/// How far a sweep has come.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// Since when the connection that has been idle longest is so, of those looked at.
    pub(crate) longest_idle: Option<Instant>,
    /// The key that is looked at next.
    next: usize,
}

impl ConnectionTable {
    /// Enters a connection for as long as the result lives.
    pub(crate) fn register(&self, fd: RawFd) -> Registration<'_> {
        Registration::new(self, fd)
    }

    /// Closes the connection that has been idle longest; false where none has been for
    /// [`IDLE_ENOUGH`], or none was found a moment ago.
    pub(crate) fn evict_idle(&self, longest_idle: &LongestIdle) -> bool {
        let (connections, mut idle_candidates) =
            (self.watches.borrow(), self.idle_candidates.borrow_mut());
        let now = Instant::now();
        let may_look = |at: Instant| now.saturating_duration_since(at) >= LOOK_PAUSE;
        if idle_candidates.is_empty() && self.looked_at.get().is_none_or(may_look) {
            self.looked_at.set(Some(now));
            let idle = connections.iter();
            idle_candidates
                .extend(idle.filter_map(|(key, watch)| Some((watch.idle_since()?, key))));
            if idle_candidates.len() > IDLE_CANDIDATES {
                idle_candidates.select_nth_unstable(IDLE_CANDIDATES);
                idle_candidates.truncate(IDLE_CANDIDATES);
            }
            idle_candidates.sort_unstable();
            idle_candidates.reverse();
        }
        // Those that have had a request since then, or have ended, are passed over.
        let mut is_found = false;
        while let Some((since, key)) = idle_candidates.last().copied() {
            let watch = connections.get(key);
            let watch = watch.filter(|watch| watch.idle_since() == Some(since));
            if let Some(watch) = watch {
                if is_found || now.saturating_duration_since(since) < IDLE_ENOUGH {
                    break;
                }
                watch.end(End::Displaced, now);
                is_found = true;
            }
            idle_candidates.pop();
        }
        // Where none is left, the sweep sets it before the next one is idle for long enough.
        longest_idle.set(idle_candidates.last().map(|(since, _)| *since));
        is_found
    }

    /// Gives each connection the time that a stop at `now` leaves it.
    pub(crate) fn drain(&self, now: Instant) {
        for (_, watch) in &*self.watches.borrow() {
            let is_busy = || {
                let since = watch.idle_since();
                since.is_some_and(|since| now.saturating_duration_since(since) < BUSY)
            };
            match watch.phase.get() {
                // A client that has connected and sends nothing must not hold up the stop.
                Phase::Handshake => watch.hasten(now + DRAIN_HANDSHAKE),
                // A client that has just connected has a request to make.
                Phase::Idle if is_busy() && watch.is_fresh() => watch.hasten(now + DRAIN_HANDSHAKE),
                Phase::Idle if is_busy() => watch.hasten(now + DRAIN_BUSY),
                // Bytes that have arrived are still read, so a request on its way is answered.
                Phase::Idle => runtime::shutdown(watch.fd, Shutdown::Read),
                _ => {}
            }
        }
    }

    /// Cuts all connections.
    pub(crate) fn shutdown_all(&self) {
        for (_, watch) in &*self.watches.borrow() {
            runtime::shutdown(watch.fd, Shutdown::Both);
        }
    }

    /// Goes on with `sweep`, and ends the waits whose deadline has passed at `now`. False where
    /// other tasks should run first: thousands of deadlines may pass at once, and each of them
    /// means a last answer and a close. `are_awaited` says whether handshakes wait for others to
    /// end.
    pub(crate) fn sweep(
        &self,
        sweep: &mut Sweep,
        now: Instant,
        limits: &Limits,
        are_awaited: bool,
    ) -> bool {
        let connections = self.watches.borrow();
        let (mut ended, mut looks) = (0, 0);
        // Places are few more than there have been connections at a time.
        while sweep.next < connections.capacity() {
            if ended == SWEEP_ENDS || looks == SWEEP_LOOKS {
                return false;
            }
            let watch = connections.get(sweep.next);
            sweep.next += 1;
            looks += 1;
            let Some(watch) = watch else { continue };
            let end = if watch.deadline.get() <= now {
                Some(End::Deadline)
            } else if watch.is_too_slow(limits, now) {
                Some(End::TooSlow)
            } else if are_awaited && watch.shakes_hands_for(QUICK_ENOUGH, now) {
                Some(End::Displaced)
            } else {
                None
            };
            if let Some(end) = end {
                watch.end(end, now);
                ended += 1;
            } else if let Some(since) = watch.idle_since() {
                let longest = sweep.longest_idle.get_or_insert(since);
                *longest = since.min(*longest);
            }
        }
        true
    }
}
