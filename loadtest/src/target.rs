//! Where the updates go.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use crate::{Error, shown::hide_tokens};

/// The URL of a webhook: `http://` or `https://`, a host, and what Telegram takes beside it. Shown
/// without what looks like a bot's token.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The URL as given, without a user and password.
    url: String,
    tls: bool,
    /// A name or an address, the latter without brackets.
    host: String,
    port: u16,
    /// Path and query, at least `/`.
    path: String,
    /// `user:password`, if the URL has it.
    user: Option<String>,
}

impl Target {
    /// Whether the target wants TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The name or address of the host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The path with the query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// User and password with a colon between.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What the `Host` header says: the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// The first address of the host.
    ///
    /// # Errors
    /// [`Error::Address`] if there is none.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, Error> {
        let failed = |source| Error::Address { host: self.host.clone(), source };
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?;
        addresses.next().ok_or_else(|| failed(std::io::Error::other("the name has no address")))
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(target: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::Target { target: target.to_owned(), reason };
        let (scheme, rest) =
            target.split_once("://").ok_or_else(|| wrong("expected http://... or https://..."))?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong("the scheme is neither http nor https")),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("spaces and characters outside ASCII must be percent-encoded"));
        }
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address).ok_or_else(|| wrong("the port is no number"))?;
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{path}");
        Ok(Self {
            url: format!("{scheme}://{address}{path}"),
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path,
            user,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_tokens(&self.url))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// Splits `host`, `host:port`, `[address]` or `[address]:port`; none if the port is no number.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    match port {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => Some((host, None)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target: Target = "https://bob:pw@example.org:8443/hook?a=b#c".parse().unwrap();
        assert!(target.is_tls());
        assert_eq!(target.host(), "example.org");
        assert_eq!(target.authority(), "example.org:8443");
        assert_eq!(target.path(), "/hook?a=b");
        assert_eq!(target.user(), Some("bob:pw"));
        assert_eq!(target.to_string(), "https://example.org:8443/hook?a=b");
    }

    #[test]
    fn neither_a_token_nor_a_password_is_shown() {
        let token = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
        let target: Target = format!("https://bob:pw@h/bot{token}?t={token}").parse().unwrap();
        assert_eq!(target.path(), format!("/bot{token}?t={token}"));
        assert_eq!(target.to_string(), "https://h/bot(hidden)?t=(hidden)");
        assert_eq!(format!("{target:?}"), "Target(https://h/bot(hidden)?t=(hidden))");
        let error = format!("ftp://h/bot{token}").parse::<Target>().unwrap_err().to_string();
        assert!(error.contains("ftp://h/bot(hidden)"), "{error}");
    }

    #[test]
    fn usual_ports_are_left_out() {
        for (url, authority) in [
            ("https://example.org", "example.org"),
            ("https://example.org:443/", "example.org"),
            ("http://example.org:80/", "example.org"),
            ("http://example.org:443/", "example.org:443"),
            ("http://[::1]:8080/", "[::1]:8080"),
            ("http://[::1]/", "[::1]"),
        ] {
            assert_eq!(url.parse::<Target>().unwrap().authority(), authority, "{url}");
        }
    }

    #[test]
    fn a_query_without_a_path_gets_one() {
        assert_eq!("http://a?x=1".parse::<Target>().unwrap().path(), "/?x=1");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for url in ["", "example.org", "ftp://a/", "https://", "https://a:b/", "http://a/ b"] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }
}
