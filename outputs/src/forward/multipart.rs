//! The part `method` of a multipart body, found while the body comes in.

use memchr::memmem;

use crate::parameter::parameter;

/// The longest boundary that is taken; RFC 2046 has 70.
const BOUNDARY_MAX: usize = 200;
/// The longest value of the part `method`.
const METHOD_MAX: usize = 64;

/// Looks for the part `method`. It keeps its place between two calls.
#[derive(Debug)]
pub(super) struct MethodFinder {
    /// `\r\n--` and the boundary.
    delimiter: Vec<u8>,
    /// Where the search goes on.
    at: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// Before the first delimiter, or in the content of another part.
    Content,
    /// Behind a delimiter, in front of a part's head.
    Head,
    /// At the content of the part `method`.
    Method,
}

/// What the bytes so far say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Found {
    Method(String),
    /// More bytes are needed.
    NotYet,
    /// There is none, or the body is no multipart body.
    Nothing,
}

impl MethodFinder {
    /// For a body of this `Content-Type`; `None` where that has no boundary.
    pub(super) fn new(content_type: &str) -> Option<Self> {
        let boundary = parameter(content_type, "boundary")?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_MAX {
            return None;
        }
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        Some(Self { delimiter, at: 0, place: Place::Content })
    }

    /// `body` is all of the body so far.
    pub(super) fn look(&mut self, body: &[u8]) -> Found {
        // The first delimiter may be the body's beginning, without the line end.
        if self.at == 0 && self.place == Place::Content {
            let Some(first) = self.delimiter.get(2..) else { return Found::Nothing };
            if body.len() < first.len() {
                return Found::NotYet;
            }
            if body.starts_with(first) {
                (self.at, self.place) = (first.len(), Place::Head);
            }
        }
        loop {
            let rest = body.get(self.at..).unwrap_or_default();
            match self.place {
                Place::Content => match memmem::find(rest, &self.delimiter) {
                    Some(at) => {
                        (self.at, self.place) = (self.at + at + self.delimiter.len(), Place::Head);
                    }
                    None => {
                        // A delimiter may have begun at the end.
                        self.at += rest.len().saturating_sub(self.delimiter.len());
                        return Found::NotYet;
                    }
                },
                Place::Head => {
                    // Two dashes end the last part.
                    if rest.starts_with(b"--") {
                        return Found::Nothing;
                    }
                    let Some(end) = memmem::find(rest, b"\r\n\r\n") else { return Found::NotYet };
                    let head = rest.get(..end).unwrap_or_default();
                    self.place = match is_method(head) {
                        true => Place::Method,
                        false => Place::Content,
                    };
                    // The content may be empty: its delimiter begins with the head's last line end.
                    self.at += if self.place == Place::Method { end + 4 } else { end + 2 };
                }
                Place::Method => {
                    return match memmem::find(rest, &self.delimiter) {
                        Some(end) => {
                            let value = rest.get(..end).unwrap_or_default();
                            str::from_utf8(value)
                                .map_or(Found::Nothing, |name| Found::Method(name.to_owned()))
                        }
                        None if rest.len() > METHOD_MAX + self.delimiter.len() => Found::Nothing,
                        None => Found::NotYet,
                    };
                }
            }
        }
    }
}

/// True where a part's head says that its name is `method`.
fn is_method(head: &[u8]) -> bool {
    String::from_utf8_lossy(head).split("\r\n").any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("content-disposition")
                && parameter(value, "name").is_some_and(|name| name == "method")
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    const TYPE: &str = "multipart/form-data; charset=x; boundary=\"b=-1\"";

    fn found(body: &[u8]) -> Found {
        MethodFinder::new(TYPE).unwrap().look(body)
    }

    #[test]
    fn the_part_is_found_wherever_it_is_and_however_the_body_comes() {
        let part = |head: &str, content: &str| format!("--b=-1\r\n{head}\r\n\r\n{content}\r\n");
        let method = |content: &str| {
            part(
                "Content-Type: text/plain\r\ncontent-disposition: form-data; name=\"method\"",
                content,
            )
        };
        let file = part(
            "Content-Disposition: form-data; name=\"photo\"; filename=\"a\\\";name=method\"",
            "\0\u{1}\r\n--b=-\r\n\r\nmethod\r\n--b=",
        );
        let empty = part("Content-Disposition: form-data; name=x", "");
        let end = "--b=-1--\r\n";
        for (body, expected) in [
            (format!("{}{file}{end}", method("sendPhoto")), Some("sendPhoto")),
            (format!("{file}{empty}{}{end}", method("sendPhoto")), Some("sendPhoto")),
            (format!("preamble\r\n{}{end}", method("sendPhoto")), Some("sendPhoto")),
            (format!("{}{end}", method("")), None),
            (format!("{file}{end}{}", method("sendPhoto")), None),
            (format!("{}{end}", method(&"x".repeat(500))), None),
        ] {
            let whole = found(body.as_bytes());
            let mut finder = MethodFinder::new(TYPE).unwrap();
            let step =
                (1..=body.len()).find_map(|length| match finder.look(&body.as_bytes()[..length]) {
                    Found::NotYet => None,
                    found => Some(found),
                });
            match expected {
                Some(name) => {
                    assert_eq!(whole, Found::Method(name.to_owned()));
                    assert_eq!(step, Some(whole));
                }
                None if body.contains("xxxxx") => assert_eq!(step, Some(Found::Nothing)),
                None => assert!(matches!(whole, Found::Nothing | Found::Method(_)), "{whole:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_multipart_body_has_no_method() {
        for body in ["", "--b=-1", "ok", "{\"method\":\"sendMessage\"}, and some more of it"] {
            assert_eq!(found(body.as_bytes()), Found::NotYet, "{body}");
        }
        assert_eq!(found(b"--b=-1--\r\n"), Found::Nothing);
        for content_type in
            ["multipart/form-data", "multipart/form-data; boundary=", "x; boundary=\"a"]
        {
            assert!(MethodFinder::new(content_type).is_none(), "{content_type}");
        }
    }
}
