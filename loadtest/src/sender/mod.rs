//! Telegram's sender: which update goes when, on which connection, and what becomes of it.
//!
//! It knows no socket and no clock: times are arguments, in nanoseconds since its start, and what
//! is to be done comes back as [`Action`]s. So it can be tested in virtual time, and run faster
//! than it would be.
//!
//! - An update waits in the order in which it came, until its queue (kind and chat) is loaded. At
//!   most twice as many queues are loaded as there may be connections. Each has one update on its
//!   way at most, its head; a head that fails blocks its queue.
//! - There are as many connections as loaded queues, up to a maximum of 1 to 100. Each has one
//!   request on its way.
//! - Fresh, or 10 s after the last 2xx, the sender is in pending mode: no new connection beside
//!   another, and one per 2 s. Otherwise 10 at once, then 20 per second.
//! - What fails comes again after 0, 2, 4, 8, 16, 32 s, then 60 to 120 s, or after `Retry-After`,
//!   unless its life is over by then: in that case it is dropped at once.
//! - 60 s for connecting with the handshake, for an answer, and for being idle.

mod flood;
mod life;
mod queues;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::{BTreeMap, VecDeque};

use crate::{backoff::Backoff, clock::Nanos, rng::Rng};

pub(crate) use self::trouble::Trouble;
use self::{
    flood::Flood,
    life::life,
    queues::{QueueId, Queues},
};

pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Connecting, an answer and idleness may take so long.
pub(crate) const TIMER: Nanos = 60 * SECOND;
/// So long after a 2xx the sender is in active mode.
const ACTIVE: Nanos = 10 * SECOND;
/// The most updates that wait; later ones are lost.
pub(crate) const WAITING_MAX: usize = 100_000;

/// An update that waits, or is on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) id: u64,
    pub(crate) queue: QueueId,
    /// When it came.
    pub(crate) date: Nanos,
    /// When it is worthless.
    pub(crate) expires: Nanos,
    backoff: Backoff,
}

impl Update {
    /// One that came at `date` and was not tried yet.
    pub(crate) fn new(id: u64, queue: QueueId, date: Nanos) -> Self {
        let expires = date.saturating_add(life(queue.0));
        Self { id, queue, date, expires, backoff: Backoff::default() }
    }

    /// How many of its tries were in vain.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }
}

/// A connection; numbers are never used again.
pub(crate) type ConnectionId = u64;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make a connection, and tell of it with [`Sender::connected`] or [`Sender::broken`].
    Connect(ConnectionId),
    /// Close a connection of which a timer ran out; nothing more is expected of it.
    Close(ConnectionId),
    /// Send an update on a connection, and tell of it with [`Sender::answered`] or
    /// [`Sender::broken`].
    Send(ConnectionId, Update),
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Busy(QueueId),
    Connecting,
    Idle,
}

struct Connection {
    state: State,
    /// Whether its request has not left as a whole.
    writing: bool,
    deadline: Nanos,
}

/// What became of updates that are not waited for any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Answered with 2xx.
    pub(crate) delivered: u64,
    /// Dropped, because their life would have been over before the next try.
    pub(crate) expired: u64,
    /// Lost, because too many were waiting.
    pub(crate) overflown: u64,
    /// The most connections there were at a time.
    pub(crate) connections_peak: usize,
}

/// The last thing that went wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LastError {
    pub(crate) at: Nanos,
    pub(crate) message: String,
}

/// The sender of one bot.
pub(crate) struct Sender {
    connections_max: usize,
    seed: u64,
    queues: Queues,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Those that wait for an update, the longest waiting first. Some may be closed already.
    idle: VecDeque<ConnectionId>,
    next_connection: ConnectionId,
    pending: Flood,
    active: Flood,
    last_success: Option<Nanos>,
    last_error: Option<LastError>,
    counts: Counts,
}

impl Sender {
    /// Bounds of `max_connections`.
    pub(crate) const CONNECTIONS: (usize, usize) = (1, 100);

