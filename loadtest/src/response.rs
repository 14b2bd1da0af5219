//! Finds the end of a response and its status.

/// The longest response that is waited for, in bytes.
const BYTES_MAX: usize = 1024 * 1024;
const HEADERS_MAX: usize = 64;

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq)]
pub(crate) enum Parsed {
    /// Not HTTP/1, or longer than any answer to a webhook should be.
    Bad,
    /// A whole response.
    Complete(Answer),
    /// The beginning of one.
    Partial,
}

/// A whole response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How many of the bytes it takes up.
    pub(crate) length: usize,
    /// Whether the connection cannot be used again.
    pub(crate) close: bool,
    /// `Retry-After` in seconds; 0 if there is none, or a date, as Telegram takes it.
    pub(crate) retry_after_s: u32,
}

/// Reads a response from the front of `bytes`; `ended` if no more will come.
///
/// A 1xx is an answer like any other, as it is for Telegram: what follows it is taken for the
/// answer to the next request.
pub(crate) fn parse(bytes: &[u8], ended: bool) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return partial(bytes),
        Err(_) => return Parsed::Bad,
    };
    let status = response.code.unwrap_or(0);
    let Some(framing) = Framing::read(&response) else { return Parsed::Bad };
    let body = bytes.get(head..).unwrap_or_default();
    let bodiless = matches!(status, 100..200 | 204 | 304);
    let length = match framing.body {
        _ if bodiless => Some(0),
        Body::Chunked => match chunked(body) {
            Ok(length) => length,
            Err(BadChunk) => return Parsed::Bad,
        },
        Body::Length(length) => (length <= body.len()).then_some(length),
        Body::UntilClose => ended.then_some(body.len()),
    };
    match length {
        Some(length) => {
            let close = framing.close || framing.body == Body::UntilClose && !bodiless;
            let retry_after_s = framing.retry_after_s;
            Parsed::Complete(Answer { status, length: head + length, close, retry_after_s })
        }
        None => partial(bytes),
    }
}

/// The reason phrase of a response at the front of `bytes`, as far as it is ASCII.
pub(crate) fn reason(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let reason = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    reason.iter().filter(|byte| (b' '..=b'~').contains(byte)).map(|b| char::from(*b)).collect()
}

fn partial(bytes: &[u8]) -> Parsed {
    if bytes.len() < BYTES_MAX { Parsed::Partial } else { Parsed::Bad }
}

/// How a response ends, and when to come again.
struct Framing {
    body: Body,
    close: bool,
    retry_after_s: u32,
}

#[derive(PartialEq)]
enum Body {
    Chunked,
    Length(usize),
    UntilClose,
}

impl Framing {
    /// None if a header contradicts HTTP.
    fn read(response: &httparse::Response<'_, '_>) -> Option<Self> {
        let close = response.version != Some(1);
        let mut framing = Self { body: Body::UntilClose, close, retry_after_s: 0 };
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length: usize = std::str::from_utf8(header.value).ok()?.trim().parse().ok()?;
                if framing.body != Body::Chunked {
                    framing.body = Body::Length((length <= BYTES_MAX).then_some(length)?);
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                framing.body = Body::Chunked;
            } else if header.name.eq_ignore_ascii_case("connection") {
                framing.close |= header.value.eq_ignore_ascii_case(b"close");
            } else if header.name.eq_ignore_ascii_case("retry-after") {
                framing.retry_after_s = seconds(header.value);
            }
        }
        Some(framing)
    }
}

/// Digits alone; 0 for anything else.
fn seconds(value: &[u8]) -> u32 {
    let text = value.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    // More digits than fit is a long time all the same.
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX)
}

/// A chunk that is not written as HTTP wants it.
struct BadChunk;

/// The length of a whole chunked body with its trailers; none if there is more to come.
fn chunked(body: &[u8]) -> Result<Option<usize>, BadChunk> {
    let mut at = 0;
    loop {
        let rest = body.get(at..).unwrap_or_default();
        match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((head, 0))) => return trailers(body, at + head),
            Ok(httparse::Status::Complete((head, size))) => {
                let size = usize::try_from(size).map_err(|_| BadChunk)?;
                at =
                    at.checked_add(head + 2).and_then(|at| at.checked_add(size)).ok_or(BadChunk)?;
                if at > body.len() {
                    return Ok(None);
                }
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(BadChunk),
        }
    }
}

/// The end of the trailers that begin at `at`.
fn trailers(body: &[u8], at: usize) -> Result<Option<usize>, BadChunk> {
    let rest = body.get(at..).unwrap_or_default();
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(rest, &mut headers) {
        Ok(httparse::Status::Complete((length, _))) => Ok(Some(at + length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(BadChunk),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    fn complete(status: u16, length: usize, close: bool) -> Parsed {
        Parsed::Complete(Answer { status, length, close, retry_after_s: 0 })
    }

    #[test]
    fn whole_responses_are_found_wherever_they_are_cut() {
        for (response, close) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n", false),
        ] {
            let bytes = format!("{response}HTTP/1.1 5");
            for cut in 0..response.len() {
                let parsed = parse(&bytes.as_bytes()[..cut], false);
                assert_eq!(parsed, Parsed::Partial, "{response:?} cut at {cut}");
            }
            assert_eq!(parse(bytes.as_bytes(), false), complete(200, response.len(), close));
        }
    }

    #[test]
    fn a_body_without_a_length_lasts_until_the_end() {
        let bytes = b"HTTP/1.1 503 No\r\n\r\nsorry";
        assert_eq!(parse(bytes, false), Parsed::Partial);
        assert_eq!(parse(bytes, true), complete(503, bytes.len(), true));
    }

    #[test]
    fn some_responses_have_no_body() {
        for (status, line) in [(100, "100 Continue"), (204, "204 No Content")] {
            let bytes = format!("HTTP/1.1 {line}\r\n\r\n");
            assert_eq!(parse(bytes.as_bytes(), false), complete(status, bytes.len(), false));
        }
    }

    #[test]
    fn only_whole_seconds_are_a_time_to_come_again() {
        for (value, seconds) in [
            ("0", 0),
            ("17", 17),
            (" 5 ", 5),
            ("99999999999999", u32::MAX),
            ("1.5", 0),
            ("-3", 0),
            ("", 0),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ] {
            let head = format!("HTTP/1.1 503 No\r\nRetry-After: {value}\r\n");
            let Parsed::Complete(answer) =
                parse(format!("{head}Content-Length: 0\r\n\r\n").as_bytes(), false)
            else {
                unreachable!("{value}")
            };
            assert_eq!(answer.retry_after_s, seconds, "{value:?}");
        }
    }

    #[test]
    fn nonsense_is_bad() {
        for bytes in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            assert_eq!(parse(bytes.as_bytes(), false), Parsed::Bad, "{bytes:?}");
        }
    }
}
