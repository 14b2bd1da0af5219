//! The table over TLS sockets, as a client meets it: whole, with a successor in the same record, as
//! two records cut at each byte, and as one record whose bytes come in two segments, cut at each
//! byte likewise.
//!
//! An exchange is one entry sent once. Where the connection stays the next exchange of the entry
//! goes over it, too, so what an answer leaves behind would be noticed; where it closes, the next
//! one resumes the session of the last.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use ringhook::{DriverChoice, Limits, Outcome, Server, TlsConfig, Update};
use rustls::{
    ClientConfig,
    version::{TLS12, TLS13},
};

use super::{
    BODY_BYTES, HEAD_BYTES, bots,
    entry::{Entry, SUCCESSOR, Then, id},
    table,
};

use crate::support::{
    self,
    client::{self, Client},
    pki::Pki,
};

/// Threads that send. Each waits most of the time, for the server or for a processor.
const SENDERS: usize = 8;
/// Failures after which the rest would say nothing new.
const FAILURES: usize = 20;

/// How an entry is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// In one record.
    Whole,
    /// In one record with a good request behind it.
    Coalesced,
    /// In two records with a segment of its own each.
    Records(usize),
    /// In one record that comes in two segments.
    Segments(usize),
}

/// An answer, as far as it matters here.
#[derive(Debug)]
struct Answer {
    status: u16,
    fields: BTreeMap<String, String>,
}

/// One TLS connection and the bytes of answers that were not looked at yet.
struct Connection {
    client: Client,
    unread: Vec<u8>,
}

impl Connection {
    fn open(addr: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let client = Client::connect_with(addr, Arc::clone(config));
        Self { client, unread: Vec::new() }
    }

    /// Sends `bytes` as `way` says; false where there is no such cut.
    fn send(&mut self, way: Way, bytes: &[u8]) -> Result<bool, String> {
        let session = &mut self.client.stream.conn;
        let mut record = |bytes: &[u8]| {
            session.writer().write_all(bytes).unwrap();
            let mut record = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut record).unwrap();
            }
            record
        };
        let segments = match way {
            Way::Whole | Way::Coalesced => vec![record(bytes)],
            Way::Records(cut) => match bytes.split_at_checked(cut) {
                Some((first, second @ [_, ..])) => vec![record(first), record(second)],
                _ => return Ok(false),
            },
            Way::Segments(cut) => {
                let mut first = record(bytes);
                if cut >= first.len() {
                    // Sent all the same: a record cannot be left out.
                    self.client.stream.sock.write_all(&first).map_err(|e| e.to_string())?;
                    return Ok(false);
                }
                let second = first.split_off(cut);
                vec![first, second]
            }
        };
        for segment in segments {
            let written = self.client.stream.sock.write_all(&segment);
            written.map_err(|error| format!("cannot be sent: {error}"))?;
        }
        Ok(true)
    }

    /// The next answer; `None` where the connection ends instead.
    fn answer(&mut self) -> Result<Option<Answer>, String> {
        loop {
            if let Some(answer) = self.unread_answer()? {
                return Ok(Some(answer));
            }
            let mut chunk = [0; 1024];
            match self.client.stream.read(&mut chunk) {
                Ok(0) if self.unread.is_empty() => return Ok(None),
                Ok(0) => return Err(format!("the end in an answer: {:?}", self.unread)),
                Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err("FIN without close_notify".to_owned());
                }
                Err(error) => return Err(format!("no answer: {error}")),
            }
        }
    }

    fn unread_answer(&mut self) -> Result<Option<Answer>, String> {
        let mut slots = [httparse::EMPTY_HEADER; 8];
        let mut head = httparse::Response::new(&mut slots);
        let parsed = head.parse(&self.unread);
        let parsed = parsed.map_err(|error| format!("{error}: {:?}", self.unread))?;
        let httparse::Status::Complete(length) = parsed else { return Ok(None) };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let fields = head.headers.iter();
        let fields: BTreeMap<_, _> =
            fields.map(|field| (field.name.to_lowercase(), text(field.value))).collect();
        if fields.len() != head.headers.len() {
            return Err(format!("a field twice: {:?}", text(&self.unread)));
        }
        let status = head.code.unwrap();
        self.unread.drain(..length);
        Ok(Some(Answer { status, fields }))
    }

    /// The next final answer; an invitation before it is read where there may be one.
    fn final_answer(&mut self, may_invite: bool) -> Result<Answer, String> {
        let gone = || "the connection ends instead of an answer".to_owned();
        let mut answer = self.answer()?.ok_or_else(gone)?;
        if may_invite && answer.status == 100 {
            answer = self.answer()?.ok_or_else(gone)?;
        }
        Ok(answer)
    }

    /// close_notify, then FIN, and nothing else before, between or behind.
    fn assert_clean_end(&mut self) -> Result<(), String> {
        if let Some(answer) = self.answer()? {
            return Err(format!("an answer too many: {answer:?}"));
        }
        match self.client.stream.sock.read(&mut [0; 1]) {
            Ok(0) => {}
            other => return Err(format!("not FIN, but {other:?}")),
        }
        match self.client.stream.sock.take_error() {
            Ok(None) => Ok(()),
            other => Err(format!("RST: {other:?}")),
        }
    }
}

