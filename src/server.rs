//! A server: its threads, the order in which they start, and the order in which they stop.

use std::{
    fmt, io, mem,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded, unbounded};
use futures_channel::mpsc;

use crate::{
    acceptor::{self, Acceptor, ShardLink},
    config::{Bot, Config, Dispatch, DriverChoice, Limits},
    control::{self, Control, OnFailure},
    dead_letters::DeadLetters,
    dispatch::{Budget, Dispatcher, FullChats, Scheduler, Till},
    error::{Error, ErrorKind},
    handler::Handler,
    metrics::{Metrics, Report},
    placement::{self, Placement},
    preflight,
    route::Router,
    runtime::{DriverKind, Runtime},
    shard::{Message, Seed},
    sink::Sink,
    stream::{self, OnDrop, Settlements, StreamSender, Updates},
    tls::TlsConfig,
    update::{BotId, ParseError, Recycled, UpdateParser},
    worker::{Consumer, Desk, Worker},
};

/// Messages that may wait for a shard. Connections beyond them go to another one.
const MAILBOX: usize = 1024;
/// Recycled bodies and tapes that may wait for a shard; the others are freed.
const RETURNS: usize = 1024;
/// Time that threads get to end after they were told to leave everything, and in a hurry.
const ABORT_GRACE: Duration = Duration::from_secs(1);
const HURRY_GRACE: Duration = Duration::from_millis(200);
/// How often a stop looks whether the threads have ended.
const STOP_STEP: Duration = Duration::from_millis(5);

/// A receiver of webhooks that has not started yet.
///
/// ```no_run
/// use ringhook::{Bot, Outcome, Server, TlsConfig, Update};
///
/// # fn main() -> Result<(), ringhook::Error> {
/// let server = Server::builder()
///     .listen("127.0.0.1:8443".parse().expect("an address"))
///     .tls(TlsConfig::from_pem_files("cert.pem".as_ref(), "key.pem".as_ref())?)
///     .bot(Bot::new("shop", "/webhook", "secret")?)
///     .handler(|update: &Update| {
///         println!("update {} is a {}", update.id(), update.kind());
///         Outcome::Done
///     })
///     .start()?;
/// println!("listening on {}", server.local_addr());
/// # server.stop();
/// # Ok(())
/// # }
/// ```
pub struct Server {
    config: Config,
    consumer: Option<Destination>,
    on_drop: OnDrop,
    on_failure: Option<OnFailure>,
    tls: Option<TlsConfig>,
}

enum Destination {
    Handler(Arc<dyn Handler>),
    Sink(Box<dyn Sink>),
    Stream(StreamSender),
}

impl Server {
    /// A server with the defaults of [`Config`] and no bot, certificate or handler.
    #[must_use]
    pub fn builder() -> Self {
        Self {
            config: Config::default(),
            consumer: None,
            on_drop: OnDrop::default(),
            on_failure: None,
            tls: None,
        }
    }