    /// A fresh sender; `connections_max` is brought into its bounds. Of the seed depends how the
    /// longest delays are cut.
    pub(crate) fn new(connections_max: usize, seed: u64) -> Self {
        let (low, high) = Self::CONNECTIONS;
        let connections_max = connections_max.clamp(low, high);
        Self {
            connections_max,
            seed,
            queues: Queues::new(2 * connections_max),
            connections: BTreeMap::new(),
            idle: VecDeque::new(),
            next_connection: 0,
            pending: Flood::pending(),
            active: Flood::active(),
            last_success: None,
            last_error: None,
            counts: Counts::default(),
        }
    }

    pub(crate) fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// What getWebhookInfo calls pending_update_count.
    pub(crate) fn waiting(&self) -> usize {
        self.queues.waiting()
    }

    /// How many requests are on their way.
    pub(crate) fn in_flight(&self) -> usize {
        let busy = |connection: &&Connection| matches!(connection.state, State::Busy(_));
        self.connections.values().filter(busy).count()
    }

    /// What getWebhookInfo would say went wrong last. A success does not clear it.
    pub(crate) fn last_error(&self) -> Option<&LastError> {
        self.last_error.as_ref()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes an update. False if it is lost, because too many wait.
    pub(crate) fn push(&mut self, update: Update) -> bool {
        if self.queues.waiting() >= WAITING_MAX {
            self.counts.overflown += 1;
            return false;
        }
        self.queues.push(update);
        true
    }

    /// What is to be done next at `now`; to be asked until there is nothing.
    pub(crate) fn poll(&mut self, now: Nanos) -> Option<Action> {
        if let Some(id) = self.expired(now) {
            self.time_out(id, now);
            return Some(Action::Close(id));
        }
        self.queues.load(now);
        while let Some(&id) = self.idle.front() {
            let Some(connection) = self.connections.get_mut(&id) else {
                self.idle.pop_front();
                continue;
            };
            let Some(update) = self.queues.take(now) else { break };
            if update.expires < now {
                // It waited too long for its turn.
                self.counts.expired += 1;
                self.queues.done(update.queue, now);
                self.queues.load(now);
                continue;
            }
            self.idle.pop_front();
            connection.state = State::Busy(update.queue);
            connection.writing = true;
            connection.deadline = now + TIMER;
            return Some(Action::Send(id, update));
        }
        if self.connections.len() >= self.needed(now) || !self.flood(now).take(now) {
            return None;
        }
        let id = self.next_connection;
        self.next_connection += 1;
        self.connections.insert(
            id,
            Connection { state: State::Connecting, writing: false, deadline: now + TIMER },
        );
        self.counts.connections_peak = self.counts.connections_peak.max(self.connections.len());
        Some(Action::Connect(id))
    }

    /// When [`Sender::poll`] should be asked again, if nothing happens before; after `now`.
    pub(crate) fn wake_at(&mut self, now: Nanos) -> Nanos {
        let mut at = self.connections.values().map(|connection| connection.deadline).min();
        let mut sooner = |time: Nanos| at = Some(at.map_or(time, |at| at.min(time)));
        if self.idle.iter().any(|id| self.connections.contains_key(id)) {
            self.queues.ready_at().into_iter().for_each(&mut sooner);
        }
        if self.connections.len() < self.needed(now) {
            sooner(self.flood(now).ready_at());
        }
        // Pending mode begins by itself, but asks for less and not for more.
        at.unwrap_or(Nanos::MAX).max(now + 1)
    }

    /// A connection was made.
    pub(crate) fn connected(&mut self, id: ConnectionId, now: Nanos) {
        self.rest(id, now);
    }

    /// The last byte of a request has left.
    pub(crate) fn sent(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.writing = false;
        }
    }

