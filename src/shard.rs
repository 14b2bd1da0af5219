//! A shard: one thread, one CPU, one event loop, and all that its connections share.

use std::{
    cell::{Cell, Ref, RefCell},
    future::poll_fn,
    net,
    os::fd::RawFd,
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

use crate::{
    config::Limits,
    connection,
    dispatch::Dispatcher,
    journal::Intake,
    live::Live,
    metrics::ShardMetrics,
    runtime::{self, DriverKind, Runtime, Shutdown},
    seats::Seat,
    tls::TlsConfig,
    update::{BotId, ParserLimits, Recycled, Rejected, Update, UpdateBody, UpdateParser},
};

/// Memory taken back from the workers at once, where the parser has none left.
const RECLAIM_UPDATES: usize = 64;
/// The sweep looks at every deadline this often at the most and at the least.
const SWEEP: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Time that a connection whose deadline has passed gets to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Time for a handshake that a stop finds unfinished.
const DRAIN_HANDSHAKE: Duration = Duration::from_secs(1);

/// How long a connection must have been idle to be closed for a new one. In a shorter time a peer's
/// next request may be on its way, and strangers could push out the busiest of senders.
pub(crate) const IDLE_ENOUGH: Duration = Duration::from_secs(1);
/// Idle connections kept from one look at all, and the time until the next one: with ever new peers
/// at the door, a look for each of them would take all of the shard's time.
const IDLERS: usize = 1024;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What other threads tell a shard.
#[derive(Debug)]
pub(crate) enum Message {
    /// Cut all connections now.
    Abort,
    /// Serve this connection.
    Connection(Newcomer),
    /// Finish the requests in flight, close everything else, then end.
    Drain,
    /// Serve this connection in place of the one that has been idle longest, or close it where none
    /// has been for [`IDLE_ENOUGH`].
    Instead(Newcomer),
    /// Serve by this from now on.
    Live(Arc<Live>),
}

/// A connection on its way from the acceptor to its shard.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) accepted_at: Instant,
    pub(crate) seat: Seat,
    pub(crate) socket: net::TcpStream,
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
    pub(crate) live: Arc<Live>,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) metrics: Arc<ShardMetrics>,
    /// Connections handed to this shard and not ended yet; the acceptor chooses by it.
    pub(crate) open: Arc<AtomicUsize>,
    /// Memory that comes back from the workers.
    pub(crate) returns: Receiver<Recycled>,
    pub(crate) tls: TlsConfig,
    pub(crate) way: Way,
}

/// How updates get from a shard to the workers.
pub(crate) enum Way {
    /// By way of the journal: a 200 waits for the record.
    Journal(Intake),
    /// Straight into their queues.
    Memory(Dispatcher),
}

/// One thread's connections and what they share. Never leaves its thread.
pub(crate) struct Shard {
    pub(crate) driver: DriverKind,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) parser: RefCell<UpdateParser>,
    pub(crate) way: Way,
    connections: RefCell<Slab<Rc<Watch>>>,
    draining: Cell<bool>,
    idle: Arc<LongestIdle>,
    /// Who was idle when last looked for, the longest last: since when, and the place.
    idlers: RefCell<Vec<(Instant, usize)>>,
    live: RefCell<Arc<Live>>,
    looked_at: Cell<Option<Instant>>,
    /// Wakes the shard's main task when the last connection has ended.
    main: RefCell<Option<Waker>>,
    open: Arc<AtomicUsize>,
    returns: Receiver<Recycled>,
    tls: Arc<ServerConfig>,
    /// Connections whose task has not ended.
    tasks: Cell<usize>,
}

