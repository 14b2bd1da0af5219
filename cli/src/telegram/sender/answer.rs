//! An answer out of bytes, with the sender's own strictness.

use std::time::Duration;

use super::Failure;

/// The most fields of a head that are read.
const FIELDS_MAX: usize = 100;
/// Bytes of a head.
const HEAD_MAX: usize = 64 * 1024;
/// Bytes of a body.
const BODY_MAX: u64 = 1024 * 1024;

/// What a receiver has answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    /// Whether the connection is of no more use.
    pub(crate) is_last: bool,
    pub(crate) reason: String,
    /// Seconds of `Retry-After`, where it has any.
    pub(crate) retry_after: Option<u64>,
    /// `Server`, where it says who answers.
    pub(crate) server: Option<String>,
    pub(crate) status: u16,
    /// From the request's first byte to the answer's last.
    pub(crate) took: Duration,
}

impl Answer {
    /// True for what the sender counts as delivered.
    pub(crate) fn is_taken(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `status reason`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.status, self.reason).trim_end().to_owned()
    }
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Length {
    Bytes(u64),
    Chunked,
    UntilEnd,
}

/// The answer at the start of `bytes` and its length; `None` where more are needed. `is_end` tells
/// that no more will come.
pub(super) fn parse(bytes: &[u8], is_end: bool) -> Result<Option<(Answer, usize)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let head_length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_MAX => {
            return Err(Failure::Odd(format!("its head is longer than {HEAD_MAX} bytes")));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Failure::NotHttp(error.to_string())),
    };
    let (head_bytes, rest) = bytes.split_at_checked(head_length).unwrap_or((bytes, &[]));
    if has_bare_line_feed(head_bytes) {
        let what = "a line of its head ends without a carriage return, at which Telegram hangs";
        return Err(Failure::Odd(what.to_owned()));
    }
    let field = |name: &str| {
        let mut found = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        found.next().and_then(|field| str::from_utf8(field.value).ok()).map(str::trim)
    };
    let has = |name: &str, token: &str| {
        let list = field(name).unwrap_or_default();
        list.split(',').any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    let status = head.code.unwrap_or_default();
    let is_http_1_0 = head.version == Some(0);
    let length = if has("transfer-encoding", "chunked") {
        Length::Chunked
    } else if status < 200 || status == 204 || status == 304 {
        Length::Bytes(0)
    } else {
        match field("content-length").map(str::parse) {
            Some(Ok(length)) => Length::Bytes(length),
            Some(Err(_)) => {
                return Err(Failure::Odd("its Content-Length is no number".to_owned()));
            }
            None => Length::UntilEnd,
        }
    };
    let Some((body, body_length)) = body(rest, length, is_end)? else { return Ok(None) };
    let is_until_end = matches!(length, Length::UntilEnd);
    let closes = has("connection", "close") || (is_http_1_0 && !has("connection", "keep-alive"));
    let answer = Answer {
        body,
        // A 1xx is the answer for the sender, and whatever follows puts it out of step.
        is_last: closes || is_until_end || status < 200,
        reason: head.reason.unwrap_or_default().escape_debug().to_string(),
        retry_after: field("retry-after").and_then(|seconds| seconds.parse().ok()),
        server: field("server").map(|name| name.escape_debug().to_string()),
        status,
        took: Duration::ZERO,
    };
    Ok(Some((answer, head_length + body_length)))
}

/// The body at the start of `bytes`, and how many of them it takes; `None` where more are needed.
fn body(bytes: &[u8], length: Length, is_end: bool) -> Result<Option<(Vec<u8>, usize)>, Failure> {
    match length {
        Length::Bytes(length) if length > BODY_MAX => Err(too_long()),
        Length::Bytes(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            Ok(bytes.get(..length).map(|body| (body.to_vec(), length)))
        }
        Length::UntilEnd if bytes.len() as u64 > BODY_MAX => Err(too_long()),
        Length::UntilEnd => Ok(is_end.then(|| (bytes.to_vec(), bytes.len()))),
        Length::Chunked => chunks(bytes),
    }
}

/// A chunked body, without trailers.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Failure> {
    let odd = || Failure::Odd("its chunks are malformed".to_owned());
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (line, length) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(odd()),
        };
        if length > BODY_MAX || body.len() as u64 + length > BODY_MAX {
            return Err(too_long());
        }
        let length = usize::try_from(length).map_err(|_| odd())?;
        let Some(rest) = rest.get(line..) else { return Ok(None) };
        let (Some(chunk), Some(end)) = (rest.get(..length), rest.get(length..length + 2)) else {
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(odd());
        }
        body.extend_from_slice(chunk);
        at += line + length + 2;
        if length == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn too_long() -> Failure {
    Failure::Odd(format!("its body is longer than {BODY_MAX} bytes"))
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let before = std::iter::once(&0).chain(head);
    head.iter().zip(before).any(|(byte, before)| *byte == b'\n' && *before != b'\r')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn whole(text: &str) -> Answer {
        for cut in 0..text.len() {
            let part = text.get(..cut).unwrap().as_bytes();
            assert!(parse(part, false).unwrap().is_none(), "{cut} bytes of {text:?}");
        }
        let (answer, length) = parse(text.as_bytes(), false).unwrap().unwrap();
        assert_eq!(length, text.len());
        answer
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let answer = whole("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((answer.line().as_str(), answer.is_last), ("200 OK", false));
        let answer = whole(
            "HTTP/1.1 503 Busy\r\nretry-after: 3\r\nConnection: close\r\nContent-Length: 2\r\n\r\n\
             no",
        );
        let expected = (Some(3), true, b"no".to_vec());
        assert_eq!((answer.retry_after, answer.is_last, answer.body), expected);
        let answer = whole(
            "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        );
        assert_eq!((answer.line().as_str(), answer.body), ("200", b"abcd".to_vec()));
        assert!(whole("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").is_last);
        let text = b"HTTP/1.1 200 OK\r\n\r\nall";
        assert!(parse(text, false).unwrap().is_none());
        assert_eq!(parse(text, true).unwrap().unwrap().0.body, b"all");
    }

    #[test]
    fn what_the_sender_stumbles_over_is_named() {
        assert!(whole("HTTP/1.1 100 Continue\r\n\r\n").is_last);
        for (text, why) in [
            ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "without a carriage return"),
            ("nonsense, all of it\r\n\r\n", "no HTTP/1.1"),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "longer than"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", "chunks"),
        ] {
            let error = parse(text.as_bytes(), false).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
