//! A server: its threads, the order in which they start, and the order in which they stop.

use std::{
    fmt, io, mem,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc as std_mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use futures_channel::mpsc;

use crate::{
    acceptor::{self, Acceptor, ShardLink},
    config::{Bot, Config, DriverChoice, Limits},
    control::{self, Control, OnFailure},
    dispatch::{Dispatcher, Gate, Queue},
    error::{Error, ErrorKind},
    handler::Handler,
    metrics::{Metrics, Report},
    placement::{self, Placement},
    preflight,
    route::Router,
    runtime::{DriverKind, Runtime},
    shard::{Message, Seed},
    sink::Sink,
    tls::TlsConfig,
    update::Recycled,
    worker::{Consumer, Worker},
};

/// Messages that may wait for a shard. Connections beyond them go to another one.
const MAILBOX: usize = 1024;
/// Recycled bodies and tapes that may wait for a shard; the others are freed.
const RETURNS: usize = 1024;
/// Time that shards get to end after their connections were cut.
const ABORT_GRACE: Duration = Duration::from_secs(1);
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
    on_failure: Option<OnFailure>,
    tls: Option<TlsConfig>,
}

enum Destination {
    Handler(Arc<dyn Handler>),
    Sink(Box<dyn Sink>),
}

impl Server {
    /// A server with the defaults of [`Config`] and no bot, certificate or handler.
    #[must_use]
    pub fn builder() -> Self {
        Self { config: Config::default(), consumer: None, on_failure: None, tls: None }
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
        let Self { config, consumer, on_failure, tls } = self;
        config.validate()?;
        let missing = |what: &str, how: &str| Error::config(what, "(none)", how);
        let tls = tls.ok_or_else(|| missing("tls", "a certificate and its key"))?;
        let consumer = consumer.ok_or_else(|| missing("handler", "a handler or a sink"))?;
        let placement = Placement::of_this_machine(config.shards, config.workers)?;
        let listener = acceptor::listen_on(config.listen)?;
        let local_addr = listener
            .local_addr()
            .map_err(|source| Error::with_source(ErrorKind::Bind, "getsockname", source))?;
        let metrics = Metrics::new(placement.shards.len(), placement.workers.len());
        let control = Arc::new(Control::new(on_failure));
        let mut handle = ServerHandle {
            acceptor: None,
            control,
            driver: DriverKind::Epoll,
            drain_timeout: config.drain_timeout,
            gates: Vec::new(),
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
        let (queues, returns) = handle.start_workers(&config, &consumer)?;
        let shards = handle.start_shards(&config, &tls, &queues, returns)?;
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
    gates: Vec<Arc<Gate>>,
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

    /// Stops accepting, answers the requests in flight, drains the queues, ends all threads.
    ///
    /// Takes at most about the drain timeout: connections that are not done by then are cut, and
    /// updates that still wait are counted as abandoned. A handler that never returns keeps its
    /// thread.
    pub fn stop(mut self) -> Report {
        self.stop_threads();
        self.report()
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
        if !ended_by(&self.shard_threads, deadline, || {}) {
            self.tell_shards(|| Message::Abort);
            ended_by(&self.shard_threads, Instant::now() + ABORT_GRACE, || {});
        }
        self.shards.clear();
        // With the shards their ends of the queues are gone: a worker ends when its own is empty.
        let wake = || self.gates.iter().for_each(|gate| gate.wake_now());
        if !ended_by(&self.worker_threads, deadline, wake) {
            self.control.abandon();
            ended_by(&self.worker_threads, Instant::now() + ABORT_GRACE, wake);
        }
    }

    fn tell_shards(&mut self, message: impl Fn() -> Message) {
        for mailbox in &mut self.shards {
            // A full mailbox is being emptied. A closed one belongs to a shard that has ended.
            while mailbox.try_send(message()).is_err_and(|refused| refused.is_full()) {
                thread::sleep(STOP_STEP);
            }
        }
    }

    /// Starts the workers: the queues into them, and for each shard where its memory comes back.
    fn start_workers(
        &mut self,
        config: &Config,
        consumer: &Destination,
    ) -> Result<(Vec<Queue>, Vec<Receiver<Recycled>>), Error> {
        let (returns, taken_back): (Vec<_>, Vec<_>) =
            self.placement.shards.iter().map(|_| bounded(RETURNS)).unzip();
        let mut queues = Vec::new();
        let cpus = self.placement.workers.clone();
        let metrics = self.metrics.workers.clone();
        for (index, (cpu, metrics)) in cpus.into_iter().zip(metrics).enumerate() {
            let (sender, queue) = bounded(config.limits.queue_updates);
            let gate = Arc::<Gate>::default();
            queues.push(Queue { sender, gate: Arc::clone(&gate) });
            self.gates.push(Arc::clone(&gate));
            let consumer = match consumer {
                Destination::Handler(handler) => Consumer::Handler(Arc::clone(handler)),
                Destination::Sink(sink) => Consumer::Sink(sink.writer()?),
            };
            let (control, returns) = (Arc::clone(&self.control), returns.clone());
            let worker = Worker { queue, gate, consumer, returns, control, metrics };
            let thread = self.spawn(format!("ringhook-w{index}"), Some(cpu), || worker.run())?;
            self.worker_threads.push(thread);
        }
        Ok((queues, taken_back))
    }

    /// Starts the shards. Each builds its driver on its own thread, since a ring belongs to the
    /// thread that made it; all get the same one or none starts.
    fn start_shards(
        &mut self,
        config: &Config,
        tls: &TlsConfig,
        queues: &[Queue],
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
                dispatcher: Dispatcher::new(queues.to_vec(), index),
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
/// first.
fn ended_by(threads: &[JoinHandle<()>], deadline: Instant, nudge: impl Fn()) -> bool {
    loop {
        nudge();
        if threads.iter().all(JoinHandle::is_finished) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(STOP_STEP);
    }
}