impl Seed {
    /// Runs the shard on `runtime` until it is told to drain and its last connection has ended.
    pub(crate) fn run(self, mut runtime: Runtime, driver: DriverKind) {
        let depth_max = self.live.limits.json_depth;
        let parser = UpdateParser::new(ParserLimits { depth_max, ..ParserLimits::default() });
        let shard = Rc::new(Shard {
            driver,
            metrics: self.metrics,
            parser: RefCell::new(parser),
            way: self.way,
            connections: RefCell::default(),
            draining: Cell::new(false),
            idle: self.idle,
            idlers: RefCell::default(),
            live: RefCell::new(self.live),
            looked_at: Cell::default(),
            main: RefCell::default(),
            open: self.open,
            returns: self.returns,
            tls: self.tls.rustls(),
            tasks: Cell::new(0),
        });
        let mut mailbox = self.mailbox;
        runtime.block_on(async {
            // Both hold the shard weakly: they end with it and must not keep it.
            runtime::spawn(end_rounds(Rc::downgrade(&shard)));
            runtime::spawn(sweep(Rc::downgrade(&shard)));
            poll_fn(|context| shard.poll_mailbox(&mut mailbox, context)).await;
        });
        if let Way::Memory(dispatcher) = &shard.way {
            dispatcher.wake_workers();
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
                Poll::Ready(Some(Message::Connection(newcomer))) => self.begin(newcomer),
                Poll::Ready(Some(Message::Instead(newcomer))) => {
                    if self.make_room() {
                        self.begin(newcomer);
                    } else {
                        drop(newcomer);
                        self.open.fetch_sub(1, Ordering::Relaxed);
                        self.metrics.turned_away.increment();
                    }
                }
                Poll::Ready(Some(Message::Live(live))) => {
                    self.parser.borrow_mut().set_depth_max(live.limits.json_depth);
                    self.live.replace(live);
                }
                Poll::Ready(Some(Message::Drain)) => self.drain(),
                Poll::Ready(Some(Message::Abort)) => {
                    self.drain();
                    self.shutdown_all(|_| Some(Shutdown::Both));
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

    fn begin(self: &Rc<Self>, newcomer: Newcomer) {
        self.tasks.set(self.tasks.get() + 1);
        runtime::spawn(connection::serve(Rc::clone(self), newcomer));
    }

    /// Closes the connection that has been idle longest; false where none has been for
    /// [`IDLE_ENOUGH`], or none was found a moment ago.
    fn make_room(&self) -> bool {
        let (connections, mut idlers) = (self.connections.borrow(), self.idlers.borrow_mut());
        let now = Instant::now();
        let may_look = |at: Instant| now.saturating_duration_since(at) >= LOOK_PAUSE;
        if idlers.is_empty() && self.looked_at.get().is_none_or(may_look) {
            self.looked_at.set(Some(now));
            let idle = connections.iter();
            idlers.extend(idle.filter_map(|(key, watch)| Some((watch.idle_since()?, key))));
            if idlers.len() > IDLERS {
                idlers.select_nth_unstable(IDLERS);
                idlers.truncate(IDLERS);
            }
            idlers.sort_unstable();
            idlers.reverse();
        }
        // Who has had a request since then, or has gone, is passed over.
        let mut is_found = false;
        while let Some((since, key)) = idlers.last().copied() {
            let watch = connections.get(key);
            let watch = watch.filter(|watch| watch.idle_since() == Some(since));
            if let Some(watch) = watch {
                if is_found || now.saturating_duration_since(since) < IDLE_ENOUGH {
                    break;
                }
                watch.displaced.set(true);
                watch.end(now);
                is_found = true;
            }
            idlers.pop();
        }
        // Where nobody is left, the sweep tells before the next one is idle for long enough.
        self.idle.tell(idlers.last().map(|(since, _)| *since));
        is_found
    }

    fn drain(&self) {
        if !self.draining.replace(true) {
            // Bytes that have arrived are still read, so a request on its way is answered.
            self.shutdown_all(|phase| (phase == Phase::Idle).then_some(Shutdown::Read));
            // Who has connected and says nothing must not hold up the stop.
            let latest = Instant::now() + DRAIN_HANDSHAKE;
            for (_, watch) in &*self.connections.borrow() {
                if watch.phase.get() == Phase::Handshake {
                    watch.deadline.set(watch.deadline.get().min(latest));
                }
            }
        }
    }

    /// Until when the handshake of a connection accepted at `accepted_at` may take.
    pub(crate) fn handshake_deadline(&self, accepted_at: Instant) -> Instant {
        let deadline = accepted_at + self.limits().handshake_timeout;
        if self.draining.get() { deadline.min(Instant::now() + DRAIN_HANDSHAKE) } else { deadline }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    fn shutdown_all(&self, how: impl Fn(Phase) -> Option<Shutdown>) {
        for (_, watch) in &*self.connections.borrow() {
            if let Some(how) = how(watch.phase.get()) {
                runtime::shutdown(watch.fd, how);
            }
        }
    }

    /// Enters a connection into the sweep for as long as the result lives.
    pub(crate) fn register(&self, fd: RawFd) -> Registration<'_> {
        let now = Instant::now();
        let watch = Rc::new(Watch {
            deadline: Cell::new(now + GOODBYE),
            displaced: Cell::new(false),
            expired: Cell::new(false),
            fd,
            idle_since: Cell::new(now),
            phase: Cell::new(Phase::Handshake),
        });
        let key = self.connections.borrow_mut().insert(Rc::clone(&watch));
        Registration { key, shard: self, watch }
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
    pub(crate) fn live(&self) -> Ref<'_, Live> {
        Ref::map(self.live.borrow(), |live| &**live)
    }

    /// The bounds that hold now.
    #[inline]
    pub(crate) fn limits(&self) -> Ref<'_, Limits> {
        Ref::map(self.live.borrow(), |live| &live.limits)
    }

    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls)
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
    ) -> Result<Update, crate::update::ParseError> {
        let mut parser = self.parser.borrow_mut();
        parser.parse(body, bot, received_at).map_err(|Rejected { error, body, .. }| {
            parser.keep_body(body);
            error
        })
    }
}

