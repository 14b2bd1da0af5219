//! What is to be checked: a file, or a URL of which only host and port count.

use std::{fmt, net::IpAddr, path::PathBuf};

use crate::net::idn::to_ascii;

/// As typed.
#[derive(Clone, Debug)]
pub(super) enum Target {
    File(PathBuf),
    Url(UrlTarget),
}

/// Host and port of an https URL; what else was in it, such as a password, is let go of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct UrlTarget {
    /// In lower case, an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::File(text.into()));
        };
        if !scheme.eq_ignore_ascii_case("https") {
            return Err("expected a file or https://host:port/".into());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, behind)| behind);
        let (name, port) = match authority.rsplit_once(':') {
            // The colon is one of an address in brackets.
            Some((_, port)) if port.ends_with(']') => (authority, 443),
            Some((name, port)) => {
                (name, port.parse().map_err(|_| "the port is no number from 0 to 65535")?)
            }
            None => (authority, 443),
        };
        Ok(Self::Url(UrlTarget { host: host(name)?, port }))
    }
}

impl fmt::Display for UrlTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}/", self.host, self.port),
            false => write!(f, "https://{}:{}/", self.host, self.port),
        }
    }
}

/// A host as it is compared: a name or an address without brackets, in lower case.
pub(super) fn host(text: &str) -> Result<String, String> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_');
    let inside = &*to_ascii(inside).unwrap_or_default();
    match inside.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) if !inside.is_empty() && inside.chars().all(is_allowed) => {
            Ok(inside.trim_end_matches('.').to_ascii_lowercase())
        }
        Err(_) => Err("expected a host, such as bot.example.com or an address".into()),
    }
}

pub(super) fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]

    use super::*;

    #[test]
    fn of_a_url_host_and_port_count() {
        for (text, url) in [
            ("https://bot.example.com", "https://bot.example.com:443/"),
            ("HTTPS://user:p:w@Bot.Example.com:8443/x?y#z", "https://bot.example.com:8443/"),
            ("https://192.0.2.1:88/", "https://192.0.2.1:88/"),
            ("https://[::1]/", "https://[::1]:443/"),
            ("https://[::1]:88", "https://[::1]:88/"),
        ] {
            let Target::Url(found) = Target::parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(found.to_string(), url);
        }
        for text in ["http://a.com", "https://", "https://a.com:x", "https://a b/", "ftp://x"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
        assert!(matches!(Target::parse("cert.pem").unwrap(), Target::File(_)));
    }
}
