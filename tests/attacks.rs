//! Attackers that hold connections by being slow, thousands at once: the service goes on, nothing
//! is lost, and each of them is ended by the timeout that is meant for it.
//!
//! How late updates are meanwhile is measured by `loadtest/compare/slowloris.sh`.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use loadtest::{Options, Rate, Stop, Trust};
use ringhook::{Limits, report::CloseReason};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use support::{PATH, SECRET, TestServer, client, crowd, update, wait_until};

const ATTACKERS: usize = 5_000;
/// Those that never read: they cost the server work, since it answers until the buffers are full,
/// and on the loopback interface a socket holds more than a megabyte.
const NEVER_READ: usize = 10;
/// Updates a second, and for how long.
const RATE: f64 = 1_000.0;
const SECONDS: u64 = 8;

#[derive(Clone, Copy, Debug)]
enum Attack {
    /// A head, byte by byte.
    Head,
    /// A body, byte by byte.
    Body,
    /// A ClientHello, byte by byte.
    Hello,
    /// Requests, and no eye for the answers.
    NeverRead,
}

/// One connection, with what it still has to say.
struct Attacker {
    attack: Attack,
    session: Option<ClientConnection>,
    socket: TcpStream,
    said: usize,
}

/// Tells the attackers that it is over when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Attacker {
    fn over((mut session, socket): (ClientConnection, TcpStream), attack: Attack) -> Self {
        session.set_buffer_limit(None);
        if matches!(attack, Attack::NeverRead) {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        Self { attack, session: Some(session), socket, said: 0 }
    }

    fn hello(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { attack: Attack::Hello, session: None, socket, said: 0 }
    }

    /// Says the next byte. Whether the peer still reads shows in the server's counters.
    fn drip(&mut self, hello: &[u8]) {
        if self.session.as_ref().is_some_and(|session| session.wants_write()) {
            // What was said before has not even left.
            let session = self.session.as_mut().unwrap();
            while session.wants_write() && session.write_tls(&mut self.socket).is_ok() {}
            return;
        }
        let bytes = match self.attack {
            Attack::Head if self.said == 0 => b"POST / HTTP/1.1\r\nX: ".to_vec(),
            Attack::Head => vec![b'x'],
            Attack::Body if self.said == 0 => format!(
                "POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Telegram-Bot-Api-Secret-Token: {SECRET}\r\n\
                 Content-Length: 500000\r\n\r\n"
            )
            .into_bytes(),
            Attack::Body => vec![b' '],
            Attack::Hello => hello.get(self.said..=self.said).unwrap_or_default().to_vec(),
            Attack::NeverRead => b"GET /absent HTTP/1.1\r\nHost: a\r\n\r\n".repeat(8_000),
        };
        self.said += 1;
        match &mut self.session {
            None => {
                let _ = self.socket.write(&bytes);
            }
            Some(session) => {
                session.writer().write_all(&bytes).unwrap();
                while session.wants_write() && session.write_tls(&mut self.socket).is_ok() {}
            }
        }
    }
}

/// What a client says first.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut bytes = Vec::new();
    let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn thousands_of_slow_connections_hold_up_no_client() {
    let attackers = crowd::room_for(ATTACKERS, 2);
    let slow = (attackers - NEVER_READ) / 3;
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_secs(4);
    limits.body_timeout = Duration::from_secs(60);
    limits.body_grace = Duration::from_secs(3);
    limits.answer_timeout = Duration::from_secs(4);
    limits.handshake_timeout = Duration::from_secs(10);
    // Those that are connected wait for the others, so that all begin at once.
    limits.idle_timeout = Duration::from_secs(300);
    let server = TestServer::with(|server| server.limits(limits));
    let addr = server.handle.local_addr().unwrap();
    let config = client::config(&server.pki, rustls::ALL_VERSIONS);

    let start = Instant::now();
    let sessions = crowd::connect(2 * slow + NEVER_READ, addr, &config);
    let kinds = [(Attack::Head, slow), (Attack::Body, slow), (Attack::NeverRead, NEVER_READ)];
    let kinds = kinds.into_iter().flat_map(|(attack, count)| std::iter::repeat_n(attack, count));
    let sessions = sessions.into_iter().zip(kinds);
    let mut crowd: Vec<_> = sessions.map(|(over, attack)| Attacker::over(over, attack)).collect();
    eprintln!("{} connections after {:?}", crowd.len(), start.elapsed());

    let mut options = Options::new(server.url().parse().unwrap());
    options.rate = Rate::PerSecond(RATE);
    options.stop = Stop::After(Duration::from_secs(SECONDS));
    options.secret_token = Some(SECRET.to_owned());
    options.trust = Trust::pem(server.pki.cert.as_bytes()).unwrap();
    let is_over = AtomicBool::new(false);
    let loaded = thread::scope(|scope| {
        // However this ends, the attackers end with it.
        let _end = End(&is_over);
        let is_over = &is_over;
        let load = scope.spawn(|| loadtest::run(&options).unwrap());
        scope.spawn(move || {
            let hello = hello(&config);
            crowd.extend((0..slow).map(|_| Attacker::hello(addr)));
            while !is_over.load(Ordering::Relaxed) {
                let began_at = Instant::now();
                crowd.iter_mut().for_each(|attacker| attacker.drip(&hello));
                // A byte a second is the attack.
                thread::sleep(Duration::from_secs(1).saturating_sub(began_at.elapsed()));
            }
        });
        // In the middle of it, a new client is served as well.
        let half = RATE as usize * SECONDS as usize / 2;
        wait_until("half of the updates are there", || server.handled.len() >= half);
        assert_eq!(server.connect().post(&update(-1)).status, 200);
        let loaded = load.join().unwrap();
        let expected: BTreeMap<_, _> = [
            ("body_rate", slow as u64),
            // A client that never reads is closed for either, as buffers happen to hold half a
            // request or not.
            ("head or answer", (slow + NEVER_READ) as u64),
            // Those that are slow while others wait are cut off before their time.
            ("handshake", slow as u64),
        ]
        .into();
        let closed = || {
            let closed = server.handle.report().connections_closed;
            let of = |reason| closed.get(&reason).copied().unwrap_or_default();
            BTreeMap::from([
                ("body_rate", of(CloseReason::BodyRate)),
                ("head or answer", of(CloseReason::HeadTimeout) + of(CloseReason::AnswerTimeout)),
                (
                    "handshake",
                    of(CloseReason::HandshakeTimeout) + of(CloseReason::HandshakeDisplaced),
                ),
            ])
        };
        let start = Instant::now();
        while closed() != expected {
            assert!(start.elapsed() < support::PATIENCE, "{:?} of {expected:?}", closed());
            thread::sleep(Duration::from_millis(100));
        }
        loaded
    });
    assert!(loaded.is_ok(), "{loaded}");
    assert_eq!(loaded.acknowledged, RATE as u64 * SECONDS);
    // Each of them was opened once and never lost.
    assert_eq!(loaded.connections, options.connections as u64, "{loaded}");
    let sent = usize::try_from(loaded.acknowledged).unwrap() + 1;
    wait_until("all are handled", || server.handled.len() >= sent);
    let (report, handled) = server.stop();
    assert_eq!(handled.counts().len(), sent, "each once");
    assert_eq!(handled.len(), sent, "none twice");
    let told = 2 * slow as u64..=(2 * slow + NEVER_READ) as u64;
    assert!(told.contains(&report.requests_rejected[&408]), "{report}");
}
