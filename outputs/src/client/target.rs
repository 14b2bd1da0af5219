//! Where requests go: a URL of HTTP, or a Unix socket and a path.

use std::{fmt, net::Ipv6Addr, path::PathBuf, str::FromStr};

use http::{HeaderValue, Uri, uri::PathAndQuery};
use ringhook::{Error, ErrorKind, internals::redact::hide_tokens};

/// What [`Target`] is parsed from.
const EXPECTED: &str = "http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or \
    http+unix:/SOCKET:/PATH, without userinfo and fragment";
/// The longest path of a Unix socket, in bytes: what `sockaddr_un` holds.
const SOCKET_PATH_MAX: usize = 107;

/// An HTTP server and a path on it.
///
/// ```
/// use ringhook_outputs::forward::Target;
///
/// let target: Target = "http+unix:/run/bot.sock:/webhook".parse()?;
/// assert_eq!(target.to_string(), "http+unix:/run/bot.sock:/webhook");
/// # Ok::<(), ringhook::Error>(())
/// ```
///
/// `Display` and `Debug` show neither what looks like a bot's token nor the query.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Target {
    place: Place,
    path: PathAndQuery,
    /// The value of `Host`.
    authority: HeaderValue,
}

/// How the server is reached.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Place {
    Tcp {
        /// A name or an address, one of IPv6 without brackets.
        host: String,
        port: u16,
        is_https: bool,
    },
    Unix(PathBuf),
}

impl Target {
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// The request's target: path and query.
    pub(crate) fn uri(&self) -> Uri {
        Uri::from(self.path.clone())
    }

    /// The request's target with `suffix` behind the path, in place of the query. `None` where that
    /// is no path.
    pub(crate) fn uri_below(&self, suffix: &str) -> Option<Uri> {
        let path = format!("{}/{suffix}", self.path.path().trim_end_matches('/'));
        PathAndQuery::try_from(path).ok().map(Uri::from)
    }

    /// True where the URL has a query.
    pub(crate) fn has_query(&self) -> bool {
        self.path.query().is_some()
    }

    /// A hash of the whole target that is the same in every process.
    pub(crate) fn hash64(&self) -> u64 {
        let text = self.full();
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// What stands before the path.
    fn origin(&self) -> String {
        match &self.place {
            Place::Tcp { is_https, .. } => {
                let scheme = if *is_https { "https" } else { "http" };
                format!("{scheme}://{}", self.authority.to_str().unwrap_or_default())
            }
            Place::Unix(socket) => format!("http+unix:{}:", socket.display()),
        }
    }

    /// The target as it is, secrets included.
    fn full(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("http+unix:") {
            return Self::parse_unix(rest);
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = split_port(authority)?;
        let default_port = if is_https { 443 } else { 80 };
        let port = port.unwrap_or(default_port);
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == default_port { shown } else { format!("{shown}:{port}") };
        Some(Self {
            place: Place::Tcp { host, port, is_https },
            path: parse_path(path)?,
            authority: HeaderValue::try_from(authority).ok()?,
        })
    }

    /// `rest` is the socket's path, then the request's.
    fn parse_unix(rest: &str) -> Option<Self> {
        let (socket, path) = match rest.find(":/") {
            Some(at) => (rest.get(..at)?, rest.get(at + 1..)?),
            None => (rest, ""),
        };
        let is_path = socket.starts_with('/') && socket.len() <= SOCKET_PATH_MAX;
        let is_plain = !socket.contains(['\0', '\r', '\n']);
        (is_path && is_plain).then_some(())?;
        Some(Self {
            place: Place::Unix(socket.into()),
            path: parse_path(path)?,
            authority: HeaderValue::from_static("localhost"),
        })
    }
}

impl FromStr for Target {
    type Err = Error;

    /// # Errors
    /// One line that says what was expected. It shows no userinfo, token or query.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).ok_or_else(|| {
            let shown = hide_tokens(&without_secrets(text));
            Error::new(ErrorKind::Config, format!("target {shown}: expected {EXPECTED}"))
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_tokens(&format!("{}{}", self.origin(), self.path.path())))?;
        if self.has_query() { f.write_str("?...") } else { Ok(()) }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// Path and query, `/` where there is none.
fn parse_path(path: &str) -> Option<PathAndQuery> {
    let path = match path.chars().next() {
        None => "/".to_owned(),
        Some('?') => format!("/{path}"),
        Some(_) => path.to_owned(),
    };
    // The parser would drop a fragment without a word.
    let is_plain = !path.contains('#') && path.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| PathAndQuery::try_from(path).ok()).flatten()
}

/// Host and port of an authority; `None` for userinfo and for what is no host.
fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (address, after) = inside.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, after)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (!host.is_empty() && host.bytes().all(is_host)).then_some(())?;
            (host, port)
        }
    };
    if port.is_empty() {
        return Some((host.to_owned(), None));
    }
    let digits = port.strip_prefix(':')?;
    // `u16::from_str` takes a sign, too.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| is_number && *port > 0)?;
    Some((host.to_owned(), Some(port)))
}

