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
//! | `pages` | the pages by path |
//! | `requests` | the last requests as JSON |
//! | `answer` | the bytes of an answer |

mod answer;
mod listener;
mod pages;
mod requests;
mod visitor;

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use self::listener::Listener;
pub(crate) use self::pages::Pages;
use crate::{
    control::ended_by,
    error::{Error, ErrorKind},
};

/// How long a start that fails waits for the thread.
const END_WAIT: Duration = Duration::from_secs(1);

/// The listener, bound and not running yet.
#[derive(Debug)]
pub(crate) struct AdminListener {
    addr: SocketAddr,
    listener: Listener,
    stop: UnixStream,
}

/// The running thread. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct AdminThread {
    addr: SocketAddr,
    /// The thread ends when it sees the hang-up.
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl AdminListener {
    /// Listens on `address`, to show `pages`.
    ///
    /// # Errors
    /// A [`Bind`](ErrorKind::Bind) error.
    pub(crate) fn bind(address: SocketAddr, pages: Pages) -> Result<Self, Error> {
        let bound = || -> io::Result<_> {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let addr = listener.local_addr()?;
            let (stop, stopped) = UnixStream::pair()?;
            Ok(Self { addr, listener: Listener::new(listener, stopped, pages), stop })
        };
        bound().map_err(|source| {
            let message = format!("cannot listen on {address} (admin.listen)");
            Error::with_source(ErrorKind::Bind, message, source)
        })
    }

    /// Answers on a thread that `spawn` starts.
    ///
    /// # Errors
    /// Those of `spawn`.
    pub(crate) fn start(
        self,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> Result<JoinHandle<()>, Error>,
    ) -> Result<AdminThread, Error> {
        let Self { addr, listener, stop } = self;
        let thread = spawn(Box::new(|| listener.run()))?;
        Ok(AdminThread { addr, stop, thread: Some(thread) })
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
    /// Makes the thread end, and returns it to be joined.
    pub(crate) fn stop(mut self) -> Vec<JoinHandle<()>> {
        self.hang_up();
        self.thread.take().into_iter().collect()
    }

    fn hang_up(&self) {
        // Not only dropped: a child that was forked may hold a copy of it.
        let _ = self.stop.shutdown(Shutdown::Both);
    }
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        self.hang_up();
        let thread = self.thread.take().into_iter().collect();
        let _ = ended_by(thread, Instant::now() + END_WAIT, || false, || {});
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
