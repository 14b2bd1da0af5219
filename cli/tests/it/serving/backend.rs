//! Bots behind HTTP that do with each request what a test has planned.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde::Deserialize;

use crate::support::port::Port;

/// What is done with a request.
pub(crate) enum Does {
    Answer(u16),
    /// Answers with 200, but not before [`Backends::release`].
    Hold,
    /// Takes it, and ends the connection without an answer.
    HangUp,
}

type Plan = Box<dyn Fn(u64) -> Does + Send + Sync>;

/// Several bots at ports of their own, which come and go, with one plan and one record.
pub(crate) struct Backends {
    places: Vec<Place>,
    shared: Arc<Shared>,
}

struct Place {
    port: Port,
    life: Option<Life>,
}

/// One bot from its start to its end.
struct Life {
    acceptor: JoinHandle<()>,
    connections: Arc<Mutex<Vec<Weak<TcpStream>>>>,
    listener: Arc<TcpListener>,
}

struct Shared {
    plan: Plan,
    record: Mutex<Record>,
    gate: Condvar,
    connected: AtomicUsize,
}

/// Numbers of bots and ids of updates, in the order in which they came.
#[derive(Default)]
struct Record {
    got: Vec<(usize, u64)>,
    /// Those that were answered with 2xx.
    taken: Vec<(usize, u64)>,
    held: usize,
    is_released: bool,
}

#[derive(Deserialize)]
struct Body {
    update_id: u64,
}

impl Backends {
    /// `count` bots that are not started yet. `plan` gets the id of each update.
    pub(crate) fn new(count: usize, plan: impl Fn(u64) -> Does + Send + Sync + 'static) -> Self {
        let place = |_| Place { port: Port::reserve(), life: None };
        let shared = Shared {
            plan: Box::new(plan),
            record: Mutex::default(),
            gate: Condvar::new(),
            connected: AtomicUsize::new(0),
        };
        Self { places: (0..count).map(place).collect(), shared: Arc::new(shared) }
    }

    /// `to` of an output that goes to all of them.
    pub(crate) fn to(&self) -> String {
        let url = |place: &Place| format!("'http://{}/'", place.port.addr);
        format!("[{}]", self.places.iter().map(url).collect::<Vec<_>>().join(", "))
    }

    pub(crate) fn start(&mut self, number: usize) {
        let place = &mut self.places[number];
        assert!(place.life.is_none(), "bot {number} runs");
        let listener = Arc::new(TcpListener::bind(place.port.addr).unwrap());
        let connections = Arc::<Mutex<Vec<Weak<TcpStream>>>>::default();
        let (accepts, kept) = (Arc::clone(&listener), Arc::clone(&connections));
        let shared = Arc::clone(&self.shared);
        let acceptor = thread::spawn(move || {
            // An end of the listener is an error.
            while let Ok((stream, _)) = accepts.accept() {
                let stream = Arc::new(stream);
                kept.lock().unwrap().push(Arc::downgrade(&stream));
                shared.connected.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                // There may be thousands.
                let thread = thread::Builder::new().stack_size(128 * 1024);
                thread.spawn(move || shared.serve(number, &stream)).unwrap();
            }
        });
        place.life = Some(Life { acceptor, connections, listener });
    }

    /// Ends one as a service is stopped: what it has got it answers, and it gets nothing more.
    pub(crate) fn stop(&mut self, number: usize) {
        self.end(number, Shutdown::Read);
    }

    /// Ends one at once.
    pub(crate) fn kill(&mut self, number: usize) {
        self.end(number, Shutdown::Both);
    }

    fn end(&mut self, number: usize, how: Shutdown) {
        let Life { acceptor, connections, listener } = self.places[number].life.take().unwrap();
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        acceptor.join().unwrap();
        drop(listener);
        for connection in connections.lock().unwrap().iter().filter_map(Weak::upgrade) {
            // It may have ended by itself.
            let _ = connection.shutdown(how);
        }
    }

    /// How many connections there have been.
    pub(crate) fn connected(&self) -> usize {
        self.shared.connected.load(Ordering::SeqCst)
    }

    /// Each request: the number of the bot and the id of the update, in the order of all.
    pub(crate) fn got(&self) -> Vec<(usize, u64)> {
        self.shared.record.lock().unwrap().got.clone()
    }

    /// Those that were answered with 2xx.
    pub(crate) fn taken(&self) -> Vec<(usize, u64)> {
        self.shared.record.lock().unwrap().taken.clone()
    }

    pub(crate) fn taken_count(&self) -> usize {
        self.shared.record.lock().unwrap().taken.len()
    }

    /// Requests that wait for their answer.
    pub(crate) fn held(&self) -> usize {
        self.shared.record.lock().unwrap().held
    }

    /// Lets all that is held go, now and later.
    pub(crate) fn release(&self) {
        self.shared.record.lock().unwrap().is_released = true;
        self.shared.gate.notify_all();
    }
}

/// No thread waits for ever.
impl Drop for Backends {
    fn drop(&mut self) {
        self.release();
        for number in 0..self.places.len() {
            if self.places[number].life.is_some() {
                self.kill(number);
            }
        }
    }
}

impl Shared {
    fn serve(&self, number: usize, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(id) = request(&mut reader) {
            self.record.lock().unwrap().got.push((number, id));
            let status = match (self.plan)(id) {
                Does::Answer(status) => status,
                Does::Hold => self.hold(),
                Does::HangUp => break,
            };
            if (200..300).contains(&status) {
                self.record.lock().unwrap().taken.push((number, id));
            }
            let mut answers = stream;
            let answer = format!("HTTP/1.1 {status} Some\r\nContent-Length: 0\r\n\r\n");
            if answers.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn hold(&self) -> u16 {
        let mut record = self.record.lock().unwrap();
        record.held += 1;
        record = self.gate.wait_while(record, |record| !record.is_released).unwrap();
        record.held -= 1;
        200
    }
}

/// The id of the update in the next request; `None` at the end.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<u64> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        head.clear();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = head.trim_end().to_ascii_lowercase();
        match line.strip_prefix("content-length: ") {
            Some(value) => length = value.parse().unwrap(),
            None if line.is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice::<Body>(&body).unwrap().update_id)
}
