//! Where clients connect: an address, or a Unix socket.

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc};

use ringhook::{
    Error, ErrorKind,
    internals::io::listener::{SocketFile, unix_socket},
};

/// What a [`Place`] is parsed from.
const EXPECTED: &str = "getupdates://IP:PORT or getupdates+unix:/SOCKET";
/// The longest path of a Unix socket, in bytes: what `sockaddr_un` holds.
const SOCKET_PATH_MAX: usize = 107;
/// The permissions of a socket's file: owner and group connect, and show a bot's token besides.
const SOCKET_MODE: u32 = 0o660;

/// Where clients connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// An address; the path to it is not encrypted.
    Tcp(SocketAddr),
    /// A socket's file.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = Error;

    /// # Errors
    /// One line that says what was expected.
    fn from_str(text: &str) -> Result<Self, Error> {
        let place = if let Some(path) = text.strip_prefix("getupdates+unix:") {
            let is_path = path.starts_with('/') && path.len() <= SOCKET_PATH_MAX;
            is_path.then(|| Self::Unix(path.into()))
        } else {
            let address = text.strip_prefix("getupdates://").map(|it| it.trim_end_matches('/'));
            address.and_then(|address| address.parse().ok()).map(Self::Tcp)
        };
        place.ok_or_else(|| Error::config("output.to", text, EXPECTED))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "getupdates://{address}"),
            Self::Unix(path) => write!(f, "getupdates+unix:{}", path.display()),
        }
    }
}

/// A bound listener, which several outputs may have one after the other.
#[derive(Clone, Debug)]
pub struct PollListener(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    /// As asked for.
    place: Place,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix { listener: std::os::unix::net::UnixListener, _file: SocketFile },
}

impl PollListener {
    /// Binds `place`. The socket of a process that is gone is replaced.
    ///
    /// # Errors
    /// It is in use, or cannot be bound.
    pub fn bind(place: &Place) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::with_source(ErrorKind::Config, format!("output.to {place}"), error)
        };
        let socket = match place {
            Place::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Socket::Tcp(listener)
            }
            Place::Unix(path) => {
                let (socket, file) = unix_socket(path, SOCKET_MODE)?;
                Socket::Unix { listener: socket.into(), _file: file }
            }
        };
        Ok(Self(Arc::new(Bound { place: place.clone(), socket })))
    }

    /// The place that was asked for.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Where it listens, with the port that it was given.
    #[must_use]
    pub fn local_place(&self) -> Place {
        match &self.0.socket {
            Socket::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| self.0.place.clone(), Place::Tcp)
            }
            Socket::Unix { .. } => self.0.place.clone(),
        }
    }

    /// The same socket for a runtime, in which this has to be called.
    pub(super) fn accepting(&self) -> io::Result<Accepting> {
        Ok(match &self.0.socket {
            Socket::Tcp(listener) => {
                Accepting::Tcp(tokio::net::TcpListener::from_std(listener.try_clone()?)?)
            }
            Socket::Unix { listener, .. } => {
                Accepting::Unix(tokio::net::UnixListener::from_std(listener.try_clone()?)?)
            }
        })
    }
}

/// A listener in a runtime.
pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn places_are_read_as_they_are_shown() {
        for text in
            ["getupdates://127.0.0.1:8081", "getupdates://[::1]:0", "getupdates+unix:/run/x.sock"]
        {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["getupdates://localhost:1", "getupdates+unix:x", "getupdates:", "http://x"] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(error.to_string().contains(EXPECTED), "{error}");
        }
    }

    #[test]
    fn a_socket_that_is_left_behind_is_replaced_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Unix(dir.path().join("x.sock"));
        let Place::Unix(path) = &place else { unreachable!() };
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        let listener = PollListener::bind(&place).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let error = PollListener::bind(&place).unwrap_err();
        assert!(error.to_string().contains("another program listens there"), "{error}");
        drop(listener);
        assert!(!path.exists());
        fs::write(path, "").unwrap();
        PollListener::bind(&place).unwrap_err();
        assert!(path.exists());
    }
}
