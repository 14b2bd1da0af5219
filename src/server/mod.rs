//! A server: its threads, the order in which they start, and the order in which they stop.
//!
//! | file | question |
//! |---|---|
//! | `builder`, `output` | what can be asked of a server |
//! | `start` | which threads there are, in the order of their start |
//! | `journal` | those of the journal |
//! | `mod` | what can be done with a running one |
//! | `stop` | how it stops |
//! | `reload` | what can be changed of a running one |
//! | `outputs`, `prepared_outputs` | its outputs with their workers, and how they are changed |
//! | `feeder` | how the program itself brings updates |
//! | `files` | which files are opened anew once they were renamed |
//! | `threads` | how its threads are started |
//! | `watch` | what is checked a few times a second, such as files of certificates |
//! | `admin` | what is served to probes and operators |
//! | `health` | whether the server works and takes updates |
//! | `hangs` | how hanging calls are reported |
//! | `view` | what pages of the program see of it |

pub(crate) mod admin;
mod builder;
mod feeder;
mod files;
pub(crate) mod hangs;
pub(crate) mod health;
mod journal;
mod output;
mod outputs;
mod prepared_outputs;
mod reload;
mod start;
mod stop;
mod threads;
pub(crate) mod view;
mod watch;

use std::{
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Instant,
};

use futures_channel::mpsc;

pub use self::{
    admin::{AdminPage, AdminPages, AdminRequest},
    builder::ServerBuilder,
    feeder::{FeedError, Inlet},
    journal::{not_owned, unreadable},
    output::Output,
    prepared_outputs::PreparedOutputs,
    reload::Reload,
    view::{Hang, QueueSize, ServerView},
};
use self::{
    files::Files, journal::JournalThreads, outputs::RunningOutputs, reload::ReloadLock,
    watch::Watcher,
};
use crate::{
    bots::BotRegistry,
    config::{Config, DriverKind, Listener},
    control::{Control, OutputState},
    delivery::{handler::Handler, sink::Sink, stream::StreamSender},
    dispatch::Outputs,
    io::{
        cpu_affinity::Placement, listener::AcceptorConfig, peer_limit::PeerConnectionLimit,
        shard::Message,
    },
    observe::{
        incidents::Incidents,
        metrics::{Metrics, Report},
        recent::RecentRequests,
    },
    server::{admin::AdminThread, health::Health},
};

/// Where the updates go.
enum Destination {
    Handler(Arc<dyn Handler>),
    Sink(Arc<dyn Sink>),
    Stream(StreamSender),
}

/// A running server.
///
/// Dropping it stops it as [`stop`](Self::stop) does, and nothing of it is left afterwards. In
/// async code that is done by a thread of its own, since waiting would hold up other tasks: where
/// the updates are taken as a [stream](ServerBuilder::updates), and in a tokio runtime. A process
/// that ends at once ends such a stop with it: await [`stop_async`](Self::stop_async) before.
#[derive(Debug)]
pub struct Server {
    acceptor: Option<(UnixStream, JoinHandle<()>)>,
    admin: Option<AdminThread>,
    control: Arc<Control>,
    driver: DriverKind,
    files: Files,
    /// Reports what hangs; `None` once the server has stopped.
    hangs: Option<Watcher>,
    health: Arc<Health>,
    incidents: Arc<Incidents>,
    /// Where the program's own updates come in.
    inlet: Inlet,
    /// False while it is being started.
    is_started: bool,
    journal: Option<JournalThreads>,
    outputs: Outputs,
    listeners: Vec<Listener>,
    local_addrs: Vec<SocketAddr>,
    metrics: Metrics,
    notices: Vec<String>,
    acceptor_config: Arc<AcceptorConfig>,
    placement: Placement,
    recent: Arc<RecentRequests>,
    registry: Arc<BotRegistry>,
    permits: Arc<PeerConnectionLimit>,
    /// What the server runs by now.
    settings: Arc<Mutex<Config>>,
    /// Held by the thread that reloads.
    reload_lock: ReloadLock,
    running: Arc<RunningOutputs>,
    shards: Vec<mpsc::Sender<Message>>,
    shard_threads: Vec<JoinHandle<()>>,
    started_at: Instant,
    stopped: bool,
    /// `None` where nothing is watched, and once the server stops.
    watcher: Option<Watcher>,
}

/// Cuts a stop short, from any thread.
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<Control>);

impl ShutdownHandle {
    /// From now on a stop waits for nothing: connections are cut, and what is not handled is
    /// abandoned, counted and listed.
    pub fn force(&self) {
        self.0.force();
    }

    /// True once [`force`](Self::force) has been called on this or another handle of the server.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.0.is_forced()
    }
}

