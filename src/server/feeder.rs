//! Updates that the program itself brings.

use std::{fmt, sync::Arc, time::Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::{
    dispatch::Dispatcher,
    journal::{BODY_MAX, Batch, Journal, now_us},
    update::{BotId, ParseError, UpdateParser},
};

/// Feeds updates in that do not come over the wire.
pub(super) struct Feeder {
    pub(super) parser: UpdateParser,
    pub(super) way: FeedWay,
}

/// How they get to the workers.
pub(super) enum FeedWay {
    /// By way of the journal, like those of a shard.
    Journal {
        batches: Sender<Batch>,
        home: usize,
        journal: Arc<Journal>,
        returned: Receiver<Batch>,
    },
    Memory(Dispatcher),
}

impl Feeder {
    /// Takes one update; returns when it is as safe as the journal's mode promises.
    pub(super) fn feed(&mut self, bot: BotId, update: &[u8]) -> Result<(), FeedError> {
        if update.len() > BODY_MAX as usize {
            return Err(FeedError::TooLarge);
        }
        let now = Instant::now();
        let mut body = self.parser.take_body(update.len());
        body.extend(update);
        let parsed = self.parser.parse(body, bot, now);
        let parsed = parsed.map_err(|rejected| FeedError::NotAnUpdate(rejected.error))?;
        match &self.way {
            FeedWay::Memory(dispatcher) => {
                dispatcher.dispatch(parsed, now).map_err(|_| FeedError::Full)?;
                dispatcher.wake_workers();
                Ok(())
            }
            FeedWay::Journal { batches, home, journal, returned } => {
                if journal.is_full() {
                    return Err(FeedError::Full);
                }
                let batch = Batch::of_one(*home, update, parsed, journal.key_of(bot), now_us());
                batches.send(batch).map_err(|_| FeedError::Stopped)?;
                journal.wake_committer();
                let batch = returned.recv().map_err(|_| FeedError::Stopped)?;
                if batch.is_committed() { Ok(()) } else { Err(FeedError::Journal) }
            }
        }
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").finish_non_exhaustive()
    }
}

/// Why an update was not fed in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FeedError {
    /// A limit is reached: it should be tried again later.
    Full,
    /// The journal's disk did not take it: it should be tried again later.
    Journal,
    /// The bytes are no update.
    NotAnUpdate(ParseError),
    /// The server has stopped.
    Stopped,
    /// The bytes are more than the largest body there is: 64 MiB.
    TooLarge,
    /// No bot has this name.
    UnknownBot,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("too many updates are under way"),
            Self::Journal => f.write_str("the journal's disk takes nothing"),
            Self::NotAnUpdate(error) => error.fmt(f),
            Self::Stopped => f.write_str("the server has stopped"),
            Self::TooLarge => f.write_str("it is longer than 64 MiB"),
            Self::UnknownBot => f.write_str("no bot has this name"),
        }
    }
}

impl std::error::Error for FeedError {}
