//! Content-Length and Transfer-Encoding, alone and against each other.

use super::{
    BODY_BYTES,
    entry::{Entry, LENGTH, ONE, THREE, TWO, Then, entry, fatal, post, refused, taken},
};

/// [`ONE`] in one chunk.
const CHUNKED: &str = "18\r\n{\"update_id\":1000000001}\r\n0\r\n\r\n";

pub(crate) fn entries() -> Vec<Entry> {
    [content_length(), transfer_encoding(), content()].concat()
}

fn content_length() -> Vec<Entry> {
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), ONE);
    let padded = |bytes: usize| {
        let body = ONE.replace('}', &format!("{}}}", " ".repeat(bytes - ONE.len())));
        post(&format!("Content-Length: {bytes}\r\n"), &body)
    };
    vec![
        taken(("Content-Length with zeros in front", "RFC 9110, 8.6"), length("00024")),
        refused(
            ("Content-Length of nothing", "RFC 9110, 8.6"),
            post("Content-Length: 0\r\n", ""),
            &[400],
        ),
        fatal(("no length at all", "RFC 9112, 6.3: empty; we refuse"), post("", ""), &[400]),
        fatal(("no length but content", "RFC 9112, 6.3"), post("", ONE), &[400]),
        fatal(
            ("equal Content-Lengths", "RFC 9110, 8.6: may be refused"),
            post(&LENGTH.repeat(2), ONE),
            &[400],
        ),
        fatal(
            ("unequal Content-Lengths", "RFC 9112, 6.3"),
            post(&format!("{LENGTH}Content-Length: 23\r\n"), ONE),
            &[400],
        ),
        fatal(("a list of equal Content-Lengths", "RFC 9110, 8.6"), length("24, 24"), &[400]),
        fatal(("a list of unequal Content-Lengths", "RFC 9112, 6.3"), length("24, 23"), &[400]),
        fatal(("an empty Content-Length", "RFC 9110, 8.6"), length(""), &[400]),
        fatal(("a Content-Length with plus", "RFC 9110, 8.6"), length("+24"), &[400]),
        fatal(("a Content-Length with minus", "RFC 9110, 8.6"), length("-24"), &[400]),
        fatal(("a Content-Length in hex", "RFC 9110, 8.6"), length("0x18"), &[400]),
        fatal(("a Content-Length with a point", "RFC 9110, 8.6"), length("24.0"), &[400]),
        fatal(("a Content-Length of two numbers", "RFC 9110, 8.6"), length("2 4"), &[400]),
        fatal(("a Content-Length of letters", "RFC 9110, 8.6"), length("24b"), &[400]),
        fatal(("a Content-Length in other digits", "RFC 9110, 8.6"), length("\u{662}"), &[400]),
        fatal(("the largest u64", "RFC 9110, 15.5.14"), length("18446744073709551615"), &[413]),
        fatal(("a longer number", "RFC 9112, 6.3"), length("18446744073709551616"), &[400]),
        fatal(
            ("a number that wraps to 24", "RFC 9110, 8.6: anticipate overflow"),
            length("18446744073709551640"),
            &[400],
        ),
        taken(("a body as long as its limit", "RFC 9110, 8.6"), padded(BODY_BYTES)),
        fatal(
            ("a longer body", "RFC 9110, 15.5.14"),
            post(&format!("Content-Length: {}\r\n", BODY_BYTES + 1), ONE),
            &[413],
        ),
        entry(
            ("content beyond its length", "RFC 9112, 6.3"),
            post(LENGTH, &format!("{ONE}}}")),
            &[200, 400],
            &[1],
            Then::Closes,
        ),
        entry(
            ("content shorter than its length", "RFC 9112, 8"),
            post("Content-Length: 25\r\n", ONE),
            &[],
            &[],
            Then::Waits,
        ),
    ]
}

