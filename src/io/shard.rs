//! A shard: one thread, one CPU, one event loop, and all that its connections share.

mod background;
mod handshake_scheduler;
mod handshakes;
mod sweep;
mod watch;

use std::{
    cell::{Cell, Ref, RefCell},
    future::poll_fn,
    net::IpAddr,
    os::fd::{OwnedFd, RawFd},
    pin::Pin,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use futures_channel::mpsc;
use futures_core::Stream as _;
use rustls::ServerConfig;
use slab::Slab;

use self::{
    background::Background, handshake_scheduler::HandshakeScheduler, handshakes::Handshakes,
    sweep::sweep, watch::Watch,
};
pub(crate) use self::{
    handshakes::HandshakePlace,
    watch::{End, Phase, Registration},
};
use crate::{
    bots::{BotId, BotRegistry},
    config::{DriverKind, Limits},
    control::Heartbeat,
    dispatch::Dispatcher,
    io::{
        config_snapshot::ConfigSnapshot,
        listener::Terms,
        peer_limit::{ConnectionPermit, PeerConnectionLimit},
        runtime::{self, Rounds, Runtime, Shutdown, Submitted},
    },
    journal::Intake,
    observe::{
        incidents::{IncidentKind, IncidentWriter},
        metrics::ShardMetrics,
    },
    outcome::TurnedAway,
    proto::{
        answers::Answers,
        update::{ParserLimits, Recycled, Rejected, Update, UpdateBody, UpdateParser},
    },
    tls::{TlsConfig, recv_buffer::BufferPool},
};

/// Memory taken back from the workers at once, where the parser has none left.
const RECLAIM_UPDATES: usize = 64;
/// Time for a handshake, or a first request, that a stop finds unfinished.
const DRAIN_HANDSHAKE: Duration = Duration::from_millis(600);
/// Time for the next request of a connection that a stop finds busy: its last one came less than
/// [`BUSY`] ago. A request on its way that meets a FIN is an error at the sender, one that is answered
/// with `Connection: close` is not.
const DRAIN_BUSY: Duration = Duration::from_millis(300);
const BUSY: Duration = Duration::from_secs(1);

/// How long a connection must have been idle to be closed for a new one. In a shorter time a peer's
/// next request may be on its way, and strangers could push out the busiest of senders.
pub(crate) const IDLE_ENOUGH: Duration = Duration::from_secs(1);
/// Idle connections kept from one look at all, and the time until the next one: with ever new peers
/// at the door, a look for each of them would take all of the shard's time.
const IDLE_CANDIDATES: usize = 1024;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What other threads tell a shard.
#[derive(Debug)]
pub(crate) enum Message {
    /// Cut all connections now.
    Abort,
    /// Serve this connection.
    Connection(AcceptedConnection),
    /// Finish the requests in flight, close everything else, then end.
    Drain,
    /// Serve this connection in place of the one that has been idle longest, or close it where none
    /// has been for [`IDLE_ENOUGH`].
    ReplaceIdle(AcceptedConnection),
    /// Serve by this from now on.
    ConfigSnapshot(Arc<ConfigSnapshot>),
}

/// A connection on its way from the acceptor to its shard.
#[derive(Debug)]
pub(crate) struct AcceptedConnection {
    pub(crate) accepted_at: Instant,
    /// Where it comes from, an IPv4 address never in IPv6 form; `None` where that is a Unix socket.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) permit: ConnectionPermit,
    pub(crate) socket: OwnedFd,
    /// Those of its listener.
    pub(crate) terms: Arc<Terms>,
}

/// Since when a shard's connection that has been idle longest is so. The shard tells it now and then,
/// the acceptor reads it.
#[derive(Debug)]
pub(crate) struct LongestIdle {
    epoch: Instant,
    /// Since the epoch; `u64::MAX` where none is idle.
    millis: AtomicU64,
}

impl Default for LongestIdle {
    fn default() -> Self {
        Self::from_epoch(Instant::now())
    }
}

impl LongestIdle {
    /// What is told of times before `epoch` counts as `epoch`.
    pub(crate) fn from_epoch(epoch: Instant) -> Self {
        Self { epoch, millis: AtomicU64::new(u64::MAX) }
    }

    pub(crate) fn tell(&self, since: Option<Instant>) {
        // Rounded up: who is idle for long enough by this is so by the shard's clock.
        let millis = since.map_or(u64::MAX, |since| {
            u64::try_from(since.saturating_duration_since(self.epoch).as_millis())
                .map_or(u64::MAX, |millis| millis.saturating_add(1))
        });
        self.millis.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        match self.millis.load(Ordering::Relaxed) {
            u64::MAX => None,
            millis => self.epoch.checked_add(Duration::from_millis(millis)),
        }
    }
}

/// What a shard is made of; moves to the shard's thread.
pub(crate) struct Seed {
    pub(crate) idle: Arc<LongestIdle>,
    pub(crate) incidents: IncidentWriter,
    pub(crate) snapshot: Arc<ConfigSnapshot>,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) metrics: Arc<ShardMetrics>,
    /// Connections handed to this shard and not ended yet; the acceptor chooses by it.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) heartbeat: Arc<Heartbeat>,
    /// Memory that comes back from the workers.
    pub(crate) returns: Receiver<Recycled>,
    pub(crate) registry: Arc<BotRegistry>,
    pub(crate) permits: Arc<PeerConnectionLimit>,
    /// `None` where no listener speaks it.
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) ingest_path: IngestPath,
}

