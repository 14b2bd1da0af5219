//! A port for servers that come and go.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};

/// A port of 127.0.0.1 on which a server can start, die and start again.
///
/// A socket that never listens is bound to it, so connections are refused while no server is there,
/// and no process is given the port meanwhile: not even a client that connects to it, which could
/// otherwise end up connected to itself.
pub(crate) struct Port {
    pub(crate) addr: SocketAddr,
    _bound: OwnedFd,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        // The server does it as well; both have to.
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = getsockname(socket.as_fd()).unwrap().try_into().unwrap();
        Self { addr, _bound: socket }
    }
}
