//! Bytes that are no request, and requests that do not end.

use super::{
    HEAD_BYTES,
    entry::{Entry, Then, entry, fatal},
};

/// What is not HTTP is answered and not read any further.
const RULE: &str = "RFC 9112, 2.2: 400 and close";

pub(crate) fn entries() -> Vec<Entry> {
    let garbage = |name, bytes: &[u8]| fatal((name, RULE), bytes, &[400]);
    let part = |name, bytes: &str| entry((name, "RFC 9112, 8"), bytes, &[], &[], Then::Waits);
    vec![
        // What Telegram's sender writes when it has not understood an answer.
        garbage("an answer", b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n"),
        garbage(
            "an answer that closes",
            b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\r\n",
        ),
        garbage("a hello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        garbage("an update without a head", b"{\"update_id\":1000000001}"),
        garbage("a NUL", b"\0"),
        garbage("a byte beyond ASCII", b"\xff"),
        garbage("a byte order mark", b"\xef\xbb\xbfPOST /o HTTP/1.1\r\n"),
        garbage("a greeting of SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        garbage("a greeting of SMTP", b"EHLO example.com\r\n"),
        garbage("a command of redis", b"*1\r\n$4\r\nPING\r\n"),
        garbage("a PROXY line of version 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 4711 443\r\n"),
        garbage("a PROXY header of version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"),
        garbage("a line of text", b"hello\r\n"),
        garbage("a request of HTTP/0.9", b"GET /\r\n"),
        garbage("a line end of LF alone", b"GET / HTTP/1.1\n\n"),
        garbage("a query of SIP", b"OPTIONS sip:nm SIP/2.0\r\n"),
        fatal(("letters without end", "RFC 9112, 3: 414"), "x".repeat(HEAD_BYTES), &[414]),
        entry(("an empty line", "RFC 9112, 2.2: ignored"), "\r\n", &[], &[], Then::Stays),
        part("a first letter", "P"),
        part("a CR", "\r"),
        part("half a request line", "POST /o HTT"),
        part("half a head", "POST /o HTTP/1.1\r\nHost: a\r\nContent-"),
        part(
            "a head without its last LF",
            "POST /o HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r",
        ),
    ]
}
