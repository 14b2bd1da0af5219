//! A network that delays, splits, stalls, cuts, resets and swallows: a forwarder of TCP between the
//! senders and the server.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;

use super::plan::Net;

use crate::support::chance::Chance;

/// How long it takes until a change of the network is noticed by connections that are silent.
const LOOK: Duration = Duration::from_millis(50);
/// Pieces of a few bytes that a chunk is split into at the most; the rest goes as it is.
const PIECES: usize = 20;

/// Forwards each connection to it to one address.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    net: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

struct State {
    /// Place in [`Net::ALL`].
    net: AtomicU8,
    ended: AtomicBool,
}

impl State {
    fn net(&self) -> Net {
        Net::ALL[usize::from(self.net.load(Relaxed))]
    }
}

impl Proxy {
    pub(crate) fn to(addr: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let net = Arc::new(State { net: AtomicU8::new(0), ended: AtomicBool::new(false) });
        let state = Arc::clone(&net);
        let accepting = thread::spawn(move || accept(&listener, addr, &state, seed));
        Self { addr: own, net, accepting: Some(accepting) }
    }

    pub(crate) fn set(&self, net: Net) {
        let place = Net::ALL.iter().position(|it| *it == net).unwrap();
        self.net.net.store(u8::try_from(place).unwrap(), Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.net.ended.store(true, Relaxed);
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, to: SocketAddr, state: &Arc<State>, seed: u64) {
    let mut chance = Chance::from_seed(seed);
    let mut pumps = Vec::new();
    for outside in listener.incoming() {
        if state.ended.load(Relaxed) {
            break;
        }
        let Ok(outside) = outside else { continue };
        pumps.retain(|pump: &JoinHandle<()>| !pump.is_finished());
        let _ = set_socket_linger(&outside, Some(Duration::ZERO));
        if state.net() == Net::Refuse {
            continue;
        }
        let seed = chance.between(0, u64::MAX - 1);
        let state = Arc::clone(state);
        // It may have to wait for the server, and other connections need not wait for that.
        pumps.push(thread::spawn(move || forward(outside, to, &state, seed)));
    }
    for pump in pumps {
        let _ = pump.join();
    }
}

fn forward(outside: TcpStream, to: SocketAddr, state: &State, seed: u64) {
    while state.net() == Net::Blackhole && !state.ended.load(Relaxed) {
        thread::sleep(LOOK);
    }
    let Ok(inside) = TcpStream::connect_timeout(&to, Duration::from_secs(5)) else { return };
    for socket in [&outside, &inside] {
        let _ = socket.set_nodelay(true);
        let _ = socket.set_read_timeout(Some(LOOK));
        let _ = socket.set_write_timeout(Some(Duration::from_secs(5)));
        // What ends without FIN ends with RST.
        let _ = set_socket_linger(socket, Some(Duration::ZERO));
    }
    let torn = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| pump(&inside, &outside, state, &torn, seed));
        pump(&outside, &inside, state, &torn, !seed);
    });
    if !torn.load(Relaxed) {
        for socket in [&outside, &inside] {
            let _ = set_socket_linger(socket, None);
        }
    }
    drop((outside, inside));
}

/// Forwards one direction until its end, or until the connection is torn.
fn pump(mut from: &TcpStream, mut to: &TcpStream, state: &State, torn: &AtomicBool, seed: u64) {
    let mut chance = Chance::from_seed(seed);
    let mut chunk = [0; 4096];
    while !torn.load(Relaxed) && !state.ended.load(Relaxed) {
        let net = state.net();
        if matches!(net, Net::Stall | Net::Blackhole) {
            thread::sleep(LOOK);
            continue;
        }
        if net == Net::Reset && chance.between(0, 9) == 0 {
            torn.store(true, Relaxed);
            return;
        }
        let read = match from.read(&mut chunk) {
            Ok(n) => n,
            Err(error) if is_timeout(&error) => continue,
            Err(_) => {
                torn.store(true, Relaxed);
                return;
            }
        };
        let bytes = &chunk[..read];
        let sent = match net {
            _ if bytes.is_empty() => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Net::Cut if chance.between(0, 4) == 0 => {
                // In the middle of a record, as a firewall does that goes down.
                let _ = to.write_all(&bytes[..read / 2]);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            Net::Slow => {
                thread::sleep(Duration::from_millis(chance.between(5, 150)));
                to.write_all(bytes)
            }
            Net::Split => split(bytes, to, &mut chance),
            _ => to.write_all(bytes),
        };
        if sent.is_err() {
            torn.store(true, Relaxed);
            return;
        }
    }
    torn.store(true, Relaxed);
}

fn split(mut bytes: &[u8], mut to: &TcpStream, chance: &mut Chance) -> io::Result<()> {
    for _ in 0..PIECES {
        let most = bytes.len().min(17);
        if most == 0 {
            return Ok(());
        }
        let (piece, rest) = bytes.split_at(chance.between(1, most as u64) as usize);
        to.write_all(piece)?;
        bytes = rest;
        thread::sleep(Duration::from_micros(200));
    }
    to.write_all(bytes)
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
