//! Updates that are sent until each is acknowledged, over as many connections as wanted, however
//! often servers end meanwhile.
//!
//! Of Telegram's rules it keeps those that decide what a server must hold at the end: the updates
//! of a chat leave one by one, and what fails comes again, or after `Retry-After`. Nothing expires
//! and connections are made at once, so that a run is short.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use loadtest::{Expected, PayloadGenerator, PayloadOptions, chat_of};
use rustls::{ClientConfig, ClientConnection, StreamOwned, client::Resumption};

use super::{
    PATIENCE,
    client::{self, Response},
    pki::Pki,
    raw::{self, Raw},
};

/// All delays are Telegram's, divided by this.
const SCALE: u32 = 50;
/// How long a connection rests that could not be made.
const PAUSE: Duration = Duration::from_millis(100);
/// Of so many updates one is sent twice, where that is asked for.
const COPIES_EVERY: u64 = 50;

/// What is sent.
pub(crate) struct Load {
    addr: SocketAddr,
    config: Arc<ClientConfig>,
    pub(crate) connections: usize,
    /// Updates per second; without it each connection sends what is next.
    pub(crate) rate: Option<f64>,
    pub(crate) first_update_id: u64,
    pub(crate) updates: u64,
    pub(crate) payload: PayloadOptions,
    /// Updates that are sent instead of those of `payload`: each its chat and its text.
    pub(crate) own: Vec<(String, String)>,
    /// Sends one update in fifty twice, on two connections: half of them together, half after the
    /// first was acknowledged.
    pub(crate) has_copies: bool,
    /// Ends the run.
    pub(crate) cancel: Arc<AtomicBool>,
    /// Updates that were acknowledged so far.
    pub(crate) acknowledged: AtomicU64,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) acknowledged: u64,
    /// Copies, all of which were acknowledged.
    pub(crate) copies: u64,
    /// Answers 503.
    pub(crate) refused: u64,
    /// Requests and connections without an answer.
    pub(crate) failed: u64,
}

#[derive(Clone, Copy)]
struct Job {
    /// Its place among the updates.
    index: u64,
    is_copy: bool,
    failures: u32,
    /// The connection that must not carry it.
    avoid: Option<usize>,
}

/// A chat with an update under way.
struct Chat {
    /// That update, and its copy if there is one: those that were not acknowledged.
    under_way: u32,
    waiting: VecDeque<u64>,
}

#[derive(Default)]
struct State {
    /// Updates that have left, or wait for others of their chats.
    made: u64,
    ready: VecDeque<Job>,
    delayed: BTreeMap<(Instant, u64, bool), Job>,
    chats: HashMap<String, Chat>,
    sent: Sent,
    /// When one was acknowledged last.
    success: Option<Instant>,
}

struct Run<'a> {
    load: &'a Load,
    generator: PayloadGenerator,
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

impl Load {
    /// So many updates of 500 chats over 32 connections, as fast as they are answered.
    pub(crate) fn new(addr: SocketAddr, pki: &Pki, updates: u64) -> Self {
        let mut config = client::config(pki, rustls::ALL_VERSIONS);
        // As Telegram's sender.
        Arc::make_mut(&mut config).resumption = Resumption::disabled();
        Self {
            addr,
            config,
            connections: 32,
            rate: None,
            first_update_id: 1,
            updates,
            payload: PayloadOptions { chats: 500, ..PayloadOptions::default() },
            own: Vec::new(),
            has_copies: false,
            cancel: Arc::default(),
            acknowledged: AtomicU64::new(0),
        }
    }

    /// What a sink should hold then: each update once, those of a chat in order.
    pub(crate) fn expected(&self) -> Expected {
        Expected {
            first_update_id: self.first_update_id,
            updates: self.updates,
            ..Expected::new(self.payload.clone())
        }
    }