/// How updates get from a shard to the workers.
pub(crate) enum IngestPath {
    /// By way of the journal: a 200 waits for the record.
    Journal(Intake),
    /// Straight into their queues.
    Memory(Dispatcher),
}

/// One thread's connections and what they share. Never leaves its thread.
pub(crate) struct Shard {
    /// Updates acknowledged on connections that had had an answer before.
    pub(crate) answered_again: Cell<u64>,
    pub(crate) answers: Answers,
    pub(crate) driver: DriverKind,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) parser: RefCell<UpdateParser>,
    pub(crate) registry: Arc<BotRegistry>,
    pub(crate) permits: Arc<PeerConnectionLimit>,
    /// Memory for received bytes that no request has taken yet, between two connections.
    pub(crate) buffer_pool: BufferPool,
    pub(crate) handshake_scheduler: HandshakeScheduler,
    pub(crate) ingest_path: IngestPath,
    background: Rc<Background>,
    connections: RefCell<Slab<Rc<Watch>>>,
    draining: Cell<bool>,
    handshakes: Handshakes,
    idle: Arc<LongestIdle>,
    /// Who was idle when last looked for, the longest last: since when, and the place.
    idle_candidates: RefCell<Vec<(Instant, usize)>>,
    incidents: IncidentWriter,
    snapshot: RefCell<Arc<ConfigSnapshot>>,
    looked_at: Cell<Option<Instant>>,
    /// Wakes the shard's main task when the last connection has ended.
    main: RefCell<Option<Waker>>,
    open: Arc<AtomicUsize>,
    heartbeat: Arc<Heartbeat>,
    returns: Receiver<Recycled>,
    tls: Option<Arc<ServerConfig>>,
    /// Connections whose task has not ended.
    tasks: Cell<usize>,
}

