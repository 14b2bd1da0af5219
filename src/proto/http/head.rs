//! The head of a request: what a caller may know before its body is read.

use std::{borrow::Cow, fmt};

use super::{Method, Version, request_line::RequestLine};

/// A request without its content, borrowed from the receive buffer.
///
/// Debug output shows the path, which may be a secret, too, but no credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHead<'a> {
    /// The method; anything but POST is the caller's to refuse with 405.
    pub method: Method,
    /// The path without the query, in the normal form of RFC 3986 section 6.2.2, so that it can be
    /// compared literally. Owned only where the client wrote another form. `*` for `OPTIONS *`.
    pub path: Cow<'a, str>,
    /// The version the client speaks.
    pub version: Version,
    /// `Host`, or the authority of an absolute target, with its port. `None` only in HTTP/1.0.
    pub host: Option<&'a str>,
    /// `X-Telegram-Bot-Api-Secret-Token`.
    pub secret_token: Credential<'a>,
    /// `Authorization`, with its scheme.
    pub authorization: Credential<'a>,
    /// How the end of the content is found.
    pub framing: Framing,
    /// True where the client waits for `100 Continue` before it sends content.
    pub expects_continue: bool,
}

/// A header field that is believed only where it occurs once.
///
/// The value never shows in debug output.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub enum Credential<'a> {
    /// There is no such field.
    #[default]
    Absent,
    /// The value, without the blanks around it. Compare it in constant time.
    Given(&'a [u8]),
    /// There are several: a parser that reads another one would decide otherwise.
    Repeated,
}

/// How the end of a request's content is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`, in bytes and within the limit.
    Length(usize),
    /// There is none. Never for POST.
    #[default]
    None,
}

impl<'a> RequestHead<'a> {
    /// A head that has no fields yet.
    pub(super) fn new(line: RequestLine<'a>) -> Self {
        Self {
            method: line.method,
            path: line.target.path,
            version: line.version,
            host: line.target.authority,
            secret_token: Credential::Absent,
            authorization: Credential::Absent,
            framing: Framing::None,
            expects_continue: false,
        }
    }
}

impl<'a> Credential<'a> {
    /// The value, if there is exactly one.
    #[must_use]
    pub const fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }

    /// Takes note of one more occurrence.
    pub(super) fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Given(value),
            Self::Given(_) | Self::Repeated => Self::Repeated,
        };
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "Absent",
            Self::Given(_) => "Given(..)",
            Self::Repeated => "Repeated",
        })
    }
}
