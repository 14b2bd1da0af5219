//! Where a server listens, and the terms of each listener.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{config::AllowList, error::Error};

/// What an address can be.
const EXPECTED: &str =
    "an address like \"127.0.0.1:8443\", \"unix:/run/ringhook/hook.sock\" or \"fd:NAME\"";
/// The longest path of a Unix socket: the kernel takes 107 bytes, and four are needed while it is
/// made.
const UNIX_PATH_MAX: usize = 103;
/// Permissions of a Unix socket's file, unless said otherwise: those of its user and group.
const MODE: u32 = 0o660;

/// One place where a server listens, and its terms.
///
/// ```
/// use ringhook::{AllowList, Listener};
///
/// let mut listener = Listener::new("127.0.0.1:8080".parse()?);
/// listener.tls = false;
/// listener.allow = Some(AllowList::new(["127.0.0.1"])?);
/// # Ok::<(), ringhook::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    /// The addresses that may connect, instead of those on the server's list; `None` is these. A
    /// peer on a Unix socket has no address and may always connect: the file's permissions guard
    /// it.
    pub allow: Option<AllowList>,
    /// Permissions of a Unix socket's file; 0660. Not for sockets that were passed.
    pub mode: u32,
    /// The balancers, each of which sends the client's address in a PROXY header (version 1 or 2);
    /// `None` is none. No other peer may connect then, and a connection without the header is
    /// refused. Where the listener is a Unix socket, every peer counts as a balancer.
    pub proxy_protocol: Option<AllowList>,
    /// Whether connections speak TLS; true. Without it every machine on the path can read the
    /// updates and the secret token.
    pub tls: bool,
}

impl Listener {
    /// A listener at `address` that speaks TLS and admits the addresses on the server's list.
    #[must_use]
    pub fn new(address: ListenAddress) -> Self {
        Self { address, allow: None, mode: MODE, proxy_protocol: None, tls: true }
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        if let ListenAddress::Unix(path) = &self.address {
            let length = path.as_os_str().len();
            if length > UNIX_PATH_MAX {
                let expected = format!("a path of at most {UNIX_PATH_MAX} bytes");
                return Err(Error::config("listener.address", path.display(), &expected));
            }
        }
        if self.mode > 0o777 {
            let value = format!("{:o}", self.mode);
            return Err(Error::config("listener.mode", value, "permissions like \"0660\""));
        }
        Ok(())
    }

    /// True where both are served by the same socket; their allow-lists can differ.
    pub(super) fn is_bound_as(&self, other: &Self) -> bool {
        let Self { address, allow: _, mode, proxy_protocol: _, tls } = self;
        (address, mode, tls) == (&other.address, &other.mode, &other.tls)
    }

    /// What an operator should know about these terms.
    #[doc(hidden)]
    pub fn notice(&self) -> Option<String> {
        let ListenAddress::Tcp(address) = &self.address else { return None };
        (!self.tls && !is_near(address.ip().to_canonical())).then(|| {
            format!(
                "{address} speaks plain HTTP: every machine on the path can read updates and \
                 secret tokens, and Telegram's own servers deliver to HTTPS only"
            )
        })
    }
}

/// True where an address is this machine's or that of a private network.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Where a listener is: `127.0.0.1:8443`, `[::]:443`, `unix:/run/ringhook/hook.sock`, `fd:NAME`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// A socket that was passed to the process, by its name or by its number from 0 on
    /// ([`ServerBuilder::inherit`](crate::ServerBuilder::inherit)).
    Inherited(String),
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A file in the file system.
    Unix(PathBuf),
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inherited(name) => write!(f, "fd:{name}"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::config("address", format!("{text:?}"), EXPECTED);
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() && !path.contains('\0') => {
                Ok(Self::Unix(path.into()))
            }
            Some(("fd", name)) if !name.is_empty() => Ok(Self::Inherited(name.to_owned())),
            _ => text.parse().map(Self::Tcp).map_err(|_| error()),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            let expected = "expected one like \"127.0.0.1:8443\", \"unix:/run/hook.sock\" or \
                            \"fd:NAME\"";
            de::Error::custom(format!("{text:?} is no address, {expected}"))
        })
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_round_trip_and_mistakes_are_reported() {
        for text in ["127.0.0.1:8443", "[::1]:0", "unix:/run/x.sock", "unix:x", "fd:0", "fd:https"]
        {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        for text in ["", "localhost:80", "127.0.0.1", "unix:", "fd:", ":80", "unix:a\0b"] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("fd:NAME"), "{error}");
        }
    }

    #[test]
    fn plain_http_is_noted_where_others_can_listen() {
        let notice = |address: &str, tls| {
            let mut listener = Listener::new(address.parse().unwrap());
            listener.tls = tls;
            listener.notice()
        };
        for address in ["0.0.0.0:80", "[::]:80", "203.0.113.7:80", "[2001:db8::1]:80"] {
            assert!(notice(address, false).unwrap().starts_with(address));
            assert_eq!(notice(address, true), None);
        }
        for address in ["127.0.0.1:80", "10.1.2.3:80", "[::1]:80", "[fd00::1]:80", "unix:/x"] {
            assert_eq!(notice(address, false), None, "{address}");
        }
    }

    #[test]
    fn paths_and_permissions_have_bounds() {
        let mut listener = Listener::new(ListenAddress::Unix("x".repeat(103).into()));
        listener.validate().unwrap();
        listener.mode = 0o1777;
        assert!(listener.validate().unwrap_err().to_string().starts_with("listener.mode = 1777"));
        let long = Listener::new(ListenAddress::Unix("x".repeat(104).into()));
        assert!(long.validate().is_err());
    }
}