impl Seed {
    /// Runs the shard on `runtime` until it is told to drain and its last connection has ended.
    pub(crate) fn run(self, mut runtime: Runtime, driver: DriverKind) {
        let depth_max = self.snapshot.limits.json_depth;
        let parser = UpdateParser::new(ParserLimits { depth_max, ..ParserLimits::default() });
        let shard = Rc::new(Shard {
            answered_again: Cell::default(),
            answers: Answers::default(),
            driver,
            metrics: self.metrics,
            parser: RefCell::new(parser),
            registry: self.registry,
            permits: self.permits,
            buffer_pool: BufferPool::default(),
            handshake_scheduler: HandshakeScheduler::default(),
            ingest_path: self.ingest_path,
            background: Rc::default(),
            connections: RefCell::default(),
            draining: Cell::new(false),
            handshakes: Handshakes::default(),
            idle: self.idle,
            idle_candidates: RefCell::default(),
            incidents: self.incidents,
            snapshot: RefCell::new(self.snapshot),
            looked_at: Cell::default(),
            main: RefCell::default(),
            open: self.open,
            heartbeat: self.heartbeat,
            returns: self.returns,
            tls: self.tls.as_ref().map(TlsConfig::rustls),
            tasks: Cell::new(0),
        });
        let mut mailbox = self.mailbox;
        // Whatever becomes of its tasks, nothing more comes of it: the committer ends without it.
        let closing = Closing(&shard.ingest_path);
        runtime.block_on(async {
            let background = &shard.background;
            // They hold the shard weakly, and over no wait: after a panic they must not keep it.
            background.spawn(end_rounds(Rc::downgrade(&shard), Submitted::new(driver).ok()));
            background.spawn(pace(Rc::downgrade(&shard), Rounds::new(driver).ok()));
            background.spawn(sweep(Rc::downgrade(&shard), Rounds::new(driver).ok()));
            poll_fn(|context| shard.poll_mailbox(&mut mailbox, context)).await;
            background.end().await;
        });
        shard.heartbeat.end();
        drop(closing);
        if let IngestPath::Memory(dispatcher) = &shard.ingest_path {
            dispatcher.wake_workers();
        }
    }
}

/// Closes a shard's way into the journal when it is dropped.
struct Closing<'a>(&'a IngestPath);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if let IngestPath::Journal(intake) = self.0 {
            intake.close();
        }
    }
}

