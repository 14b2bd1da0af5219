//! What an update costs in heap allocations once a server is warm: nothing, on any of its threads,
//! from the first byte on the wire to the update's being settled.
//!
//! The server is in this process, under an allocator that counts. Its client is another process,
//! this program started again. Where the count is not what it should be,
//! `RINGHOOK_ALLOCATIONS_TRACE=1` shows where the first ones come from.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/allocator.rs"]
mod allocator;
mod support;

use std::{
    env,
    io::{self, BufRead as _, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use allocator::of_process as allocations;
use ringhook::{Ack, DriverChoice, Journal, Listener, Outcome, Update};
use support::{TestServer, client, drivers, long, raw, request};

/// Connections that are open all the time, each with one request under way.
const CONNECTIONS: i64 = 24;
/// Updates that make the server warm, and those that are counted.
const WARM: i64 = 6_000;
/// So many are sent at a time, and settled before the next ones come: a worker that the kernel does
/// not run for long would have more and more under way, each in memory of its own.
const LOT: i64 = 500;
/// How many of the first ones wait for a handler that is held up: there is memory then for more
/// updates under way than there will be again.
const HELD: i64 = 700;
const COUNTED: i64 = 12_000;
/// Most allocations that go with them, far less than one for a thousand updates. They are those of
/// time and of files: the list of a segment's ids grows by doubling, the housekeeper's channel by
/// a block for each 31 orders. The window of known ids doubles twice, its list and its table.
const SPARE: u64 = 11 + 2 * 2;
/// With epoll, each connection may get its timer meanwhile, by which it lets the others go first.
const TIMERS: u64 = CONNECTIONS as u64;
/// Length of a body in bytes.
const LENGTHS: (i64, i64) = (300, 4_000);

/// With TLS or without.
const WAYS: [bool; 2] = [false, true];

/// One after the other: the count is of the whole process.
#[test]
fn an_update_costs_no_allocation() {
    if env::var_os("RINGHOOK_ALLOCATIONS_TRACE").is_some() {
        allocator::trace();
    }
    assert!(allocations(|| drop(thread::spawn(|| Box::new(1)).join())) > 0, "it counts");
    for driver in drivers() {
        for ack in [Ack::Memory, Ack::Written] {
            for is_tls in WAYS {
                let counted = counted(|server| server.driver(driver), ack, is_tls);
                eprintln!("{driver}, {ack}, TLS {is_tls}: {counted} in {COUNTED} updates");
                let timers = if driver == DriverChoice::Epoll { TIMERS } else { 0 };
                assert!(counted <= SPARE + timers, "{driver}, {ack}, TLS {is_tls}: {counted}");
            }
        }
    }
}

/// Allocations for [`COUNTED`] updates.
fn counted(
    change: impl FnOnce(ringhook::ServerBuilder) -> ringhook::ServerBuilder,
    ack: Ack,
    is_tls: bool,
) -> u64 {
    static HANDLED: AtomicU64 = AtomicU64::new(0);
    static IS_HELD: AtomicBool = AtomicBool::new(false);
    HANDLED.store(0, SeqCst);
    IS_HELD.store(true, SeqCst);
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::with(|server| {
        let mut listener = Listener::new("127.0.0.1:0".parse().unwrap());
        listener.tls = is_tls;
        let server = change(server).listener(listener).handler(|update: &Update| {
            while IS_HELD.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            let text = update.payload().and_then(|message| message.get("text")?.as_str());
            if text.is_some_and(|text| text.contains('\u{416}')) {
                HANDLED.fetch_add(1, SeqCst);
            }
            Outcome::Done
        });
        match ack {
            Ack::Memory => server,
            _ => {
                // So long that none is begun meanwhile, which takes memory for the files' names.
                let mut journal = Journal::at(dir.path(), ack);
                journal.segment_bytes = 512 << 20;
                server.journal(journal)
            }
        }
    });
    // The one that the test server always has comes first.
    let address = server.handle.local_addrs().last().unwrap();
    let mut sender = Sender::start(&address.to_string(), is_tls.then(|| server.pki.cert_file()));
    let settled = |updates: i64| {
        while HANDLED.load(SeqCst) < updates as u64 {
            thread::yield_now();
        }
    };
    sender.order(1, HELD);
    sender.wait();
    IS_HELD.store(false, SeqCst);
    settled(HELD);
    for first in (HELD..WARM).step_by(LOT as usize) {
        sender.order(1 + first, LOT.min(WARM - first));
        sender.wait();
        settled(WARM.min(first + LOT));
    }
    let counted = allocations(|| {
        for first in (WARM..WARM + COUNTED).step_by(LOT as usize) {
            sender.order(1 + first, LOT);
            sender.wait();
            settled(first + LOT);
        }
    });
    drop(sender);
    let (report, _) = server.stop();
    assert_eq!(report.updates_acknowledged, (WARM + COUNTED) as u64);
    counted
}

/// The other process.
struct Sender {
    answers: ChildStdout,
    child: Child,
    orders: ChildStdin,
}

impl Sender {
    fn start(address: &str, cert: Option<std::path::PathBuf>) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "the_sender", "--nocapture"]);
        command.env("RINGHOOK_ALLOCATIONS_ADDRESS", address);
        if let Some(cert) = cert {
            command.env("RINGHOOK_ALLOCATIONS_CERT", cert);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the sender");
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { answers, child, orders }
    }

    /// Has so many updates sent. Does not allocate, and neither does [`wait`](Self::wait).
    fn order(&mut self, first: i64, count: i64) {
        let mut order = [0_u8; 48];
        let mut rest = &mut order[..];
        writeln!(rest, "{first} {count}").unwrap();
        let left = rest.len();
        let written = order.len() - left;
        self.orders.write_all(order.get(..written).unwrap_or_default()).unwrap();
    }

    /// Returns when all are acknowledged.
    fn wait(&mut self) {
        let mut byte = [0];
        while byte != *b"!" {
            self.answers.read_exact(&mut byte).expect("the sender has ended");
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process does: for each line on its input, which names the first id and how many,
/// it sends them over its connections and says when all have been answered.
#[test]
#[ignore = "is started by the other test"]
fn the_sender() {
    let Ok(address) = env::var("RINGHOOK_ALLOCATIONS_ADDRESS") else { return };
    let config = env::var("RINGHOOK_ALLOCATIONS_CERT").ok().map(|path| {
        let cert = std::fs::read_to_string(path).unwrap();
        client::trusting(&cert, &[&rustls::version::TLS13])
    });
    let mut connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let socket = TcpStream::connect(&address).unwrap();
            socket.set_nodelay(true).unwrap();
            match &config {
                Some(config) => Way::Tls(Box::new(raw::tls(socket, config.clone()))),
                None => Way::Plain(raw::Raw::new(socket)),
            }
        })
        .collect();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (first, count) = line.split_once(' ').unwrap();
        let (first, count): (i64, i64) = (first.parse().unwrap(), count.parse().unwrap());
        thread::scope(|scope| {
            for (index, connection) in (0..).zip(&mut connections) {
                scope.spawn(move || {
                    for id in (first..first + count).skip(index).step_by(CONNECTIONS as usize) {
                        connection.post(&body(id));
                    }
                });
            }
        });
        print!("!");
        io::stdout().flush().unwrap();
    }
}

/// An update of some chat and length, the same for each id. Those that make warm are as long as
/// any, which every buffer has held sooner or later.
fn body(id: i64) -> String {
    let random = |modulus: i64| (id.wrapping_mul(0x5851_f42d_4c95_7f2d) >> 33).rem_euclid(modulus);
    let (shortest, longest) = LENGTHS;
    let length = match id {
        ..=WARM => longest,
        _ => shortest + random(longest - shortest),
    };
    long(random(40), id, length as usize)
}

/// A connection of the sender.
enum Way {
    Plain(raw::Raw<TcpStream>),
    Tls(Box<raw::Raw<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>>),
}

impl Way {
    fn post(&mut self, body: &str) {
        let request = request(body);
        let response = match self {
            Self::Plain(connection) => {
                connection.send(&request);
                connection.response()
            }
            Self::Tls(connection) => {
                connection.send(&request);
                connection.response()
            }
        };
        assert_eq!(response.status, 200);
    }
}
