//! `output.to` and `--output`: from words to an output.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::config::{OutputSection, RotateTable};
use ringhook::{
    Ack, Error, NdjsonSink, NullSink, Refused, Sink, SinkWriter,
    internals::{files, files::User},
};

/// An output as understood, not opened yet.
pub(crate) enum OutputSpec {
    NdjsonFile(PathBuf),
    NdjsonStdout,
    Null,
}

impl OutputSpec {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "null" => Ok(Self::Null),
            Some(("ndjson", "-")) => Ok(Self::NdjsonStdout),
            Some(("ndjson", path)) if !path.is_empty() => Ok(Self::NdjsonFile(path.into())),
            _ => Err(Error::config("output.to", text, "ndjson:-, ndjson:FILE or null")),
        }
    }

    /// True where updates are written as lines.
    pub(crate) fn has_lines(&self) -> bool {
        !matches!(self, Self::Null)
    }

    /// The file that is made where it is not there.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::NdjsonFile(path) => Some(path),
            Self::NdjsonStdout | Self::Null => None,
        }
    }

    /// Opens it as `section` says. Without `section.meta`, lines tell more than the update while
    /// the server has more than one bot. Where acknowledged updates outlive a power cut, those it
    /// has taken do as well. A file is opened with the rights of `user`, where there is one, and is
    /// the user's where it is made.
    pub(crate) fn open(
        &self,
        section: &OutputSection,
        ack: Ack,
        user: Option<&User>,
    ) -> Result<Box<dyn Sink>, Error> {
        let formed = |sink: NdjsonSink| match section.meta {
            Some(has_meta) => sink.with_meta(has_meta),
            None => sink.with_meta_by_bots(),
        };
        Ok(match self {
            Self::NdjsonFile(path) => {
                let open = || match ack {
                    Ack::Synced => NdjsonSink::synced_file(path),
                    _ => NdjsonSink::file(path),
                };
                let sink = match user {
                    Some(user) => files::for_user(user, path, open)?,
                    None => files::at(path, open)?,
                };
                let sink = formed(sink);
                Box::new(match section.rotate {
                    Some(RotateTable { size, keep }) => sink.rotating(size.as_u64(), keep),
                    None => sink,
                })
            }
            Self::NdjsonStdout => Box::new(formed(NdjsonSink::stdout()?)),
            Self::Null => Box::new(NullSink),
        })
    }
}

/// Writes a batch, none of which may be refused: there is no file of dead letters.
///
/// # Errors
/// The destination does not take it, or refuses a part of it.
pub(crate) fn commit_whole(sink: &mut dyn SinkWriter) -> io::Result<()> {
    let mut refused = Refused::default();
    sink.commit(&mut refused)?;
    match refused.iter().next() {
        None => Ok(()),
        Some((_, reason)) => Err(io::Error::other(format!("it refuses an update: {reason}"))),
    }
}

/// As typed.
impl fmt::Display for OutputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NdjsonFile(path) => write!(f, "ndjson:{}", path.display()),
            Self::NdjsonStdout => f.write_str("ndjson:-"),
            Self::Null => f.write_str("null"),
        }
    }
}
