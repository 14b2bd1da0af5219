//! The answers this server gives, by name.

use super::{ConnectionDirective, response};

/// A status code of RFC 9110 section 15, and two of RFC 6585 and RFC 9110 that limits need.
///
/// There is no 410, because Telegram deletes a webhook that answers so for a day.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// 200: the update was taken.
    Ok,
    /// 400: bytes that are no valid request, or content that is no update.
    BadRequest,
    /// 403: a wrong, missing or repeated credential.
    Forbidden,
    /// 404: no bot is at this path.
    NotFound,
    /// 405: a known method other than POST.
    MethodNotAllowed,
    /// 408: a request that began and did not end in time. Never for an idle connection, where the
    /// sender would take it for the answer to its next update.
    RequestTimeout,
    /// 413: more content than the limit.
    PayloadTooLarge,
    /// 414: a longer request target than the limit.
    UriTooLong,
    /// 415: content in a coding such as gzip; bytes are parsed as they are.
    UnsupportedMediaType,
    /// 417: an `Expect` other than `100-continue`.
    ExpectationFailed,
    /// 431: a larger head, more header fields or larger trailers than the limit.
    HeaderTooLarge,
    /// 501: an unknown method or transfer coding.
    NotImplemented,
    /// 503: no room for the update, or its journal's disk fails; the sender comes again.
    ServiceUnavailable,
    /// 505: not HTTP/1.x.
    VersionNotSupported,
}

impl Status {
    /// All of them, in numeric order: for metrics that count by status.
    pub const ALL: [Self; 14] = [
        Self::Ok,
        Self::BadRequest,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::PayloadTooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::ExpectationFailed,
        Self::HeaderTooLarge,
        Self::NotImplemented,
        Self::ServiceUnavailable,
        Self::VersionNotSupported,
    ];

    /// The three digits and the phrase, as in an answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        // The answers are ASCII, and each begins with `HTTP/1.1 `.
        let answer = response(self, ConnectionDirective::Close);
        let line = answer.split(|byte| *byte == b'\r').next().and_then(|line| line.get(9..));
        line.and_then(|line| str::from_utf8(line).ok()).unwrap_or_default()
    }

    /// The three digits.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::PayloadTooLarge => 413,
            Self::UriTooLong => 414,
            Self::UnsupportedMediaType => 415,
            Self::ExpectationFailed => 417,
            Self::HeaderTooLarge => 431,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
            Self::VersionNotSupported => 505,
        }
    }
}
