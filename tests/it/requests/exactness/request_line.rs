//! Method, target and version as a line; empty lines before it.

use super::{
    HEAD_BYTES, TARGET_BYTES,
    entry::{Entry, ONE, fatal, line, post, refused, taken},
};

pub(crate) fn entries() -> Vec<Entry> {
    let good = post(super::entry::LENGTH, ONE);
    let behind = |blank: &str| format!("{blank}{good}");
    let long = |bytes: usize| line(&format!("POST /{} HTTP/1.1", "x".repeat(bytes - 1)));
    vec![
        taken(("a post", "RFC 9112, 3"), line("POST /o HTTP/1.1")),
        fatal(
            ("bare LF after the request line", "RFC 9112, 2.2: may be recognised; we refuse"),
            good.replacen("1.1\r\n", "1.1\n", 1),
            &[400],
        ),
        fatal(
            ("bare CR after the request line", "RFC 9112, 2.2: invalid"),
            good.replacen("1.1\r\n", "1.1\r", 1),
            &[400],
        ),
        fatal(("two spaces after the method", "RFC 9112, 3"), line("POST  /o HTTP/1.1"), &[400]),
        fatal(("two spaces before the version", "RFC 9112, 3"), line("POST /o  HTTP/1.1"), &[400]),
        fatal(("a space behind the version", "RFC 9112, 3"), line("POST /o HTTP/1.1 "), &[400]),
        fatal(("a space before the method", "RFC 9112, 3"), line(" POST /o HTTP/1.1"), &[400]),
        fatal(("tabs instead of spaces", "RFC 9112, 3"), line("POST\t/o\tHTTP/1.1"), &[400]),
        fatal(("a space in the target", "RFC 9112, 3.2"), line("POST /o o HTTP/1.1"), &[400]),
        fatal(("a CR in the request line", "RFC 9112, 2.2"), line("POST /o\r HTTP/1.1"), &[400]),
        fatal(("a NUL in the target", "RFC 9112, 3.2"), line("POST /o\0 HTTP/1.1"), &[400]),
        fatal(("a NUL in the method", "RFC 9110, 5.6.2"), line("PO\0T /o HTTP/1.1"), &[400]),
        fatal(("a delimiter in the method", "RFC 9110, 5.6.2"), line("PO(T /o HTTP/1.1"), &[400]),
        fatal(("UTF-8 in the target", "RFC 3986, 2"), line("POST /\u{e9} HTTP/1.1"), &[400]),
        fatal(("no target", "RFC 9112, 3"), line("POST HTTP/1.1"), &[400]),
        fatal(("an empty target", "RFC 9112, 3"), line("POST  HTTP/1.1"), &[400]),
        fatal(("no version", "RFC 9112, 3"), line("POST /o"), &[400]),
        fatal(("a version in lower case", "RFC 9112, 2.3"), line("POST /o http/1.1"), &[400]),
        fatal(("a version without minor", "RFC 9112, 2.3"), line("POST /o HTTP/1"), &[400]),
        fatal(("a version of three digits", "RFC 9112, 2.3"), line("POST /o HTTP/1.10"), &[400]),
        fatal(("a version that is no HTTP", "RFC 9112, 2.3"), line("POST /o ICAP/1.1"), &[400]),
        taken(("HTTP/1.2 is read as HTTP/1.1", "RFC 9110, 2.5"), line("POST /o HTTP/1.2")),
        fatal(("HTTP/0.9 as a version", "RFC 9110, 15.6.6"), line("POST /o HTTP/0.9"), &[505]),
        fatal(("HTTP/2.0 as a version", "RFC 9110, 15.6.6"), line("POST /o HTTP/2.0"), &[505]),
        fatal(
            ("the preface of HTTP/2", "RFC 9113, 3.4; RFC 9110, 15.6.6"),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            &[505],
        ),
        taken(("an empty line before", "RFC 9112, 2.2"), behind("\r\n")),
        taken(("four empty lines before", "RFC 9112, 2.2"), behind("\r\n\r\n\r\n\r\n")),
        fatal(
            ("five empty lines before", "RFC 9112, 2.2 asks for one"),
            behind("\r\n\r\n\r\n\r\n\r\n"),
            &[400],
        ),
        fatal(("a bare LF before", "RFC 9112, 2.2"), behind("\n"), &[400]),
        fatal(("a bare CR before", "RFC 9112, 2.2"), behind("\r"), &[400]),
        refused(("a target as long as its limit", "RFC 9110, 4.1"), long(TARGET_BYTES), &[404]),
        fatal(("a longer target", "RFC 9110, 15.5.15"), long(TARGET_BYTES + 1), &[414]),
        fatal(
            ("a request line without an end", "RFC 9112, 3"),
            format!("POST /{}", "x".repeat(HEAD_BYTES - 6)),
            &[414],
        ),
    ]
}
