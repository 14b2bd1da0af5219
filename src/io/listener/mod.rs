//! The sockets that are listened on: bound here, or inherited from the process that started this
//! one.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | binding and accepting, and the terms of a listener |
//! | `inherited` | sockets that the process was started with |
//! | `unix`, `names` | files of Unix sockets, and whether they still lead to them |
//! | `busy_poll` | SO_BUSY_POLL |
//! | `acceptor_config` | changes for the acceptor from other threads |

mod acceptor_config;
mod busy_poll;
mod inherited;
mod names;
mod unix;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, getsockname,
    listen, socket_with, sockopt,
};

use self::inherited::Pool;
pub use self::unix::SocketFile;
pub(crate) use self::{
    acceptor_config::{AcceptorConfig, AcceptorSettings},
    inherited::Inherited,
    names::{Name, Names},
};
use crate::{
    config::{AllowList, Config, ListenAddress, Listener, allow::admits},
    error::{Error, ErrorKind},
    files::User,
};

/// Connections that may wait in the kernel until they are accepted; `net.core.somaxconn` (4,096 by
/// default) bounds it as well. A sender with `max_connections` of 100 opens ten at once.
pub const BACKLOG: i32 = 4096;

/// A listening socket at `path` that is no listener of a server's; see [`Listener`] for its file,
/// which has the permissions `mode`. It does not block.
///
/// # Errors
/// Something else has the name, or it cannot be made there.
pub fn unix_socket(path: &Path, mode: u32) -> Result<(OwnedFd, SocketFile), Error> {
    unix::bind(path, mode, false, None)
}

/// The terms by which a listener's connections are served.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The addresses that may connect; `None` is every peer. Peers without an address may.
    pub(crate) allow: Option<AllowList>,
    /// The balancers, all of which send a PROXY header; `None` where there are none.
    pub proxy_protocol: Option<AllowList>,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
}

impl Terms {
    fn new(listener: &Listener, config: &Config) -> Self {
        let own = listener.allow.as_ref().or(config.allow.as_ref()).cloned();
        // A peer that may send to no bot need not connect.
        let bots = || AllowList::union(config.bots.iter().map(|bot| bot.allow.as_ref()));
        Self {
            allow: own.or_else(bots),
            proxy_protocol: listener.proxy_protocol.clone(),
            tls: listener.tls,
        }
    }

    /// True where `peer` may be served. A peer without an address came by a file whose permissions
    /// admit it.
    pub fn admits(&self, peer: Option<IpAddr>) -> bool {
        admits(self.allow.as_ref(), peer)
    }
}

/// The terms of all listeners of `config`, in their order.
pub fn terms(config: &Config) -> Vec<Arc<Terms>> {
    let listeners = config.all_listeners();
    listeners.iter().map(|listener| Arc::new(Terms::new(listener, config))).collect()
}

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    pub(crate) terms: Arc<Terms>,
    /// Index of its listener among those of the configuration.
    listener: usize,
    /// Removed with the socket.
    file: Option<SocketFile>,
    is_inherited: bool,
    is_unix: bool,
    socket: OwnedFd,
}

/// All sockets of a server, what they turned out to be, and what an operator should know of them.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) notices: Vec<String>,
    pub(crate) sockets: Vec<ListeningSocket>,
}

impl Listening {
    /// Listens wherever `config` says, on the sockets in `inherited` where they are meant. The
    /// files of Unix sockets that root makes are for `heir`, where there is one.
    ///
    /// # Errors
    /// A [`Bind`](ErrorKind::Bind) error with what to do about it.
    pub(crate) fn open(
        config: &Config,
        inherited: Vec<Inherited>,
        heir: Option<&User>,
    ) -> Result<Self, Error> {
        let mut pool = Pool::new(inherited);
        let mut opened = Self::default();
        let listeners = config.all_listeners().into_iter().zip(terms(config));
        for (place, (listener, terms)) in listeners.enumerate() {
            let terms = (place, terms);
            let passed = match &listener.address {
                ListenAddress::Inherited(name) => pool.named(name)?,
                address => pool.at(address),
            };
            let is_inherited = !passed.is_empty();
            for socket in passed {
                opened.add(socket, None, is_inherited, &listener, &terms)?;
            }
            match &listener.address {
                ListenAddress::Tcp(address) if !is_inherited => {
                    let socket = bind_tcp(*address, config.reuse_port)?;
                    opened.add(socket, None, false, &listener, &terms)?;
                }
                ListenAddress::Unix(path) if !is_inherited => {
                    let (socket, file) = unix::bind(path, listener.mode, config.reuse_port, heir)?;
                    opened.add(socket, Some(file), false, &listener, &terms)?;
                }
                _ => {}
            }
        }
        opened.notices.extend(opened.listeners.iter().filter_map(Listener::notice));
        opened.notices.extend(pool.left());
        opened.notices.extend(config.busy_poll.and_then(|time| opened.poll_busily(time)));
        Ok(opened)
    }

    /// Has all TCP connections polled for `time`. Returns a notice where the kernel refuses, which
    /// is no reason not to serve.
    fn poll_busily(&self, time: Duration) -> Option<String> {
        let mut tcp = self.sockets.iter().filter(|socket| !socket.is_unix);
        let refused = tcp.find_map(|socket| busy_poll::set(&socket.socket, time).err());
        refused.map(|error| busy_poll::refusal(&error))
    }