impl Shard {
    /// Takes messages; ready when the shard is draining and has no connection left.
    fn poll_mailbox(
        self: &Rc<Self>,
        mailbox: &mut mpsc::Receiver<Message>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            match Pin::new(&mut *mailbox).poll_next(context) {
                Poll::Ready(Some(Message::Connection(accepted))) => self.begin(accepted),
                Poll::Ready(Some(Message::ReplaceIdle(accepted))) => {
                    if self.evict_idle() {
                        self.begin(accepted);
                    } else {
                        // Before the peer can know.
                        self.turned_away(accepted.peer, TurnedAway::Connections);
                        drop(accepted);
                        self.open.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                Poll::Ready(Some(Message::ConfigSnapshot(snapshot))) => {
                    self.parser.borrow_mut().set_depth_max(snapshot.limits.json_depth);
                    self.snapshot.replace(snapshot);
                }
                Poll::Ready(Some(Message::Drain)) => self.drain(),
                Poll::Ready(Some(Message::Abort)) => {
                    self.drain();
                    self.shutdown_all();
                }
                Poll::Ready(None) => {
                    self.drain();
                    break;
                }
                Poll::Pending => break,
            }
        }
        if self.draining.get() && self.tasks.get() == 0 {
            return Poll::Ready(());
        }
        *self.main.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Closes the connection that has been idle longest; false where none has been for
    /// [`IDLE_ENOUGH`], or none was found a moment ago.
    fn evict_idle(&self) -> bool {
        let (connections, mut idle_candidates) =
            (self.connections.borrow(), self.idle_candidates.borrow_mut());
        let now = Instant::now();
        let may_look = |at: Instant| now.saturating_duration_since(at) >= LOOK_PAUSE;
        if idle_candidates.is_empty() && self.looked_at.get().is_none_or(may_look) {
            self.looked_at.set(Some(now));
            let idle = connections.iter();
            idle_candidates
                .extend(idle.filter_map(|(key, watch)| Some((watch.idle_since()?, key))));
            if idle_candidates.len() > IDLE_CANDIDATES {
                idle_candidates.select_nth_unstable(IDLE_CANDIDATES);
                idle_candidates.truncate(IDLE_CANDIDATES);
            }
            idle_candidates.sort_unstable();
            idle_candidates.reverse();
        }
        // Who has had a request since then, or has gone, is passed over.
        let mut is_found = false;
        while let Some((since, key)) = idle_candidates.last().copied() {
            let watch = connections.get(key);
            let watch = watch.filter(|watch| watch.idle_since() == Some(since));
            if let Some(watch) = watch {
                if is_found || now.saturating_duration_since(since) < IDLE_ENOUGH {
                    break;
                }
                watch.end(End::Displaced, now);
                is_found = true;
            }
            idle_candidates.pop();
        }
        // Where nobody is left, the sweep tells before the next one is idle for long enough.
        self.idle.tell(idle_candidates.last().map(|(since, _)| *since));
        is_found
    }

    fn drain(&self) {
        if !self.draining.replace(true) {
            self.dismiss_waiting();
            let now = Instant::now();
            for (_, watch) in &*self.connections.borrow() {
                let is_busy = || {
                    let since = watch.idle_since();
                    since.is_some_and(|since| now.saturating_duration_since(since) < BUSY)
                };
                match watch.phase.get() {
                    // Who has connected and says nothing must not hold up the stop.
                    Phase::Handshake => watch.hasten(now + DRAIN_HANDSHAKE),
                    // Who has just come has a request to make, or would not have come.
                    Phase::Idle if is_busy() && watch.is_fresh() => {
                        watch.hasten(now + DRAIN_HANDSHAKE);
                    }
                    Phase::Idle if is_busy() => watch.hasten(now + DRAIN_BUSY),
                    // Bytes that have arrived are still read, so a request on its way is answered.
                    Phase::Idle => runtime::shutdown(watch.fd, Shutdown::Read),
                    _ => {}
                }
            }
            // The sweep, whose next look would be too late.
            self.background.wake();
        }
    }

    /// Until when a connection that has been answered at `answered_at` may be silent during a stop.
    pub(crate) fn last_word_deadline(answered_at: Instant) -> Instant {
        answered_at + DRAIN_BUSY
    }

    /// Until when the handshake of a connection accepted at `accepted_at` may take.
    pub(crate) fn handshake_deadline(&self, accepted_at: Instant) -> Instant {
        let timeout = self.limits().handshake_timeout;
        self.hastened(accepted_at + timeout)
    }

    /// `deadline`, or the sooner one that a stop leaves to who has not made a request yet.
    pub(crate) fn hastened(&self, deadline: Instant) -> Instant {
        if self.draining.get() { deadline.min(Instant::now() + DRAIN_HANDSHAKE) } else { deadline }
    }

    /// Takes note of something that `peer` did wrong; `detail` is a fixed word or a status.
    #[cold]
    pub(crate) fn note(
        &self,
        kind: IncidentKind,
        peer: Option<IpAddr>,
        bot: Option<Arc<str>>,
        detail: &'static str,
    ) {
        self.incidents.note(kind, peer, bot, detail);
    }

    /// Counts and notes a connection from `peer` that is not served.
    #[cold]
    pub(crate) fn turned_away(&self, peer: Option<IpAddr>, why: TurnedAway) {
        self.metrics.turned_away(why);
        self.incidents.turned_away(peer, why);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    fn shutdown_all(&self) {
        for (_, watch) in &*self.connections.borrow() {
            runtime::shutdown(watch.fd, Shutdown::Both);
        }
    }

    /// Enters a connection into the sweep for as long as the result lives.
    pub(crate) fn register(&self, fd: RawFd) -> Registration<'_> {
        Registration::new(self, fd)
    }

    /// To be called by each connection's task as its last act.
    pub(crate) fn connection_ended(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.tasks.set(self.tasks.get().saturating_sub(1));
        if self.draining.get()
            && self.tasks.get() == 0
            && let Some(main) = self.main.borrow_mut().take()
        {
            main.wake();
        }
    }

    /// What is served by now. To be asked anew for each request, and not to be kept over an await.
    #[inline]
    pub(crate) fn snapshot(&self) -> Ref<'_, ConfigSnapshot> {
        Ref::map(self.snapshot.borrow(), |snapshot| &**snapshot)
    }

    /// The bounds that hold now, likewise.
    #[inline]
    pub(crate) fn limits(&self) -> Ref<'_, Limits> {
        Ref::map(self.snapshot.borrow(), |snapshot| &snapshot.limits)
    }

    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Takes memory back from the workers where the parser has none left.
    pub(crate) fn reclaim(&self) {
        let mut parser = self.parser.borrow_mut();
        if parser.spares().0 == 0 {
            for recycled in self.returns.try_iter().take(RECLAIM_UPDATES) {
                parser.keep(recycled);
            }
        }
    }