/// What a connection is waiting for, which decides what happens when it takes too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The peer has to take the answer.
    Answer,
    /// The peer has to close its side.
    Close,
    /// The TLS handshake.
    Handshake,
    /// The first byte of a request.
    Idle,
    /// The rest of a request.
    Request,
}

impl Phase {
    /// What ends the wait: reading alone, so that a last word can be said, or everything.
    fn shutdown(self) -> Shutdown {
        match self {
            Self::Idle | Self::Request => Shutdown::Read,
            Self::Answer | Self::Close | Self::Handshake => Shutdown::Both,
        }
    }
}

/// A connection as the sweep sees it.
#[derive(Debug)]
struct Watch {
    deadline: Cell<Instant>,
    /// Closed to make room for another.
    displaced: Cell<bool>,
    expired: Cell<bool>,
    fd: RawFd,
    /// Since when it is idle, where it is.
    idle_since: Cell<Instant>,
    phase: Cell<Phase>,
}

impl Watch {
    /// Ends the wait; then there is time to say goodbye.
    fn end(&self, now: Instant) {
        runtime::shutdown(self.fd, self.phase.get().shutdown());
        self.phase.set(Phase::Close);
        self.deadline.set(now + GOODBYE);
    }

    /// Since when the connection has been idle, if it is.
    fn idle_since(&self) -> Option<Instant> {
        (self.phase.get() == Phase::Idle).then(|| self.idle_since.get())
    }
}

/// A connection's entry in the sweep. It must be dropped before the socket is closed, or at least
/// without an await in between: its descriptor may be another socket's afterwards.
pub(crate) struct Registration<'a> {
    key: usize,
    shard: &'a Shard,
    watch: Rc<Watch>,
}

impl Registration<'_> {
    /// When the shard took the connection up, as long as it has not been idle since.
    pub(crate) fn entered_at(&self) -> Instant {
        self.watch.idle_since.get()
    }

    /// From now on the connection waits for `phase` to end before `deadline`.
    #[inline]
    pub(crate) fn enter(&self, phase: Phase, deadline: Instant) {
        self.watch.phase.set(phase);
        self.watch.deadline.set(deadline);
    }

    /// From now on the connection waits for the next request, for `timeout` from `since` on.
    #[inline]
    pub(crate) fn enter_idle(&self, since: Instant, timeout: Duration) {
        self.watch.idle_since.set(since);
        self.enter(Phase::Idle, since + timeout);
    }

    /// True where a deadline has passed and the socket was shut down for it.
    pub(crate) fn has_expired(&self) -> bool {
        self.watch.expired.get()
    }

    /// True where the connection was closed to make room for another.
    pub(crate) fn is_displaced(&self) -> bool {
        self.watch.displaced.get()
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        runtime::shutdown(self.watch.fd, how);
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.shard.connections.borrow_mut().try_remove(self.key);
    }
}

/// Behind each round of ready connections: wakes the workers, or submits what was gathered.
async fn end_rounds(shard: Weak<Shard>) {
    poll_fn(|context| {
        let Some(shard) = shard.upgrade() else { return Poll::Ready(()) };
        match &shard.way {
            Way::Memory(dispatcher) => {
                dispatcher.set_waker(context.waker());
                dispatcher.wake_workers();
            }
            Way::Journal(intake) => {
                intake.poll(context, |memory| shard.parser.borrow_mut().keep(memory));
            }
        }
        Poll::Pending
    })
    .await
}

/// Ends the waits whose deadline has passed, and tells who has been idle longest: one timer for all
/// connections of the shard.
async fn sweep(shard: Weak<Shard>) {
    while let Some(pause) = shard.upgrade().map(|shard| shard.sweep_pause()) {
        runtime::sleep(pause).await;
        let Some(shard) = shard.upgrade() else { return };
        let now = Instant::now();
        let mut longest_idle = None;
        for (_, watch) in &*shard.connections.borrow() {
            if watch.deadline.get() <= now {
                watch.expired.set(true);
                watch.end(now);
            } else if let Some(since) = watch.idle_since() {
                longest_idle = Some(longest_idle.map_or(since, |longest| since.min(longest)));
            }
        }
        shard.idle.tell(longest_idle);
    }
}

impl Shard {
    /// An eighth of the shortest timeout, so that none is overstepped by more than that.
    fn sweep_pause(&self) -> Duration {
        let limits = self.limits();
        let shortest =
            limits.handshake_timeout.min(limits.request_timeout).min(limits.idle_timeout);
        (shortest / 8).clamp(SWEEP.0, SWEEP.1)
    }
}
