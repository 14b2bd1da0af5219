//! Destinations of updates that are part of the program: one file for each.

pub(crate) mod lines;
mod ndjson;

use std::io;

pub use self::ndjson::NdjsonSink;
use crate::{error::Error, update::Update};

/// A destination shared by all workers; each writes through a [`SinkWriter`] of its own.
pub trait Sink: Send + Sync + 'static {
    /// A writer for one worker.
    ///
    /// # Errors
    /// Where the destination cannot be had.
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error>;
}

/// One worker's way into a [`Sink`]: updates are gathered, then committed together.
pub trait SinkWriter: Send {
    /// Takes one update into the batch.
    fn write(&mut self, update: &Update);

    /// Bytes gathered since the last commit.
    fn pending_bytes(&self) -> usize;

    /// Brings the batch to the destination. May block.
    ///
    /// # Errors
    /// The destination does not take it now. Nothing is lost: the same batch is committed again
    /// when the worker calls again. [`BrokenPipe`](io::ErrorKind::BrokenPipe) alone says that the
    /// destination is gone for good: the server's owner is told, and a stop waits for it no longer.
    fn commit(&mut self) -> io::Result<()>;
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        (**self).writer()
    }
}

/// Throws every update away: to measure everything before the sink.
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

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }
}
