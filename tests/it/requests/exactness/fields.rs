//! The form of header fields, their limits, credentials, codings of the content.

use super::{
    HEAD_BYTES,
    entry::{Entry, LENGTH, ONE, fatal, post, refused, taken, to, with, with_bytes},
};

pub(crate) fn entries() -> Vec<Entry> {
    [form(), limits(), credentials(), meaning()].concat()
}

fn form() -> Vec<Entry> {
    let after_line =
        |bytes: &str| format!("POST /o HTTP/1.1\r\n{bytes}Host: a\r\n{LENGTH}\r\n{ONE}");
    vec![
        fatal(("bare LF after a field", "RFC 9112, 2.2"), with("A: b\nC: d"), &[400]),
        fatal(
            ("bare LF after the last field", "RFC 9112, 2.2"),
            post("Content-Length: 24\n", ONE),
            &[400],
        ),
        fatal(
            ("bare LF as the empty line", "RFC 9112, 2.2"),
            format!("POST /o HTTP/1.1\r\nHost: a\r\n{LENGTH}\n{ONE}"),
            &[400],
        ),
        fatal(("bare LFs everywhere", "RFC 9112, 2.2"), with("A: b").replace('\r', ""), &[400]),
        fatal(("a bare CR in a value", "RFC 9112, 2.2"), with("A: b\rC: d"), &[400]),
        fatal(("CR CR LF after a field", "RFC 9112, 2.2"), with("A: b\r"), &[400]),
        fatal(("a folded line", "RFC 9112, 5.2"), with("A: b\r\n c"), &[400]),
        fatal(("a line folded by a tab", "RFC 9112, 5.2"), with("A: b\r\n\tc"), &[400]),
        fatal(
            ("a folded Content-Length", "RFC 9112, 5.2"),
            post("Content-Length:\r\n 24\r\n", ONE),
            &[400],
        ),
        fatal(("blanks as a line", "RFC 9112, 5.2"), with("A: b\r\n "), &[400]),
        fatal(("a blank before the first field", "RFC 9112, 2.2"), after_line(" "), &[400]),
        fatal(("a space before the colon", "RFC 9112, 5.1"), with("A : b"), &[400]),
        fatal(("a tab before the colon", "RFC 9112, 5.1"), with("A\t: b"), &[400]),
        fatal(
            ("a space before the colon of Content-Length", "RFC 9112, 5.1"),
            post("Content-Length : 24\r\n", ONE),
            &[400],
        ),
        fatal(("a space in a name", "RFC 9110, 5.1"), with("A B: c"), &[400]),
        fatal(("a delimiter in a name", "RFC 9110, 5.1"), with("A(B): c"), &[400]),
        fatal(("UTF-8 in a name", "RFC 9110, 5.1"), with("\u{e4}: c"), &[400]),
        fatal(("a NUL in a name", "RFC 9110, 5.1"), with("A\0: b"), &[400]),
        fatal(("no name", "RFC 9110, 5.1"), with(": b"), &[400]),
        fatal(("no colon", "RFC 9112, 5"), with("A"), &[400]),
        fatal(("a NUL in a value", "RFC 9110, 5.5"), with("A: b\0c"), &[400]),
        fatal(("an escape in a value", "RFC 9110, 5.5"), with("A: b\x1b[0m"), &[400]),
        fatal(("a vertical tab in a value", "RFC 9110, 5.5"), with("A: b\x0bc"), &[400]),
        fatal(("a DEL in a value", "RFC 9110, 5.5"), with("A: b\x7f"), &[400]),
        taken(("bytes beyond ASCII in a value", "RFC 9110, 5.5"), with_bytes(b"A: \x80\xff")),
        taken(("a tab in a value", "RFC 9110, 5.5"), with("A: b\tc")),
        taken(("an empty value", "RFC 9110, 5.5"), with("A:")),
        taken(("blanks around a value", "RFC 9112, 5.1"), with("A: \t b \t ")),
        taken(("no blank after the colon", "RFC 9112, 5.1"), post("Content-Length:24\r\n", ONE)),
        taken(
            ("names in any case", "RFC 9110, 5.1"),
            with("A: b").replace("Content-Length", "cONTENT-lENGTH").replace("Host", "hOST"),
        ),
        taken(("every byte of a name", "RFC 9110, 5.6.2"), with("!#$%&'*+-.^_`|~09AZaz: b")),
    ]
}

fn limits() -> Vec<Entry> {
    let fields = |count: usize| with(&"A:\r\n".repeat(count)[..4 * count - 2]);
    let head = |bytes: usize| {
        let empty = with("A: ").len() - ONE.len();
        with(&format!("A: {}", "b".repeat(bytes - empty)))
    };
    vec![
        taken(("64 fields", "RFC 6585, 5"), fields(62)),
        fatal(("65 fields", "RFC 6585, 5"), fields(63), &[431]),
        taken(("a head as long as its limit", "RFC 9110, 5.4"), head(HEAD_BYTES)),
        fatal(("a longer head", "RFC 6585, 5"), head(HEAD_BYTES + 1), &[431]),
    ]
}

fn credentials() -> Vec<Entry> {
    let token = |tokens: &[&str]| {
        let fields = tokens.iter().map(|it| format!("X-Telegram-Bot-Api-Secret-Token: {it}\r\n"));
        to("/s", &(fields.collect::<String>() + LENGTH), ONE)
    };
    let basic = |values: &[&str]| {
        let fields = values.iter().map(|value| format!("Authorization: {value}\r\n"));
        to("/b", &(fields.collect::<String>() + LENGTH), ONE)
    };
    vec![
        taken(("the right token", "Bot API, setWebhook"), token(&["t"])),
        refused(("no token", "RFC 9110, 15.5.4"), token(&[]), &[403]),
        refused(("a wrong token", "RFC 9110, 15.5.4"), token(&["T"]), &[403]),
        refused(("a longer token", "RFC 9110, 15.5.4"), token(&["tt"]), &[403]),
        refused(("an empty token", "RFC 9110, 15.5.4"), token(&[""]), &[403]),
        refused(("the right token twice", "RFC 9110, 5.3"), token(&["t", "t"]), &[403]),
        refused(("a right and a wrong token", "RFC 9110, 5.3"), token(&["t", "x"]), &[403]),
        taken(("user and password", "RFC 7617, 2"), basic(&["Basic dTpw"])),
        taken(("a scheme in lower case", "RFC 9110, 11.1"), basic(&["basic dTpw"])),
        refused(("a wrong password", "RFC 7617, 2"), basic(&["Basic dTpx"]), &[403]),
        refused(("user and password twice", "RFC 9110, 5.3"), basic(&["Basic dTpw"; 2]), &[403]),
    ]
}

fn meaning() -> Vec<Entry> {
    vec![
        fatal(("content by gzip", "RFC 9110, 8.4"), with("Content-Encoding: gzip"), &[415]),
        fatal(
            ("content by two codings", "RFC 9110, 8.4"),
            with("Content-Encoding: identity, br"),
            &[415],
        ),
        taken(("content as it is", "RFC 9110, 8.4"), with("Content-Encoding: identity")),
        taken(("a type that is not JSON", "RFC 9110, 8.3"), with("Content-Type: text/plain")),
        taken(("an upgrade that is not taken", "RFC 9110, 7.8"), with("Upgrade: h2c\r\nTE: x")),
        taken(("a range without meaning", "RFC 9110, 14.2"), with("Range: bytes=0-0")),
        taken(("a condition without meaning", "RFC 9110, 13.1"), with("If-Match: \"a\"")),
    ]
}