    /// Parses `body` in place.
    ///
    /// # Errors
    /// Where it is no update; its memory has been kept.
    pub(crate) fn parse(
        &self,
        body: UpdateBody,
        bot: BotId,
        received_at: Instant,
    ) -> Result<Update, crate::proto::update::ParseError> {
        let mut parser = self.parser.borrow_mut();
        parser.parse(body, bot, received_at).map_err(|Rejected { error, body, .. }| {
            parser.keep_body(body);
            error
        })
    }
}

/// Behind each round of ready connections: wakes the workers, or submits what was gathered.
async fn end_rounds(shard: Weak<Shard>, submitted: Option<Submitted>) {
    loop {
        let mut is_over = false;
        poll_fn(|context| {
            let shard = shard.upgrade().filter(|shard| !shard.background.is_over());
            let Some(shard) = shard else {
                is_over = true;
                return Poll::Ready(());
            };
            match &shard.ingest_path {
                IngestPath::Memory(dispatcher) => {
                    dispatcher.set_waker(context.waker());
                    if dispatcher.has_news() { Poll::Ready(()) } else { Poll::Pending }
                }
                IngestPath::Journal(intake) => {
                    intake.poll(context, |memory| shard.parser.borrow_mut().keep(memory));
                    Poll::Pending
                }
            }
        })
        .await;
        if is_over {
            return;
        }
        // The answers go first: waking a worker is a system call, and one that shares this CPU may take
        // it at once.
        if let Some(submitted) = &submitted {
            submitted.all().await;
        }
        let Some(shard) = shard.upgrade() else { return };
        if let IngestPath::Memory(dispatcher) = &shard.ingest_path {
            dispatcher.wake_workers();
        }
    }
}

/// Lets the handshakes go on, round by round, whenever the network has been looked at.
async fn pace(shard: Weak<Shard>, mut rounds: Option<Rounds>) {
    // Updates answered on connections that have had others before, and when there were last more of them:
    // where each connection makes one request, handshakes are what there is to do.
    let (mut answered, mut at_work_at) = (0, None::<Instant>);
    loop {
        poll_fn(|context| match shard.upgrade() {
            Some(shard) if !shard.background.is_over() => {
                shard.handshake_scheduler.poll_begun(context)
            }
            _ => Poll::Ready(()),
        })
        .await;
        let began_at = Instant::now();
        runtime::give_way(&mut rounds).await;
        let settle = |shard: &Shard| {
            let now = Instant::now();
            let count = shard.answered_again.get();
            if count != answered {
                (answered, at_work_at) = (count, Some(now));
            }
            let is_shared = at_work_at
                .is_some_and(|at| now.saturating_duration_since(at) < handshake_scheduler::AT_WORK);
            let others = now
                .saturating_duration_since(began_at)
                .saturating_sub(shard.handshake_scheduler.spent());
            let pause = shard.handshake_scheduler.settle(others, is_shared);
            pause.map(|pause| (pause, Rc::clone(&shard.background)))
        };
        let Some(pause) = shard.upgrade().as_deref().map(settle) else { return };
        if let Some((pause, background)) = pause {
            background.pause(pause, || false).await;
        }
        let Some(shard) = shard.upgrade() else { return };
        shard.handshake_scheduler.end_round();
        if shard.background.is_over() {
            return;
        }
    }
}
