//! What HTTP sessions make of raw bytes: by example, by property, and however the bytes are cut.

#[path = "../../fuzz/transcript.rs"]
mod transcript;

use proptest::prelude::*;
use ringhook::internals::{
    http::{ConnectionDirective, HttpLimits, HttpSession, Status, Step},
    update::UpdateBody,
};

use transcript::{Bodies, Event, Transcript, transcript};

use ConnectionDirective::{Close, KeepAlive, Persist};

/// Small enough that examples can exceed them.
const LIMITS: HttpLimits = HttpLimits {
    body_bytes: 32,
    extension_bytes: 8,
    head_bytes: 512,
    headers: 6,
    target_bytes: 64,
    trailer_bytes: 24,
};

/// A good request, to see whether a session finds the beginning of the next one.
const NEXT: &str = "POST /next HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";

/// What is expected of one request.
enum Expected {
    /// A head with this method, path, and directive, and this content.
    Request(&'static str, &'static str, ConnectionDirective, &'static str),
    /// A head, and then a rejection while its body is read.
    HeadThen(Status),
    /// A rejection.
    Rejected(Status),
    /// Nothing yet: more bytes are needed, and the connection is idle or not.
    Waiting { idle: bool },
}
use Expected::{HeadThen, Rejected, Request, Waiting};

const BAD: Expected = Rejected(Status::BadRequest);

/// A POST request with these header lines, a valid `Host` and then `body`.
fn post(lines: &str, body: &str) -> String {
    format!("POST /hook HTTP/1.1\r\nHost: bot.example\r\n{lines}\r\n{body}")
}

/// A POST request with a chunked body.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn taken(body: &'static str) -> Expected {
    Request("Post", "/hook", Persist, body)
}

