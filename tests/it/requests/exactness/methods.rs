//! Everything but POST.

use super::entry::{Entry, LENGTH, ONE, fatal, line, post, refused, to};

/// A request of `method` without content.
fn bare(method: &str, target: &str) -> String {
    to(target, "", "").replacen("POST", method, 1)
}

pub(crate) fn entries() -> Vec<Entry> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        refused(("GET", "RFC 9110, 15.5.6"), bare("GET", "/o"), &[405]),
        refused(("HEAD", "RFC 9110, 9.3.2: no content"), bare("HEAD", "/o"), &[405]),
        refused(
            ("HEAD of an unknown path", "RFC 9110, 9.3.2: no content"),
            bare("HEAD", "/x"),
            &[404],
        ),
        refused(("OPTIONS", "RFC 9110, 15.5.6"), bare("OPTIONS", "/o"), &[405]),
        refused(("OPTIONS of all", "RFC 9112, 3.2.4"), bare("OPTIONS", "*"), &[404]),
        refused(("DELETE", "RFC 9110, 15.5.6"), bare("DELETE", "/o"), &[405]),
        refused(("TRACE", "RFC 9110, 15.5.6"), bare("TRACE", "/o"), &[405]),
        refused(("PROPFIND", "RFC 9110, 15.5.6"), bare("PROPFIND", "/o"), &[405]),
        refused(("PUT with content", "RFC 9110, 15.5.6"), line("PUT /o HTTP/1.1"), &[405]),
        refused(("GET with content", "RFC 9110, 9.3.1"), line("GET /o HTTP/1.1"), &[405]),
        refused(("HEAD with content", "RFC 9110, 9.3.2"), line("HEAD /o HTTP/1.1"), &[405]),
        refused(
            ("PATCH in chunks", "RFC 9110, 15.5.6"),
            post(chunked, "2;a\r\n{}\r\n0\r\nA: b\r\n\r\n").replacen("POST", "PATCH", 1),
            &[405],
        ),
        refused(
            ("GET of an unknown path", "RFC 9110, 15.5.5"),
            bare("GET", "/favicon.ico"),
            &[404],
        ),
        refused(("POST to an unknown path", "RFC 9110, 15.5.5"), to("/x", LENGTH, ONE), &[404]),
        refused(("GET without a token", "RFC 9110, 15.5.6"), bare("GET", "/s"), &[405]),
        fatal(("a method that is none", "RFC 9110, 9.1"), line("BREW /o HTTP/1.1"), &[501]),
        fatal(("a method in lower case", "RFC 9110, 9.1"), line("post /o HTTP/1.1"), &[501]),
        fatal(("the method of a preface", "RFC 9113, 11.6"), line("PRI * HTTP/1.1"), &[501]),
    ]
}
