//! `output.to` and `--output`: from words to an output.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::brokers;
use crate::{
    config::{OutputSection, RotateTable},
    net::url::without_userinfo,
};
use ringhook::{
    Ack, Error, NdjsonSink, NullSink, Refused, Sink, SinkWriter,
    internals::{files, files::User},
};
use ringhook_outputs::{
    broker::BrokerUrl,
    forward::Target,
    getupdates::Place,
    routes::{FieldNames, Fields},
};

/// What `output.to` can be.
const EXPECTED: &str = "ndjson:-, ndjson:FILE, null, getupdates://IP:PORT, a URL with http://, \
                        https:// or http+unix:, or a broker's";

fn is_http(text: &str) -> bool {
    ["http://", "https://", "http+unix:"].iter().any(|scheme| text.starts_with(scheme))
}

fn is_poll(text: &str) -> bool {
    ["getupdates://", "getupdates+unix:"].iter().any(|scheme| text.starts_with(scheme))
}

/// An output as understood, not opened yet.
#[derive(Clone, Debug)]
pub(crate) enum OutputSpec {
    Broker(BrokerUrl),
    /// Where bots poll.
    GetUpdates(Place),
    /// The targets of a forward; one at least.
    Http(Vec<Target>),
    NdjsonFile(PathBuf),
    NdjsonStdout,
    Null,
}

impl OutputSpec {
    /// What `section.to` says.
    ///
    /// # Errors
    /// It is none, or there are several which are not all bots behind HTTP; or the fields of lines
    /// are wrong.
    pub(crate) fn new(section: &OutputSection) -> Result<Self, Error> {
        let spec = Self::of_places(section)?;
        if spec.has_lines() && !line_fields(section)?.is_empty() && section.meta == Some(false) {
            let expected = "true, or nothing: output.fields stand beside the update";
            return Err(Error::config("output.meta", false, expected));
        }
        if let Self::Broker(url) = &spec {
            brokers::check(section, url)?;
        }
        Ok(spec)
    }

    fn of_places(section: &OutputSection) -> Result<Self, Error> {
        match &*section.to {
            [one] => Self::parse(one),
            [] => Err(Error::config("output.to", "[]", EXPECTED)),
            many => {
                let target = |text: &String| match is_http(text) {
                    true => text.parse(),
                    false => {
                        let expected = "URLs of bots behind HTTP, where there are several";
                        Err(Error::config("output.to", without_userinfo(text), expected))
                    }
                };
                many.iter().map(target).collect::<Result<_, _>>().map(Self::Http)
            }
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            _ if is_http(text) => Ok(Self::Http(vec![text.parse()?])),
            _ if BrokerUrl::is_one(text) => Ok(Self::Broker(text.parse()?)),
            _ if is_poll(text) => text.parse().map(Self::GetUpdates),
            None if text == "null" => Ok(Self::Null),
            Some(("ndjson", "-")) => Ok(Self::NdjsonStdout),
            Some(("ndjson", path)) if !path.is_empty() => Ok(Self::NdjsonFile(path.into())),
            _ => Err(Error::config("output.to", without_userinfo(text), EXPECTED)),
        }
    }

    /// The same for a command that brings updates there without a server.
    ///
    /// # Errors
    /// It is none, or a bot behind HTTP or one that polls.
    pub(crate) fn without_server(text: &str) -> Result<Self, Error> {
        match Self::parse(text)? {
            Self::Http(_) | Self::GetUpdates(_) => {
                let expected = "ndjson:-, ndjson:FILE, null or a broker (a bot gets updates by \
                                `serve` and `poll` only)";
                Err(Error::config("output.to", without_userinfo(text), expected))
            }
            spec => Ok(spec),
        }
    }

