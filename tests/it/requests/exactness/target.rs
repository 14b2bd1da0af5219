//! Which path is meant, and which host: one meaning only.

use super::entry::{Entry, LENGTH, ONE, Then, entry, fatal, line, refused, taken, to};

/// A good POST to `target`.
fn at(target: &str) -> String {
    to(target, LENGTH, ONE)
}

/// A good POST to `target` with these fields for a host.
fn hosted(target: &str, hosts: &[&str]) -> String {
    let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
    format!("POST {target} HTTP/1.1\r\n{hosts}{LENGTH}\r\n{ONE}")
}

pub(crate) fn entries() -> Vec<Entry> {
    [paths(), forms(), hosts()].concat()
}

fn paths() -> Vec<Entry> {
    vec![
        taken(("a query", "RFC 3986, 3.4"), at("/o?a=%41/../b?c")),
        taken(("an empty query", "RFC 3986, 3.4"), at("/o?")),
        taken(("an escaped letter", "RFC 3986, 6.2.2.2"), at("/%6f")),
        taken(("an escaped letter in capitals", "RFC 3986, 6.2.2.1"), at("/%6F")),
        taken(("a dot segment", "RFC 3986, 6.2.2.3"), at("/./o")),
        taken(("two dots", "RFC 3986, 6.2.2.3"), at("/x/../o")),
        taken(("dots beyond the root", "RFC 3986, 5.2.4"), at("/../../o")),
        taken(("an escaped dot segment", "RFC 3986, 6.2.2"), at("/%2e/o")),
        taken(("two escaped dots", "RFC 3986, 6.2.2"), at("/x/%2E%2e/o")),
        taken(("a dot and an escaped one", "RFC 3986, 6.2.2"), at("/x/.%2e/o")),
        refused(("a letter escaped twice", "RFC 3986, 2.4"), at("/%256f"), &[404]),
        refused(("an escaped slash", "RFC 3986, 2.2: another path"), at("/%2Fo"), &[404]),
        refused(("an escaped slash and dots", "RFC 3986, 2.2"), at("/x%2F..%2Fo"), &[404]),
        refused(("a slash at the end", "RFC 3986, 6.2.2: another path"), at("/o/"), &[404]),
        refused(("an empty segment", "RFC 3986, 3.3: another path"), at("//o"), &[404]),
        refused(("a dot at the end", "RFC 3986, 5.2.4"), at("/o/."), &[404]),
        refused(("dots at the end", "RFC 3986, 5.2.4"), at("/o/.."), &[404]),
        refused(("three dots", "RFC 3986, 5.2.4"), at("/.../o"), &[404]),
        refused(("another case", "RFC 3986, 6.2.2.1"), at("/O"), &[404]),
        refused(("a parameter of a segment", "RFC 3986, 3.3"), at("/o;a"), &[404]),
        refused(("an escaped question mark", "RFC 3986, 2.2"), at("/o%3Fa"), &[404]),
        refused(("an escaped NUL", "RFC 3986, 7.3"), at("/o%00"), &[404]),
        refused(("an escaped space", "RFC 3986, 2.1"), at("/o%20"), &[404]),
        refused(("escapes of UTF-8", "RFC 3986, 2.5"), at("/%c3%b6"), &[404]),
        fatal(("an escape cut off", "RFC 3986, 2.1"), at("/o%6"), &[400]),
        fatal(("an escape of no digits", "RFC 3986, 2.1"), at("/%zz"), &[400]),
        fatal(("a bad escape in a query", "RFC 3986, 2.1"), at("/o?%"), &[400]),
        fatal(("a fragment", "RFC 9112, 3.2"), at("/o#a"), &[400]),
        fatal(("a backslash", "RFC 3986, 2"), at("\\o"), &[400]),
        fatal(("a backslash in the path", "RFC 3986, 2"), at("/x\\..\\o"), &[400]),
        fatal(("a bracket in the path", "RFC 3986, 3.3"), at("/o["), &[400]),
    ]
}

