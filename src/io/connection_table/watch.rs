//! A connection as the sweep sees it: what it waits for, since when, and until when.

use std::{
    cell::Cell,
    os::fd::RawFd,
    rc::Rc,
    time::{Duration, Instant},
};

use super::ConnectionTable;
use crate::{
    config::Limits,
    io::runtime::{self, Shutdown},
};

/// Time that a connection whose deadline has passed gets to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a connection is waiting for, which decides what happens when it takes too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The peer has to take the answer.
    Answer,
    /// The rest of a request's body.
    Body,
    /// The peer has to close its side.
    Close,
    /// The TLS handshake.
    Handshake,
    /// The rest of a request's head.
    Head,
    /// The first byte of a request.
    Idle,
}

impl Phase {
    /// What ends the wait: reading alone, so that a last word can be said, or everything.
    fn shutdown(self) -> Shutdown {
        match self {
            Self::Body | Self::Head | Self::Idle => Shutdown::Read,
            Self::Answer | Self::Close | Self::Handshake => Shutdown::Both,
        }
    }
}

/// Why a wait was ended from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Its deadline has passed.
    Deadline,
    /// To make room for another.
    Displaced,
    /// Too few bytes of a body came.
    TooSlow,
}

#[derive(Debug)]
pub(super) struct Watch {
    /// Bytes of the body under way that have come.
    body_bytes: Cell<usize>,
    pub(super) deadline: Cell<Instant>,
    end: Cell<Option<End>>,
    pub(super) fd: RawFd,
    /// No byte of a request has come yet.
    fresh: Cell<bool>,
    pub(super) phase: Cell<Phase>,
    since: Cell<Instant>,
}

impl Watch {
    fn new(fd: RawFd, now: Instant) -> Self {
        Self {
            body_bytes: Cell::new(0),
            deadline: Cell::new(now + GOODBYE),
            end: Cell::new(None),
            fd,
            fresh: Cell::new(true),
            phase: Cell::new(Phase::Handshake),
            since: Cell::new(now),
        }
    }

    /// True until a byte of a request has come.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.get()
    }

    /// Ends the wait; then there is time to say goodbye.
    pub(super) fn end(&self, why: End, now: Instant) {
        runtime::shutdown(self.fd, self.phase.get().shutdown());
        self.end.set(self.end.get().or(Some(why)));
        self.phase.set(Phase::Close);
        self.deadline.set(now + GOODBYE);
    }

    /// Has the wait end before `latest`.
    pub(super) fn hasten(&self, latest: Instant) {
        self.deadline.set(self.deadline.get().min(latest));
    }

    /// Since when the connection has been idle, if it is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.phase.get() == Phase::Idle).then(|| self.since.get())
    }

    /// True where a handshake has taken longer than `time`.
    pub(super) fn shakes_hands_for(&self, time: Duration, now: Instant) -> bool {
        self.phase.get() == Phase::Handshake
            && now.saturating_duration_since(self.since.get()) >= time
    }

    /// True where a body comes more slowly than `limits` allow.
    pub(super) fn is_too_slow(&self, limits: &Limits, now: Instant) -> bool {
        if self.phase.get() != Phase::Body || limits.body_bytes_per_second == 0 {
            return false;
        }
        let time = now.saturating_duration_since(self.since.get());
        let counted = time.saturating_sub(limits.body_grace).as_secs_f64();
        (self.body_bytes.get() as f64) < limits.body_bytes_per_second as f64 * counted
    }
}

/// A connection's entry in the sweep. It must be dropped before the socket is closed, or at least
/// without an await in between: its descriptor may be another socket's afterwards.
pub(crate) struct Registration<'a> {
    key: usize,
    table: &'a ConnectionTable,
    watch: Rc<Watch>,
}

impl<'a> Registration<'a> {
    pub(super) fn new(table: &'a ConnectionTable, fd: RawFd) -> Self {
        let watch = Rc::new(Watch::new(fd, Instant::now()));
        let key = table.watches.borrow_mut().insert(Rc::clone(&watch));
        Self { key, table, watch }
    }

    /// From now on the connection waits for `phase`, which began at `since`, to end before
    /// `deadline`.
    #[inline]
    pub(crate) fn enter(&self, phase: Phase, since: Instant, deadline: Instant) {
        self.watch.phase.set(phase);
        self.watch.since.set(since);
        self.watch.deadline.set(deadline);
    }

    /// True until [`has_begun`](Self::has_begun) was called.
    pub(crate) fn is_fresh(&self) -> bool {
        self.watch.is_fresh()
    }

    /// The first bytes of a request have come.
    #[inline]
    pub(crate) fn has_begun(&self) {
        self.watch.fresh.set(false);
    }

    /// From now on the peer has `time` to close its side.
    pub(crate) fn linger(&self, time: Duration) {
        let now = Instant::now();
        self.enter(Phase::Close, now, now + time);
    }

    /// Notes how much has come of the body under way.
    #[inline]
    pub(crate) fn note_body_bytes(&self, bytes: usize) {
        self.watch.body_bytes.set(bytes);
    }

    /// Why a wait of this connection was ended from outside, if one was.
    pub(crate) fn end(&self) -> Option<End> {
        self.watch.end.get()
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.table.watches.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_too_slow_by_its_average_behind_the_grace() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let limits =
            Limits { body_bytes_per_second: 100, body_grace: 5 * second, ..Limits::default() };
        let watch = Watch::new(-1, start);
        assert!(!watch.is_too_slow(&limits, start + 60 * second), "no body is under way");
        watch.phase.set(Phase::Body);
        assert!(!watch.is_too_slow(&limits, start + 5 * second), "nothing is asked for yet");
        assert!(watch.is_too_slow(&limits, start + 6 * second));
        watch.body_bytes.set(100);
        assert!(!watch.is_too_slow(&limits, start + 6 * second));
        assert!(watch.is_too_slow(&limits, start + 7 * second));
        let unlimited = Limits { body_bytes_per_second: 0, ..limits };
        assert!(!watch.is_too_slow(&unlimited, start + 3600 * second));
    }
}
