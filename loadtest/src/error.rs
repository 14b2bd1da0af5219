//! What keeps a run or a check from taking place. Requests that fail while it runs are counted, and
//! so is what a sink lacks: neither is an error.

use std::{fmt, io};

use crate::shown::hide_tokens;

/// Why a run or a check could not take place.
#[derive(Debug)]
pub enum Error {
    /// The target's host could not be resolved.
    Address {
        /// The host as given.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// A certificate or the TLS settings were refused.
    Certificate(String),
    /// An option has a value that makes no sense; the text names it.
    Option(String),
    /// A sink could not be read to its end.
    Sink(io::Error),
    /// The thread, its ring or its timer could not be made.
    Runtime(io::Error),
    /// The target is not a URL that can be driven.
    Target {
        /// The target as given.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The generator itself panicked: a bug.
    Panicked,
}

impl Error {
    /// A setting whose value makes no sense.
    pub(crate) fn key(key: &str, value: impl fmt::Display, expected: &str) -> Self {
        Self::Option(format!("{key} = {value}: expected {expected}"))
    }

    /// Whether other options would help, as against the machine being at fault.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Certificate(_) | Self::Option(_) | Self::Target { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { host, source } => {
                write!(f, "cannot resolve {}: {source}", hide_tokens(host))
            }
            Self::Certificate(reason) | Self::Option(reason) => f.write_str(&hide_tokens(reason)),
            Self::Runtime(source) => write!(f, "cannot start the generator: {source}"),
            Self::Sink(source) => write!(f, "cannot read the sink: {source}"),
            Self::Target { target, reason } => {
                write!(f, "bad target {:?}: {reason}", without_user(&hide_tokens(target)))
            }
            Self::Panicked => f.write_str("the generator panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address { source, .. } | Self::Runtime(source) | Self::Sink(source) => {
                Some(source)
            }
            _ => None,
        }
    }
}

/// `url` without what stands before its `@`.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}
