//! What can go wrong while a server is configured, started or stopped.
//!
//! The hot path has no errors of this kind: what a peer does wrong is an HTTP status or a counter.

use std::{error, fmt, io};

use crate::redact::{Shown, hide_tokens};

/// An error of the control plane: one line that says what failed and what to do about it.
///
/// Its text never contains a secret or a part of a message.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    /// Empty where the source says it all.
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// Which part of the control plane an [`Error`] comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A listening address could not be bound.
    Bind,
    /// The Bot API could not be reached, or refused a call.
    BotApi,
    /// A certificate or key is missing, unreadable or does not fit.
    Certificate,
    /// A setting is wrong: the message names the key, the value and what was expected.
    Config,
    /// The data directory could not be made, read or written.
    DataDir,
    /// A step of `doctor` failed.
    Doctor,
    /// The I/O driver that was asked for is not to be had on this machine.
    Driver,
    /// The journal could not be opened, read or locked.
    Journal,
    /// The program's own: made by [`Error::other`], or of an I/O error.
    Other,
    /// Privileges could not be given up.
    Privileges,
    /// Another reload is under way.
    Reload,
    /// Sample updates could not be sent, or were not taken.
    Send,
    /// A destination of updates could not be opened or written.
    Sink,
    /// A thread could not be started, pinned or stopped in time.
    Thread,
}

impl Error {
    /// An error with nothing beneath it.
    #[doc(hidden)]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: hide_tokens(&message.into()), source: None }
    }

    /// An error caused by `source`, whose text is appended to `message`.
    #[doc(hidden)]
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { kind, message: hide_tokens(&message.into()), source: Some(Box::new(source)) }
    }

    /// An error of the program's own, such as one of a [`Sink`](crate::Sink) that cannot be opened.
    /// It reads as `error` does.
    ///
    /// ```
    /// use ringhook::{Error, ErrorKind};
    ///
    /// let error = Error::other("the queue is not to be reached");
    /// assert_eq!(error.kind(), ErrorKind::Other);
    /// assert_eq!(error.to_string(), "the queue is not to be reached");
    /// ```
    pub fn other(error: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self { kind: ErrorKind::Other, message: String::new(), source: Some(error.into()) }
    }

    /// A wrong setting: which key, what it holds, what was expected of it.
    #[doc(hidden)]
    pub fn config(key: &str, value: impl fmt::Display, expected: &str) -> Self {
        Self::new(ErrorKind::Config, format!("{key} = {value}: expected {expected}"))
    }

    /// Which part of the control plane failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// True where the user's settings are at fault, so that a command line exits with 2.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        self.kind == ErrorKind::Config
    }

    /// The I/O error beneath, where there is one.
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        self.source.as_deref().and_then(|source| source.downcast_ref())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) if self.message.is_empty() => write!(f, "{}", Shown(source)),
            Some(source) => write!(f, "{}: {}", self.message, Shown(source)),
            None => f.write_str(&self.message),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::other(error)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        // The text ends with that of the error beneath, so the chain goes on behind it: a report of
        // the whole chain shows each text once.
        self.source.as_deref().and_then(|source| source.source())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{error::Error as _, iter};

    use super::*;

    #[test]
    fn an_error_of_the_programs_own_reads_as_what_it_is_made_of() {
        let inner = Error::with_source(ErrorKind::Sink, "queue", io::Error::other("gone"));
        let error = Error::other(inner);
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Other, "queue: gone"));
        assert!(error.source().is_none());
        let error: Error = io::Error::from(io::ErrorKind::NotFound).into();
        assert_eq!(error.kind(), ErrorKind::Other);
        assert_eq!(error.io().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(error.source().is_none() && !error.is_usage());
    }

    #[test]
    fn the_chain_shows_each_text_once() {
        let bottom = io::Error::from(io::ErrorKind::NotFound);
        let middle = Error::with_source(ErrorKind::Sink, "queue", bottom);
        let error = Error::with_source(ErrorKind::Config, "output", io::Error::other(middle));
        let first: &(dyn error::Error + 'static) = &error;
        let chain = iter::successors(Some(first), |&error| error.source());
        let text: Vec<_> = chain.map(ToString::to_string).collect();
        assert_eq!(text, ["output: queue: entity not found"]);
    }
}
