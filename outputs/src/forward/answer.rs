//! The head of a target's answer, and how long its body is.

use std::{
    mem::MaybeUninit,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use httparse::{ParserConfig, Response, Status};

use super::retry::retry_after;

/// The most fields of a head.
const FIELDS_MAX: usize = 100;

/// What is no answer of HTTP/1.1.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    Chunked,
    /// All until the end of the connection.
    UntilEnd,
}

/// What is used of an answer's head.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct AnswerHead {
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// True where the connection takes another request behind this answer.
    pub(super) is_kept: bool,
    /// That of a body.
    pub(super) content_type: Option<HeaderValue>,
    /// What an answer that is not 2xx asks for.
    pub(super) retry_after: Option<Duration>,
}

/// The fields of a head that say how its body is framed.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    /// The last coding of `Transfer-Encoding`.
    coding: Option<bool>,
    closes: bool,
    keeps: bool,
}

impl AnswerHead {
    /// The head at the beginning of `bytes`, with its length; `None` where more has to come.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(usize, Self)>, Malformed> {
        let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = Response::new(&mut []);
        let config = ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut slots);
        let Status::Complete(length) = parsed.map_err(|_| Malformed)? else { return Ok(None) };
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(Malformed);
        };
        let mut fields = Fields::default();
        let (mut content_type, mut wait) = (None, None);
        for field in response.headers.iter() {
            let (name, value) = (field.name, field.value);
            if name.eq_ignore_ascii_case("content-length") {
                fields.set_length(value)?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                fields.set_coding(value);
            } else if name.eq_ignore_ascii_case("connection") {
                fields.set_connection(value);
            } else if name.eq_ignore_ascii_case("content-type") {
                content_type = Some(value);
            } else if name.eq_ignore_ascii_case("retry-after") {
                wait = Some(value);
            }
        }
        let is_success = (200..300).contains(&status);
        let framing = match fields {
            _ if (100..200).contains(&status) || matches!(status, 204 | 304) => Framing::Length(0),
            Fields { coding: Some(true), .. } => Framing::Chunked,
            Fields { coding: Some(false), .. } => Framing::UntilEnd,
            Fields { length: Some(length), .. } => Framing::Length(length),
            _ => Framing::UntilEnd,
        };
        let has_body = framing != Framing::Length(0);
        let content_type = content_type.filter(|_| has_body);
        let is_doubtful = fields.length.is_some() && fields.coding.is_some();
        let is_kept = !fields.closes && (version == 1 || fields.keeps);
        let head = Self {
            status,
            framing,
            // After 101 it speaks something else.
            is_kept: is_kept && !is_doubtful && framing != Framing::UntilEnd && status != 101,
            content_type: content_type.and_then(|value| HeaderValue::from_bytes(value).ok()),
            retry_after: wait
                .filter(|_| !is_success)
                .and_then(|value| retry_after(str::from_utf8(value).ok()?, SystemTime::now())),
        };
        Ok(Some((length, head)))
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// True where the answer itself is still to come (RFC 9110, section 15.2).
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// True where no body follows.
    pub(super) fn is_whole(&self) -> bool {
        self.framing == Framing::Length(0)
    }
}

impl Fields {
    /// The same length several times is one length (RFC 9110, section 8.6).
    fn set_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for element in value.split(|byte| *byte == b',') {
            let digits = element.trim_ascii();
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            let length = length.filter(|_| is_number).ok_or(Malformed)?;
            if self.length.replace(length).is_some_and(|before| before != length) {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    /// Whether the last coding is `chunked`.
    fn set_coding(&mut self, value: &[u8]) {
        let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        self.coding = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    }

    fn set_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;

    fn parsed(fields: &str) -> AnswerHead {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let (length, head) = AnswerHead::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        head
    }

    #[test]
    fn it_is_the_same_wherever_it_is_cut() {
        let text = b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nConnection: a, Close\r\n\
            content-type: text/plain\r\nContent-Length: 2\r\n\r\nno";
        let end = text.len() - 2;
        for cut in 0..end {
            assert_eq!(AnswerHead::parse(&text[..cut]), Ok(None), "{cut}");
        }
        for cut in end..=text.len() {
            let (length, head) = AnswerHead::parse(&text[..cut]).unwrap().unwrap();
            assert_eq!((length, head.status, head.framing), (end, 503, Framing::Length(2)));
            assert_eq!(head.retry_after, Some(Duration::from_secs(7)));
            assert_eq!(
                (head.is_kept, head.content_type.unwrap()),
                (false, "text/plain".parse().unwrap())
            );
        }
    }

    #[test]
    fn the_framing_is_that_of_the_standard() {
        for (fields, framing, is_kept) in [
            ("", Framing::UntilEnd, false),
            ("Content-Length: 0\r\n", Framing::Length(0), true),
            ("Content-Length: 5, 5\r\nContent-Length: 5\r\n", Framing::Length(5), true),
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked, true),
            ("Transfer-Encoding: gzip, Chunked\r\n", Framing::Chunked, true),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, true),
            ("Transfer-Encoding: chunked, gzip\r\n", Framing::UntilEnd, false),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", Framing::Chunked, false),
            ("Content-Length: 1\r\nConnection: keep-alive\r\n", Framing::Length(1), true),
            ("Content-Length: 1\r\nConnection: close\r\n", Framing::Length(1), false),
        ] {
            let head = parsed(fields);
            assert_eq!((head.framing, head.is_kept), (framing, is_kept), "{fields}");
        }
    }

    #[test]
    fn some_statuses_have_no_body_and_http_1_0_closes() {
        let head = |text: &[u8]| AnswerHead::parse(text).unwrap().unwrap().1;
        for status in [100, 103, 204, 304] {
            let text = format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n");
            let head = head(text.as_bytes());
            assert!(head.is_whole() && head.is_interim() == (status < 200), "{status}");
        }
        assert!(!head(b"HTTP/1.1 101 Switching\r\n\r\n").is_kept);
        assert!(!head(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").is_kept);
        let kept = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n";
        assert!(head(kept).is_kept);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ] {
            assert_eq!(AnswerHead::parse(text.as_bytes()), Err(Malformed), "{text}");
        }
    }
}
