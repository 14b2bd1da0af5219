//! Answers as they go over the wire. None has content, so none needs memory or formatting.

use super::Status;

/// The interim answer to `Expect: 100-continue` (RFC 9110 section 10.1.1).
///
/// Only for a client that asked: Telegram's sender takes any 1xx for the final answer. See
/// [`HttpSession::continue_due`](super::HttpSession::continue_due).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What an answer says about the connection (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ConnectionDirective {
    /// `Connection: close`: the server closes after this answer.
    Close,
    /// `Connection: keep-alive`: an HTTP/1.0 client asked for it and needs the header.
    KeepAlive,
    /// No header: in HTTP/1.1 a connection persists by default.
    Persist,
}

/// The whole answer: status line, fields, empty line.
///
/// It answers HEAD, too: `Content-Length: 0` announces no bytes.
#[must_use]
pub const fn response(status: Status, directive: ConnectionDirective) -> &'static [u8] {
    match status {
        Status::Ok => answer!(directive, "200 OK"),
        Status::BadRequest => answer!(directive, "400 Bad Request"),
        Status::Forbidden => answer!(directive, "403 Forbidden"),
        Status::NotFound => answer!(directive, "404 Not Found"),
        Status::MethodNotAllowed => answer!(directive, "405 Method Not Allowed", "Allow: POST"),
        Status::RequestTimeout => answer!(directive, "408 Request Timeout"),
        Status::PayloadTooLarge => answer!(directive, "413 Content Too Large"),
        Status::UriTooLong => answer!(directive, "414 URI Too Long"),
        // RFC 9110 section 15.5.16: say which codings would do.
        Status::UnsupportedMediaType => {
            answer!(directive, "415 Unsupported Media Type", "Accept-Encoding: identity")
        }
        Status::ExpectationFailed => answer!(directive, "417 Expectation Failed"),
        Status::HeaderTooLarge => answer!(directive, "431 Request Header Fields Too Large"),
        Status::NotImplemented => answer!(directive, "501 Not Implemented"),
        // The sender honours whole seconds, and drops an update whose life would end before.
        Status::ServiceUnavailable => {
            answer!(directive, "503 Service Unavailable", "Retry-After: 1")
        }
        Status::VersionNotSupported => answer!(directive, "505 HTTP Version Not Supported"),
    }
}

/// Bytes of a date in HTTP's form (RFC 9110 section 5.6.7).
pub const DATE_BYTES: usize = 29;

/// Puts the answer behind what `out` holds, with `date` in a `Date` behind the status line (RFC
/// 9110 section 6.6.1).
pub fn dated_response(
    status: Status,
    directive: ConnectionDirective,
    date: &[u8; DATE_BYTES],
    out: &mut Vec<u8>,
) {
    let bare = response(status, directive);
    let line = bare.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (line, fields) = bare.split_at(line);
    let parts = [line, b"Date: ", date, b"\r\n", fields];
    out.reserve(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The three forms of one answer, put together by the compiler.
macro_rules! answer {
    ($directive:expr, $status:literal $(, $field:literal)*) => {
        match $directive {
            ConnectionDirective::Close => {
                answer!(@bytes $status $(, $field)*, "Content-Length: 0", "Connection: close")
            }
            ConnectionDirective::KeepAlive => {
                answer!(@bytes $status $(, $field)*, "Content-Length: 0", "Connection: keep-alive")
            }
            ConnectionDirective::Persist => {
                answer!(@bytes $status $(, $field)*, "Content-Length: 0")
            }
        }
    };
    (@bytes $status:literal $(, $field:literal)*) => {
        concat!("HTTP/1.1 ", $status, "\r\n", $($field, "\r\n",)* "\r\n").as_bytes()
    };
}
use answer;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_answer_is_as_short_as_the_sender_takes() {
        assert_eq!(
            response(Status::Ok, ConnectionDirective::Persist),
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(
            response(Status::Ok, ConnectionDirective::KeepAlive),
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            response(Status::MethodNotAllowed, ConnectionDirective::Close),
            b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\
              Connection: close\r\n\r\n"
        );
        assert_eq!(
            response(Status::ServiceUnavailable, ConnectionDirective::Persist),
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn every_answer_states_its_code_and_ends_once() {
        use ConnectionDirective::{Close, KeepAlive, Persist};
        for status in Status::ALL {
            for (directive, said) in
                [(Close, Some("close")), (KeepAlive, Some("keep-alive")), (Persist, None)]
            {
                let mut slots = [httparse::EMPTY_HEADER; 4];
                let mut parsed = httparse::Response::new(&mut slots);
                let bytes = response(status, directive);
                assert_eq!(parsed.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
                assert_eq!(parsed.code, Some(status.code()));
                let phrase = format!("{} {}", status.code(), parsed.reason.unwrap_or_default());
                assert_eq!(status.as_str(), phrase);
                let field = |name: &str| {
                    let mut found = parsed.headers.iter().filter(|header| header.name == name);
                    (found.next().map(|header| header.value), found.next().is_none())
                };
                assert_eq!(field("Connection"), (said.map(str::as_bytes), true));
                assert_eq!(field("Content-Length"), (Some(&b"0"[..]), true));
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
                assert_eq!(lines, bytes.windows(2).filter(|pair| pair == b"\r\n").count());
            }
        }
    }

    #[test]
    fn codes_are_in_numeric_order() {
        assert!(Status::ALL.is_sorted_by(|one, next| one.code() < next.code()));
    }
}