    /// True where lines of both go to one file, or to standard output.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NdjsonFile(one), Self::NdjsonFile(other)) => one == other,
            (Self::NdjsonStdout, Self::NdjsonStdout) => true,
            _ => false,
        }
    }

    /// True where updates are written as lines.
    fn has_lines(&self) -> bool {
        matches!(self, Self::NdjsonFile(_) | Self::NdjsonStdout)
    }

    /// The file that is made where it is not there.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::NdjsonFile(path) => Some(path),
            Self::Broker(_)
            | Self::GetUpdates(_)
            | Self::Http(_)
            | Self::NdjsonStdout
            | Self::Null => None,
        }
    }

    /// Opens it as `section` says. Without `section.meta`, lines tell more than the update while
    /// the server has more than one bot, or where there are fields. Where acknowledged updates
    /// outlive a power cut, those it has taken do as well. A file is opened with the rights of
    /// `user`, where there is one, and is the user's where it is made.
    ///
    /// # Errors
    /// It cannot be opened, or is no sink.
    pub(crate) fn open(
        &self,
        section: &OutputSection,
        ack: Ack,
        user: Option<&User>,
    ) -> Result<Box<dyn Sink>, Error> {
        if let Self::Broker(url) = self {
            return brokers::open(section, url);
        }
        Ok(match self.open_lines(ack, user)? {
            Some(lines) => Box::new(rotated(section, formed(section, lines)?)),
            None => Box::new(NullSink),
        })
    }

    /// Opens its lines, whose form is not set yet; `None` where it discards.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn open_lines(
        &self,
        ack: Ack,
        user: Option<&User>,
    ) -> Result<Option<NdjsonSink>, Error> {
        Ok(match self {
            Self::NdjsonFile(path) => {
                let open = || match ack {
                    Ack::Synced => NdjsonSink::synced_file(path),
                    _ => NdjsonSink::file(path),
                };
                Some(match user {
                    Some(user) => files::for_user(user, path, open)?,
                    None => files::at(path, open)?,
                })
            }
            Self::NdjsonStdout => Some(NdjsonSink::stdout()?),
            Self::Null => None,
            Self::Broker(_) | Self::GetUpdates(_) | Self::Http(_) => {
                return Err(Error::config("output.to", self, "a file of lines"));
            }
        })
    }
}

/// `lines` in the form that `section` asks for.
///
/// # Errors
/// A field is wrong.
pub(crate) fn formed(section: &OutputSection, lines: NdjsonSink) -> Result<NdjsonSink, Error> {
    Ok(match section.meta {
        Some(false) => lines.with_meta(false),
        _ if !section.fields.is_empty() => {
            let fields = line_fields(section)?;
            lines.with_fields(move |update, add| fields.for_each_value(update, add))
        }
        Some(true) => lines.with_meta(true),
        None => lines.with_meta_by_bots(),
    })
}

/// `lines` with the rotation that `section` asks for.
pub(crate) fn rotated(section: &OutputSection, lines: NdjsonSink) -> NdjsonSink {
    match section.rotate {
        Some(RotateTable { size, keep }) => lines.rotating(size.as_u64(), keep),
        None => lines.without_rotation(),
    }
}

/// What lines have beside the update by `section`.
///
/// # Errors
/// A name or a path is wrong.
fn line_fields(section: &OutputSection) -> Result<Fields, Error> {
    let fields = section.fields.iter().map(|(name, path)| (&**name, &**path));
    Ok(Fields::compile(&section.name, fields, FieldNames::Identifier)?)
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
            Self::Broker(url) => url.fmt(f),
            Self::GetUpdates(place) => place.fmt(f),
            Self::NdjsonFile(path) => write!(f, "ndjson:{}", path.display()),
            Self::Http(targets) => {
                for (index, target) in targets.iter().enumerate() {
                    let before = if index > 0 { ", " } else { "" };
                    write!(f, "{before}{target}")?;
                }
                Ok(())
            }
            Self::NdjsonStdout => f.write_str("ndjson:-"),
            Self::Null => f.write_str("null"),
        }
    }
}
