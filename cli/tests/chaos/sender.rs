//! Telegram's side, by the rules of its sender, ten times as fast.
//!
//! One update of a chat is on its way at a time, and one request on a connection. What fails comes
//! again after 0, 2, 4, 8, 16, 32 s and then after 60 s, or after `Retry-After`, and its chat waits
//! for it. Connecting, an answer and being idle may take 60 s. Who has had no success for 10 s
//! makes one new connection in 2 s, else ten at once and 20 a second.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{
    ledger::{CHATS, Ledger, chat_of, id_of},
    proxy::is_timeout,
};

use crate::support::{
    client::{Response, parse},
    raw, request_to,
};

/// How much faster everything is.
const SCALE: u32 = 10;
/// For connecting, an answer, and being idle.
pub(crate) const TIMER: Duration = Duration::from_secs(60 / SCALE as u64);
const ACTIVE: Duration = Duration::from_secs(10 / SCALE as u64);
const NEW_WHILE_PENDING: Duration = Duration::from_millis(2000 / SCALE as u64);
/// A new one in so much time, or ten of them at once. This is not scaled: connections cost the
/// server the same whatever the time.
const NEW_WHILE_ACTIVE: Duration = Duration::from_millis(50);
const BURST: u32 = 10;
/// Connections of a bot at the most.
const CONNECTIONS: usize = 8;
/// Updates of a bot that wait; no more are made meanwhile.
const WAITING: u64 = 1500;
/// Text of each message, which must not be in the log.
pub(crate) const TEXT: &str = "meet me at the bridge";

/// A bot as the sender knows it.
pub(crate) struct Bot {
    pub(crate) path: &'static str,
    pub(crate) secret: &'static str,
    index: usize,
    chats: Mutex<Chats>,
    pacer: Mutex<ConnectPacer>,
    /// Updates that were made.
    made: AtomicU64,
}

struct Chats {
    chats: Vec<Chat>,
    next: usize,
    waiting: u64,
}

#[derive(Default)]
struct Chat {
    updates: VecDeque<u64>,
    is_busy: bool,
    failures: u32,
    not_before: Option<Instant>,
}

/// A status that is no fault of the server for some time.
#[derive(Default)]
struct Excused {
    current: Option<u16>,
    /// Those of before, and when each was withdrawn.
    withdrawn: Vec<(u16, Instant)>,
}

/// When a new connection may be made.
struct ConnectPacer {
    success: Option<Instant>,
    /// When there was, or will be, room for one more.
    next: Instant,
}

/// All bots' senders.
pub(crate) struct Senders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    bots: Vec<Bot>,
    ledger: Arc<Ledger>,
    config: Arc<ClientConfig>,
    to: SocketAddr,
    /// No update is made.
    is_dry: AtomicBool,
    /// No request is begun, and no connection kept.
    is_paused: AtomicBool,
    excused: Mutex<Excused>,
    is_over: AtomicBool,
    busy: AtomicUsize,
}

