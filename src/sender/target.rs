//! Where a webhook is, and what every request to it carries.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
};

use super::Trust;
use crate::{
    config::BasicAuth,
    error::{Error, ErrorKind},
    webhook::to_ascii,
};

/// What a URL for `--url` looks like.
const EXPECTED: &str = "a URL like https://bot.example.com:8443/hook";

/// A webhook, as its sender knows it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What `Host` says: the URL's host, and its port unless that is the scheme's own.
    pub(crate) authority: String,
    /// User and password of the URL.
    pub(crate) basic_auth: Option<BasicAuth>,
    /// The URL's path, with its query.
    pub(crate) path: String,
    /// Where to connect.
    pub(crate) place: Place,
    /// What goes before everything else: the header of the PROXY protocol, for a listener behind a
    /// balancer.
    pub(crate) preamble: Vec<u8>,
    /// `None` where the connection speaks plain HTTP.
    pub(crate) tls: Option<Tls>,
}

/// Where to connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// To the first of these that answers.
    Tcp(Vec<SocketAddr>),
    /// To a Unix socket.
    Unix(PathBuf),
}

/// On which terms TLS is spoken.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The URL's host, which the certificate has to be for; `None` where there is no URL, so that any
    /// name will do.
    pub(crate) host: Option<String>,
    /// Whether the host is told to the server (SNI). An address never is.
    pub(crate) sends_name: bool,
    /// Which certificates are taken.
    pub(crate) trust: Trust,
}

impl Target {
    /// The target of a URL, its name resolved; `trust` is for `https`.
    ///
    /// # Errors
    /// Where it is no URL, or its name has no address.
    pub(crate) fn of_url(url: &str, trust: Trust) -> Result<Self, Error> {
        // What is before an @ may be a password.
        let shown = match url.rsplit_once('@') {
            Some((_, rest)) => format!("...@{rest}"),
            None => url.to_owned(),
        };
        let wrong = || Error::config("--url", format!("{shown:?}"), EXPECTED);
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let (is_tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return Err(wrong()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (before, path) = rest.split_at(path_at);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (user, authority) = match before.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, before),
        };
        let (host, port) = split_port(authority, default_port).ok_or_else(wrong)?;
        let host = &*to_ascii(host).ok_or_else(wrong)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !is_plain(host) || !is_plain(&path) {
            return Err(wrong());
        }
        let basic_auth = user.map(|user| BasicAuth::new(user, "--url")).transpose()?;
        let tls = is_tls.then(|| Tls { host: Some(host.to_owned()), sends_name: true, trust });
        Ok(Self {
            authority: with_port(host, (port != default_port).then_some(port)),
            basic_auth,
            path,
            place: Place::Tcp(resolve(host, port)?),
            preamble: Vec::new(),
            tls,
        })
    }

    /// The URL, without user and password.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                f.write_str(&addresses.join(" or "))
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `host:port`, or `host` alone.
pub(crate) fn with_port(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Host and port of a URL's authority.
pub(crate) fn split_port(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are inside brackets.
        Some((host, port)) if !authority.ends_with(']') => {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port != 0)?;
            Some((host, port))
        }
        _ => Some((authority, default_port)),
    }
}

/// The addresses of `host`, those of IPv4 only where there are any: so Telegram does it.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |source| {
        let message = format!("{host} has no address (is the name right, and its A record there?)");
        Error::with_source(ErrorKind::Send, message, source)
    };
    let all: Vec<_> = (host, port).to_socket_addrs().map_err(failed)?.collect();
    let v4: Vec<_> = all.iter().copied().filter(SocketAddr::is_ipv4).collect();
    Ok(if v4.is_empty() { all } else { v4 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn target(url: &str) -> Target {
        Target::of_url(url, Trust::Anything).unwrap()
    }

    #[test]
    fn a_url_is_what_a_request_says() {
        for (url, authority, path, at) in [
            ("https://127.0.0.1:8443/hook", "127.0.0.1:8443", "/hook", "127.0.0.1:8443"),
            ("https://127.0.0.1:443/", "127.0.0.1", "/", "127.0.0.1:443"),
            ("https://127.0.0.1", "127.0.0.1", "/", "127.0.0.1:443"),
            ("http://127.0.0.1?a=b#c", "127.0.0.1", "/?a=b", "127.0.0.1:80"),
            ("HTTPS://me:pw@[::1]:88/x?y=/z", "[::1]:88", "/x?y=/z", "[::1]:88"),
        ] {
            let target = target(url);
            assert_eq!(target.authority, authority, "{url}");
            assert_eq!(target.path, path, "{url}");
            assert_eq!(target.place.to_string(), at, "{url}");
            assert_eq!(target.tls.is_some(), url.to_lowercase().starts_with("https"), "{url}");
            assert_eq!(target.basic_auth.is_some(), url.contains('@'), "{url}");
        }
        assert_eq!(target("https://me:pw@127.0.0.1/x").url(), "https://127.0.0.1/x");
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in [
            "bot.example.com",
            "ftp://127.0.0.1/",
            "https://",
            "https://127.0.0.1:x/",
            "https://127.0.0.1:0/",
            "https://127.0.0.1/a b",
            "https://127.0.0.1/\u{e4}",
        ] {
            let error = Target::of_url(url, Trust::Anything).unwrap_err();
            assert!(error.is_usage(), "{url}: {error}");
        }
        let error = Target::of_url("https://me:s3cret@host:x/", Trust::Anything).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
