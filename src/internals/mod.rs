//! Parts that benches measure one by one and fuzzing calls. Not an interface: anything here may
//! change at any time.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the hand-off, routes and windows of ids |
//! | `commands` | what the command line needs of the rooms |
//! | `segment` | a segment of the journal in memory |
//! | `test_journal` | the journal without a server around it |
//! | `test_pipeline` | from a shard to a worker and back, driven by one thread |
//! | `test_records` | a connection's records, and a peer that forges them |

#![allow(missing_docs)]

mod commands;
mod segment;
mod test_journal;
mod test_pipeline;
mod test_records;

use std::{
    cell::{Cell, RefCell},
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use self::{
    commands::*,
    segment::{records, segment},
    test_journal::TestJournal,
    test_pipeline::TestPipeline,
    test_records::TestRecords,
};
use crate::{
    bots::BotId,
    config::{Bot, Dispatch, DriverKind, Limits},
    dispatch::{Budget, Dispatcher, FullChats, Scheduler, SettledBatch, Task},
    observe::metrics::{Metrics, Report},
    proto::{
        answers::Answers,
        http::{ConnectionDirective, Method, RequestHead, Status},
        proxy_header::{self as proxy, Parsed},
        route::{RouteError, RouteRequest, Router},
        update::Update,
    },
    tls::TlsConfig,
};
pub use crate::{
    proto::{http, update},
    tls::loopback::LoopbackConnection,
};

/// False where what every body goes through has taken what simd-json refuses, or has found another
/// head than is in what simd-json reads.
#[must_use]
pub fn scan_agrees(body: &[u8], depth_max: usize) -> bool {
    update::scan_agrees(body, depth_max)
}

/// A shard's answers with their dates.
#[derive(Default)]
pub struct DatedAnswers(Answers);

impl DatedAnswers {
    /// Passes the 200 to `then`; `at` is a time not later than now.
    #[inline]
    pub fn with<T>(
        &self,
        directive: ConnectionDirective,
        at: Instant,
        then: impl FnOnce(&[u8]) -> T,
    ) -> T {
        then(self.0.dated(Status::Ok, directive, at).bytes())
    }
}

impl fmt::Debug for DatedAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatedAnswers").finish_non_exhaustive()
    }
}

/// A shard's side of the hand-off and the lanes of some workers.
#[derive(Debug)]
pub struct HandOff {
    batch: RefCell<Vec<Task>>,
    budget: Arc<Budget>,
    dispatcher: Dispatcher,
    scheduler: Arc<Scheduler>,
    round: Cell<u32>,
}

impl HandOff {
    /// With `updates` under way at the most.
    #[must_use]
    pub fn new(workers: usize, updates: usize) -> Self {
        let limits = Limits { queue_updates: updates, ..Limits::default() };
        let budget = Arc::new(Budget::new(updates as u64, limits.queue_bytes as u64));
        let full = Arc::new(FullChats::new());
        let settings = Dispatch::default();
        let (scheduler, inboxes) =
            Scheduler::new(workers, 1, &limits, settings, &full, Instant::now());
        let scheduler = Arc::new(scheduler);
        let dispatcher = Dispatcher::new(&scheduler, inboxes, &full, &budget, 0);
        Self { batch: RefCell::default(), budget, dispatcher, scheduler, round: Cell::new(0) }
    }

    /// The same for updates whose ids may come again and again.
    #[must_use]
    pub fn for_replay(self) -> Self {
        Self { dispatcher: self.dispatcher.for_replay(), ..self }
    }

    /// The same for so many bots.
    #[must_use]
    pub fn with_bots(self, bots: usize) -> Self {
        self.scheduler.cover(bots);
        self
    }

    /// A second shard that fills the same inboxes.
    #[must_use]
    pub fn another_shard(&self) -> Self {
        Self {
            batch: RefCell::default(),
            budget: Arc::clone(&self.budget),
            dispatcher: self.dispatcher.another(),
            scheduler: Arc::clone(&self.scheduler),
            round: Cell::new(0),
        }
    }

    /// # Errors
    /// The update, where it is refused.
    pub fn dispatch(&self, update: Update, now: Instant) -> Result<(), Update> {
        self.dispatcher.dispatch(update, now).map_err(|(_, update)| update)
    }

    pub fn wake_workers(&self) {
        self.dispatcher.wake_workers();
    }

    /// One round of a worker: takes the next update, if there is one, and settles it at once.
    pub fn run(&self, settled: &mut TestSettledBatch, now: Instant) -> Option<Update> {
        self.run_worker(0, settled, now)
    }

