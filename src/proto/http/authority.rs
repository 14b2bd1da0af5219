//! The host that a request names, in `Host` or in an absolute target.

use super::syntax::{escapes_are_valid, is_sub_delimiter, is_unreserved};

/// Digits of the largest port.
const PORT_DIGITS_MAX: usize = 5;

/// `text` where it is `uri-host [":" port]` with a host that is not empty (RFC 9110 section 7.2,
/// RFC 3986 section 3.2.2). User information is refused: RFC 9110 section 4.2.4 calls it an error.
///
/// An empty `Host`, which RFC 9112 section 3.2 asks of a client whose URI has no authority, is no
/// host either: `http` and `https` URIs always have one.
pub(super) fn parse(text: &[u8]) -> Option<&str> {
    let (host_is_valid, rest) = match text {
        [b'[', inner @ ..] => {
            let end = memchr::memchr(b']', inner)?;
            let (literal, rest) = inner.split_at_checked(end)?;
            (is_ip_literal(literal), rest.get(1..)?)
        }
        _ => {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            let (name, rest) = text.split_at_checked(end)?;
            (is_name(name), rest)
        }
    };
    let port_is_valid = match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= PORT_DIGITS_MAX && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if host_is_valid && port_is_valid { str::from_utf8(text).ok() } else { None }
}

/// A registered name or an IPv4 address.
fn is_name(name: &[u8]) -> bool {
    let mut has_escape = false;
    let allowed = name.iter().all(|byte| {
        has_escape |= *byte == b'%';
        is_unreserved(*byte) || is_sub_delimiter(*byte) || *byte == b'%'
    });
    !name.is_empty() && allowed && (!has_escape || escapes_are_valid(name))
}

/// What stands between the brackets of an IPv6 or later address; its groups are not counted.
fn is_ip_literal(literal: &[u8]) -> bool {
    !literal.is_empty()
        && literal
            .iter()
            .all(|byte| is_unreserved(*byte) || is_sub_delimiter(*byte) || *byte == b':')
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn hosts() {
        for host in
            ["bot.example.org", "bot:8443", "10.0.0.1:80", "[::1]", "[fe80::1]:443", "a%20b", "a:"]
        {
            assert_eq!(parse(host.as_bytes()), Some(host));
        }
        for host in [
            "",
            ":80",
            "a b",
            "user@host",
            "a/b",
            "a?b",
            "a#b",
            "a:b",
            "a:1:2",
            "a:123456",
            "[::1",
            "[]",
            "[::1]x",
            "::1",
            "a%2",
            "a\\b",
            "h\u{f6}st",
            "a,b:80,c",
        ] {
            assert_eq!(parse(host.as_bytes()), None, "{host:?}");
        }
    }
}
