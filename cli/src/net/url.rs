//! The parts of a URL of HTTP. What each user of it takes beyond that is its own matter.

use std::net::Ipv6Addr;

use ringhook::internals::redact::hide_tokens;

/// A URL as it is typed, taken apart; nothing in it is decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct UrlParts<'a> {
    pub(crate) is_https: bool,
    /// What stands before the `@`.
    pub(crate) userinfo: Option<&'a str>,
    /// A name or an address; one of IPv6 in brackets, with its zone. It may be empty.
    pub(crate) host: &'a str,
    /// As written, 1 to 65535.
    pub(crate) port: Option<u16>,
    /// Path, query and fragment; it may be empty.
    pub(crate) target: &'a str,
}

impl<'a> UrlParts<'a> {
    /// `None` where `text` is no URL of http or https, or its port or address of IPv6 is none.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_https = match () {
            () if scheme.eq_ignore_ascii_case("https") => true,
            () if scheme.eq_ignore_ascii_case("http") => false,
            () => return None,
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place)?;
        Some(Self { is_https, userinfo, host, port, target })
    }

    /// The port as written, or that of the scheme.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or_else(|| default_port(self.is_https))
    }

    /// The host without brackets and zone.
    pub(crate) fn name(&self) -> &'a str {
        let inside = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inside.map_or(self.host, |inside| inside.split('%').next().unwrap_or(inside))
    }

    /// True where an address of IPv6 says by which interface it is reached.
    pub(crate) fn has_zone(&self) -> bool {
        self.host.starts_with('[') && self.host.contains('%')
    }
}

/// The port of a scheme.
pub(crate) fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// `url` with what stands before its `@` hidden, and what looks like a bot's token, whether it is a
/// good URL or not.
pub(crate) fn without_userinfo(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, place)) => hide_tokens(&format!("{scheme}(hidden)@{place}{target}")),
        None => hide_tokens(url),
    }
}

/// Host and port of an authority without userinfo.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let end = match place.strip_prefix('[') {
        Some(inside) => {
            let length = inside.find(']')?;
            let address = inside.get(..length)?.split('%').next()?;
            address.parse::<Ipv6Addr>().ok()?;
            length + 2
        }
        None => place.find(':').unwrap_or(place.len()),
    };
    let (host, after) = place.split_at_checked(end)?;
    if after.is_empty() {
        return Some((host, None));
    }
    let port = after.strip_prefix(':')?;
    // `u16::from_str` takes a sign, too.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_number && *port > 0)?;
    Some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, userinfo, host, port, target) in [
            ("https://a.example", None, "a.example", 443, ""),
            ("HTTP://a.example:8080?x", None, "a.example", 8080, "?x"),
            ("https://u:p@ss@[::1]:88/x#y", Some("u:p@ss"), "[::1]", 88, "/x#y"),
            ("http:///x", None, "", 80, "/x"),
        ] {
            let url = UrlParts::parse(text).unwrap();
            let parts = (url.userinfo, url.host, url.port(), url.target);
            assert_eq!(parts, (userinfo, host, port, target), "{text}");
        }
        let zone = UrlParts::parse("http://[fe80::1%25eth0]:1").unwrap();
        assert_eq!((zone.name(), zone.has_zone()), ("fe80::1", true));
    }

    #[test]
    fn a_bad_port_or_address_is_refused() {
        for authority in
            ["h:0", "h:", "h:+80", "h:65536", "h:80:80", "::1", "[::1", "[::1]80", "[x]", "[]:80"]
        {
            assert_eq!(UrlParts::parse(&format!("https://{authority}/")), None, "{authority}");
        }
        for text in ["", "a.example/x", "ftp://a/x", "https:/a"] {
            assert_eq!(UrlParts::parse(text), None, "{text}");
        }
    }
}