impl Senders {
    /// Sends `rate` updates a second for each of `bots`, by path and secret.
    pub(crate) fn start(
        bots: &[(&'static str, &'static str)],
        rate: u32,
        to: SocketAddr,
        config: Arc<ClientConfig>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let bots =
            bots.iter().enumerate().map(|(index, (path, secret))| Bot::new(index, path, secret));
        let shared = Arc::new(Shared {
            bots: bots.collect(),
            ledger,
            config,
            to,
            is_dry: AtomicBool::new(true),
            is_paused: AtomicBool::new(true),
            excused: Mutex::default(),
            is_over: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
        });
        let mut threads = Vec::new();
        let source = Arc::clone(&shared);
        threads.push(thread::spawn(move || source.make(rate)));
        for index in 0..shared.bots.len() * CONNECTIONS {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || shared.connection(index / CONNECTIONS)));
        }
        Self { shared, threads }
    }

    /// Sends, or stops sending and closes all connections; what is under way comes to its end.
    pub(crate) fn pause(&self, pause: bool) {
        self.shared.is_paused.store(pause, Relaxed);
    }

    /// Makes new updates, or none.
    pub(crate) fn make(&self, make: bool) {
        self.shared.is_dry.store(!make, Relaxed);
    }

    /// From now on only this status is no complaint, besides 200 and 503. What was excused before
    /// still is in answers to requests that were sent until now: the network may hold them back.
    pub(crate) fn excuse(&self, status: Option<u16>) {
        self.shared.excused().set(status, Instant::now());
    }

    /// Connections that have a request under way, or none yet but are there.
    pub(crate) fn busy(&self) -> usize {
        self.shared.busy.load(Relaxed)
    }

    /// Updates that are made and not acknowledged.
    pub(crate) fn waiting(&self) -> u64 {
        self.shared.bots.iter().map(|bot| bot.chats().waiting).sum()
    }

    /// How many updates of a bot were made.
    pub(crate) fn made(&self, bot: usize) -> u64 {
        self.shared.bots.get(bot).map_or(0, |bot| bot.made.load(Relaxed))
    }

    pub(crate) fn bots(&self) -> usize {
        self.shared.bots.len()
    }

    pub(crate) fn broken(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Bot {
    fn new(index: usize, path: &'static str, secret: &'static str) -> Self {
        let chats = (0..CHATS).map(|_| Chat::default()).collect();
        Self {
            path,
            secret,
            index,
            chats: Mutex::new(Chats { chats, next: 0, waiting: 0 }),
            pacer: Mutex::new(ConnectPacer { success: None, next: Instant::now() }),
            made: AtomicU64::new(0),
        }
    }

    fn chats(&self) -> MutexGuard<'_, Chats> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) {
        let mut chats = self.chats();
        if chats.waiting >= WAITING {
            return;
        }
        let id = id_of(self.index, self.made.fetch_add(1, Relaxed) + 1);
        chats.waiting += 1;
        chats.chats[chat_of(id) as usize].updates.push_back(id);
    }

    /// An update that may be sent now, whose chat is busy from now on.
    fn pick(&self) -> Option<u64> {
        let now = Instant::now();
        let mut chats = self.chats();
        let count = chats.chats.len();
        for step in 0..count {
            let place = (chats.next + step) % count;
            let chat = &mut chats.chats[place];
            let is_due = chat.not_before.is_none_or(|time| time <= now);
            if let Some(id) = chat.updates.front().copied().filter(|_| is_due && !chat.is_busy) {
                chat.is_busy = true;
                chats.next = place + 1;
                return Some(id);
            }
        }
        None
    }

    fn put_back(&self, id: u64) {
        self.chats().chats[chat_of(id) as usize].is_busy = false;
    }

    fn delivered(&self, id: u64) {
        let mut chats = self.chats();
        let chat = &mut chats.chats[chat_of(id) as usize];
        chat.updates.pop_front();
        (chat.is_busy, chat.failures, chat.not_before) = (false, 0, None);
        chats.waiting -= 1;
        self.pacer().success = Some(Instant::now());
    }

    fn failed(&self, id: u64, retry_after: Option<u64>) {
        let mut chats = self.chats();
        let chat = &mut chats.chats[chat_of(id) as usize];
        let wait = match (retry_after, chat.failures) {
            (Some(seconds), _) => Duration::from_secs(seconds),
            (None, 0) => Duration::ZERO,
            (None, failures) => Duration::from_secs(1 << failures.min(6)).min(10 * TIMER),
        };
        chat.failures += 1;
        chat.is_busy = false;
        chat.not_before = Instant::now().checked_add(wait / SCALE);
    }

    fn pacer(&self) -> MutexGuard<'_, ConnectPacer> {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Excused {
    fn set(&mut self, status: Option<u16>, now: Instant) {
        let before = std::mem::replace(&mut self.current, status);
        self.withdrawn.extend(before.map(|status| (status, now)));
        // Connecting and the answer take no longer.
        self.withdrawn.retain(|(_, end)| now.duration_since(*end) <= 2 * TIMER);
    }

    /// Whether `status` was excused at any time since `sent`, the start of its request.
    fn covers(&self, status: u16, sent: Instant) -> bool {
        self.current == Some(status)
            || self.withdrawn.iter().any(|(excused, end)| *excused == status && sent <= *end)
    }
}