/// What all senders share.
struct Trial {
    addr: SocketAddr,
    table: Vec<Entry>,
    /// Entry and way that come next.
    next: AtomicUsize,
    serial: AtomicI64,
    failures: Mutex<Vec<String>>,
    /// The ids that the handler has to get, once each, and what they are about.
    expected: Mutex<BTreeMap<i64, String>>,
    exchanges: AtomicUsize,
    connections: AtomicUsize,
}

/// One sender's state.
struct Sender<'a> {
    trial: &'a Trial,
    config: Arc<ClientConfig>,
    connection: Option<Connection>,
    expected: BTreeMap<i64, String>,
}

impl Sender<'_> {
    /// Sends `entry` once and looks at all that comes of it; false where there is no such cut.
    fn exchange(&mut self, entry: &Entry, way: Way) -> Result<bool, String> {
        let trial = self.trial;
        let serial = trial.serial.fetch_add(1, Ordering::Relaxed);
        let mut bytes = entry.bytes_of(serial);
        // Where nothing is answered, only what comes behind it shows that the connection stayed.
        let with_successor =
            way == Way::Coalesced || entry.then == Then::Stays && entry.answers.is_empty();
        if with_successor {
            bytes.extend(Entry::successor(serial));
        }
        let mut connection = self.connection.take().unwrap_or_else(|| {
            trial.connections.fetch_add(1, Ordering::Relaxed);
            Connection::open(trial.addr, &self.config)
        });
        let is_cut = connection.send(way, &bytes)?;
        trial.exchanges.fetch_add(1, Ordering::Relaxed);
        let is_last = |index: usize| index + 1 == entry.answers.len();
        for (index, status) in entry.answers.iter().enumerate() {
            let answer = connection.final_answer(entry.invited && index == 0)?;
            let closes = entry.then == Then::Closes && is_last(index);
            check(&answer, *status, closes, &bytes)?;
        }
        let mut taken = entry.taken.to_vec();
        if with_successor && entry.successor_is_answered() == Some(true) {
            check(&connection.final_answer(false)?, 200, false, b"")?;
            taken.push(SUCCESSOR);
        }
        for last in taken {
            self.expected.insert(id(serial, last), format!("{} {way:?}", entry.name));
        }
        match entry.then {
            Then::Stays => self.connection = Some(connection),
            Then::Closes => connection.assert_clean_end()?,
            Then::Waits => {
                connection.client.stream.sock.shutdown(Shutdown::Write).unwrap();
                if let Some(answer) = connection.answer().or_else(ended)? {
                    return Err(format!("an answer to a part of a request: {answer:?}"));
                }
            }
        }
        Ok(is_cut)
    }

    /// All ways of one entry that `part` of them takes.
    fn run(&mut self, entry: &Entry, part: Part) -> Result<(), String> {
        let mut exchange = |way| {
            let about = |error| format!("{} ({}), {way:?}: {error}", entry.name, entry.rule);
            self.exchange(entry, way).map_err(about)
        };
        match part {
            Part::Uncut => {
                exchange(Way::Whole)?;
                if entry.successor_is_answered().is_some() {
                    exchange(Way::Coalesced)?;
                }
            }
            Part::Records => {
                let mut cut = 1;
                while cut < entry.bytes.len() && exchange(Way::Records(cut))? {
                    cut += 1;
                }
            }
            Part::Segments => {
                let mut cut = 1;
                while exchange(Way::Segments(cut))? {
                    cut += 1;
                }
            }
        }
        Ok(())
    }
}

/// A connection cut in the middle of a request may end without close_notify.
fn ended(error: String) -> Result<Option<Answer>, String> {
    if error.starts_with("FIN") { Ok(None) } else { Err(error) }
}