    /// Replaces all settings, bots included.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens on `address`; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.config.listen = address;
        self
    }

    /// Adds a bot; its [`BotId`](crate::update::BotId) counts up from 0.
    #[must_use]
    pub fn bot(mut self, bot: Bot) -> Self {
        self.config.bots.push(bot);
        self
    }

    /// What happens between an update's 200 and the handler.
    #[must_use]
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.config.dispatch = dispatch;
        self
    }

    /// Which driver to use.
    #[must_use]
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.config.driver = driver;
        self
    }

    /// Bounds on what a peer can make the server hold or wait for.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// How many shard threads.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.config.shards = Some(shards);
        self
    }

    /// How many worker threads.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = Some(workers);
        self
    }

    /// How long a stop may take before what is left is abandoned.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// Certificate and key.
    #[must_use]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Gives the updates to `handler`.
    #[must_use]
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.consumer = Some(Destination::Handler(Arc::new(handler)));
        self
    }

    /// Gives the updates to `sink`.
    #[must_use]
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.consumer = Some(Destination::Sink(Box::new(sink)));
        self
    }

    /// Gives the updates to a stream that holds up to `capacity` of them, for programs that live in
    /// an async runtime. An update that is dropped unsettled comes again, unless
    /// [`on_drop`](Self::on_drop) says otherwise.
    #[must_use]
    pub fn updates(mut self, capacity: usize) -> (Self, Updates) {
        let (sender, updates) = stream::stream(capacity);
        self.consumer = Some(Destination::Stream(sender));
        (self, updates)
    }

    /// What it means that a program drops an update of the stream without settling it.
    #[must_use]
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Calls `call`, on a thread of the server, when it has met an error from which it cannot
    /// recover, such as a sink whose reader is gone. The server goes on as far as it can; to stop
    /// it is the owner's to decide.
    #[must_use]
    pub fn on_failure(mut self, call: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Box::new(call));
        self
    }

    /// Binds the address and starts all threads. When this returns, connections are accepted.
    ///
    /// # Errors
    /// A wrong setting, an address that cannot be bound, a driver that is not to be had, a sink
    /// that cannot be opened or a thread that cannot be started; nothing is left running then.
    pub fn start(self) -> Result<ServerHandle, Error> {
        let Self { config, consumer, on_drop, on_failure, tls } = self;
        config.validate()?;
        let missing = |what: &str, how: &str| Error::config(what, "(none)", how);
        let tls = tls.ok_or_else(|| missing("tls", "a certificate and its key"))?;
        let consumer = consumer.ok_or_else(|| missing("handler", "a handler or a sink"))?;
        let placement = Placement::of_this_machine(config.shards, config.workers)?;
        let listener = acceptor::listen_on(config.listen)?;
        let local_addr = listener
            .local_addr()
            .map_err(|source| Error::with_source(ErrorKind::Bind, "getsockname", source))?;
        let (shards, workers) = (placement.shards.len(), placement.workers.len());
        let metrics = Metrics::new(shards, workers);
        let limits = &config.limits;
        // One of the shards' kind more, for updates that are fed in.
        let budget = Budget::new(limits.queue_updates as u64, limits.queue_bytes as u64)
            .shared_by(shards + 1 + workers, limits.body_bytes as u64);
        let (budget, full) = (Arc::new(budget), Arc::new(FullChats::new()));
        let (scheduler, inboxes) = Scheduler::new(
            workers,
            config.bots.len(),
            limits,
            config.dispatch.clone(),
            &full,
            Instant::now(),
        );
        let scheduler = Arc::new(scheduler);
        let dispatcher =
            |shard| Dispatcher::new(&scheduler, inboxes.clone(), &full, &budget, shard);
        let control = Arc::new(Control::new(on_failure));
        let mut handle = ServerHandle {
            acceptor: None,
            control,
            driver: DriverKind::Epoll,
            drain_timeout: config.drain_timeout,
            feeder: Mutex::new(Feeder {
                dispatcher: dispatcher(0).for_replay(),
                parser: UpdateParser::default(),
            }),
            bots: config.bots.iter().map(|bot| bot.name.clone()).collect(),
            scheduler: Arc::clone(&scheduler),
            local_addr,
            metrics,
            notices: Vec::new(),
            placement,
            shards: Vec::new(),
            shard_threads: Vec::new(),
            started_at: Instant::now(),
            stopped: false,
            worker_threads: Vec::new(),
        };
        // Where a step fails, dropping the handle stops what has started.
        let returns = handle.start_workers(&config, &consumer, on_drop, &budget)?;
        let shards = handle.start_shards(&config, &tls, dispatcher, returns)?;
        handle.start_acceptor(listener, shards)?;
        Ok(handle)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A running server. Dropping it stops it as [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct ServerHandle {
    acceptor: Option<(UnixStream, JoinHandle<()>)>,
    control: Arc<Control>,
    driver: DriverKind,
    drain_timeout: Duration,
    bots: Vec<String>,
    feeder: Mutex<Feeder>,
    scheduler: Arc<Scheduler>,
    local_addr: SocketAddr,
    metrics: Metrics,
    notices: Vec<String>,
    placement: Placement,
    shards: Vec<mpsc::Sender<Message>>,
    shard_threads: Vec<JoinHandle<()>>,
    started_at: Instant,
    stopped: bool,
    worker_threads: Vec<JoinHandle<()>>,
}

/// Cuts a stop short, from any thread.
#[derive(Clone, Debug)]
pub struct Hurrier(Arc<Control>);

impl Hurrier {
    /// From now on a stop waits for nothing: connections are cut, and what is not handled is
    /// abandoned, counted and listed.
    pub fn hurry(&self) {
        self.0.hurry();
    }

    /// True once [`hurry`](Self::hurry) has been called on this or another handle of the server.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.0.is_hurried()
    }
}

/// Feeds updates in that do not come over the wire.
struct Feeder {
    dispatcher: Dispatcher,
    parser: UpdateParser,
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").finish_non_exhaustive()
    }
}