/// `text` without what stands before an `@` of its authority, and without its query.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}(hidden)@{place}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_target_is_taken_apart() {
        for (text, host, path, full) in [
            ("http://127.0.0.1:3000/webhook", "127.0.0.1:3000", "/webhook", None),
            ("http://bot", "bot", "/", Some("http://bot/")),
            ("HTTP://bot:80?a=b", "bot", "/?a=b", Some("http://bot/?a=b")),
            ("https://bot.example:443/x", "bot.example", "/x", Some("https://bot.example/x")),
            ("https://[::1]:8443/x?y", "[::1]:8443", "/x?y", None),
            ("http+unix:/run/bot.sock:/webhook", "localhost", "/webhook", None),
            ("http+unix:/run/bot.sock", "localhost", "/", Some("http+unix:/run/bot.sock:/")),
            ("http+unix:/a:b:/x:/y", "localhost", "/x:/y", None),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.authority(), host, "{text}");
            assert_eq!(target.uri(), path, "{text}");
            assert_eq!(target.full(), full.unwrap_or(text));
        }
    }

    #[test]
    fn what_is_no_target_is_refused_without_showing_secrets() {
        let token = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
        let long = format!("http+unix:/{}:/x", "s".repeat(SOCKET_PATH_MAX));
        for text in [
            "",
            "bot:3000/webhook",
            "ftp://bot/x",
            "http://",
            "http:///x",
            "http://bot:0/",
            "http://bot:+1/",
            "http://bot:65536/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://bot/x#y",
            "http://bot/x y",
            "http://b\u{e9}/x",
            "http://user:secret@bot/x",
            "http://user:secret@bot/x?key=secret",
            "http+unix:run/bot.sock:/x",
            &format!("http://u:secret@bot/{token}"),
            &long,
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("expected http://HOST"), "{error}");
            assert!(!error.contains("secret") && !error.contains("AAbb"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn neither_tokens_nor_queries_are_shown() {
        let token = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
        let target: Target = format!("http://bot/bot{token}?key=secret").parse().unwrap();
        for shown in [target.to_string(), format!("{target:?}")] {
            assert!(shown.contains("http://bot/bot(hidden)?..."), "{shown}");
        }
        assert_eq!(target.uri(), &*format!("/bot{token}?key=secret"));
    }

    #[test]
    fn a_path_is_put_below() {
        for (root, expected) in [
            ("https://api.telegram.org", "/bot1:A/sendMessage"),
            ("http://127.0.0.1:8081/api/?x", "/api/bot1:A/sendMessage"),
        ] {
            let root: Target = root.parse().unwrap();
            assert_eq!(root.uri_below("bot1:A/sendMessage").unwrap(), expected);
        }
    }
}
