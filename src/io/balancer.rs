//! Connections behind a balancer: its PROXY header is read, and the client in it is checked as a
//! peer that connects directly.

use std::net::IpAddr;

use crate::{
    io::{
        listener::Terms,
        peer_limit::{ConnectionPermit, PeerConnectionLimit},
        runtime::{self, Socket},
    },
    outcome::TurnedAway,
    proto::proxy_header::{self as proxy, Parsed},
};

/// Bytes read at once: a header with the client's first flight fits.
const READ_BYTES: usize = 4096;

/// A client behind a balancer.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its bytes that have come with the header.
    pub(crate) early: Vec<u8>,
    /// Its address, or the balancer's where that speaks for itself.
    pub(crate) peer: Option<IpAddr>,
    /// Held for as long as the connection lives.
    pub(crate) permit: ConnectionPermit,
}

/// Reads the header that the balancer at `balancer` sends first.
///
/// # Errors
/// Why the connection is not served: there is no header, or its client may not connect.
pub(crate) async fn identify(
    socket: &mut Socket,
    balancer: Option<IpAddr>,
    terms: &Terms,
    permits: &PeerConnectionLimit,
) -> Result<Client, TurnedAway> {
    let (source, early) = read_header(socket).await?;
    let peer = source.or(balancer);
    if !terms.admits(peer) {
        return Err(TurnedAway::Address);
    }
    let permit = match source {
        Some(source) => permits.take(source).ok_or(TurnedAway::PerAddress)?,
        // The balancer itself needs none.
        None => ConnectionPermit::uncounted(),
    };
    Ok(Client { early, peer, permit })
}

/// The client's address, if the balancer sends one, and what has come behind the header.
async fn read_header(socket: &mut Socket) -> Result<(Option<IpAddr>, Vec<u8>), TurnedAway> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    loop {
        match proxy::parse(&bytes) {
            Parsed::Header { source, length } => {
                bytes.drain(..length);
                return Ok((source.map(|source| source.ip().to_canonical()), bytes));
            }
            Parsed::Invalid => return Err(TurnedAway::ProxyMalformed),
            Parsed::NeedMore => {}
        }
        if bytes.len() == bytes.capacity() {
            bytes.reserve(READ_BYTES);
        }
        let (outcome, read) = runtime::append(socket, bytes).await;
        bytes = read;
        match outcome {
            Ok(1..) => {}
            // The deadline has passed, or the peer has left.
            Ok(0) | Err(_) => return Err(TurnedAway::ProxyMissing),
        }
    }
}