    /// Sends everything, and gives what became of it once all is acknowledged.
    pub(crate) fn send(&self) -> Sent {
        let run = Run {
            load: self,
            generator: PayloadGenerator::new(&self.payload),
            start: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        thread::scope(|scope| {
            for connection in 0..self.connections {
                let run = &run;
                scope.spawn(move || run.connection(connection));
            }
        });
        let sent = run.state.into_inner().unwrap().sent;
        assert!(sent.acknowledged == self.updates || self.cancel.load(Relaxed), "{sent:?}");
        sent
    }
}

impl Run<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, number: usize) {
        let mut link = None;
        while let Some(job) = self.next(number) {
            let is_new = link.is_none();
            let outcome = self.exchange(&mut link, job);
            if outcome.is_err() {
                link = None;
            }
            let refused = outcome
                .as_ref()
                .is_err_and(|error| is_new && error.kind() == io::ErrorKind::ConnectionRefused);
            self.settle(number, job, outcome);
            if refused {
                thread::sleep(PAUSE);
            }
        }
    }

    /// What a connection is to send next; `None` once there is nothing more.
    fn next(&self, connection: usize) -> Option<Job> {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let is_done = state.sent.acknowledged == self.load.updates && state.chats.is_empty();
            if is_done || self.load.cancel.load(Relaxed) {
                return None;
            }
            if now.duration_since(state.success.unwrap_or(self.start)) > 2 * PATIENCE {
                self.fail(&format!("nothing is acknowledged any more: {:?}", state.sent));
            }
            if let Some(job) = self.take(&mut state, connection, now) {
                return Some(job);
            }
            // Not for long: what is due, and what others have made ready, is looked for again.
            let wait = Duration::from_millis(5);
            state =
                self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&self, state: &mut State, connection: usize, now: Instant) -> Option<Job> {
        while let Some(entry) = state.delayed.first_entry()
            && entry.key().0 <= now
        {
            state.ready.push_back(entry.remove());
        }
        let place = state.ready.iter().position(|job| job.avoid != Some(connection));
        if let Some(job) = place.and_then(|place| state.ready.remove(place)) {
            return Some(self.begin(state, connection, job));
        }
        let due = self.load.rate.map_or(u64::MAX, |rate| {
            (now.duration_since(self.start).as_secs_f64() * rate) as u64 + 1
        });
        while state.made < self.load.updates.min(due) {
            let index = state.made;
            state.made += 1;
            match state.chats.get_mut(&self.chat(index)) {
                Some(chat) => chat.waiting.push_back(index),
                None => {
                    let chat = Chat { under_way: 1, waiting: VecDeque::new() };
                    state.chats.insert(self.chat(index), chat);
                    return Some(self.begin(state, connection, Job::new(index)));
                }
            }
        }
        None
    }

    fn begin(&self, state: &mut State, connection: usize, job: Job) -> Job {
        if self.has_copy(job, 0) {
            self.copy(state, connection, job);
        }
        job
    }

    /// Whether a copy goes with this job, or (`half` 1) after it.
    fn has_copy(&self, job: Job, half: u64) -> bool {
        let is_first = !job.is_copy && (half == 1 || job.failures == 0);
        self.load.has_copies && is_first && job.index % (2 * COPIES_EVERY) == half * COPIES_EVERY
    }

    /// The chat waits for the copy, too.
    fn copy(&self, state: &mut State, connection: usize, job: Job) {
        if let Some(chat) = state.chats.get_mut(&self.chat(job.index)) {
            chat.under_way += 1;
        }
        state.sent.copies += 1;
        let copy = Job { is_copy: true, avoid: Some(connection), ..Job::new(job.index) };
        state.ready.push_back(copy);
        self.changed.notify_all();
    }

    fn settle(&self, connection: usize, mut job: Job, outcome: io::Result<Response>) {
        let mut state = self.state();
        let retry_after = match outcome {
            Ok(response) if response.status == 200 => {
                return self.acknowledged(&mut state, connection, job);
            }
            Ok(response) => {
                if response.status != 503 {
                    self.fail(&format!("an answer that no sender should get: {response:?}"));
                }
                state.sent.refused += 1;
                response.headers.get("retry-after").and_then(|seconds| seconds.parse().ok())
            }
            Err(_) => {
                state.sent.failed += 1;
                None
            }
        };
        let seconds = match (retry_after, job.failures) {
            (Some(seconds), _) => seconds,
            (None, 0) => 0,
            (None, failures) => 1 << failures.min(6),
        };
        job.failures += 1;
        let at = Instant::now() + Duration::from_secs(seconds) / SCALE;
        state.delayed.insert((at, job.index, job.is_copy), job);
    }

    fn acknowledged(&self, state: &mut State, connection: usize, job: Job) {
        if !job.is_copy {
            state.sent.acknowledged += 1;
            state.success = Some(Instant::now());
            self.load.acknowledged.store(state.sent.acknowledged, Relaxed);
        }
        if self.has_copy(job, 1) {
            self.copy(state, connection, job);
        }
        let key = self.chat(job.index);
        let chat = state.chats.get_mut(&key).expect("a chat with an update under way");
        chat.under_way -= 1;
        if chat.under_way > 0 {
            return;
        }
        match chat.waiting.pop_front() {
            Some(next) => {
                chat.under_way = 1;
                state.ready.push_back(Job::new(next));
                self.changed.notify_one();
            }
            None => {
                state.chats.remove(&key);
            }
        }
    }

    /// Ends the run, for the other connections, too.
    fn fail(&self, why: &str) -> ! {
        self.load.cancel.store(true, Relaxed);
        panic!("{why}");
    }

    fn chat(&self, index: u64) -> String {
        match self.load.own.get(index as usize) {
            Some((chat, _)) => chat.clone(),
            None => format!("{:?}", chat_of(&self.load.payload, self.load.first_update_id + index)),
        }
    }

    fn body(&self, index: u64) -> String {
        if let Some((_, text)) = self.load.own.get(index as usize) {
            return text.clone();
        }
        let mut body = Vec::new();
        self.generator.write(&mut body, self.load.first_update_id + index);
        String::from_utf8(body).unwrap()
    }

    fn exchange(&self, link: &mut Option<Link>, job: Job) -> io::Result<Response> {
        let link = match link {
            Some(link) => link,
            None => {
                let socket = TcpStream::connect(self.load.addr)?;
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                link.insert(raw::tls(socket, Arc::clone(&self.load.config)))
            }
        };
        let response = link.try_post(&self.body(job.index))?;
        response.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

type Link = Raw<StreamOwned<ClientConnection, TcpStream>>;

impl Job {
    fn new(index: u64) -> Self {
        Self { index, is_copy: false, failures: 0, avoid: None }
    }
}
