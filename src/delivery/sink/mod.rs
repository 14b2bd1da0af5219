//! Destinations of updates that are part of the program.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the traits, and the sink that discards |
//! | `ndjson` | the sink that writes lines of JSON |
//! | `lines` | lines to a file or a pipe that several threads share |
//! | `file` | the file behind a path |

mod file;
pub(crate) mod lines;
mod ndjson;

use std::{borrow::Cow, io, sync::Arc};

pub use self::ndjson::NdjsonSink;
use crate::{
    bots::{BotId, BotRegistry},
    error::Error,
    proto::update::Update,
};

/// A destination shared by all workers; each writes through a [`SinkWriter`] of its own.
pub trait Sink: Send + Sync + 'static {
    /// A writer for one worker.
    ///
    /// # Errors
    /// Where the destination cannot be opened.
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error>;

    /// The same for a writer that names bots; this is what the server calls.
    ///
    /// # Errors
    /// As [`writer`](Self::writer).
    fn writer_for(&self, bots: &BotNames) -> Result<Box<dyn SinkWriter>, Error> {
        let _ = bots;
        self.writer()
    }

    /// Opens anew what was renamed or removed, as [`Server::reopen`](crate::Server::reopen)
    /// asks for. It may block. Does nothing unless it is written to.
    ///
    /// # Errors
    /// Where that cannot be opened.
    fn reopen(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The names of a server's bots, of those that a reload adds later as well.
#[derive(Clone, Debug, Default)]
pub struct BotNames(Arc<BotRegistry>);

impl BotNames {
    /// The names that `registry` has.
    #[doc(hidden)]
    pub fn new(registry: &Arc<BotRegistry>) -> Self {
        Self(Arc::clone(registry))
    }

    /// The name of `bot`; `None` where there never was one.
    #[must_use]
    pub fn get(&self, bot: BotId) -> Option<&str> {
        self.0.name(bot)
    }

    /// Whether no other bot is configured than `bot`.
    fn is_alone(&self, bot: BotId) -> bool {
        self.0.is_alone(bot)
    }
}

/// One worker's writer of a [`Sink`]: updates are gathered, then committed together.
pub trait SinkWriter: Send {
    /// Takes one update into the batch.
    fn write(&mut self, update: &Update);

    /// Bytes gathered since the last commit.
    fn pending_bytes(&self) -> usize;

    /// Writes the batch to the destination. May block. Updates that the destination refuses for
    /// good go to `refused`, which is empty before the call: they failed, and the others of the
    /// batch are settled.
    ///
    /// # Errors
    /// The destination does not take it now. Nothing is lost: the same batch is committed again
    /// when the worker calls again, and what is in `refused` counts for nothing. Only
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) from the only output means that the destination is
    /// lost: the server reports a failure, and a stop waits for it no longer.
    fn commit(&mut self, refused: &mut Refused) -> io::Result<()>;
}

/// The updates of a batch that its destination refuses for good.
#[derive(Debug, Default)]
pub struct Refused(Vec<(usize, Cow<'static, str>)>);

impl Refused {
    /// The update that was the `index`-th one to be [written](SinkWriter::write) since the last
    /// commit that succeeded, from 0 on, will never be taken. `reason` goes to the log and to the
    /// file of dead letters: it must not quote the message.
    pub fn push(&mut self, index: usize, reason: impl Into<Cow<'static, str>>) {
        if self.reason(index).is_none() {
            self.0.push((index, reason.into()));
        }
    }

    /// How many are refused.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// True where none is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why the `index`-th update is refused, if it is.
    pub(crate) fn reason(&self, index: usize) -> Option<&str> {
        self.iter().find(|(refused, _)| *refused == index).map(|(_, reason)| reason)
    }

    /// The numbers of the refused updates, each with the reason.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().map(|(index, reason)| (*index, &**reason))
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        (**self).writer()
    }

    fn writer_for(&self, bots: &BotNames) -> Result<Box<dyn SinkWriter>, Error> {
        (**self).writer_for(bots)
    }

    fn reopen(&self) -> io::Result<()> {
        (**self).reopen()
    }
}

/// Discards every update: to measure everything before the sink.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl Sink for NullSink {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Self))
    }
}

impl SinkWriter for NullSink {
    fn write(&mut self, _: &Update) {}

    fn pending_bytes(&self) -> usize {
        0
    }

    fn commit(&mut self, _: &mut Refused) -> io::Result<()> {
        Ok(())
    }
}
