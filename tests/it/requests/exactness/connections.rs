//! Who stays and who goes; pipelining; `Expect`.

use super::entry::{
    Entry, LENGTH, ONE, THREE, TWO,
    Then::{Closes, Stays},
    entry, fatal, line, post, taken, to, with,
};

pub(crate) fn entries() -> Vec<Entry> {
    [persistence(), pipelining(), expectations()].concat()
}

fn persistence() -> Vec<Entry> {
    let old = |field: &str| with(field).replacen("HTTP/1.1", "HTTP/1.0", 1);
    let closes = |name, bytes: String| entry((name, "RFC 9112, 9.3"), bytes, &[200], &[1], Closes);
    let unread = |name, bytes: String| entry((name, "RFC 9112, 9.6"), bytes, &[200], &[1], Closes);
    vec![
        taken(("keep-alive", "RFC 9112, 9.3"), with("Connection: keep-alive")),
        taken(("an option unknown", "RFC 9110, 7.6.1"), with("Connection: closed, x")),
        taken(("the field of proxies", "RFC 9112, C.2.2"), with("Proxy-Connection: close")),
        closes("close", with("Connection: close")),
        closes("close in capitals and in a list", with("Connection: a ,CLOSE,, b")),
        closes("close and keep-alive", with("Connection: keep-alive, close")),
        closes("close in a second field", with("Connection: keep-alive\r\nConnection: close")),
        closes("HTTP/1.0", old("A: b")),
        closes("HTTP/1.0 with close", old("Connection: close")),
        closes("HTTP/1.0 with both", old("Connection: close, keep-alive")),
        closes("HTTP/1.0 through a proxy", old("Proxy-Connection: keep-alive")),
        taken(("HTTP/1.0 with keep-alive", "RFC 9112, 9.3"), old("Connection: Keep-Alive")),
        entry(
            ("a GET of HTTP/1.0", "RFC 9112, 9.3"),
            "GET /o HTTP/1.0\r\n\r\n",
            &[405],
            &[],
            Closes,
        ),
        entry(
            ("a refusal and close", "RFC 9112, 9.6"),
            to("/x", &format!("Connection: close\r\n{LENGTH}"), ONE),
            &[404],
            &[],
            Closes,
        ),
        unread("a request behind close", with("Connection: close") + &post(LENGTH, TWO)),
        unread("bytes behind close", with("Connection: close") + "\0\x01\x02{}\r\n\r\n"),
        unread("a request behind HTTP/1.0", old("A: b") + &post(LENGTH, TWO)),
    ]
}

fn pipelining() -> Vec<Entry> {
    let [one, two, three] = [ONE, TWO, THREE].map(|body| post(LENGTH, body));
    let between = |middle: &str| format!("{one}{middle}{three}");
    let kept = |name, middle: &str, answers| {
        entry((name, "RFC 9112, 9.3.2"), between(middle), answers, &[1, 3], Stays)
    };
    let lost = |name, middle: &str, answers| {
        entry((name, "RFC 9112, 9.3.2"), between(middle), answers, &[1], Closes)
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        entry(
            ("three requests", "RFC 9112, 9.3.2: answers in order"),
            between(&two),
            &[200, 200, 200],
            &[1, 2, 3],
            Stays,
        ),
        entry(
            ("chunks between lengths", "RFC 9112, 9.3.2"),
            between(&post(chunked, &format!("18\r\n{TWO}\r\n0\r\nA: b\r\n\r\n"))),
            &[200, 200, 200],
            &[1, 2, 3],
            Stays,
        ),
        entry(
            ("the same update twice", "at least once: the copy gets its 200"),
            one.repeat(2),
            &[200, 200],
            &[1],
            Stays,
        ),
        kept("empty lines between", "\r\n\r\n", &[200, 200]),
        kept("an unknown path between", &to("/x", LENGTH, TWO), &[200, 404, 200]),
        kept("an unauthorized request between", &to("/s", LENGTH, TWO), &[200, 403, 200]),
        kept("a GET between", "GET /o HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 405, 200]),
        kept("a HEAD between", "HEAD /o HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 405, 200]),
        kept("bad JSON between", &post("Content-Length: 2\r\n", "{x"), &[200, 400, 200]),
        lost("garbage between", "\0", &[200, 400]),
        lost("a bare LF between", "\n", &[200, 400]),
        lost("no length between", &post("", ""), &[200, 400]),
        lost("a bad chunk between", &post(chunked, "x\r\n"), &[200, 400]),
        lost("too large a body between", &post("Content-Length: 9999\r\n", ""), &[200, 413]),
        lost("another version between", "GET / HTTP/2.0\r\n\r\n", &[200, 505]),
        entry(
            ("close between", "RFC 9112, 9.6"),
            between(&two.replacen("Host", "Connection: close\r\nHost", 1)),
            &[200, 200],
            &[1, 2],
            Closes,
        ),
        // What a proxy in front would take for content must not become a request here.
        entry(
            ("a request as content", "RFC 9112, 11.2"),
            post(&format!("Content-Length: {}\r\n", two.len()), &two),
            &[400],
            &[],
            Stays,
        ),
        entry(
            ("a request behind both lengths", "RFC 9112, 11.2"),
            post(&format!("Content-Length: 5\r\n{chunked}"), &format!("0\r\n\r\n{two}")),
            &[400],
            &[],
            Closes,
        ),
    ]
}

fn expectations() -> Vec<Entry> {
    let expecting = |target: &str| to(target, &format!("Expect: 100-continue\r\n{LENGTH}"), ONE);
    vec![
        taken(("an invitation is awaited", "RFC 9110, 10.1.1"), expecting("/o")),
        taken(("Expect in capitals", "RFC 9110, 10.1.1"), with("EXPECT: 100-CONTINUE")),
        taken(
            ("an invitation for chunks", "RFC 9110, 10.1.1"),
            post(
                "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
                &format!("18\r\n{ONE}\r\n0\r\n\r\n"),
            ),
        ),
        taken(("an empty Expect", "RFC 9110, 10.1.1"), with("Expect:")),
        entry(
            ("Expect in HTTP/1.0", "RFC 9110, 10.1.1: must be ignored"),
            line("POST /o HTTP/1.0").replacen("Host", "Expect: 100-continue\r\nHost", 1),
            &[200],
            &[1],
            Closes,
        )
        .uninvited(),
        entry(
            ("Expect without content", "RFC 9110, 10.1.1"),
            post("Expect: 100-continue\r\nContent-Length: 0\r\n", ""),
            &[400],
            &[],
            Stays,
        )
        .uninvited(),
        entry(
            ("Expect of a GET", "RFC 9110, 10.1.1"),
            "GET /o HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            &[405],
            &[],
            Stays,
        )
        .uninvited(),
        // Whether the content follows a refusal is unknown.
        fatal(("Expect to an unknown path", "RFC 9110, 10.1.1"), expecting("/x"), &[404])
            .uninvited(),
        fatal(("Expect, unauthorized", "RFC 9110, 10.1.1"), expecting("/s"), &[403]).uninvited(),
        fatal(("another expectation", "RFC 9110, 10.1.1"), with("Expect: 200-ok"), &[417]),
        fatal(
            ("one expectation too many", "RFC 9110, 10.1.1"),
            with("Expect: 100-continue, x"),
            &[417],
        )
        .uninvited(),
    ]
}
