//! Thousands of connections at once.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

/// Threads that connect.
const THREADS: usize = 4;
/// Descriptors that a test needs for everything else.
const OTHERS: usize = 1_000;

/// Raises this process's soft limit of descriptors to the hard one. How many connections of
/// `wanted` it may have, each with `ends` descriptors in this process.
pub(crate) fn room_for(wanted: usize, ends: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let most = limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap());
    let room = (most.saturating_sub(OTHERS) / ends).min(wanted);
    if room < wanted {
        eprintln!("{room} connections instead of {wanted}: {most} descriptors are the most");
    }
    room
}

/// `count` connections that have done their handshakes, several at a time.
pub(crate) fn connect(
    count: usize,
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Vec<(ClientConnection, TcpStream)> {
    let share = |thread: usize| count / THREADS + usize::from(thread < count % THREADS);
    thread::scope(|scope| {
        let threads = (0..THREADS).map(|thread| {
            let connect = move || (0..share(thread)).map(|_| handshaken(addr, config)).collect();
            scope.spawn::<_, Vec<_>>(connect)
        });
        let threads = threads.collect::<Vec<_>>();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn handshaken(addr: SocketAddr, config: &Arc<ClientConfig>) -> (ClientConnection, TcpStream) {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
    while session.is_handshaking() || session.wants_write() {
        session.complete_io(&mut socket).unwrap();
    }
    (session, socket)
}