fn forms() -> Vec<Entry> {
    vec![
        taken(("absolute form", "RFC 9112, 3.2.2"), at("http://a/o")),
        taken(("absolute form of https", "RFC 9112, 3.2.2"), at("https://a:8443/o?b")),
        taken(("a scheme in capitals", "RFC 3986, 3.1"), at("HTTP://a/o")),
        taken(("dots in absolute form", "RFC 3986, 6.2.2.3"), at("http://a/x/../o")),
        refused(("absolute form without path", "RFC 3986, 6.2.3"), at("http://a"), &[404]),
        refused(("absolute form with a query alone", "RFC 3986, 3"), at("http://a?/o"), &[404]),
        fatal(("another scheme", "RFC 9110, 4.2"), at("ftp://a/o"), &[400]),
        fatal(("absolute form without host", "RFC 9110, 4.2.1"), at("http:///o"), &[400]),
        fatal(("absolute form with a user", "RFC 9110, 4.2.4"), at("http://u@a/o"), &[400]),
        fatal(("a path that is not absolute", "RFC 9112, 3.2.1"), at("o"), &[400]),
        fatal(("authority form of a post", "RFC 9112, 3.2.3"), at("a:80"), &[400]),
        fatal(("the asterisk of a post", "RFC 9112, 3.2.4"), at("*"), &[400]),
    ]
}

fn hosts() -> Vec<Entry> {
    vec![
        fatal(("no Host", "RFC 9112, 3.2"), hosted("/o", &[]), &[400]),
        fatal(("Host twice", "RFC 9112, 3.2"), hosted("/o", &["a", "a"]), &[400]),
        fatal(("two Hosts", "RFC 9112, 3.2"), hosted("/o", &["a", "b"]), &[400]),
        fatal(("an empty Host", "RFC 9110, 4.2.1"), hosted("/o", &[""]), &[400]),
        fatal(("a Host with a blank", "RFC 9112, 3.2"), hosted("/o", &["a b"]), &[400]),
        fatal(("a list of Hosts", "RFC 9112, 3.2"), hosted("/o", &["a:1,b"]), &[400]),
        fatal(("a Host with a user", "RFC 9110, 7.2"), hosted("/o", &["u@a"]), &[400]),
        fatal(("a Host with a path", "RFC 9110, 7.2"), hosted("/o", &["a/o"]), &[400]),
        fatal(("a Host with a port of letters", "RFC 9110, 7.2"), hosted("/o", &["a:b"]), &[400]),
        fatal(("absolute form without Host", "RFC 9112, 3.2"), hosted("http://a/o", &[]), &[400]),
        taken(("a Host with a port", "RFC 9110, 7.2"), hosted("/o", &["a:8443"])),
        taken(("a Host by address", "RFC 9110, 7.2"), hosted("/o", &["127.0.0.1:80"])),
        taken(("a Host by IPv6 address", "RFC 3986, 3.2.2"), hosted("/o", &["[::1]:80"])),
        taken(("the Host of a bot", "RFC 9110, 7.4"), hosted("/n", &["n.example"])),
        taken(("its Host in capitals", "RFC 9110, 4.2.3"), hosted("/n", &["N.Example:443"])),
        taken(("its Host with a final dot", "RFC 3986, 3.2.2"), hosted("/n", &["n.example."])),
        refused(("an unknown Host", "RFC 9110, 7.4"), hosted("/n", &["x.example"]), &[404]),
        taken(
            ("an absolute target against Host", "RFC 9112, 3.2.2: Host is ignored"),
            hosted("http://n.example/n", &["x.example"]),
        ),
        refused(
            ("Host against an absolute target", "RFC 9112, 3.2.2: Host is ignored"),
            hosted("http://x.example/n", &["n.example"]),
            &[404],
        ),
        entry(
            ("HTTP/1.0 without Host", "RFC 9112, 3.2"),
            hosted("/o", &[]).replace("1.1", "1.0"),
            &[200],
            &[1],
            Then::Closes,
        ),
        fatal(
            ("HTTP/1.0 with two Hosts", "RFC 9112, 3.2"),
            hosted("/o", &["a", "b"]).replace("HTTP/1.1", "HTTP/1.0"),
            &[400],
        ),
        fatal(
            ("CONNECT", "RFC 9112, 3.2.3: nothing to connect"),
            line("CONNECT a:80 HTTP/1.1"),
            &[400],
        ),
    ]
}
