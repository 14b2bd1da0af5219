//! What is counted, and what is told of it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use serde::{Serialize, Serializer};

use super::condition::State;
use crate::counter::Counter;

/// A moment's view of a [`Forward`](super::Forward). Counts are those since its start.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ForwardStatus {
    /// Requests that were begun. One that is made again at once, because its connection had been
    /// closed while it was idle, counts once.
    pub sent: u64,
    /// Updates that a target took.
    pub delivered: u64,
    /// Requests that failed, by class.
    pub failed: FailedRequests,
    /// Failures that counted as an attempt: the update comes again, or the server gives it up.
    pub retried: u64,
    /// Updates that wait for a target that is down or wrongly set up.
    pub held: u64,
    /// Updates whose request, or webhook reply, is under way.
    pub in_flight: u64,
    /// What became of webhook replies.
    pub replies: Replies,
    /// The targets, in the order of the settings.
    pub targets: Vec<TargetStatus>,
}

/// Requests that failed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct FailedRequests {
    /// No connection came about.
    pub connect: u64,
    /// The connection ended before the answer.
    pub reset: u64,
    /// There was no answer in time.
    pub timeout: u64,
    /// The status says that the target is wrongly set up: 3xx, 401, 403, 404, 405.
    pub misconfigured: u64,
    /// Any other 4xx.
    pub status_4xx: u64,
    /// 5xx.
    pub status_5xx: u64,
}

/// Webhook replies that were method calls.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Replies {
    /// The Bot API executed them.
    pub relayed: u64,
    /// Their method is none that a reply may call.
    pub refused: u64,
    /// They were sent, and whether they were executed is not known: the Bot API did not answer, or
    /// with 5xx. They are not sent again.
    pub ambiguous: u64,
    /// The Bot API refused them, was not to be reached, or they were cut off or too long.
    pub failed: u64,
    /// Their bot has no token here.
    pub dropped: u64,
}

/// The state of one target.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TargetStatus {
    /// The target as it is shown: without tokens and query.
    pub target: String,
    /// Whether it can be sent to.
    pub state: TargetState,
    /// The status by which it is known to be wrongly set up.
    pub status: Option<u16>,
    /// Since when it is in this state, by the wall clock; in JSON as RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// The same by the clock that is never set.
    #[serde(skip)]
    pub since_instant: Instant,
    /// Updates that wait for it: for a connection, or for it to be up.
    pub waiting: u64,
    /// Requests to it that are under way.
    pub in_flight: u64,
    /// For how long the oldest update that waits for it has been here, in seconds.
    #[serde(serialize_with = "seconds")]
    pub oldest_waiting: Option<Duration>,
}

/// Whether a target can be sent to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TargetState {
    /// It can.
    Up,
    /// It takes no connections, or failed several times in a row. It is probed, and updates wait.
    Down,
    /// It answers with a status which says that it is wrongly set up. It is probed, and updates
    /// wait.
    Misconfigured,
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

fn seconds<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    age.map(|age| age.as_secs_f64()).serialize(serializer)
}

/// The counters. They are written by the thread of the forward only.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: Counter,
    pub(super) delivered: Counter,
    pub(super) connect: Counter,
    pub(super) reset: Counter,
    pub(super) timeout: Counter,
    pub(super) misconfigured: Counter,
    pub(super) status_4xx: Counter,
    pub(super) status_5xx: Counter,
    pub(super) retried: Counter,
    pub(super) relayed: Counter,
    pub(super) refused: Counter,
    pub(super) ambiguous: Counter,
    pub(super) reply_failed: Counter,
    pub(super) dropped: Counter,
    /// What is there now, unlike those above.
    pub(super) in_flight: AtomicU64,
    /// What is told of each target.
    pub(super) targets: Mutex<Vec<TargetView>>,
}

/// One target as its thread sees it.
#[derive(Clone, Debug)]
pub(super) struct TargetView {
    pub(super) name: Arc<str>,
    pub(super) state: State,
    pub(super) since: (Instant, SystemTime),
    pub(super) waiting: usize,
    pub(super) in_flight: usize,
    /// When the oldest update that waits came in.
    pub(super) oldest: Option<Instant>,
}

impl Counters {
    pub(super) fn status(&self, now: Instant) -> ForwardStatus {
        let views = self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_held = |view: &&TargetView| view.state != State::Up;
        ForwardStatus {
            sent: self.sent.get(),
            delivered: self.delivered.get(),
            failed: FailedRequests {
                connect: self.connect.get(),
                reset: self.reset.get(),
                timeout: self.timeout.get(),
                misconfigured: self.misconfigured.get(),
                status_4xx: self.status_4xx.get(),
                status_5xx: self.status_5xx.get(),
            },
            retried: self.retried.get(),
            held: views.iter().filter(is_held).map(|view| view.waiting as u64).sum(),
            in_flight: self.in_flight.load(Relaxed),
            replies: Replies {
                relayed: self.relayed.get(),
                refused: self.refused.get(),
                ambiguous: self.ambiguous.get(),
                failed: self.reply_failed.get(),
                dropped: self.dropped.get(),
            },
            targets: views.into_iter().map(|view| view.status(now)).collect(),
        }
    }
}

impl TargetView {
    fn status(self, now: Instant) -> TargetStatus {
        let (since_instant, since) = self.since;
        let (state, status) = match self.state {
            State::Up => (TargetState::Up, None),
            State::Down => (TargetState::Down, None),
            State::Misconfigured(status) => (TargetState::Misconfigured, Some(status)),
        };
        TargetStatus {
            target: self.name.to_string(),
            state,
            status,
            since,
            since_instant,
            waiting: self.waiting as u64,
            in_flight: self.in_flight as u64,
            oldest_waiting: self.oldest.map(|oldest| now.saturating_duration_since(oldest)),
        }
    }
}
