//! A public way to a server that can be shut, as a router or a firewall does it.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rustix::net::{Shutdown as How, shutdown};

use super::port::Port;

/// Forwards connections while it is open. A shut one refuses them, and cuts those that there are.
pub(crate) struct Way {
    port: Port,
    /// Where it leads.
    to: Arc<Mutex<Option<SocketAddr>>>,
    open: Option<Open>,
}

struct Open {
    listener: Arc<TcpListener>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

impl Way {
    /// One that is shut, and leads nowhere yet.
    pub(crate) fn new() -> Self {
        Self { port: Port::reserve(), to: Arc::default(), open: None }
    }

    /// The address from outside.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr
    }

    pub(crate) fn lead_to(&self, addr: SocketAddr) {
        *self.to.lock().unwrap() = Some(addr);
    }

    pub(crate) fn open(&mut self) {
        self.shut();
        let listener = Arc::new(TcpListener::bind(self.port.addr).unwrap());
        let sockets = Arc::<Mutex<Vec<TcpStream>>>::default();
        let (accepts, kept, to) =
            (Arc::clone(&listener), Arc::clone(&sockets), Arc::clone(&self.to));
        let accepting = thread::spawn(move || {
            while let Ok((outside, _)) = accepts.accept() {
                let to = *to.lock().unwrap();
                let Some(inside) = to.and_then(|to| TcpStream::connect(to).ok()) else { continue };
                let mut sockets = kept.lock().unwrap();
                for (from, to) in [(&outside, &inside), (&inside, &outside)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    sockets.push(from.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        self.open = Some(Open { listener, sockets, accepting });
    }

    pub(crate) fn shut(&mut self) {
        let Some(Open { listener, sockets, accepting }) = self.open.take() else { return };
        let _ = shutdown(&*listener, How::Both);
        accepting.join().unwrap();
        drop(listener);
        for socket in sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.shut();
    }
}
