//! What can go wrong while a server is configured, started or stopped.
//!
//! The hot path has no errors of this kind: what a peer does wrong is an HTTP status or a counter.

use std::{error, fmt, io};

use crate::shown::{Shown, hide_tokens};

/// An error of the control plane: one line that says what failed and what to do about it.
///
/// Its text never contains a secret or a part of a message.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
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
    /// Privileges could not be given up.
    Privileges,
    /// Sample updates could not be sent, or were not taken.
    Send,
    /// A destination of updates could not be opened or written.
    Sink,
    /// A thread could not be started, pinned or stopped in time.
    Thread,
}

impl Error {
    /// An error with nothing beneath it.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: hide_tokens(&message.into()), source: None }
    }

    /// An error caused by `source`, whose text is appended to `message`.
    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { kind, message: hide_tokens(&message.into()), source: Some(Box::new(source)) }
    }

    /// A wrong setting: which key, what it holds, what was expected of it.
    pub(crate) fn config(key: &str, value: impl fmt::Display, expected: &str) -> Self {
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
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {}", Shown(source)),
            None => Ok(()),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn error::Error + 'static))
    }
}