/// Why an update was not fed in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FeedError {
    /// A limit is reached: it should be tried again later.
    Full,
    /// The bytes are no update.
    NotAnUpdate(ParseError),
    /// No bot has this name.
    UnknownBot,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("too many updates are under way"),
            Self::NotAnUpdate(error) => error.fmt(f),
            Self::UnknownBot => f.write_str("no bot has this name"),
        }
    }
}

impl std::error::Error for FeedError {}

/// What a shard's thread is told when all have tried to build their driver.
enum Verdict {
    Go,
    Instead(DriverKind),
}

impl ServerHandle {
    /// The address that is listened on, with the port that was found where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The driver that all shards got.
    #[must_use]
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Which CPU each thread is pinned to.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What the operator should know about this start, such as why io_uring was not to be had.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Counters and latencies so far; no thread waits for it.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(&self.metrics, self.driver, self.started_at.elapsed(), self.stopped)
    }

    /// Feeds an update in as if it had come over the wire for the bot named `bot`, but without a
    /// look at whether its id has been seen: a dead letter, or one kept elsewhere.
    ///
    /// # Errors
    /// No such bot, no update, or a limit that is reached; then it was not taken.
    pub fn feed(&self, bot: &str, update: &[u8]) -> Result<(), FeedError> {
        let index = self.bots.iter().position(|name| name == bot).ok_or(FeedError::UnknownBot)?;
        let bot = BotId::new(u32::try_from(index).map_err(|_| FeedError::UnknownBot)?);
        let mut feeder = self.feeder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut body = feeder.parser.take_body(update.len());
        body.extend(update);
        let now = Instant::now();
        let parsed = feeder.parser.parse(body, bot, now);
        let update = parsed.map_err(|rejected| FeedError::NotAnUpdate(rejected.error))?;
        feeder.dispatcher.dispatch(update, now).map_err(|_| FeedError::Full)?;
        self.metrics.fed.increment();
        feeder.dispatcher.wake_workers();
        Ok(())
    }

    /// A handle by which another thread can cut a [`stop`](Self::stop) short.
    #[must_use]
    pub fn hurrier(&self) -> Hurrier {
        Hurrier(Arc::clone(&self.control))
    }

    /// Stops accepting, answers the requests in flight, drains the queues, ends all threads.
    ///
    /// Takes at most about the drain timeout: connections that are not done by then are cut, and
    /// updates that still wait are counted as abandoned. A handler that never returns keeps its
    /// thread.
    pub fn stop(mut self) -> Report {
        self.stop_threads();
        let mut report = self.report();
        if report.updates_abandoned > 0 {
            let left = self.scheduler.left_behind().into_iter().take(Report::ABANDONED_MAX);
            let name = |bot: BotId| self.bots.get(bot.index() as usize).cloned();
            report.abandoned =
                left.map(|(bot, id)| (name(bot).unwrap_or_default(), id.get())).collect();
        }
        report
    }

    fn stop_threads(&mut self) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        let deadline = control::deadline(self.drain_timeout);
        self.control.stop();
        if let Some((stop, thread)) = self.acceptor.take() {
            // The acceptor wakes up because its end of the pair sees the hang-up.
            drop(stop);
            let _ = thread.join();
        }
        self.tell_shards(|| Message::Drain);
        let hurried = || self.control.is_hurried();
        if !ended_by(&self.shard_threads, deadline, hurried, || {}) {
            self.tell_shards(|| Message::Abort);
            ended_by(&self.shard_threads, self.grace(), || false, || {});
        }
        self.shards.clear();
        self.scheduler.close();
        let wake = || self.scheduler.wake_all();
        let hurried = || self.control.is_hurried();
        if !ended_by(&self.worker_threads, deadline, hurried, wake) {
            self.control.abandon();
            ended_by(&self.worker_threads, self.grace(), || false, wake);
        }
    }

    /// Until when threads may take that were told to leave everything.
    fn grace(&self) -> Instant {
        let grace = if self.control.is_hurried() { HURRY_GRACE } else { ABORT_GRACE };
        Instant::now() + grace
    }

    fn tell_shards(&mut self, message: impl Fn() -> Message) {
        for mailbox in &mut self.shards {
            // A full mailbox is being emptied. A closed one belongs to a shard that has ended.
            while mailbox.try_send(message()).is_err_and(|refused| refused.is_full()) {
                thread::sleep(STOP_STEP);
            }
        }
    }

    /// Starts the workers; for each shard, where its memory comes back.
    fn start_workers(
        &mut self,
        config: &Config,
        consumer: &Destination,
        on_drop: OnDrop,
        budget: &Arc<Budget>,
    ) -> Result<Vec<Receiver<Recycled>>, Error> {
        let (returns, taken_back): (Vec<_>, Vec<_>) =
            self.placement.shards.iter().map(|_| bounded(RETURNS)).unzip();
        let letters = config.dispatch.dead_letters.as_deref();
        let letters = letters.map(|path| DeadLetters::open(path, &config.bots)).transpose()?;
        let letters = letters.map(Arc::new);
        let cpus = self.placement.workers.clone();
        let metrics = self.metrics.workers.clone();
        for (index, (cpu, metrics)) in cpus.into_iter().zip(metrics).enumerate() {
            let consumer = match consumer {
                Destination::Handler(handler) => Consumer::Handler(Arc::clone(handler)),
                Destination::Sink(sink) => Consumer::Sink(sink.writer()?),
                Destination::Stream(sender) => {
                    // Bounded by the budget: each entry is an update under way.
                    let (mailbox, settled) = unbounded();
                    let settlements = Settlements {
                        mailbox,
                        scheduler: Arc::clone(&self.scheduler),
                        worker: index,
                        on_drop,
                    };
                    Consumer::Stream(sender.clone(), settlements, settled)
                }
            };
            let desk = Desk {
                control: Arc::clone(&self.control),
                dead_letters: letters.clone(),
                metrics,
                returns: returns.clone(),
                till: Till::new(Arc::clone(budget)),
            };
            let worker = Worker { index, scheduler: Arc::clone(&self.scheduler), desk, consumer };
            let thread = self.spawn(format!("ringhook-w{index}"), Some(cpu), || worker.run())?;
            self.worker_threads.push(thread);
        }
        Ok(taken_back)
    }

    /// Starts the shards. Each builds its driver on its own thread, since a ring belongs to the
    /// thread that made it; all get the same one or none starts.
    fn start_shards(
        &mut self,
        config: &Config,
        tls: &TlsConfig,
        dispatcher: impl Fn(usize) -> Dispatcher,
        returns: Vec<Receiver<Recycled>>,
    ) -> Result<Vec<ShardLink>, Error> {
        let router = Arc::new(Router::new(&config.bots));
        self.driver = match config.driver {
            DriverChoice::Epoll => DriverKind::Epoll,
            DriverChoice::Auto | DriverChoice::IoUring => DriverKind::IoUring,
        };
        let (built, outcomes) = std_mpsc::channel();
        let (mut verdicts, mut links) = (Vec::new(), Vec::new());
        let cpus = self.placement.shards.clone();
        let metrics = self.metrics.shards.clone();
        for (index, ((cpu, metrics), returns)) in
            cpus.into_iter().zip(metrics).zip(returns).enumerate()
        {
            let (mailbox, messages) = mpsc::channel(MAILBOX);
            let open = Arc::default();
            self.shards.push(mailbox.clone());
            links.push(ShardLink { mailbox, open: Arc::clone(&open) });
            let seed = Seed {
                dispatcher: dispatcher(index),
                limits: config.limits,
                mailbox: messages,
                metrics,
                open,
                returns,
                router: Arc::clone(&router),
                tls: tls.clone(),
            };
            let (tell, verdict) = std_mpsc::channel();
            verdicts.push(tell);
            let (kind, built) = (self.driver, built.clone());
            let run = move || run_shard(seed, kind, &built, &verdict);
            let thread = self.spawn(format!("ringhook-s{index}"), Some(cpu), run)?;
            self.shard_threads.push(thread);
        }
        drop(built);
        self.settle_driver(config.driver, &verdicts, &outcomes)?;
        Ok(links)
    }

    /// Waits until all shards have built their driver; where one could not, all take epoll if the
    /// choice allows it.
    fn settle_driver(
        &mut self,
        choice: DriverChoice,
        verdicts: &[std_mpsc::Sender<Verdict>],
        outcomes: &std_mpsc::Receiver<io::Result<()>>,
    ) -> Result<(), Error> {
        loop {
            let failure = outcomes.iter().take(verdicts.len()).filter_map(Result::err).last();
            let Some(error) = failure else {
                verdicts.iter().for_each(|tell| drop(tell.send(Verdict::Go)));
                return Ok(());
            };
            let advice = preflight::ring_advice(&error);
            if choice != DriverChoice::Auto || self.driver == DriverKind::Epoll {
                let message = format!("the {} driver is not to be had: {advice}", self.driver);
                return Err(Error::with_source(ErrorKind::Driver, message, error));
            }
            self.driver = DriverKind::Epoll;
            self.notices
                .push(format!("using epoll, io_uring is not to be had ({error}): {advice}"));
            verdicts.iter().for_each(|tell| drop(tell.send(Verdict::Instead(self.driver))));
        }
    }

    fn start_acceptor(
        &mut self,
        listener: TcpListener,
        shards: Vec<ShardLink>,
    ) -> Result<(), Error> {
        let thread_error = |source| Error::with_source(ErrorKind::Thread, "socketpair", source);
        let (keep, stop) = UnixStream::pair().map_err(thread_error)?;
        let metrics = Arc::clone(&self.metrics.acceptor);
        let acceptor = Acceptor { listener, metrics, shards, stop };
        let thread = self.spawn("ringhook-accept".to_owned(), None, || acceptor.run())?;
        self.acceptor = Some((keep, thread));
        Ok(())
    }

    /// Starts a thread, pinned to `cpu`. Its panic would be a bug of ours: it is a failure of the
    /// server, never a silence.
    fn spawn(
        &self,
        name: String,
        cpu: Option<usize>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let control = Arc::clone(&self.control);
        let label = name.clone();
        let body = move || {
            if let Some(cpu) = cpu
                && !placement::pin(cpu)
            {
                tracing::warn!(thread = label, cpu, "cannot be pinned, runs on any CPU");
            }
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                let message = format!("thread {label} panicked: this is a bug of ringhook");
                control.fail(&Error::new(ErrorKind::Thread, message));
            }
        };
        thread::Builder::new().name(name).spawn(body).map_err(|source| {
            Error::with_source(ErrorKind::Thread, "cannot start a thread", source)
        })
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

/// A shard's thread: builds the driver it is told to, then runs.
fn run_shard(
    seed: Seed,
    mut kind: DriverKind,
    built: &std_mpsc::Sender<io::Result<()>>,
    verdict: &std_mpsc::Receiver<Verdict>,
) {
    loop {
        let (runtime, outcome) = match Runtime::new(kind) {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // A closed channel means that the start has failed elsewhere.
        if built.send(outcome).is_err() {
            return;
        }
        match (verdict.recv(), runtime) {
            (Ok(Verdict::Go), Some(runtime)) => return seed.run(runtime, kind),
            (Ok(Verdict::Instead(other)), _) => kind = other,
            _ => return,
        }
    }
}

/// Waits until all threads have ended, calling `nudge` in between; false where `deadline` came
/// first, or `hurried` said to wait no longer.
fn ended_by(
    threads: &[JoinHandle<()>],
    deadline: Instant,
    hurried: impl Fn() -> bool,
    nudge: impl Fn(),
) -> bool {
    loop {
        nudge();
        if threads.iter().all(JoinHandle::is_finished) {
            return true;
        }
        if Instant::now() >= deadline || hurried() {
            return false;
        }
        thread::sleep(STOP_STEP);
    }
}
