//! The request target (RFC 9112 section 3.2), reduced to the one path that is meant.

use std::borrow::Cow;

use super::{
    Method, Status, authority,
    syntax::{escapes_are_valid, hex_value, is_sub_delimiter, is_unreserved},
};

/// What a request line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target<'a> {
    /// The host of an absolute target: it overrides `Host` (RFC 9112 section 3.2.2).
    pub(super) authority: Option<&'a str>,
    /// The path in normal form, without the query; `*` for `OPTIONS *`.
    pub(super) path: Cow<'a, str>,
}

/// Reads a target that is no longer than its limit.
///
/// Two paths that RFC 3986 section 6.2.2 calls equivalent come out as the same text, so the caller
/// can compare literally: escapes of unreserved characters are decoded, the digits of other escapes
/// made upper case, and then dot segments removed. Nothing else is decoded: `%2F` never becomes a
/// slash. Empty segments stay. A path already in normal form is borrowed as it is.
///
/// # Errors
///
/// 400 for anything but the origin form, the absolute form of `http` and `https`, and `OPTIONS *`;
/// for bytes that a URI cannot hold, a fragment's `#` among them; and for broken escapes.
pub(super) fn parse(target: &[u8], method: Method) -> Result<Target<'_>, Status> {
    match target {
        [b'/', ..] => Ok(Target { authority: None, path: path(target)? }),
        b"*" if method == Method::Options => Ok(Target { authority: None, path: "*".into() }),
        _ => absolute(target),
    }
}

/// `http://authority[/path][?query]`.
#[cold]
fn absolute(target: &[u8]) -> Result<Target<'_>, Status> {
    let scheme_end = memchr::memmem::find(target, b"://").ok_or(Status::BadRequest)?;
    let (scheme, rest) = target.split_at_checked(scheme_end).ok_or(Status::BadRequest)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Status::BadRequest);
    }
    let rest = rest.strip_prefix(b"://").ok_or(Status::BadRequest)?;
    let authority_end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(authority_end).ok_or(Status::BadRequest)?;
    let authority = authority::parse(authority).ok_or(Status::BadRequest)?;
    let path = match path(rest)? {
        // An empty path is the root (RFC 3986 section 6.2.3).
        path if path.is_empty() => "/".into(),
        path => path,
    };
    Ok(Target { authority: Some(authority), path })
}

/// The path of `path["?" query]`; both are validated.
fn path(text: &[u8]) -> Result<Cow<'_, str>, Status> {
    let seen = text.iter().fold(0, |seen, byte| seen | class(*byte));
    if seen & INVALID != 0 || (seen & ESCAPE != 0 && !escapes_are_valid(text)) {
        return Err(Status::BadRequest);
    }
    let path = match memchr::memchr(b'?', text) {
        Some(end) if seen & QUERY != 0 => text.get(..end).unwrap_or_default(),
        _ => text,
    };
    let path = str::from_utf8(path).map_err(|_| Status::BadRequest)?;
    if seen & ESCAPE != 0 || (seen & DOT != 0 && path.split('/').any(is_dot_segment)) {
        return Ok(Cow::Owned(normal_form(path)));
    }
    Ok(Cow::Borrowed(path))
}

/// RFC 3986 section 6.2.2.2 (escapes), then 5.2.4 (dot segments): `%2E%2E` is a dot segment.
#[cold]
fn normal_form(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escape = match after {
            [high, low, ..] if *first == b'%' => hex_value(*high).zip(hex_value(*low)),
            _ => None,
        };
        let Some((high, low)) = escape else {
            decoded.push(char::from(*first));
            continue;
        };
        let byte = high << 4 | low;
        if is_unreserved(byte) {
            decoded.push(char::from(byte));
        } else {
            decoded.push('%');
            for digit in [high, low] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or_default();
                decoded.push(digit.to_ascii_uppercase());
            }
        }
        rest = after.get(2..).unwrap_or_default();
    }
    without_dot_segments(&decoded)
}

/// The path with `.` and `..` resolved; nothing climbs above the root.
fn without_dot_segments(path: &str) -> String {
    let mut kept = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.truncate(kept.rfind('/').unwrap_or_default());
                }
                // What a dot segment at the end names is a directory.
                if segments.peek().is_none() {
                    kept.push('/');
                }
            }
            _ => {
                kept.push('/');
                kept.push_str(segment);
            }
        }
    }
    kept
}

fn is_dot_segment(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// What `byte` does to a path with a query (RFC 3986 sections 3.3 and 3.4): flags to be combined.
const fn class(byte: u8) -> u8 {
    match byte {
        b'.' => DOT,
        b'%' => ESCAPE,
        b'?' => QUERY,
        b'/' | b':' | b'@' => 0,
        _ if is_unreserved(byte) || is_sub_delimiter(byte) => 0,
        _ => INVALID,
    }
}

const DOT: u8 = 1;
const ESCAPE: u8 = 2;
const INVALID: u8 = 4;
const QUERY: u8 = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path_of(target: &str) -> Option<String> {
        parse(target.as_bytes(), Method::Post).ok().map(|target| target.path.into_owned())
    }

    #[test]
    fn equivalent_paths_come_out_the_same() {
        for (target, path) in [
            ("/", "/"),
            ("/hook", "/hook"),
            ("/hook?x=1?y", "/hook"),
            ("/?", "/"),
            ("//a//b/", "//a//b/"),
            ("/bot1:A-_~!$&'()*+,;=@", "/bot1:A-_~!$&'()*+,;=@"),
            ("/h%6Fok", "/hook"),
            ("/a%2fb", "/a%2Fb"),
            ("/%c3%bc", "/%C3%BC"),
            ("/%2541", "/%2541"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2E%2e/b", "/b"),
            ("/../../b", "/b"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/..", "/"),
            ("/.", "/"),
            ("/a/b/../../..//c", "//c"),
            ("/...", "/..."),
            ("/.well-known/a.b", "/.well-known/a.b"),
            ("/a?/../b", "/a"),
            ("/a?%41", "/a"),
            ("http://h", "/"),
            ("http://h?x", "/"),
            ("HTTPS://h:1/a/../b?x", "/b"),
        ] {
            assert_eq!(path_of(target).as_deref(), Some(path), "{target:?}");
        }
    }

    #[test]
    fn paths_in_normal_form_are_borrowed() {
        for target in ["/hook", "/a.b/..c?d=%41&../x", "/.well-known"] {
            let plain = target.split('?').next().unwrap();
            // The escape in a query costs a copy of the path; it has to be right all the same.
            assert_eq!(path_of(target).as_deref(), Some(plain));
        }
        let target = parse(b"/a.b/..c?d", Method::Post).unwrap();
        assert!(matches!(target.path, Cow::Borrowed("/a.b/..c")));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for target in [
            "*",
            "hook",
            "",
            "h:80",
            "ftp://h/",
            "://h/",
            "http:/h",
            "http://",
            "http:///a",
            "http://u@h/",
            "/a#b",
            "/a?b#c",
            "/%",
            "/%4",
            "/%4g",
            "/?%",
            "/a b",
            "/a\"",
            "/<a>",
            "/a\\b",
            "/a|b",
            "/{a}",
            "/^",
            "/`",
            "/\u{e9}",
            "/a\tb",
            "/a\0",
        ] {
            assert_eq!(path_of(target), None, "{target:?}");
        }
        assert_eq!(parse(b"*", Method::Options).unwrap().path, "*");
        assert_eq!(parse(b"**", Method::Options), Err(Status::BadRequest));
        assert_eq!(parse(b"HTTP://a:1/b", Method::Post).unwrap().authority, Some("a:1"));
    }
}
