//! What is counted, and what is told of it.

use std::time::Duration;

use ringhook::update::BotId;
use serde::{Serialize, Serializer};

use crate::counter::Counter;

/// A moment's view of a [`GetUpdates`](super::GetUpdates). Counts are those since its start.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct GetUpdatesStatus {
    /// Calls of getUpdates.
    pub polls: u64,
    /// Those of them that another one has ended with 409.
    pub conflicts: u64,
    /// Updates in answers to them, the repeated ones included.
    pub handed_out: u64,
    /// Updates that a client has confirmed.
    pub confirmed: u64,
    /// Updates that are settled because a client does not want their kind.
    pub unwanted: u64,
    /// Updates that are settled because a client has dropped what was pending.
    pub forgotten: u64,
    /// Requests with a wrong token or path.
    pub refused: u64,
    /// Calls of other methods, and files, that went to the Bot API.
    pub passed: u64,
    /// Those of them that had no answer.
    pub failed: u64,
    /// Connections of clients that are open.
    pub connections: u64,
    /// The consumers of each bot that have asked for updates, or for which there are any.
    pub consumers: Vec<ConsumerStatus>,
}

/// What is there for one consumer of a bot.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// The bot's name.
    pub bot: String,
    /// Counted from 1.
    pub consumer: usize,
    /// Updates that wait and are not handed out.
    pub waiting: u64,
    /// Updates that are handed out and not confirmed.
    pub unconfirmed: u64,
    /// For how long the oldest of them has been here, in seconds.
    #[serde(serialize_with = "seconds")]
    pub oldest: Option<Duration>,
    /// For how long it has not asked for updates, in seconds; nothing while it does, or where it
    /// never has.
    #[serde(serialize_with = "seconds")]
    pub silent: Option<Duration>,
    /// Whether it has ever asked.
    pub has_asked: bool,
    /// The bot's number.
    #[serde(skip)]
    pub id: BotId,
}

impl GetUpdatesStatus {
    /// The same with what another one has counted before it.
    #[must_use]
    pub fn after(mut self, earlier: &Self) -> Self {
        self.polls += earlier.polls;
        self.conflicts += earlier.conflicts;
        self.handed_out += earlier.handed_out;
        self.confirmed += earlier.confirmed;
        self.unwanted += earlier.unwanted;
        self.forgotten += earlier.forgotten;
        self.refused += earlier.refused;
        self.passed += earlier.passed;
        self.failed += earlier.failed;
        self
    }
}

fn seconds<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    age.map(|age| age.as_secs_f64()).serialize(serializer)
}

/// The counters. They are written by the thread of the output only.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) polls: Counter,
    pub(super) conflicts: Counter,
    pub(super) handed_out: Counter,
    pub(super) confirmed: Counter,
    pub(super) unwanted: Counter,
    pub(super) forgotten: Counter,
    pub(super) refused: Counter,
    pub(super) passed: Counter,
    pub(super) failed: Counter,
    pub(super) opened: Counter,
    pub(super) closed: Counter,
}

impl Counters {
    /// True where a client's connection is open.
    pub(super) fn has_connections(&self) -> bool {
        self.opened.get() > self.closed.get()
    }

    pub(super) fn status(&self, consumers: Vec<ConsumerStatus>) -> GetUpdatesStatus {
        GetUpdatesStatus {
            polls: self.polls.get(),
            conflicts: self.conflicts.get(),
            handed_out: self.handed_out.get(),
            confirmed: self.confirmed.get(),
            unwanted: self.unwanted.get(),
            forgotten: self.forgotten.get(),
            refused: self.refused.get(),
            passed: self.passed.get(),
            failed: self.failed.get(),
            connections: self.opened.get().saturating_sub(self.closed.get()),
            consumers,
        }
    }
}
