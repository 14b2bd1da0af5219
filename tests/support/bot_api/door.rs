//! The port, and whether connections are accepted.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::{Shutdown as How, shutdown};

use super::{answer::Answer, http::Requests, methods::Service};
use crate::support::port::Port;

/// How a server can be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Reachable {
    Yes,
    /// Connections are refused, and those there were end.
    Refused,
    /// As behind a proxy whose server is away: every call is answered with 502 and HTML, and does
    /// nothing.
    BadGateway,
    /// Calls are read and not answered while this lasts, and are lost.
    Silent,
}

pub(super) struct Door {
    port: Port,
    service: Arc<Service>,
    how: Arc<AtomicU8>,
    /// Calls that were read and not answered.
    silenced: Arc<AtomicUsize>,
    open: Mutex<Option<Open>>,
}

/// While connections are accepted.
struct Open {
    listener: Arc<TcpListener>,
    connections: Connections,
    accepting: JoinHandle<()>,
}

type Connections = Arc<Mutex<BTreeMap<u64, TcpStream>>>;

impl Door {
    pub(super) fn open(service: Arc<Service>) -> Self {
        let how = Arc::new(AtomicU8::new(Reachable::Yes as u8));
        let (port, silenced) = (Port::reserve(), Arc::default());
        let door = Self { port, service, how, silenced, open: Mutex::default() };
        door.set(Reachable::Yes);
        door
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.port.addr
    }

    pub(super) fn silenced(&self) -> usize {
        self.silenced.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, how: Reachable) {
        self.how.store(how as u8, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        if how == Reachable::Refused {
            if let Some(open) = open.take() {
                open.close();
            }
        } else if open.is_none() {
            *open = Some(self.listen());
        }
    }

    fn listen(&self) -> Open {
        let listener = Arc::new(TcpListener::bind(self.port.addr).expect("the port is reserved"));
        let connections = Connections::default();
        let (accepted, all) = (Arc::clone(&listener), Arc::clone(&connections));
        let (service, how) = (Arc::clone(&self.service), Arc::clone(&self.how));
        let silenced = Arc::clone(&self.silenced);
        let accepting = thread::spawn(move || {
            // Fails once the listener is shut down.
            for number in 0.. {
                let Ok((socket, _)) = accepted.accept() else { return };
                all.lock().unwrap().insert(number, socket.try_clone().unwrap());
                let all = Arc::clone(&all);
                let (service, how) = (Arc::clone(&service), Arc::clone(&how));
                let silenced = Arc::clone(&silenced);
                thread::spawn(move || {
                    serve(&socket, &service, &how, &silenced);
                    all.lock().unwrap().remove(&number);
                });
            }
        });
        Open { listener, connections, accepting }
    }
}

impl Open {
    fn close(self) {
        // Wakes the thread that accepts; the port refuses from here on.
        shutdown(&*self.listener, How::Both).unwrap();
        let _ = self.accepting.join();
        for socket in self.connections.lock().unwrap().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn serve(socket: &TcpStream, service: &Service, how: &AtomicU8, silenced: &AtomicUsize) {
    let _ = socket.set_nodelay(true);
    let mut requests = Requests::new(socket);
    while let Some(request) = requests.next() {
        let is = |wanted: Reachable| how.load(Ordering::SeqCst) == wanted as u8;
        let is_last = request.is_last();
        if is(Reachable::Silent) {
            silenced.fetch_add(1, Ordering::SeqCst);
            while is(Reachable::Silent) {
                thread::sleep(Duration::from_millis(10));
            }
            break;
        }
        let answer =
            if is(Reachable::BadGateway) { Answer::bad_gateway() } else { service.answer(request) };
        let mut out = socket;
        if out.write_all(&answer.bytes()).is_err() || is_last {
            break;
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
}
