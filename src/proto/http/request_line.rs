//! The request line: method, target, version (RFC 9112 section 3).

use super::{
    HttpLimits, Status,
    syntax::is_token_byte,
    target::{self, Target},
};

/// A method, as far as a receiver of webhooks distinguishes them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Method {
    /// GET: what a browser or a health check sends.
    Get,
    /// HEAD: like GET; its answer has no content, nor has any other of ours.
    Head,
    /// OPTIONS: the only method whose target may be `*`.
    Options,
    /// POST: what Telegram sends.
    Post,
    /// Any other method of IANA's registry.
    Other,
}

/// A version of HTTP that is spoken here.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// HTTP/1.0: a connection closes after each answer, unless keep-alive is asked for.
    Http10,
    /// HTTP/1.1, and higher minor versions, which are read as the highest one known.
    Http11,
}

/// A request line without its line end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RequestLine<'a> {
    pub(super) method: Method,
    pub(super) target: Target<'a>,
    pub(super) version: Version,
}

impl<'a> RequestLine<'a> {
    /// Reads `line`, whose parts are separated by one space each.
    ///
    /// # Errors
    ///
    /// In this order: 400 where the line has no such form, 505 for another major version, 501 for a
    /// method that is not registered, 414 for a target over its limit, and 400 for one that is
    /// invalid.
    pub(super) fn parse(line: &'a [u8], limits: &HttpLimits) -> Result<Self, Status> {
        let (method, target, version) = split(line).ok_or(Status::BadRequest)?;
        let version = match version {
            b"HTTP/1.0" => Version::Http10,
            // RFC 9110 section 2.5: a higher minor version is no reason to refuse.
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Status::VersionNotSupported);
            }
            _ => return Err(Status::BadRequest),
        };
        let method = match method {
            b"POST" => Method::Post,
            method => other_method(method).ok_or(Status::NotImplemented)?,
        };
        if target.len() > limits.target_bytes {
            return Err(Status::UriTooLong);
        }
        Ok(Self { method, target: target::parse(target, method)?, version })
    }
}

/// The three parts, of which only the method is known to be well formed.
fn split(line: &[u8]) -> Option<(&[u8], &[u8], &[u8; 8])> {
    let method_end = memchr::memchr(b' ', line)?;
    let (method, rest) = line.split_at_checked(method_end)?;
    let (rest, version) = rest.split_last_chunk::<8>()?;
    // A target with a space in it is refused by its own rules.
    let target = rest.strip_prefix(b" ")?.strip_suffix(b" ")?;
    let method_is_token = !method.is_empty() && method.iter().all(|byte| is_token_byte(*byte));
    method_is_token.then_some((method, target, version))
}

/// A registered method that is not POST. `PRI` is left out: it exists to be refused.
#[cold]
fn other_method(method: &[u8]) -> Option<Method> {
    match method {
        b"GET" => Some(Method::Get),
        b"HEAD" => Some(Method::Head),
        b"OPTIONS" => Some(Method::Options),
        b"ACL" | b"BASELINE-CONTROL" | b"BIND" | b"CHECKIN" | b"CHECKOUT" | b"CONNECT"
        | b"COPY" | b"DELETE" | b"LABEL" | b"LINK" | b"LOCK" | b"MERGE" | b"MKACTIVITY"
        | b"MKCALENDAR" | b"MKCOL" | b"MKREDIRECTREF" | b"MKWORKSPACE" | b"MOVE"
        | b"ORDERPATCH" | b"PATCH" | b"PROPFIND" | b"PROPPATCH" | b"PUT" | b"QUERY" | b"REBIND"
        | b"REPORT" | b"SEARCH" | b"TRACE" | b"UNBIND" | b"UNCHECKOUT" | b"UNLINK" | b"UNLOCK"
        | b"UPDATE" | b"UPDATEREDIRECTREF" | b"VERSION-CONTROL" => Some(Method::Other),
        _ => None,
    }
}
