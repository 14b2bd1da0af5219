//! An output of a server that has not started yet.

use std::{fmt, sync::Arc};

use super::Destination;
use crate::{
    config::THREADS_MAX,
    delivery::{
        handler::Handler,
        sink::Sink,
        stream::{self, Updates},
    },
    dispatch::{OutputKey, OutputSet},
    error::Error,
};

/// One of the places that updates go to.
pub struct Output {
    pub(super) destination: Destination,
    pub(super) name: String,
    pub(super) workers: Option<usize>,
}

impl Output {
    /// The output `name`, which gives updates to `handler`.
    #[must_use]
    pub fn handler(name: &str, handler: impl Handler) -> Self {
        Self::new(name, Destination::Handler(Arc::new(handler)))
    }

    /// The output `name`, which gives updates to `sink`.
    #[must_use]
    pub fn sink(name: &str, sink: impl Sink) -> Self {
        Self::new(name, Destination::Sink(Arc::new(sink)))
    }

    /// The output `name`, which gives updates to a stream that holds up to `capacity` of them.
    #[must_use]
    pub fn stream(name: &str, capacity: usize) -> (Self, Updates) {
        let (sender, updates) = stream::stream(capacity);
        (Self::new(name, Destination::Stream(sender)), updates)
    }

    /// Gives it `workers` threads; by default it has as many as
    /// [`Config::workers`](crate::Config::workers) says.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers: Some(workers), ..self }
    }

    fn new(name: &str, destination: Destination) -> Self {
        Self { destination, name: name.to_owned(), workers: None }
    }

    /// Checks all outputs of a server.
    ///
    /// # Errors
    /// There is none, there are too many, two have one name, or one has no or too many workers.
    pub(super) fn validate(outputs: &[Self]) -> Result<(), Error> {
        if !(1..=OutputSet::MAX).contains(&outputs.len()) {
            let (count, expected) = (outputs.len(), "a handler or a sink");
            return Err(match count {
                0 => Error::config("handler", "(none)", expected),
                _ => Error::config("output", count, "at most 64 outputs"),
            });
        }
        for (index, output) in outputs.iter().enumerate() {
            if outputs.iter().take(index).any(|other| other.name == output.name) {
                return Err(Error::config("output.name", &output.name, "a name of its own"));
            }
            // In the journal an output is the CRC32C of its name.
            let key = OutputKey::from_name(&output.name);
            let mut earlier = outputs.iter().take(index);
            if let Some(other) = earlier.find(|it| OutputKey::from_name(&it.name) == key) {
                let expected = format!("another name ({:?} has the same CRC32C)", other.name);
                return Err(Error::config("output.name", &output.name, &expected));
            }
            let workers = output.workers.unwrap_or(1);
            if !(1..=THREADS_MAX).contains(&workers) {
                let expected = format!("1 to {THREADS_MAX}");
                return Err(Error::config("output.workers", workers, &expected));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("name", &self.name).finish_non_exhaustive()
    }
}