    fn add(
        &mut self,
        socket: OwnedFd,
        file: Option<SocketFile>,
        is_inherited: bool,
        listener: &Listener,
        (place, terms): &(usize, Arc<Terms>),
    ) -> Result<(), Error> {
        let named = |source| Error::with_source(ErrorKind::Bind, "getsockname", source);
        let address = local_address(&socket).map_err(named)?;
        let is_unix = matches!(address, ListenAddress::Unix(_));
        let mut listener = listener.clone();
        // The name under which a Unix socket was bound is not the one it has.
        if !(is_unix && matches!(listener.address, ListenAddress::Unix(_))) {
            listener.address = address;
        }
        self.listeners.push(listener);
        let terms = Arc::clone(terms);
        let listener = *place;
        let socket = ListeningSocket { terms, listener, file, is_inherited, is_unix, socket };
        self.sockets.push(socket);
        Ok(())
    }
}

impl ListeningSocket {
    /// Takes a waiting connection, and the address it comes from; `None` where it came by a Unix
    /// socket. It is not inherited by children.
    ///
    /// # Errors
    /// `WouldBlock` where none waits; else what accept4(2) answers.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, Option<IpAddr>)> {
        let (socket, peer) = acceptfrom_with(&self.socket, SocketFlags::CLOEXEC)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        if peer.is_none() && !self.is_unix {
            // The kernel reports it for every connection; one without must not pass for a trusted
            // one.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.is_inherited && !self.is_unix {
            // A connection that waited before this process began has what the socket had then.
            let _ = sockopt::set_tcp_nodelay(&socket, true);
        }
        Ok((socket, peer.map(|peer| peer.ip().to_canonical())))
    }

    /// Serves its next connections by what `terms` say of its listener.
    pub(crate) fn set_terms(&mut self, terms: &[Arc<Terms>]) {
        if let Some(terms) = terms.get(self.listener) {
            self.terms = Arc::clone(terms);
        }
    }

    /// Removes the name, so that no client connects to a socket that is not served any more.
    pub(crate) fn remove_file(&mut self) {
        self.file = None;
    }

    /// Identifies its file, where that is ours.
    fn file_id(&self) -> Option<names::FileId> {
        self.file.as_ref().map(SocketFile::id)
    }

    /// The path by which it is connected to, and the permissions of its file where that is ours;
    /// `None` for one that has no file.
    fn name(&self) -> Option<(PathBuf, Option<u32>)> {
        if let Some(file) = &self.file {
            return Some((file.path().to_owned(), Some(file.mode())));
        }
        match local_address(&self.socket) {
            Ok(ListenAddress::Unix(path)) if path.is_absolute() => Some((path, None)),
            _ => None,
        }
    }

    /// True where its file may be gone and made again.
    pub(crate) fn may_be_renewed(&self) -> bool {
        self.file.is_some()
    }

    /// Listens on another socket from now on, whose file took the place of the one that was gone.
    pub(crate) fn renew(&mut self, socket: OwnedFd, file: SocketFile) {
        self.socket = socket;
        self.file = Some(file);
    }

    /// Listens no more, even where a child that was forked holds a copy. One that is inherited is
    /// left as it is: the process that passed it listens on it as well.
    pub(crate) fn end(&self) {
        if !self.is_inherited {
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
    }

    /// Whether the process that passed it listens on it as well, and goes on to.
    pub(crate) fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    #[cfg(test)]
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match local_address(&self.socket) {
            Ok(ListenAddress::Tcp(address)) => address,
            other => unreachable!("no address: {other:?}"),
        }
    }
}

impl std::os::fd::AsFd for ListeningSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where `socket` is bound.
fn local_address(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let address = getsockname(socket)?;
    if let Ok(tcp) = SocketAddr::try_from(address.clone()) {
        return Ok(ListenAddress::Tcp(tcp));
    }
    let unix = SocketAddrUnix::try_from(address)?;
    let path = unix.path().map(|path| path.into_owned().into_bytes()).unwrap_or_default();
    let path = <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(path);
    Ok(ListenAddress::Unix(PathBuf::from(path)))
}

/// A listening socket on `address`.
fn bind_tcp(address: SocketAddr, reuse_port: bool) -> Result<OwnedFd, Error> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let bound = || -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, reuse_port)?;
        // Its connections take it from here: an answer that waits for the sender's delayed ACK
        // costs it 40 ms. A socket that refuses the option is broken, and reports that soon.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    bound().map_err(|source| {
        let advice = match source.kind() {
            io::ErrorKind::AddrInUse if reuse_port => {
                " (another program has the port, without reuse_port or as another user)"
            }
            io::ErrorKind::AddrInUse => {
                " (another program has the port: is ringhook running twice?)"
            }
            io::ErrorKind::PermissionDenied => {
                " (ports below 1024 need CAP_NET_BIND_SERVICE or root)"
            }
            io::ErrorKind::AddrNotAvailable => " (no interface of this machine has the address)",
            _ => "",
        };
        Error::with_source(ErrorKind::Bind, format!("cannot listen on {address}{advice}"), source)
    })
}