fn transfer_encoding() -> Vec<Entry> {
    let coded = |fields: &str| post(&format!("{fields}\r\n"), CHUNKED);
    vec![
        taken(("a coding in capitals", "RFC 9112, 7"), coded("Transfer-Encoding: CHUNKED")),
        taken(
            ("empty elements around the coding", "RFC 9110, 5.6.1"),
            coded("Transfer-Encoding: ,\t, chunked ,"),
        ),
        fatal(
            ("Content-Length, then Transfer-Encoding", "RFC 9112, 6.3: may be refused"),
            coded("Content-Length: 4\r\nTransfer-Encoding: chunked"),
            &[400],
        ),
        fatal(
            ("Transfer-Encoding, then Content-Length", "RFC 9112, 6.3: may be refused"),
            coded("Transfer-Encoding: chunked\r\nContent-Length: 4"),
            &[400],
        ),
        fatal(
            ("Content-Length with a coding unknown", "RFC 9112, 6.3"),
            coded("Content-Length: 4\r\nTransfer-Encoding: x"),
            &[400],
        ),
        fatal(
            ("an unknown coding under chunked", "RFC 9112, 6.1"),
            coded("Transfer-Encoding: gzip, chunked"),
            &[501],
        ),
        fatal(
            ("an unknown coding under chunked in two fields", "RFC 9112, 6.1"),
            coded("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
            &[501],
        ),
        fatal(
            ("an unknown coding alone", "RFC 9112, 6.3: chunked is not last"),
            coded("Transfer-Encoding: gzip"),
            &[400],
        ),
        fatal(
            ("an unknown coding over chunked", "RFC 9112, 6.3: chunked is not last"),
            coded("Transfer-Encoding: chunked, gzip"),
            &[400],
        ),
        fatal(
            ("the coding that is none", "RFC 9112, 6.3: chunked is not last"),
            coded("Transfer-Encoding: identity"),
            &[400],
        ),
        fatal(
            ("chunked twice in a list", "RFC 9112, 7: must not"),
            coded("Transfer-Encoding: chunked, chunked"),
            &[400],
        ),
        fatal(
            ("chunked twice in two fields", "RFC 9112, 7: must not"),
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            &[400],
        ),
        fatal(
            ("chunked, then an empty field of its name", "RFC 9110, 5.6.1: may be refused"),
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding:"),
            &[400],
        ),
        fatal(
            ("an empty field of its name, then chunked", "RFC 9110, 5.6.1: may be refused"),
            coded("Transfer-Encoding: ,\r\nTransfer-Encoding: chunked"),
            &[400],
        ),
        fatal(
            ("a parameter of chunked", "RFC 9112, 7.1"),
            coded("Transfer-Encoding: chunked;a=b"),
            &[400],
        ),
        fatal(
            ("a name that ends like chunked", "RFC 9112, 6.3"),
            coded("Transfer-Encoding: xchunked"),
            &[400],
        ),
        fatal(
            ("a control byte before chunked", "RFC 9110, 5.5"),
            coded("Transfer-Encoding: \x0bchunked"),
            &[400],
        ),
        fatal(
            ("chunked in quotes", "RFC 9112, 7"),
            coded("Transfer-Encoding: \"chunked\""),
            &[400],
        ),
        fatal(("an empty Transfer-Encoding", "RFC 9112, 6.3"), coded("Transfer-Encoding:"), &[400]),
        fatal(
            ("Transfer-Encoding in HTTP/1.0", "RFC 9112, 6.1: faulty"),
            coded("Transfer-Encoding: chunked").replace("1.1", "1.0"),
            &[400],
        ),
        fatal(
            ("Transfer-Encoding of a GET", "RFC 9112, 6.1"),
            coded("Transfer-Encoding: gzip").replace("POST", "GET"),
            &[400],
        ),
    ]
}

/// Content that is whole but no update: the framing is sound, and the connection stays.
fn content() -> Vec<Entry> {
    let body = |body: &str| post(&format!("Content-Length: {}\r\n", body.len()), body);
    vec![
        refused(("content that is no JSON", "RFC 9110, 15.5.1"), body("hello"), &[400]),
        refused(("content that is cut off", "RFC 8259, 2"), body(&ONE[..23]), &[400]),
        refused(("JSON without an id", "Bot API, Update"), body("{\"message\":{}}"), &[400]),
        refused(
            ("an id that is no integer", "Bot API, Update"),
            body("{\"update_id\":1.5}"),
            &[400],
        ),
        refused(("two values", "RFC 8259, 2"), body(&format!("{TWO}{THREE}")), &[400]),
        refused(("a list of updates", "Bot API, Update"), body(&format!("[{TWO}]")), &[400]),
        refused(
            ("a byte order mark before JSON", "RFC 8259, 8.1"),
            body(&format!("\u{feff}{ONE}")),
            &[400],
        ),
        taken(("blanks around an update", "RFC 8259, 2"), body(&format!("\r\n {ONE}\t\r\n"))),
    ]
}
