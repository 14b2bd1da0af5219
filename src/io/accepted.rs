//! A connection on its way from the acceptor to its shard.

use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc, time::Instant};

use crate::io::{listener::Terms, peer_limit::ConnectionPermit};

/// A connection on its way from the acceptor to its shard.
#[derive(Debug)]
pub(crate) struct AcceptedConnection {
    pub(crate) accepted_at: Instant,
    /// Where it comes from, an IPv4 address never in IPv6 form; `None` where that is a Unix socket.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) permit: ConnectionPermit,
    pub(crate) socket: OwnedFd,
    /// Those of its listener.
    pub(crate) terms: Arc<Terms>,
}
