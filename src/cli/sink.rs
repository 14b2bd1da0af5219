//! `sink.to` and `--sink`: from words to a sink.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    Ack, NdjsonSink, NullSink, Sink,
    error::Error,
    rights::{self, User},
};

/// A sink as understood, not opened yet.
pub(super) enum SinkSpec {
    NdjsonFile(PathBuf),
    NdjsonStdout,
    Null,
}

impl SinkSpec {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "null" => Ok(Self::Null),
            Some(("ndjson", "-")) => Ok(Self::NdjsonStdout),
            Some(("ndjson", path)) if !path.is_empty() => Ok(Self::NdjsonFile(path.into())),
            _ => Err(Error::config("sink.to", text, "ndjson:-, ndjson:FILE or null")),
        }
    }

    /// True where updates are written as lines.
    pub(super) fn has_lines(&self) -> bool {
        !matches!(self, Self::Null)
    }

    /// The file that is made where it is not there.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::NdjsonFile(path) => Some(path),
            Self::NdjsonStdout | Self::Null => None,
        }
    }

    /// Opens it, with lines that tell more than the update where `has_meta`; where acknowledged
    /// updates outlive a power cut, those it has taken do as well. A file is opened with the rights
    /// of `user`, where there is one, and is the user's where it is made.
    pub(super) fn open(
        &self,
        ack: Ack,
        has_meta: bool,
        user: Option<&User>,
    ) -> Result<Box<dyn Sink>, Error> {
        Ok(match self {
            Self::NdjsonFile(path) => {
                let open = || match ack {
                    Ack::Synced => NdjsonSink::synced_file(path),
                    _ => NdjsonSink::file(path),
                };
                let sink = match user {
                    Some(user) => rights::for_user(user, path, open)?,
                    None => rights::at(path, open)?,
                };
                Box::new(sink.with_meta(has_meta))
            }
            Self::NdjsonStdout => Box::new(NdjsonSink::stdout()?.with_meta(has_meta)),
            Self::Null => Box::new(NullSink),
        })
    }
}

/// As typed.
impl fmt::Display for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NdjsonFile(path) => write!(f, "ndjson:{}", path.display()),
            Self::NdjsonStdout => f.write_str("ndjson:-"),
            Self::Null => f.write_str("null"),
        }
    }
}
