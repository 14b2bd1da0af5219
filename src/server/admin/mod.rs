//! The admin listener: plain HTTP for probes and operators, on a thread and an address of its own.
//!
//! It has to answer when nothing else does, so it shares nothing with the shards: one thread waits
//! for a few connections at once, each with a deadline, and where there are too many the oldest is
//! dropped. A slow client holds up no other.
//!
//! | file | what is in it |
//! |---|---|
//! | `listener` | the thread: what it waits for, and how long |
//! | `visitor` | one connection: a request, an answer, the end |
//! | `host` | which names of this machine they are shown under |
//! | `pages` | the pages by path |
//! | `program` | those of the program, on a thread of their own |
//! | `requests` | the last requests as JSON |
//! | `answer` | the bytes of an answer |

mod answer;
mod host;
mod listener;
mod pages;
mod program;
mod requests;
mod visitor;

use std::{
    io, mem,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) use self::pages::Pages;
pub use self::program::{AdminPage, AdminPages, AdminRequest};
use self::{listener::Listener, program::Answering};
use crate::{
    control::ended_by,
    error::{Error, ErrorKind},
    server::view::ServerView,
};

/// How long a start that fails waits for the threads.
const END_WAIT: Duration = Duration::from_secs(1);

/// Pages of the program, and what they see once the server has started.
type Program = (Box<dyn AdminPages>, Arc<OnceLock<ServerView>>);

/// The listener, bound and not running yet.
#[derive(Debug)]
pub(crate) struct AdminListener {
    addr: SocketAddr,
    listener: Listener,
    /// The thread of the program's pages, where it has any.
    program: Option<Answering>,
    stop: UnixStream,
}

/// The running threads. Dropping this stops them.
#[derive(Debug)]
pub(crate) struct AdminThread {
    addr: SocketAddr,
    /// The listener's thread ends when it sees the hang-up, and that of the program's pages with
    /// it.
    stop: UnixStream,
    threads: Vec<JoinHandle<()>>,
}

impl AdminListener {
    /// Listens on `address`, to show `pages` and, once the server has started, those of `program`.
    ///
    /// # Errors
    /// A [`Bind`](ErrorKind::Bind) error.
    pub(crate) fn bind(
        address: SocketAddr,
        pages: Pages,
        program: Option<Program>,
    ) -> Result<Self, Error> {
        let bound = || -> io::Result<_> {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let addr = listener.local_addr()?;
            let (stop, stopped) = UnixStream::pair()?;
            let mut listener = Listener::new(listener, stopped, pages);
            let program = program.map(|(pages, server)| listener.add(pages, server)).transpose()?;
            Ok(Self { addr, listener, program, stop })
        };
        bound().map_err(|source| {
            let message = format!("cannot listen on {address} (admin.listen)");
            Error::with_source(ErrorKind::Bind, message, source)
        })
    }

    /// Answers on threads that `spawn` starts by their names.
    ///
    /// # Errors
    /// Those of `spawn`.
    pub(crate) fn start(
        self,
        spawn: impl Fn(&str, Box<dyn FnOnce() + Send>) -> Result<JoinHandle<()>, Error>,
    ) -> Result<AdminThread, Error> {
        let Self { addr, listener, program, stop } = self;
        // Where the second thread cannot be started, dropping this ends the first.
        let mut thread = AdminThread { addr, stop, threads: Vec::new() };
        thread.threads.push(spawn("ringhook-admin", Box::new(|| listener.run()))?);
        if let Some(program) = program {
            thread.threads.push(spawn("ringhook-pages", Box::new(|| program.run()))?);
        }
        Ok(thread)
    }
}

impl AdminThread {
    /// The address that is listened on, with the port that was found where 0 was asked for.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A notice about the address.
    pub(crate) fn notice(&self) -> Option<String> {
        is_for_others(self.addr.ip()).then(|| {
            format!(
                "http://{} answers every client that can reach it, and /incidents shows addresses: \
                 bind admin.listen to loopback",
                self.addr
            )
        })
    }
}

impl AdminThread {
    /// Makes the threads end, and returns them to be joined.
    pub(crate) fn stop(mut self) -> Vec<JoinHandle<()>> {
        self.hang_up();
        mem::take(&mut self.threads)
    }

    fn hang_up(&self) {
        // Not only dropped: a child that was forked may hold a copy of it.
        let _ = self.stop.shutdown(Shutdown::Both);
    }
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        self.hang_up();
        let threads = mem::take(&mut self.threads);
        let _ = ended_by(threads, Instant::now() + END_WAIT, || false, || {});
    }
}

/// True where other hosts than this machine, or than its private network, can reach `ip`.
fn is_for_others(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_private() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unique_local() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_that_others_reach_is_noticed() {
        for ip in ["0.0.0.0", "::", "203.0.113.7", "2001:db8::1", "::ffff:0.0.0.0"] {
            assert!(is_for_others(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "fd00::1", "::ffff:127.0.0.1"] {
            assert!(!is_for_others(ip.parse().unwrap()), "{ip}");
        }
    }
}