    /// An update was answered; `stays` if the connection does. Whether the connection is still
    /// wanted.
    pub(crate) fn answered(
        &mut self,
        id: ConnectionId,
        status: u16,
        reason: &str,
        retry_after_s: u32,
        stays: bool,
        now: Nanos,
    ) -> bool {
        let Some(State::Busy(queue)) = self.connections.get(&id).map(|c| c.state) else {
            return false;
        };
        if (200..300).contains(&status) {
            self.last_success = Some(now);
            self.counts.delivered += 1;
            self.queues.done(queue, now);
        } else {
            let trouble = Trouble::Status { status, reason: reason.to_owned() };
            self.fail(queue, retry_after_s, &trouble, now);
        }
        if stays {
            self.rest(id, now);
        } else {
            self.connections.remove(&id);
        }
        stays
    }

    /// A connection could not be made, or broke.
    pub(crate) fn broken(&mut self, id: ConnectionId, trouble: &Trouble, now: Nanos) {
        match self.connections.remove(&id).map(|connection| connection.state) {
            Some(State::Busy(queue)) => self.fail(queue, 0, trouble, now),
            Some(State::Connecting) => self.note(trouble, now),
            Some(State::Idle) | None => {}
        }
    }

    /// A connection turned out to have been closed by the server before its update was sent: that
    /// is no failure of the update.
    pub(crate) fn closed_before(&mut self, id: ConnectionId, now: Nanos) {
        if let Some(Connection { state: State::Busy(queue), .. }) = self.connections.remove(&id) {
            self.queues.again(queue, now);
        }
    }

    /// A connection waits for an update.
    fn rest(&mut self, id: ConnectionId, now: Nanos) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = State::Idle;
            connection.deadline = now + TIMER;
            self.idle.push_back(id);
        }
    }

    /// A connection of which a timer ran out. There are a hundred at most.
    fn expired(&self, now: Nanos) -> Option<ConnectionId> {
        let mut list = self.connections.iter();
        list.find(|(_, connection)| connection.deadline <= now).map(|(id, _)| *id)
    }

    fn time_out(&mut self, id: ConnectionId, now: Nanos) {
        let trouble = match self.connections.get(&id) {
            Some(Connection { state: State::Connecting, .. }) => {
                Trouble::Connect("Connection timed out".to_owned())
            }
            Some(Connection { state: State::Busy(_), writing: true, .. }) => Trouble::WriteTimeout,
            _ => Trouble::ReadTimeout,
        };
        self.broken(id, &trouble, now);
    }

    /// Whether new connections are made as if the webhook did not work.
    fn is_pending(&self, now: Nanos) -> bool {
        self.last_success.is_none_or(|success| success.saturating_add(ACTIVE) < now)
    }

    /// How many connections there should be.
    fn needed(&self, now: Nanos) -> usize {
        let max = if self.is_pending(now) { 1 } else { self.connections_max };
        self.queues.loaded().min(max)
    }

    fn flood(&mut self, now: Nanos) -> &mut Flood {
        if self.is_pending(now) { &mut self.pending } else { &mut self.active }
    }

    /// The head of a queue was not taken.
    fn fail(&mut self, queue: QueueId, retry_after_s: u32, trouble: &Trouble, now: Nanos) {
        self.note(trouble, now);
        let seed = self.seed;
        let Some(head) = self.queues.head(queue) else { return };
        let mut rng = Rng::new(seed ^ head.id ^ u64::from(head.backoff.failures()) << 48);
        let (low, high) = Backoff::CUT_S;
        let seconds = head.backoff.fail(retry_after_s, rng.between(low, high) as u32);
        let at = now.saturating_add(Nanos::from(seconds) * SECOND);
        if at > head.expires {
            self.counts.expired += 1;
            self.queues.done(queue, now);
        } else {
            self.queues.again(queue, at);
        }
    }

    fn note(&mut self, trouble: &Trouble, now: Nanos) {
        if let Some(message) = trouble.message() {
            self.last_error = Some(LastError { at: now, message });
        }
    }
}
