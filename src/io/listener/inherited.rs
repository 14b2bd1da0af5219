//! Listening sockets that the process was started with, such as systemd's socket activation gives.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::{FdFlags, fcntl_setfd, ioctl_fionbio},
    net::{AddressFamily, SocketType, sockopt},
};

use super::local_address;
use crate::{
    config::ListenAddress,
    error::{Error, ErrorKind},
};

/// A listening socket from elsewhere, and what it is called there.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) name: String,
    pub(crate) socket: OwnedFd,
}

/// Those that no listener has taken yet, by their number.
#[derive(Debug)]
pub(super) struct Pool(Vec<(usize, Inherited)>);

impl Pool {
    pub(super) fn new(inherited: Vec<Inherited>) -> Self {
        Self(inherited.into_iter().enumerate().collect())
    }

    /// Takes all sockets of that name, or the one of that number.
    pub(super) fn named(&mut self, name: &str) -> Result<Vec<OwnedFd>, Error> {
        let mut taken = self.take(|_, inherited| inherited.name == name);
        if taken.is_empty() {
            taken = self.take(|index, _| index.to_string() == name);
        }
        if taken.is_empty() {
            let left: Vec<_> = self.names().collect();
            let left = if left.is_empty() { "none".to_owned() } else { left.join(", ") };
            let message = format!(
                "cannot listen on fd:{name}: no such socket was passed (LISTEN_FDS; there: {left})"
            );
            return Err(Error::new(ErrorKind::Bind, message));
        }
        for socket in &taken {
            prepare(socket).map_err(|source| {
                let message = format!("cannot listen on fd:{name}");
                Error::with_source(ErrorKind::Bind, message, source)
            })?;
        }
        Ok(taken)
    }

    /// Takes the sockets that listen at `address`.
    pub(super) fn at(&mut self, address: &ListenAddress) -> Vec<OwnedFd> {
        self.take(|_, inherited| {
            local_address(&inherited.socket).is_ok_and(|bound| bound == *address)
                && prepare(&inherited.socket).is_ok()
        })
    }

    /// A notice about those that no listener has taken.
    pub(super) fn left(&self) -> Option<String> {
        let left: Vec<_> = self.names().collect();
        (!left.is_empty()).then(|| {
            format!("socket(s) passed to the process that no listener uses: {}", left.join(", "))
        })
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(index, Inherited { name, socket })| {
            let address = local_address(socket).map(|address| address.to_string());
            let address = address.unwrap_or_else(|_| "no address".to_owned());
            format!("fd:{index} ({name:?}, {address})")
        })
    }

    fn take(&mut self, is_meant: impl Fn(usize, &Inherited) -> bool) -> Vec<OwnedFd> {
        let all = std::mem::take(&mut self.0).into_iter();
        let (taken, left) = all.partition(|(index, inherited)| is_meant(*index, inherited));
        self.0 = left;
        let taken: Vec<(usize, Inherited)> = taken;
        taken.into_iter().map(|(_, inherited)| inherited.socket).collect()
    }
}

/// Gives the socket the flags of our own: accept4(2) does not block on it, and it is not inherited
/// again.
fn prepare(socket: &OwnedFd) -> io::Result<()> {
    let is_stream = sockopt::socket_type(socket)? == SocketType::STREAM;
    let families = [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX];
    if !is_stream
        || !families.contains(&sockopt::socket_domain(socket)?)
        || !sockopt::socket_acceptconn(socket)?
    {
        return Err(io::Error::other("it is no stream socket that listens"));
    }
    fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(socket, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn inherited(name: &str, socket: impl Into<OwnedFd>) -> Inherited {
        Inherited { name: name.to_owned(), socket: socket.into() }
    }

    #[test]
    fn sockets_are_found_by_name_number_and_address_and_only_once() {
        let any = || TcpListener::bind("127.0.0.1:0").unwrap();
        let third = any();
        let address = ListenAddress::Tcp(third.local_addr().unwrap());
        let sockets = [("https", any()), ("https", any()), ("x", any()), ("x", third)];
        let mut pool =
            Pool::new(sockets.into_iter().map(|(name, socket)| inherited(name, socket)).collect());
        assert_eq!(pool.named("https").unwrap().len(), 2);
        assert_eq!(pool.at(&address).len(), 1);
        assert!(pool.left().unwrap().contains("fd:2 (\"x\", 127.0.0.1:"));
        assert_eq!(pool.named("2").unwrap().len(), 1);
        assert_eq!(pool.left(), None);
        for name in ["2", "https", "x"] {
            let said = pool.named(name).unwrap_err().to_string();
            assert!(said.contains("no such socket was passed (LISTEN_FDS; there: none)"), "{said}");
        }
        assert!(pool.at(&address).is_empty());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let socket = inherited("dns", UdpSocket::bind("127.0.0.1:0").unwrap());
        let said = Pool::new(vec![socket]).named("dns").unwrap_err().to_string();
        assert!(said.contains("no stream socket that listens"), "{said}");
    }
}
