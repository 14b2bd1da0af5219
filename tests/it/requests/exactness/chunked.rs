//! The chunked coding: sizes, extensions, trailers.

use super::{
    EXTENSION_BYTES, TRAILER_BYTES,
    entry::{Entry, ONE, Then, entry, fatal, refused, taken, to},
};

/// A POST whose content is coded as it is here.
fn coded(body: &str) -> String {
    to("/o", "Transfer-Encoding: chunked\r\n", body)
}

/// [`ONE`] in a chunk whose size line is `size`, behind it what comes after the last chunk's.
fn sized(size: &str) -> String {
    coded(&format!("{size}\r\n{ONE}\r\n0\r\n\r\n"))
}

/// [`ONE`] in a chunk, and `trailers`, CR LF behind each.
fn trailed(trailers: &str) -> String {
    coded(&format!("18\r\n{ONE}\r\n0\r\n{trailers}\r\n"))
}

pub(crate) fn entries() -> Vec<Entry> {
    [sizes(), extensions(), trailers()].concat()
}

fn sizes() -> Vec<Entry> {
    let (head, tail) = ONE.split_at(13);
    vec![
        taken(("one chunk", "RFC 9112, 7.1"), sized("18")),
        taken(
            ("two chunks", "RFC 9112, 7.1"),
            coded(&format!("d\r\n{head}\r\nB\r\n{tail}\r\n0\r\n\r\n")),
        ),
        taken(("zeros before a size", "RFC 9112, 7.1"), sized("0000000000000018")),
        taken(
            ("zeros as the last size", "RFC 9112, 7.1"),
            coded(&format!("18\r\n{ONE}\r\n0000\r\n\r\n")),
        ),
        fatal(
            ("a size of 17 digits", "RFC 9112, 7.1: overflow"),
            sized(&format!("{:017x}", 24)),
            &[400],
        ),
        fatal(
            ("a size that wraps to 24", "RFC 9112, 7.1: overflow"),
            sized("10000000000000018"),
            &[400],
        ),
        fatal(
            ("the largest size of 64 bits", "RFC 9110, 15.5.14"),
            sized("ffffffffffffffff"),
            &[413],
        ),
        fatal(("a size over the limit", "RFC 9110, 15.5.14"), sized("401"), &[413]),
        fatal(
            ("sizes over the limit together", "RFC 9110, 15.5.14"),
            coded(&format!("18\r\n{ONE}\r\n3e9\r\n")),
            &[413],
        ),
        fatal(("a size too large by one", "RFC 9112, 7.1"), sized("19"), &[400]),
        fatal(("a size too small by one", "RFC 9112, 7.1"), sized("17"), &[400]),
        fatal(("no size", "RFC 9112, 7.1"), sized(""), &[400]),
        fatal(("a size with minus", "RFC 9112, 7.1"), sized("-18"), &[400]),
        fatal(("a size with plus", "RFC 9112, 7.1"), sized("+18"), &[400]),
        fatal(("a size with 0x", "RFC 9112, 7.1"), sized("0x18"), &[400]),
        fatal(("a size with an underscore", "RFC 9112, 7.1"), sized("1_8"), &[400]),
        fatal(("a blank before a size", "RFC 9112, 7.1"), sized(" 18"), &[400]),
        fatal(("a blank after a size", "RFC 9112, 7.1"), sized("18 "), &[400]),
        fatal(("bare LF after a size", "RFC 9112, 7.1"), sized("18").replace("18\r", "18"), &[400]),
        fatal(
            ("bare CR after a size", "RFC 9112, 7.1"),
            sized("18").replace("18\r\n", "18\r"),
            &[400],
        ),
        fatal(
            ("bare LF after a chunk", "RFC 9112, 7.1"),
            sized("18").replace("}\r\n", "}\n"),
            &[400],
        ),
        fatal(
            ("nothing after a chunk", "RFC 9112, 7.1"),
            sized("18").replace("}\r\n", "}"),
            &[400],
        ),
        fatal(
            ("bare LF as the last line", "RFC 9112, 7.1"),
            sized("18").replace("0\r\n\r\n", "0\r\n\n"),
            &[400],
        ),
        refused(("no content in chunks", "RFC 9112, 7.1"), coded("0\r\n\r\n"), &[400]),
        entry(
            ("no last chunk", "RFC 9112, 8"),
            coded(&format!("18\r\n{ONE}\r\n")),
            &[],
            &[],
            Then::Waits,
        ),
        refused(
            ("chunks to an unknown path", "RFC 9112, 9.3: read to the end"),
            sized("18").replace("/o", "/x"),
            &[404],
        ),
        fatal(
            ("a broken chunk to an unknown path", "RFC 9112, 9.3"),
            sized("19").replace("/o", "/x"),
            &[400],
        ),
    ]
}

