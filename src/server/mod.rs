//! A server: its threads, the order in which they start, and the order in which they stop.
//!
//! | file | question |
//! |---|---|
//! | `builder` | what can be asked of a server |
//! | `start` | which threads there are, in the order of their start |
//! | `journal` | those of the journal |
//! | `mod` | what can be done with a running one, and how it stops |
//! | `reload` | what can be changed of a running one |
//! | `feeder` | updates that the program itself brings |
//! | `files` | files that are opened anew once they were renamed |
//! | `watch` | what is looked at a few times a second, such as files of certificates |

mod builder;
mod feeder;
mod files;
mod journal;
mod reload;
mod start;
mod watch;

use std::{
    mem,
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_channel::mpsc;

#[cfg(not(feature = "cli"))]
use self::feeder::Inlet;
pub use self::{
    builder::{RecoveryProgress, Server},
    feeder::FeedError,
    reload::Reload,
};
#[cfg(feature = "cli")]
pub(crate) use self::{
    feeder::Inlet,
    journal::{not_owned, unreadable},
};
use self::{files::Files, journal::JournalThreads, watch::Watcher};
use crate::{
    acceptor::Orders,
    admin::AdminThread,
    config::{Config, Listener},
    control::{self, Control},
    dispatch::Scheduler,
    handler::Handler,
    health::Health,
    incidents::Incidents,
    metrics::{Metrics, Report, SlowReport},
    placement::Placement,
    roster::Roster,
    runtime::DriverKind,
    seats::Seats,
    shard::Message,
    sink::Sink,
    stream::StreamSender,
    update::BotId,
};

/// Time that threads get to end after they were told to leave everything, and in a hurry.
const ABORT_GRACE: Duration = Duration::from_secs(1);
const HURRY_GRACE: Duration = Duration::from_millis(200);
/// How often a stop looks whether the threads have ended.
const STOP_STEP: Duration = Duration::from_millis(5);

/// Where the updates go.
enum Destination {
    Handler(Arc<dyn Handler>),
    Sink(Arc<dyn Sink>),
    Stream(StreamSender),
}

/// A running server. Dropping it stops it as [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct ServerHandle {
    acceptor: Option<(UnixStream, JoinHandle<()>)>,
    admin: Option<AdminThread>,
    control: Arc<Control>,
    driver: DriverKind,
    files: Files,
    /// Says what hangs; `None` once the server has stopped.
    hangs: Option<Watcher>,
    health: Arc<Health>,
    incidents: Arc<Incidents>,
    /// Where the program's own updates come in.
    inlet: Inlet,
    journal: Option<JournalThreads>,
    scheduler: Arc<Scheduler>,
    listeners: Vec<Listener>,
    local_addrs: Vec<SocketAddr>,
    metrics: Metrics,
    notices: Vec<String>,
    orders: Arc<Orders>,
    placement: Placement,
    roster: Arc<Roster>,
    seats: Arc<Seats>,
    /// What the server runs by now.
    settings: Mutex<Config>,
    shards: Vec<mpsc::Sender<Message>>,
    shard_threads: Vec<JoinHandle<()>>,
    started_at: Instant,
    stopped: bool,
    /// `None` where nothing is watched, and once the server stops.
    watcher: Option<Watcher>,
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

impl ServerHandle {
    /// The address that is listened on, with the port that was found where 0 was asked for; the first
    /// one of several. `0.0.0.0:0` where there are only Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        let none = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.local_addrs.first().copied().unwrap_or(none)
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

    /// What the operator should know about this start, such as why io_uring was not to be had.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// False where the server is broken for good: it has met an error from which it cannot recover, or a
    /// shard gives no sign of life. `/healthz` says so as well, with the reason.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.health.failure(Instant::now()).is_none()
    }

    /// Counters and latencies so far; no thread waits for it.
    #[must_use]
    pub fn report(&self) -> Report {
        let uptime = self.started_at.elapsed();
        let report = Report::of(&self.metrics, self.driver, uptime, self.stopped);
        let slow = SlowReport::of(&self.metrics, &self.roster, self.started_at);
        let Placement { shards: shard_cpus, workers: worker_cpus } = self.placement.clone();
        Report { slow, shard_cpus, worker_cpus, ..report }
    }

    /// The stages' histograms, interval by interval. It may outlive the server.
    #[cfg(feature = "cli")]
    pub(crate) fn intervals(&self) -> crate::metrics::Intervals {
        self.metrics.intervals()
    }

    /// Where what is known of the bots' webhooks is kept. It may outlive the server.
    #[cfg(feature = "cli")]
    pub(crate) fn webhooks(&self) -> Arc<crate::metrics::Webhooks> {
        Arc::clone(&self.metrics.webhooks)
    }

    /// A way to tell of incidents. It may outlive the server.
    #[cfg(feature = "cli")]
    pub(crate) fn incident_writer(&self) -> crate::incidents::IncidentWriter {
        self.incidents.writer()
    }

    /// All bots that there ever were, and whether they are heard of. It may outlive the server.
    #[cfg(feature = "cli")]
    pub(crate) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// What is counted of the polling. It may outlive the server.
    #[cfg(feature = "cli")]
    pub(crate) fn polls(&self) -> Arc<crate::metrics::Polls> {
        Arc::clone(&self.metrics.polls)
    }

    /// Feeds an update in as if it had come over the wire for the bot named `bot`, but without a
    /// look at whether its id has been seen: a dead letter, or one kept elsewhere. With a journal it
    /// is as safe as an update of the wire when this returns.
    ///
    /// # Errors
    /// No such bot, no update, a limit that is reached or a journal that takes nothing; then it was
    /// not taken.
    pub fn feed(&self, bot: &str, update: &[u8]) -> Result<(), FeedError> {
        self.inlet.feed(bot, update)
    }

    /// Takes updates that the program brings for the bot named `bot`, such as those of getUpdates, in
    /// their order, as if they had come over the wire: one whose id has been seen is dropped. With a
    /// journal they are written together, and as safe as its mode promises when this returns.
    ///
    /// Returns how many were taken, from the first one on. Where that is fewer than all, the next
    /// one was refused; a call that begins with it tells why.
    ///
    /// # Errors
    /// Why the first one was not taken: no such bot, no update, a limit that is reached or a journal
    /// that takes nothing.
    ///
    /// ```
    /// use ringhook::{Bot, Outcome, Server, Update};
    ///
    /// let server = Server::builder()
    ///     .without_listeners()
    ///     .bot(Bot::open("shop", "/webhook"))
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

    /// What is counted of the polling for the bot named `bot`, and shown in the report. There is one
    /// of them for each name.
    #[cfg(feature = "cli")]
    pub(crate) fn poll_metrics(&self, bot: &str) -> Arc<crate::metrics::PollMetrics> {
        self.metrics.polls.of(bot)
    }

    /// Where threads of the program bring updates. It may outlive the server, and takes nothing then.
    #[cfg(feature = "cli")]
    pub(crate) fn inlet(&self) -> Inlet {
        self.inlet.clone()
    }

    /// A handle by which another thread can cut a [`stop`](Self::stop) short.
    #[must_use]
    pub fn hurrier(&self) -> Hurrier {
        Hurrier(Arc::clone(&self.control))
    }

    /// Opens the sink's file and that of the dead letters anew where they were renamed or removed, as
    /// logrotate does it. Without it the next batch of updates finds out by itself, and is then
    /// written to both the renamed file and the new one. Never waits.
    pub fn reopen(&self) {
        self.files.reopen();
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
            let name = |bot: BotId| self.roster.name(bot).unwrap_or_default().to_owned();
            report.abandoned = left.map(|(bot, id)| (name(bot), id.get())).collect();
        }
        report
    }

    fn stop_threads(&mut self) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        let deadline = control::deadline(self.settings().drain_timeout);
        self.control.stop();
        let watcher: Vec<_> = self.watcher.take().into_iter().map(Watcher::stop).collect();
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
        self.end_intake(deadline);
        self.scheduler.close();
        let wake = || self.scheduler.wake_all();
        let hurried = || self.control.is_hurried();
        if !ended_by(&self.worker_threads, deadline, hurried, wake) {
            self.control.abandon();
            ended_by(&self.worker_threads, self.grace(), || false, wake);
        }
        if let Some(journal) = &self.journal {
            journal.journal.stop();
            ended_by(&journal.housekeeper, deadline.max(self.grace()), || false, || {});
        }
        // It ends at once, unless a file system that does not answer keeps it.
        ended_by(&watcher, self.grace(), || false, || {});
        // It has told what the stop waited for.
        let hangs: Vec<_> = self.hangs.take().into_iter().map(Watcher::stop).collect();
        ended_by(&hangs, self.grace(), || false, || {});
        self.incidents.close();
        // The last of all: it tells probes of the stop.
        drop(self.admin.take());
    }

    /// Ends the ways into the journal, and the one back: what has not gone to the workers stays
    /// there for the next start.
    fn end_intake(&self, deadline: Instant) {
        // Whoever could still send to the committer is gone then, so it ends.
        self.inlet.close();
        let Some(journal) = &self.journal else { return };
        let hurried = || self.control.is_hurried();
        let wake = || journal.journal.wake_committer();
        if !ended_by(&journal.committer, deadline, hurried, wake) {
            // It ends by itself, after a last sync. Until then the directory is locked, and a server
            // that this process starts next would not get it.
            ended_by(&journal.committer, self.grace(), || false, wake);
        }
        self.control.end_reading();
        ended_by(&journal.read_back, self.grace(), || false, || journal.backlog.wake());
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
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop_threads();
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