    /// The same of worker `index`.
    pub fn run_worker(
        &self,
        index: usize,
        settled: &mut TestSettledBatch,
        now: Instant,
    ) -> Option<Update> {
        self.round.set(self.round.get().wrapping_add(1));
        let settled = &mut settled.0;
        let (mut batch, round) = (self.batch.borrow_mut(), self.round.get());
        self.scheduler.next(index, round, now, 1, &mut batch, |duplicate| {
            settled.take(duplicate.update.byte_len() as u64);
        });
        let task = batch.pop()?;
        settled.take(task.delivery.update.byte_len() as u64);
        self.scheduler.finish(task.lane, |duplicate| {
            settled.take(duplicate.update.byte_len() as u64);
        });
        Some(task.delivery.update)
    }

    #[must_use]
    pub fn settled(&self) -> TestSettledBatch {
        TestSettledBatch(SettledBatch::new(Arc::clone(&self.budget)))
    }

    /// Starts worker `index`, which gives every update to `settle` and sleeps in between.
    pub fn worker(&self, index: usize, settle: impl Fn(Update) + Send + 'static) -> TestWorker {
        let scheduler = Arc::clone(&self.scheduler);
        let mut settled = SettledBatch::new(Arc::clone(&self.budget));
        let stop = Arc::<AtomicBool>::default();
        let done = Arc::<AtomicU64>::default();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = thread::spawn(move || {
            if let Some(parker) = scheduler.parker(index) {
                parker.attach();
            }
            let (mut batch, mut round) = (Vec::with_capacity(1), 0);
            while !stopped.load(Ordering::Relaxed) {
                round += 1;
                let idle =
                    scheduler.next(index, round, Instant::now(), 1, &mut batch, |duplicate| {
                        settled.take(duplicate.update.byte_len() as u64);
                    });
                if idle.is_some() {
                    settled.empty();
                    scheduler.sleep(index, Duration::from_millis(10), || false);
                }
                for task in batch.drain(..) {
                    settled.take(task.delivery.update.byte_len() as u64);
                    settle(task.delivery.update);
                    scheduler.finish(task.lane, |duplicate| {
                        settled.take(duplicate.update.byte_len() as u64);
                    });
                    count.fetch_add(1, Ordering::Release);
                }
            }
        });
        TestWorker { done, stop, thread: Some(thread) }
    }
}

/// The ids of one bot that have been accepted.
#[derive(Debug)]
pub struct Window(crate::dispatch::dedup::Window);

impl Window {
    #[allow(clippy::new_without_default)]
    #[must_use]
    pub fn new() -> Self {
        Self(crate::dispatch::dedup::Window::new())
    }

    pub fn accept(&mut self, id: i64) -> bool {
        self.0.accept(id)
    }
}

/// Where a bench's worker gathers the quota that it has settled.
#[derive(Debug)]
pub struct TestSettledBatch(SettledBatch);

/// A worker thread of a bench; ends when dropped.
#[derive(Debug)]
pub struct TestWorker {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestWorker {
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// From a path and a token to a bot.
#[derive(Debug)]
pub struct Routes(Router);

impl Routes {
    #[must_use]
    pub fn new(bots: &[Bot]) -> Self {
        Self(Router::new((0..).map(BotId::new).zip(bots)))
    }

    /// # Errors
    /// The status to answer with.
    pub fn route(&self, path: &[u8], is_post: bool, token: Option<&[u8]>) -> Result<BotId, Status> {
        let request =
            RouteRequest { is_post, path, secret_token: token, ..RouteRequest::default() };
        self.0.route(request).map_err(RouteError::status)
    }

    /// # Errors
    /// The status to answer with.
    pub fn route_head(&self, head: &RequestHead<'_>) -> Result<BotId, Status> {
        let routed = self.0.route(RouteRequest {
            authorization: head.authorization.value(),
            host: head.host,
            is_post: head.method == Method::Post,
            path: head.path.as_bytes(),
            secret_token: head.secret_token.value(),
            ..RouteRequest::default()
        });
        routed.map_err(RouteError::status)
    }
}

/// How the first bytes of a connection parse as a PROXY header: `None` where more are needed,
/// `Some(None)` where they are no header, else the client and the header's length.
#[must_use]
pub fn proxy_header(bytes: &[u8]) -> Option<Option<(Option<SocketAddr>, usize)>> {
    match proxy::parse(bytes) {
        Parsed::NeedMore => None,
        Parsed::Invalid => Some(None),
        Parsed::Header { source, length } => Some(Some((source, length))),
    }
}

/// The report of a server that has done nothing.
#[must_use]
pub fn empty_report() -> Report {
    Report::new(&Metrics::new(1, 1), DriverKind::Epoll, Duration::ZERO, false)
}

/// What shards serve TLS with.
#[must_use]
pub fn server_config(tls: &TlsConfig) -> Arc<rustls::ServerConfig> {
    tls.rustls()
}