impl ConnectPacer {
    /// Whether a connection may be made now.
    fn admit(&mut self) -> bool {
        let now = Instant::now();
        let is_active = self.success.is_some_and(|time| now - time < ACTIVE);
        let (every, burst) = match is_active {
            true => (NEW_WHILE_ACTIVE, BURST),
            false => (NEW_WHILE_PENDING, 1),
        };
        let earliest = now.checked_sub(every * (burst - 1)).unwrap_or(now);
        self.next = self.next.max(earliest);
        let passes = self.next <= now;
        if passes {
            self.next += every;
        }
        passes
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection, and when it was used last.
struct Connection {
    tls: Tls,
    used: Instant,
}

impl Shared {
    fn excused(&self) -> MutexGuard<'_, Excused> {
        self.excused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, rate: u32) {
        while !self.is_over.load(Relaxed) {
            if !self.is_dry.load(Relaxed) {
                self.bots.iter().for_each(Bot::make);
            }
            thread::sleep(Duration::from_secs(1) / rate);
        }
    }

    /// The life of one connection after the other.
    fn connection(&self, bot: usize) {
        let bot = &self.bots[bot];
        let mut open: Option<Connection> = None;
        while !self.is_over.load(Relaxed) {
            let is_busy = open.is_some();
            if self.is_paused.load(Relaxed)
                || open.as_ref().is_some_and(|it| it.used.elapsed() > TIMER)
            {
                open = None;
                self.busy.fetch_sub(usize::from(is_busy), Relaxed);
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            let Some(id) = bot.pick() else {
                thread::sleep(Duration::from_millis(2));
                continue;
            };
            if open.is_none() && !bot.pacer().admit() {
                bot.put_back(id);
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            self.busy.fetch_add(usize::from(!is_busy), Relaxed);
            open = self.deliver(bot, id, open);
            self.busy.fetch_sub(usize::from(open.is_none()), Relaxed);
        }
    }

    /// Sends an update; the connection, if it may be used again.
    fn deliver(&self, bot: &Bot, id: u64, open: Option<Connection>) -> Option<Connection> {
        let sent = Instant::now();
        let deadline = sent + TIMER;
        let is_fresh = open.is_none();
        let outcome = match open {
            Some(open) => Ok(open.tls),
            None => connect(self.to, &self.config),
        };
        let outcome = outcome.and_then(|mut tls| {
            let response =
                exchange(&mut tls, &request_to(bot.path, bot.secret, &body(bot, id)), deadline)?;
            Ok((tls, response))
        });
        let (tls, response) = match outcome {
            Ok(done) => done,
            Err(error) => {
                bot.failed(id, None);
                let new = if is_fresh { "new" } else { "used" };
                self.ledger.failed(&format!("{new} connection: {:?}", error.kind()));
                return None;
            }
        };
        let closes = response.headers.get("connection").is_some_and(|it| it == "close");
        let retry_after = response.headers.get("retry-after").and_then(|it| it.parse().ok());
        match response.status {
            200 => {
                self.ledger.acknowledge(id);
                bot.delivered(id);
            }
            status => {
                bot.failed(id, retry_after);
                self.ledger.failed(&status.to_string());
                if status != 503 && !self.excused().covers(status, sent) {
                    self.ledger.complain(format!("update {id} was answered with {status}"));
                }
            }
        }
        (!closes).then_some(Connection { tls, used: Instant::now() })
    }
}

fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Tls> {
    let socket = TcpStream::connect_timeout(&to, TIMER)?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(TIMER))?;
    // The handshake is done with the first request, which goes with its last message.
    Ok(StreamOwned::new(raw::session(Arc::clone(config)), socket))
}

/// Sends a request in two records and reads the answer to it.
fn exchange(tls: &mut Tls, request: &[u8], deadline: Instant) -> io::Result<Response> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { io::Result::Ok(left) }
    };
    tls.sock.set_read_timeout(Some(left()?))?;
    let (one, two) = request.split_at(request.len() / 3);
    tls.write_all(one)?;
    tls.write_all(two)?;
    tls.flush()?;
    let mut bytes = Vec::new();
    loop {
        if let Some((response, length)) = parse(&bytes) {
            assert_eq!(length, bytes.len(), "bytes behind the answer");
            return Ok(response);
        }
        tls.sock.set_read_timeout(Some(left()?))?;
        let mut chunk = [0; 2048];
        match tls.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if is_timeout(&error) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
}

fn body(bot: &Bot, id: u64) -> String {
    let chat = 1000 * (bot.index as u64 + 1) + chat_of(id);
    format!(
        "{{\"update_id\":{id},\n\"message\":{{\"message_id\":{id},\"date\":1700000000,\
         \"chat\":{{\"id\":{chat},\"type\":\"private\"}},\"text\":\"{TEXT} \\u0416\"}}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_covers_requests_that_were_sent_before_it_was_withdrawn() {
        let start = Instant::now();
        let [early, within, end, late] = [0, 1, 2, 3].map(|second| start + second * TIMER / 10);
        let mut excused = Excused::default();
        assert!(!excused.covers(404, early));
        excused.set(Some(404), within);
        assert!(excused.covers(404, early) && excused.covers(404, within));
        assert!(!excused.covers(403, within));
        excused.set(None, end);
        assert!(excused.covers(404, early) && excused.covers(404, within));
        assert!(!excused.covers(404, late) && !excused.covers(403, within));
        excused.set(Some(404), end + 3 * TIMER);
        excused.set(None, end + 4 * TIMER);
        assert_eq!(excused.withdrawn, [(404, end + 4 * TIMER)]);
    }
}
