//! Where a webhook is, and what every request to it carries.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
};

use super::Trust;
use crate::net::{
    idn::to_ascii,
    url::{UrlParts, default_port},
};
use ringhook::{BasicAuth, Error, ErrorKind};

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
    /// The URL's host, which the certificate has to be for; `None` where there is no URL, so that
    /// any name will do.
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
    pub(crate) fn from_url(url: &str, trust: Trust) -> Result<Self, Error> {
        // What is before an @ may be a password.
        let shown = match url.rsplit_once('@') {
            Some((_, rest)) => format!("...@{rest}"),
            None => url.to_owned(),
        };
        let wrong = || Error::config("--url", format!("{shown:?}"), EXPECTED);
        let parts = UrlParts::parse(url).ok_or_else(wrong)?;
        let path = parts.target.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = &*to_ascii(parts.host).ok_or_else(wrong)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !is_plain(host) || !is_plain(&path) {
            return Err(wrong());
        }
        let basic_auth = parts.userinfo.map(|user| BasicAuth::new(user, "--url")).transpose()?;
        let tls =
            parts.is_https.then(|| Tls { host: Some(host.to_owned()), sends_name: true, trust });
        Ok(Self {
            authority: with_port(
                host,
                parts.port.filter(|port| *port != default_port(parts.is_https)),
            ),
            basic_auth,
            path,
            place: Place::Tcp(resolve(host, parts.port())?),
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
        Target::from_url(url, Trust::Anything).unwrap()
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
            let error = Target::from_url(url, Trust::Anything).unwrap_err();
            assert!(error.is_usage(), "{url}: {error}");
        }
        let error = Target::from_url("https://me:s3cret@host:x/", Trust::Anything).unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