fn extensions() -> Vec<Entry> {
    let extended = |bytes: usize| sized(&format!("18;{}", "x".repeat(bytes - 1)));
    vec![
        taken(("an extension", "RFC 9112, 7.1.1"), sized("18;a")),
        taken(("an extension with a value", "RFC 9112, 7.1.1"), sized("18;a=b")),
        taken(("an extension in quotes", "RFC 9112, 7.1.1"), sized("18;a=\"b;\\\" c\"")),
        taken(("blanks around an extension", "RFC 9112, 7.1.1"), sized("18 ;\ta = b")),
        taken(("several extensions", "RFC 9112, 7.1.1"), sized("18;a;b=c;d=\"e\"")),
        taken(
            ("an extension of the last chunk", "RFC 9112, 7.1.1"),
            coded(&format!("18\r\n{ONE}\r\n0;a=b\r\n\r\n")),
        ),
        fatal(("a NUL in an extension", "RFC 9112, 7.1.1"), sized("18;a\0"), &[400]),
        fatal(("bare LF in an extension", "RFC 9112, 7.1.1"), sized("18;a\nb"), &[400]),
        fatal(("bare CR in an extension", "RFC 9112, 7.1.1"), sized("18;a\rb"), &[400]),
        fatal(
            ("bare LF in quotes in an extension", "RFC 9112, 7.1.1"),
            sized("18;a=\"\n\""),
            &[400],
        ),
        taken(("extensions as long as their limit", "RFC 9112, 7.1.1"), extended(EXTENSION_BYTES)),
        fatal(("longer extensions", "RFC 9112, 7.1.1"), extended(EXTENSION_BYTES + 1), &[400]),
    ]
}

fn trailers() -> Vec<Entry> {
    let long = |bytes: usize| trailed(&format!("A: {}\r\n", "b".repeat(bytes - 5)));
    vec![
        taken(("a trailer", "RFC 9112, 7.1.2"), trailed("A: b\r\n")),
        taken(("several trailers", "RFC 9112, 7.1.2"), trailed("A: b\r\nC:\r\nD: e\r\n")),
        taken(
            ("a length as a trailer", "RFC 9110, 6.5.1: must be ignored"),
            trailed("Content-Length: 9\r\nTransfer-Encoding: x\r\n"),
        ),
        refused(
            ("a token as a trailer", "RFC 9110, 6.5.1: must be ignored"),
            trailed("X-Telegram-Bot-Api-Secret-Token: t\r\n").replace("/o", "/s"),
            &[403],
        ),
        fatal(("bare LF after a trailer", "RFC 9112, 2.2"), trailed("A: b\n"), &[400]),
        fatal(("a folded trailer", "RFC 9112, 5.2"), trailed("A: b\r\n c\r\n"), &[400]),
        fatal(("a space before a trailer's colon", "RFC 9112, 5.1"), trailed("A : b\r\n"), &[400]),
        fatal(("a NUL in a trailer", "RFC 9110, 5.5"), trailed("A: \0\r\n"), &[400]),
        fatal(("a trailer without colon", "RFC 9112, 5"), trailed("A\r\n"), &[400]),
        fatal(("a trailer without name", "RFC 9112, 5"), trailed(": b\r\n"), &[400]),
        taken(("trailers as long as their limit", "RFC 9110, 5.4"), long(TRAILER_BYTES)),
        fatal(("longer trailers", "RFC 6585, 5"), long(TRAILER_BYTES + 1), &[431]),
    ]
}