/// Some of the ways of an entry.
#[derive(Clone, Copy, Debug)]
enum Part {
    Uncut,
    Records,
    Segments,
}

/// Asserts that an answer says what it has to, and no more.
fn check(answer: &Answer, status: u16, closes: bool, request: &[u8]) -> Result<(), String> {
    let field = |name: &str| answer.fields.get(name).map(String::as_str);
    // To be told is the right of who asked in HTTP/1.0.
    let is_old = request.windows(8).any(|window| window == b"HTTP/1.0");
    let connection = match (closes, is_old) {
        (true, _) => Some("close"),
        (false, true) => Some("keep-alive"),
        (false, false) => None,
    };
    let is_good = answer.status == status
        && field("content-length") == Some("0")
        && field("connection") == connection
        && field("allow") == (status == 405).then_some("POST")
        && field("accept-encoding") == (status == 415).then_some("identity")
        && field("transfer-encoding").is_none();
    if is_good { Ok(()) } else { Err(format!("not {status} with {connection:?}: {answer:?}")) }
}

/// Sends the whole table to a server on `driver`, of each entry what `parts` say.
fn run(driver: DriverChoice, parts: &[Part]) {
    let pki = Pki::ecdsa();
    let handled = Arc::new(Mutex::new(BTreeMap::<i64, usize>::new()));
    let counts = Arc::clone(&handled);
    let mut limits = Limits::default();
    limits.head_bytes = HEAD_BYTES;
    limits.body_bytes = BODY_BYTES;
    // On a machine that stands still for a while no client is to get 408.
    limits.handshake_timeout = Duration::from_secs(60);
    limits.head_timeout = Duration::from_secs(60);
    limits.body_timeout = Duration::from_secs(60);
    limits.body_bytes_per_second = 0;
    limits.answer_timeout = Duration::from_secs(60);
    let mut server = Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .tls(TlsConfig::from_pem(pki.cert.as_bytes(), pki.key.as_bytes()).unwrap())
        .driver(driver)
        .limits(limits)
        .handler(move |update: &Update| {
            *counts.lock().unwrap().entry(update.id().get()).or_default() += 1;
            Outcome::Done
        });
    for bot in bots() {
        server = server.bot(bot);
    }
    let server = server.start().unwrap();
    let trial = Trial {
        addr: server.local_addr().unwrap(),
        table: table(),
        next: AtomicUsize::new(0),
        serial: AtomicI64::new(1),
        failures: Mutex::default(),
        expected: Mutex::default(),
        exchanges: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
    };
    let send = |versions: &[_]| {
        let config = client::config(&pki, versions);
        let mut sender =
            Sender { trial: &trial, config, connection: None, expected: BTreeMap::new() };
        while trial.failures.lock().unwrap().len() < FAILURES {
            let next = trial.next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = trial.table.get(next / parts.len()) else { break };
            if let Err(failure) = sender.run(entry, parts[next % parts.len()]) {
                trial.failures.lock().unwrap().push(failure);
                // The next entry is not to suffer from this one's connection.
                sender.connection = None;
            }
        }
        trial.expected.lock().unwrap().append(&mut sender.expected);
    };
    thread::scope(|scope| {
        for index in 0..SENDERS {
            let version = if index % 2 == 0 { &TLS13 } else { &TLS12 };
            let send = &send;
            scope.spawn(move || send(&[version]));
        }
    });
    let failures = trial.failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{driver}: {failures:#?}");
    server.stop();
    let handled = handled.lock().unwrap();
    let expected = trial.expected.into_inner().unwrap();
    for (id, about) in &expected {
        assert_eq!(handled.get(id), Some(&1), "{driver}: update {id} of {about}");
    }
    let surplus: Vec<_> = handled.keys().filter(|id| !expected.contains_key(id)).collect();
    assert!(surplus.is_empty(), "{driver}: these were never to be handled: {surplus:?}");
    println!(
        "{driver}: {} entries, {} exchanges over {} connections, {} updates",
        trial.table.len(),
        trial.exchanges.into_inner(),
        trial.connections.into_inner(),
        expected.len()
    );
}

/// Cut at each byte on the first driver there is; on the others whole and coalesced, since what
/// differs between them lies below the bytes.
#[test]
fn each_entry_is_answered_on_the_wire_as_the_table_says() {
    for (index, driver) in support::drivers().into_iter().enumerate() {
        let parts = [Part::Uncut, Part::Records, Part::Segments];
        run(driver, if index == 0 { &parts } else { &parts[..1] });
    }
}