#[rustfmt::skip]
fn examples() -> Vec<(String, Expected)> {
    let text = str::to_owned;
    let filler = |bytes: usize| "x".repeat(bytes);
    // The head of `post` with one filler field, as long as the limit plus `extra`.
    let head_of_limit = |extra: usize| {
        let fixed = post("Content-Length: 0\r\nX: \r\n", "").len();
        post(&format!("Content-Length: 0\r\nX: {}\r\n", filler(LIMITS.head_bytes + extra - fixed)), "")
    };
    vec![
        // What Telegram sends.
        (text("POST /hook?a=b HTTP/1.1\r\nHost: bot.example:8443\r\nX-Telegram-Bot-Api-Secret-Token: s3cret\r\nContent-Type: application/json\r\nContent-Length: 7\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n{\"a\":1}"), taken("{\"a\":1}")),
        // Content-Length.
        (post("Content-Length: 0\r\n", ""), taken("")),
        (post("content-LENGTH:  2 \t\r\n", "{}"), taken("{}")),
        (post("Content-Length: 0002\r\n", "{}"), taken("{}")),
        (post("Content-Length: 32\r\n", "0123456789abcdef0123456789abcdef"), taken("0123456789abcdef0123456789abcdef")),
        (post("Content-Length: 33\r\n", ""), Rejected(Status::PayloadTooLarge)),
        (post("Content-Length: 18446744073709551615\r\n", ""), Rejected(Status::PayloadTooLarge)),
        (post("Content-Length: 18446744073709551616\r\n", ""), BAD),
        (post("Content-Length: 99999999999999999999999\r\n", ""), BAD),
        (post("Content-Length: +2\r\n", "{}"), BAD),
        (post("Content-Length: -2\r\n", "{}"), BAD),
        (post("Content-Length: 0x2\r\n", "{}"), BAD),
        (post("Content-Length: 2.0\r\n", "{}"), BAD),
        (post("Content-Length: 2 2\r\n", "{}"), BAD),
        (post("Content-Length: 2, 2\r\n", "{}"), BAD),
        (post("Content-Length:\r\n", ""), BAD),
        (post("Content-Length: two\r\n", "{}"), BAD),
        (post("Content-Length: \u{662}\r\n", "{}"), BAD),
        (post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), BAD),
        (post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"), BAD),
        (post("", "{}"), BAD),
        // Transfer-Encoding.
        (chunked("2\r\n{}\r\n0\r\n\r\n"), taken("{}")),
        (chunked("0\r\n\r\n"), taken("")),
        (chunked("1\r\n{\r\n00001\r\n}\r\n000\r\n\r\n"), taken("{}")),
        (chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), taken("01234567890123456789")),
        (chunked("20\r\n0123456789abcdef0123456789abcdef\r\n0\r\n\r\n"), taken("0123456789abcdef0123456789abcdef")),
        (chunked("21\r\n"), HeadThen(Status::PayloadTooLarge)),
        (chunked("1f\r\n0123456789abcdef0123456789abcde\r\n2\r\n"), HeadThen(Status::PayloadTooLarge)),
        (chunked("ffffffffffffffff\r\n"), HeadThen(Status::PayloadTooLarge)),
        (chunked("10000000000000000\r\n"), HeadThen(Status::BadRequest)),
        (chunked("00000000000000000\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2;a=b\r\n{}\r\n0;c\r\n\r\n"), taken("{}")),
        (chunked("2 ;a=\"b\"\r\n{}\r\n0\r\n\r\n"), taken("{}")),
        (chunked("2;1234567\r\n{}\r\n0\r\n\r\n"), taken("{}")),
        (chunked("2;12345678\r\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("1;123\r\n{\r\n1;123\r\n}\r\n0\r\n\r\n"), taken("{}")),
        (chunked("1;123\r\n{\r\n1;123\r\n}\r\n0;\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2;a\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2;a\0\r\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2 \r\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2 2\r\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\r{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\r\n{}\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\r\n{}0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\r\n{}\r0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\r\n{}x\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\r\n{}\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("2\r\n{} \r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked(" 2\r\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("\r\n"), HeadThen(Status::BadRequest)),
        (chunked(";a\r\n"), HeadThen(Status::BadRequest)),
        (chunked("-1\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0x2\r\n{}\r\n0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("g\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\nA: b\r\nContent-Length: 9\r\n\r\n"), HeadThen(Status::HeaderTooLarge)),
        (chunked("0\r\nA: b\r\nC:\r\n\r\n"), taken("")),
        (chunked("0\r\nA: 6789012345678901234\r\n\r\n"), taken("")),
        (chunked("0\r\nA: 67890123456789012345\r\n\r\n"), HeadThen(Status::HeaderTooLarge)),
        (chunked("0\r\nA: b\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\n A: b\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\nA : b\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\nA\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\n: b\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\nA: \0\r\n\r\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\n\n"), HeadThen(Status::BadRequest)),
        (chunked("0\r\n\rx"), HeadThen(Status::BadRequest)),
        (post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), taken("")),
        (post("Transfer-Encoding: , chunked,\r\n", "0\r\n\r\n"), taken("")),
        (post("Transfer-Encoding: gzip\r\n", ""), BAD),
        (post("Transfer-Encoding: identity\r\n", ""), BAD),
        (post("Transfer-Encoding: gzip, chunked\r\n", ""), Rejected(Status::NotImplemented)),
        (post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", ""), Rejected(Status::NotImplemented)),
        (post("Transfer-Encoding: chunked, gzip\r\n", ""), BAD),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", ""), BAD),
        (post("Transfer-Encoding: chunked, gzip, chunked\r\n", ""), BAD),
        (post("Transfer-Encoding: xchunked\r\n", ""), BAD),
        (post("Transfer-Encoding: chunked;q=1\r\n", ""), BAD),
        (post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), BAD),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), BAD),
        (post("Transfer-Encoding:\r\n", ""), BAD),
        (post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), BAD),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), BAD),
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), BAD),
        (text("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), BAD),
        // Line ends, folding, control bytes.
        (text("POST /hook HTTP/1.1\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook HTTP/1.1\r\nHost: h\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 0\n\r\n"), BAD),
        (text("POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\n"), BAD),
        (post("Content-Length: 0\r\r\n", ""), BAD),
        (post("Content-Length: 0\r\nA: b\rc\r\n", ""), BAD),
        (post("Content-Length:\r\n 2\r\n", "{}"), BAD),
        (post("Content-Length: 2\r\nA: b\r\n\tc\r\n", "{}"), BAD),
        (text("POST /hook HTTP/1.1\r\n Host: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (post("Content-Length : 2\r\n", "{}"), BAD),
        (post("Content-Length\t: 2\r\n", "{}"), BAD),
        (post("Content-Length: 0\r\nA\0: b\r\n", ""), BAD),
        (post("Content-Length: 0\r\nA: \0\r\n", ""), BAD),
        (post("Content-Length: 0\r\nA: \x7f\r\n", ""), BAD),
        (post("Content-Length: 0\r\nA: \x1b\r\n", ""), BAD),
        (post("Content-Length: 0\r\n: b\r\n", ""), BAD),
        (post("Content-Length: 0\r\nA\r\n", ""), BAD),
        (post("Content-Length: 0\r\nA\u{e9}: b\r\n", ""), BAD),
        (post("Content-Length: 0\r\nA: \u{e9}\tb\r\n", ""), taken("")),
        // The request line.
        (text("POST  /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook  HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook HTTP/1.1 \r\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text(" POST /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST\t/hook\tHTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /ho ok HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook\r\n"), BAD),
        (text("POST /hook http/1.1\r\n"), BAD),
        (text("POST /hook HTTP/1\r\n"), BAD),
        (text("POST /hook HTTP/1.10\r\n"), BAD),
        (text("POST /hook HTTP/1.2\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), taken("")),
        (text("POST /hook HTTP/1.9\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), taken("")),
        (text("POST /hook HTTP/0.9\r\n"), Rejected(Status::VersionNotSupported)),
        (text("POST /hook HTTP/2.0\r\n"), Rejected(Status::VersionNotSupported)),
        (text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Rejected(Status::VersionNotSupported)),
        (text("PRI * HTTP/1.1\r\n"), Rejected(Status::NotImplemented)),
        (text("BREW /hook HTTP/1.1\r\n"), Rejected(Status::NotImplemented)),
        (text("post /hook HTTP/1.1\r\n"), Rejected(Status::NotImplemented)),
        (text("PO(ST /hook HTTP/1.1\r\n"), BAD),
        (text("hello\r\n"), BAD),
        (text("HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\r\n"), BAD),
        (text("\x16\x03\x01\x02"), BAD),
        (text("{\"update_id\":1}"), BAD),
        (text("\0"), BAD),
        // Empty lines before it.
        (text("\r\n"), Waiting { idle: true }),
        (text("\r"), Waiting { idle: true }),
        (text(""), Waiting { idle: true }),
        (text("\r\n\r\n\r\n\r\n") + &post("Content-Length: 0\r\n", ""), taken("")),
        (text("\r\n\r\n\r\n\r\n\r\n") + &post("Content-Length: 0\r\n", ""), BAD),
        (text("\n"), BAD),
        (text("\r\r\n"), BAD),
        // Targets.
        (text("POST /a/../h%6Fok?x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), taken("")),
        (text("POST http://bot.example/hook?x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), taken("")),
        (text("POST /hook#f HTTP/1.1\r\n"), BAD),
        (text("POST /%zz HTTP/1.1\r\n"), BAD),
        (text("POST * HTTP/1.1\r\n"), BAD),
        (text("POST bot.example:80 HTTP/1.1\r\n"), BAD),
        (text("CONNECT bot.example:80 HTTP/1.1\r\n"), BAD),
        (text("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), Request("Options", "*", Persist, "")),
        (format!("POST /{} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", filler(63)), Request("Post", "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", Persist, "")),
        (format!("POST /{} HTTP/1.1\r\n", filler(64)), Rejected(Status::UriTooLong)),
        (format!("POST /{}", filler(LIMITS.head_bytes)), Rejected(Status::UriTooLong)),
        (format!("POST /{}", filler(LIMITS.head_bytes - 6)), Rejected(Status::UriTooLong)),
        (format!("POST /{}", filler(LIMITS.head_bytes - 7)), Waiting { idle: false }),
        // Limits of the head.
        (head_of_limit(0), taken("")),
        (head_of_limit(1), Rejected(Status::HeaderTooLarge)),
        (post(&format!("X: {}", filler(LIMITS.head_bytes)), ""), Rejected(Status::HeaderTooLarge)),
        (post("Content-Length: 0\r\nA:\r\nB:\r\nC:\r\nD:\r\n", ""), taken("")),
        (post("Content-Length: 0\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\n", ""), Rejected(Status::HeaderTooLarge)),
        // Host.
        (text("POST /hook HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), BAD),
        (post("Host: bot.example\r\nContent-Length: 0\r\n", ""), BAD),
        (text("POST /hook HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook HTTP/1.1\r\nHost: a b\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook HTTP/1.1\r\nHost: a@b\r\nContent-Length: 0\r\n\r\n"), BAD),
        (text("POST /hook HTTP/1.1\r\nHost: [::1]:8443\r\nContent-Length: 0\r\n\r\n"), taken("")),
        (text("POST /hook HTTP/1.0\r\nHost: a\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), BAD),
        // What becomes of the connection.
        (post("Content-Length: 2\r\nConnection: close\r\n", "{}"), Request("Post", "/hook", Close, "{}")),
        (post("Content-Length: 2\r\nConnection: a, CLOSE ,b\r\n", "{}"), Request("Post", "/hook", Close, "{}")),
        (post("Content-Length: 2\r\nConnection: keep-alive\r\nConnection: close\r\n", "{}"), Request("Post", "/hook", Close, "{}")),
        (post("Content-Length: 2\r\nConnection: closed\r\n", "{}"), taken("{}")),
        (text("POST /hook HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"), Request("Post", "/hook", Close, "{}")),
        (text("POST /hook HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\n{}"), Request("Post", "/hook", KeepAlive, "{}")),
        (text("POST /hook HTTP/1.0\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\n{}"), Request("Post", "/hook", Close, "{}")),
        (text("POST /hook HTTP/1.0\r\n\r\n"), BAD),
        // Other methods, with and without content.
        (text("GET /hook HTTP/1.1\r\nHost: h\r\n\r\n"), Request("Get", "/hook", Persist, "")),
        (text("GET /hook HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"), Request("Get", "/hook", Persist, "{}")),
        (text("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), Request("Head", "/", Persist, "")),
        (text("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), Request("Other", "/", Persist, "{}")),
        (text("VERSION-CONTROL / HTTP/1.1\r\nHost: h\r\n\r\n"), Request("Other", "/", Persist, "")),
        // Codings and expectations.
        (post("Content-Length: 2\r\nContent-Encoding: identity\r\n", "{}"), taken("{}")),
        (post("Content-Length: 2\r\nContent-Encoding: gzip\r\n", "{}"), Rejected(Status::UnsupportedMediaType)),
        (post("Content-Length: 2\r\nContent-Encoding: identity, br\r\n", "{}"), Rejected(Status::UnsupportedMediaType)),
        (post("Content-Length: 2\r\nExpect: 100-Continue\r\n", "{}"), taken("{}")),
        (post("Content-Length: 2\r\nExpect: 200-ok\r\n", "{}"), Rejected(Status::ExpectationFailed)),
        (post("Content-Length: 2\r\nExpect: 100-continue, x\r\n", "{}"), Rejected(Status::ExpectationFailed)),
        // Parts of requests.
        (text("P"), Waiting { idle: false }),
        (text("POST /hook HTTP/1.1\r\nHost: h\r\n\r"), Waiting { idle: false }),
    ]
}

/// The transcript of `bytes` in one piece.
fn uncut(limits: HttpLimits, bodies: Bodies, bytes: &[u8]) -> Transcript {
    transcript(limits, bodies, [bytes])
}

/// Asserts that neither two pieces, nor bytes one by one, change anything.
fn assert_cuts_change_nothing(limits: HttpLimits, bodies: Bodies, bytes: &[u8]) {
    let whole = uncut(limits, bodies, bytes);
    let shown = String::from_utf8_lossy(bytes);
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(transcript(limits, bodies, [first, second]), whole, "cut at {cut}: {shown:?}");
    }
    assert_eq!(transcript(limits, bodies, bytes.chunks(1)), whole, "bytewise: {shown:?}");
}

/// The events of one taken request, and of the session's end if it is the last one.
fn assert_taken(
    events: &[Event],
    method: &str,
    path: &str,
    directive: ConnectionDirective,
    content: &str,
) {
    let Event::Head(head, of_head) = &events[0] else { panic!("no head: {events:?}") };
    assert!(head.text.contains(&format!("method: {method}, path: {path:?},")), "{head:?}");
    assert_eq!(*of_head, directive, "{head:?}");
    let content = Some(content.as_bytes().to_vec());
    assert_eq!(events[1], Event::Complete(content, directive), "{head:?}");
    assert_eq!(events.get(2), (directive == Close).then_some(&Event::Closed), "{head:?}");
    assert!(events.len() <= 3);
}

#[test]
fn requests_mean_what_the_rules_say() {
    for (request, expected) in examples() {
        let got = uncut(LIMITS, Bodies::Accept, request.as_bytes());
        match expected {
            Request(method, path, directive, content) => {
                assert_taken(&got.events, method, path, directive, content);
                assert_eq!((got.unread, got.idle), (0, directive != Close), "{request:?}");
            }
            HeadThen(status) => {
                assert!(matches!(got.events[0], Event::Head(_, Persist)), "{request:?}: {got:?}");
                assert_eq!(got.events[1..], [Event::Reject(status)], "{request:?}");
            }
            Rejected(status) => {
                assert_eq!(got.events, [Event::Reject(status)], "{request:?}");
            }
            Waiting { idle } => {
                assert_eq!((got.events, got.idle), (Vec::new(), idle), "{request:?}");
            }
        }
    }
}

#[test]
fn cuts_change_nothing() {
    for (request, _) in examples() {
        assert_cuts_change_nothing(LIMITS, Bodies::Accept, request.as_bytes());
        assert_cuts_change_nothing(LIMITS, Bodies::Discard, request.as_bytes());
    }
}

#[test]
fn the_next_request_begins_where_this_one_ends() {
    let next = uncut(LIMITS, Bodies::Accept, NEXT.as_bytes()).events;
    for (request, expected) in examples() {
        let alone = uncut(LIMITS, Bodies::Accept, request.as_bytes());
        let both = request.clone() + NEXT;
        let got = uncut(LIMITS, Bodies::Accept, both.as_bytes());
        match expected {
            // Bytes after the last request are not looked at.
            Request(_, _, Close, _) | Rejected(_) | HeadThen(_) => assert_eq!(got, alone),
            Request(..) => {
                assert_eq!(got.events, [alone.events, next.clone()].concat(), "{request:?}");
                assert!(got.idle && got.unread == 0);
            }
            Waiting { .. } => continue,
        }
        assert_cuts_change_nothing(LIMITS, Bodies::Accept, both.as_bytes());
        assert_cuts_change_nothing(LIMITS, Bodies::Discard, both.as_bytes());
    }
}

#[test]
fn discarded_bodies_keep_the_connection() {
    for (request, expected) in examples() {
        let Request(_, _, directive, _) = expected else { continue };
        let got = uncut(LIMITS, Bodies::Discard, (request.clone() + NEXT).as_bytes());
        let refused = request.contains("Expect");
        let directive = if refused { Close } else { directive };
        assert_eq!(got.events[1], Event::Complete(None, directive), "{request:?}");
        assert_eq!(got.events.len(), if directive == Close { 3 } else { 4 }, "{request:?}");
    }
}

#[test]
fn credentials_count_once() {
    let head_of = |lines: &str| {
        let request = post(&format!("{lines}Content-Length: 0\r\n"), "");
        match uncut(LIMITS, Bodies::Accept, request.as_bytes()).events.remove(0) {
            Event::Head(head, _) => head,
            other => panic!("{other:?}"),
        }
    };
    let none = head_of("");
    assert_eq!((none.secret_token, none.authorization), (None, None));
    assert!(none.text.contains("secret_token: Absent, authorization: Absent"));
    let both =
        head_of("x-telegram-bot-api-secret-token:  a_B-1\t\r\nauthorization: Basic eA==\r\n");
    assert_eq!(both.secret_token.as_deref(), Some(&b"a_B-1"[..]));
    assert_eq!(both.authorization.as_deref(), Some(&b"Basic eA=="[..]));
    assert!(!both.text.contains("a_B-1") && !both.text.contains("eA=="), "{}", both.text);
    let token = "X-Telegram-Bot-Api-Secret-Token: a\r\n";
    let repeated = head_of(&token.repeat(3));
    assert_eq!(repeated.secret_token, None);
    assert!(repeated.text.contains("secret_token: Repeated"));
    let repeated = head_of("Authorization: a\r\nAuthorization: a\r\n");
    assert_eq!(repeated.authorization, None);
    assert_eq!(head_of("X-Telegram-Bot-Api-Secret-Token:\r\n").secret_token, Some(Vec::new()));
}

#[test]
fn an_absolute_target_overrides_host() {
    for (target, host) in [("http://other:81/x", "other:81"), ("/x", "bot.example")] {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: bot.example\r\nContent-Length: 0\r\n\r\n");
        let Step::Head(head) = HttpSession::new(LIMITS).advance(request.as_bytes()).1 else {
            panic!("{target}")
        };
        assert_eq!(head.host, Some(host));
    }
}

/// Advances over a head, accepts its body, and tells whether 100 Continue is due then.
fn continue_due(request: &str, version: &str) -> bool {
    let request = request.replace("HTTP/1.1", version);
    let mut session = HttpSession::new(LIMITS);
    let (consumed, step) = session.advance(request.as_bytes());
    assert!(matches!(step, Step::Head(_)));
    assert!(!session.continue_due(b""), "before the body is accepted");
    session.accept_body(UpdateBody::default());
    session.continue_due(&request.as_bytes()[consumed..])
}

#[test]
fn only_who_waits_is_told_to_continue() {
    let asked = post("Expect: 100-continue\r\nContent-Length: 2\r\n", "");
    assert!(continue_due(&asked, "HTTP/1.1"));
    assert!(continue_due(
        &post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""),
        "HTTP/1.1"
    ));
    assert!(!continue_due(&asked, "HTTP/1.0"));
    assert!(!continue_due(&(asked + "{"), "HTTP/1.1"));
    assert!(!continue_due(&post("Content-Length: 2\r\n", ""), "HTTP/1.1"));
    assert!(!continue_due(&post("Expect: 100-continue\r\nContent-Length: 0\r\n", ""), "HTTP/1.1"));
}

#[test]
fn content_that_has_come_needs_no_invitation() {
    let mut session = HttpSession::new(LIMITS);
    let request = post("Expect: 100-continue\r\nContent-Length: 2\r\n", "{");
    let (consumed, _) = session.advance(request.as_bytes());
    session.accept_body(UpdateBody::default());
    assert_eq!(session.advance(&request.as_bytes()[consumed..]), (1, Step::NeedMore));
    assert!(!session.continue_due(b""));
}

#[test]
fn a_head_left_undecided_is_discarded() {
    let request = post("Content-Length: 2\r\n", "{}") + NEXT;
    let mut unread = request.as_bytes();
    let mut session = HttpSession::new(LIMITS);
    let mut bodies = Vec::new();
    loop {
        let (consumed, step) = session.advance(unread);
        unread = &unread[consumed..];
        match step {
            Step::Complete => bodies.push(session.take_body()),
            Step::Head(_) => {}
            _ => break,
        }
    }
    assert!(matches!(bodies[..], [None, None]), "{bodies:?}");
}

#[test]
fn an_unread_body_does_not_reach_the_next_request() {
    let request = post("Content-Length: 2\r\n", "{}");
    let mut session = HttpSession::new(LIMITS);
    let (consumed, _) = session.advance(request.as_bytes());
    session.accept_body(UpdateBody::from(b"old".to_vec()));
    assert_eq!(session.advance(&request.as_bytes()[consumed..]), (2, Step::Complete));
    let (consumed, _) = session.advance(NEXT.as_bytes());
    // The second head is left undecided.
    assert_eq!(session.advance(&NEXT.as_bytes()[consumed..]), (2, Step::Complete));
    assert!(session.take_body().is_none());
}

#[test]
fn empty_lines_are_counted_for_each_request() {
    let spaced = "\r\n\r\n\r\n\r\n".to_owned() + NEXT;
    let got = uncut(LIMITS, Bodies::Accept, spaced.repeat(3).as_bytes());
    let one = uncut(LIMITS, Bodies::Accept, NEXT.as_bytes());
    assert_eq!(got.events, [&one.events[..]; 3].concat());
}

#[test]
fn a_recycled_body_starts_empty() {
    let request = post("Content-Length: 2\r\n", "{}");
    let mut session = HttpSession::new(LIMITS);
    let (consumed, _) = session.advance(request.as_bytes());
    session.accept_body(UpdateBody::from(b"old".to_vec()));
    session.advance(&request.as_bytes()[consumed..]);
    assert_eq!(session.take_body().unwrap().as_slice(), b"{}");
}

#[test]
fn a_promise_reserves_little() {
    let limits = HttpLimits { body_bytes: usize::MAX, ..LIMITS };
    let mut session = HttpSession::new(limits);
    let request = post("Content-Length: 1000000000\r\n", "");
    assert!(matches!(session.advance(request.as_bytes()).1, Step::Head(_)));
    session.accept_body(UpdateBody::default());
    let capacity = session.take_body().unwrap().capacity();
    assert!((64 * 1024..80 * 1024).contains(&capacity), "{capacity}");
}

#[test]
fn many_headers_fit_the_limit_and_the_array() {
    let limits = HttpLimits { headers: usize::MAX, head_bytes: 8192, ..LIMITS };
    for (more, expected) in
        [(0, None), (14, None), (15, None), (126, None), (127, Some(Status::HeaderTooLarge))]
    {
        let request = post(&format!("Content-Length: 0\r\n{}", "A: b\r\n".repeat(more)), "");
        let events = uncut(limits, Bodies::Accept, request.as_bytes()).events;
        match expected {
            None => assert_taken(&events, "Post", "/hook", Persist, ""),
            Some(status) => assert_eq!(events, [Event::Reject(status)]),
        }
    }
}

/// A request as it is meant, which is what a session has to make of its bytes.
#[derive(Clone, Debug)]
struct Model {
    path: String,
    token: Option<String>,
    last: bool,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
    /// `None` for Content-Length.
    chunks: Option<Chunks>,
}

/// Sizes of chunks, each with its extension, and the trailers after them.
type Chunks = (Vec<(usize, String)>, Vec<(String, String)>);

impl Model {
    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("POST {} HTTP/1.1\r\nHost: bot.example\r\n", self.path);
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(token) = &self.token {
            head += &format!("X-Telegram-Bot-Api-Secret-Token: {token}\r\n");
        }
        if self.last {
            head += "Connection: close\r\n";
        }
        let Some((chunks, trailers)) = &self.chunks else {
            head += &format!("Content-Length: {}\r\n\r\n", self.content.len());
            return [head.as_bytes(), &self.content].concat();
        };
        head += "Transfer-Encoding: chunked\r\n\r\n";
        let mut bytes = head.into_bytes();
        let mut rest = &self.content[..];
        let tail = (rest.len(), String::new());
        for (size, extension) in chunks.iter().chain([&tail]) {
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            if !chunk.is_empty() {
                bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend(b"\r\n");
            }
        }
        bytes.extend(b"0\r\n");
        for (name, value) in trailers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        bytes
    }

    fn directive(&self) -> ConnectionDirective {
        if self.last { Close } else { Persist }
    }
}

/// A field that means nothing to us.
fn any_field() -> impl Strategy<Value = (String, String)> {
    ("X-[!#$%&'*+.^_`|~0-9A-Za-z-]{0,20}", "([!-~\u{e9}]([ \t!-~]{0,40}[!-~])?)?")
}

fn any_request() -> impl Strategy<Value = Model> {
    let chunk = (1..40usize, "( ?;[a-z]{1,4}(=(\"[ !#-~]{0,6}\"|[a-z0-9]{1,5}))?){0,2}");
    let chunks =
        (proptest::collection::vec(chunk, 0..6), proptest::collection::vec(any_field(), 0..3));
    (
        "/[a-zA-Z0-9_:~!$&'()*+,;=@-]{0,20}(/[a-z0-9]{0,8}){0,2}",
        proptest::option::of("[A-Za-z0-9_-]{1,64}"),
        proptest::bool::weighted(0.1),
        proptest::collection::vec(any_field(), 0..20),
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::option::of(chunks),
    )
        .prop_map(|(path, token, last, fields, content, chunks)| Model {
            path,
            token,
            last,
            fields,
            content,
            chunks,
        })
}

/// `bytes` cut at `cuts`, which are taken modulo its length.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut start = 0;
    let mut pieces: Vec<&[u8]> = Vec::new();
    for cut in cuts.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces
}

proptest! {
    #[test]
    fn valid_requests_equal_their_model(
        requests in proptest::collection::vec(any_request(), 1..4),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(Model::bytes).collect();
        let limits = HttpLimits::default();
        let got = transcript(limits, Bodies::Accept, pieces(&bytes, &cuts));
        prop_assert_eq!(&got, &uncut(limits, Bodies::Accept, &bytes));
        let mut events = got.events.iter();
        for request in &requests {
            let Some(Event::Head(head, directive)) = events.next() else {
                return Err(TestCaseError::fail(format!("no head: {got:?}")));
            };
            prop_assert!(head.text.contains(&format!("path: {:?}", request.path)), "{}", head.text);
            prop_assert_eq!(&head.secret_token, &request.token.clone().map(String::into_bytes));
            prop_assert_eq!(*directive, request.directive());
            let complete = Event::Complete(Some(request.content.clone()), request.directive());
            prop_assert_eq!(events.next(), Some(&complete));
            if request.last {
                prop_assert_eq!(events.next(), Some(&Event::Closed));
                return Ok(());
            }
        }
        prop_assert_eq!((events.next(), got.unread, got.idle), (None, 0, true));
    }

    #[test]
    fn damaged_requests_are_read_the_same_however_cut(
        request in any_request(),
        damage in proptest::collection::vec((any::<usize>(), "[\\x00\r\n\t :;0-9a-z]{0,3}"), 1..4),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut bytes = request.bytes();
        for (at, text) in damage {
            let at = at % bytes.len();
            bytes.splice(at..=at, text.bytes());
            bytes.push(b'\n');
        }
        let limits = HttpLimits { head_bytes: 600, headers: 12, ..HttpLimits::default() };
        for bodies in [Bodies::Accept, Bodies::Discard] {
            let whole = uncut(limits, bodies, &bytes);
            prop_assert_eq!(&transcript(limits, bodies, pieces(&bytes, &cuts)), &whole);
            prop_assert_eq!(&transcript(limits, bodies, bytes.chunks(1)), &whole);
        }
    }

    #[test]
    fn garbage_is_read_the_same_however_cut(
        bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b"\r\n :/0aPOST"[..])], 0..300),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = uncut(LIMITS, Bodies::Accept, &bytes);
        prop_assert_eq!(&transcript(LIMITS, Bodies::Accept, pieces(&bytes, &cuts)), &whole);
        let chunked = [chunked("").as_bytes(), &bytes].concat();
        let whole = uncut(LIMITS, Bodies::Accept, &chunked);
        prop_assert_eq!(&transcript(LIMITS, Bodies::Accept, pieces(&chunked, &cuts)), &whole);
    }
}