impl Server {
    /// A server to be: with the defaults of [`Config`] and no bot, certificate or handler.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// The address that is listened on, with the port that was found where 0 was asked for; the
    /// first one of several. `None` where there is none: there are only Unix sockets, or no
    /// listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs.first().copied()
    }

    /// All addresses that are listened on, the main one first; Unix sockets are not among them.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// All places where the server listens, the main one first, with the addresses that were found.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The address of the operator's listener, with the port that was found where 0 was asked for;
    /// `None` where there is none.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminThread::addr)
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

    /// The states of the outputs, in their order: of those that are in force, and of those that
    /// were [taken out](Self::retire_output) and have not ended. A program that takes the stream of
    /// one says there whether it takes anything: probes and the report tell it.
    pub fn outputs(&self) -> impl Iterator<Item = &Arc<OutputState>> {
        self.health.outputs().filter(|output| !output.is_over())
    }

    /// Notices for the operator about this start, such as why io_uring could not be used.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// False where the server is broken for good: it has met an error from which it cannot recover,
    /// or a shard gives no sign of life. `/healthz` says so as well, with the reason.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health.failure(Instant::now()).is_none()
    }

    /// Counters and latencies so far; no thread waits for it.
    #[must_use]
    pub fn report(&self) -> Report {
        self.view().report_of(self.stopped)
    }

    /// What the program's pages see.
    fn view(&self) -> ServerView {
        ServerView {
            driver: self.driver,
            health: Arc::clone(&self.health),
            incidents: Arc::clone(&self.incidents),
            metrics: self.metrics.clone(),
            placement: self.placement.clone(),
            recent: Arc::clone(&self.recent),
            registry: Arc::clone(&self.registry),
            running: Arc::clone(&self.running),
            settings: Arc::clone(&self.settings),
            started_at: self.started_at,
        }
    }

    /// The stages' histograms, interval by interval. It may outlive the server.
    #[doc(hidden)]
    pub fn intervals(&self) -> crate::observe::metrics::Intervals {
        self.metrics.intervals()
    }

    /// The state of the bots' webhooks. It may outlive the server.
    #[doc(hidden)]
    pub fn webhooks(&self) -> Arc<crate::observe::metrics::Webhooks> {
        Arc::clone(&self.metrics.webhooks)
    }

    /// A writer of incidents. It may outlive the server.
    #[doc(hidden)]
    pub fn incident_writer(&self) -> crate::observe::incidents::IncidentWriter {
        self.incidents.writer()
    }

    /// All bots since the start, and whether they are active. It may outlive the server.
    #[doc(hidden)]
    pub fn registry(&self) -> Arc<BotRegistry> {
        Arc::clone(&self.registry)
    }

    /// The counters of the polling. It may outlive the server.
    #[doc(hidden)]
    pub fn polls(&self) -> Arc<crate::observe::metrics::Polls> {
        Arc::clone(&self.metrics.polls)
    }

    /// Feeds an update in as if it had come over the wire for the bot named `bot`, but without a
    /// look at whether its id has been seen: a dead letter, or one kept elsewhere. With a journal
    /// it is as safe as an update of the wire when this returns.
    ///
    /// # Errors
    /// No such bot, no update, a limit that is reached or a journal that takes nothing; then it was
    /// not taken.
    pub fn feed(&self, bot: &str, update: &[u8]) -> Result<(), FeedError> {
        self.inlet.feed(bot, update)
    }

    /// Takes updates that the program brings for the bot named `bot`, such as those of getUpdates,
    /// in their order, as if they had come over the wire: one whose id has been seen is dropped.
    /// With a journal they are written together, and as safe as its mode promises when this
    /// returns.
    ///
    /// Returns how many were taken, from the first one on. Where that is fewer than all, the next
    /// one was refused; a call that begins with it returns why.
    ///
    /// # Errors
    /// Why the first one was not taken: no such bot, no update, a limit that is reached or a
    /// journal that takes nothing.
    ///
    /// ```
    /// use ringhook::{Bot, Outcome, Server, Update};
    ///
    /// let server = Server::builder()
    ///     .without_listeners()
    ///     .bot(Bot::without_secret("shop", "/webhook"))
    ///     .handler(|_: &Update| Outcome::Done)
    ///     .start()?;
    /// let updates = [r#"{"update_id":1}"#, r#"{"update_id":2}"#, r#"{"update_id":1}"#];
    /// assert_eq!(server.deliver("shop", &updates), Ok(3));
    /// let report = server.stop();
    /// assert_eq!((report.updates_handled, report.updates_duplicate), (2, 1));
    /// # Ok::<(), ringhook::Error>(())
    /// ```
    pub fn deliver<U: AsRef<[u8]>>(&self, bot: &str, updates: &[U]) -> Result<usize, FeedError> {
        self.inlet.deliver(bot, updates)
    }

    /// What is counted of the polling for the bot named `bot`, and shown in the report. There is
    /// one of them for each name.
    #[doc(hidden)]
    pub fn poll_metrics(&self, bot: &str) -> Arc<crate::observe::metrics::PollMetrics> {
        self.metrics.polls.of(bot)
    }

    /// Where threads of the program bring updates. It may outlive the server, and takes nothing
    /// then.
    #[doc(hidden)]
    pub fn inlet(&self) -> Inlet {
        self.inlet.clone()
    }

    /// A handle by which another thread can cut a [`stop`](Self::stop) short.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle(Arc::clone(&self.control))
    }

    /// Opens the sink's file and that of the dead letters anew where they were renamed or removed,
    /// as logrotate does it. Without it the next batch of updates finds that out, and is then
    /// written to both the renamed file and the new one. Never waits.
    pub fn reopen(&self) {
        self.files.reopen();
    }
}
