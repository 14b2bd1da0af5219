//! A shard: one thread, one CPU, one event loop, and all that its connections share.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net,
    os::fd::RawFd,
    pin::Pin,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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
    http::HttpLimits,
    journal::Intake,
    metrics::ShardMetrics,
    route::Router,
    runtime::{self, DriverKind, Runtime, Shutdown},
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

/// What other threads tell a shard.
#[derive(Debug)]
pub(crate) enum Message {
    /// Cut all connections now.
    Abort,
    /// Serve this connection, accepted at that time.
    Connection(net::TcpStream, Instant),
    /// Finish the requests in flight, close everything else, then end.
    Drain,
}

/// What a shard is made of; moves to the shard's thread.
pub(crate) struct Seed {
    pub(crate) limits: Limits,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) metrics: Arc<ShardMetrics>,
    /// Connections handed to this shard and not ended yet; the acceptor chooses by it.
    pub(crate) open: Arc<AtomicUsize>,
    /// Memory that comes back from the workers.
    pub(crate) returns: Receiver<Recycled>,
    pub(crate) router: Arc<Router>,
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
    pub(crate) http_limits: HttpLimits,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) parser: RefCell<UpdateParser>,
    pub(crate) router: Arc<Router>,
    pub(crate) way: Way,
    connections: RefCell<Slab<Rc<Watch>>>,
    draining: Cell<bool>,
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
        let http_limits = HttpLimits {
            body_bytes: self.limits.body_bytes,
            head_bytes: self.limits.head_bytes,
            target_bytes: self.limits.head_bytes / 2,
            ..HttpLimits::default()
        };
        let depth_max = self.limits.json_depth;
        let parser = UpdateParser::new(ParserLimits { depth_max, ..ParserLimits::default() });
        let shard = Rc::new(Shard {
            driver,
            http_limits,
            limits: self.limits,
            metrics: self.metrics,
            parser: RefCell::new(parser),
            router: self.router,
            way: self.way,
            connections: RefCell::default(),
            draining: Cell::new(false),
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
                Poll::Ready(Some(Message::Connection(socket, accepted_at))) => {
                    self.tasks.set(self.tasks.get() + 1);
                    runtime::spawn(connection::serve(Rc::clone(self), socket, accepted_at));
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
        let deadline = accepted_at + self.limits.handshake_timeout;
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
        let watch = Rc::new(Watch {
            deadline: Cell::new(Instant::now() + GOODBYE),
            expired: Cell::new(false),
            fd,
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
    expired: Cell<bool>,
    fd: RawFd,
    phase: Cell<Phase>,
}

/// A connection's entry in the sweep. It must be dropped before the socket is closed, or at least
/// without an await in between: its descriptor may be another socket's afterwards.
pub(crate) struct Registration<'a> {
    key: usize,
    shard: &'a Shard,
    watch: Rc<Watch>,
}

impl Registration<'_> {
    /// From now on the connection waits for `phase` to end before `deadline`.
    #[inline]
    pub(crate) fn enter(&self, phase: Phase, deadline: Instant) {
        self.watch.phase.set(phase);
        self.watch.deadline.set(deadline);
    }

    /// True where a deadline has passed and the socket was shut down for it.
    pub(crate) fn has_expired(&self) -> bool {
        self.watch.expired.get()
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

/// Ends the waits whose deadline has passed: one timer for all connections of the shard.
async fn sweep(shard: Weak<Shard>) {
    while let Some(pause) = shard.upgrade().map(|shard| shard.sweep_pause()) {
        runtime::sleep(pause).await;
        let Some(shard) = shard.upgrade() else { return };
        let now = Instant::now();
        for (_, watch) in &*shard.connections.borrow() {
            if watch.deadline.get() <= now {
                watch.expired.set(true);
                runtime::shutdown(watch.fd, watch.phase.get().shutdown());
                watch.phase.set(Phase::Close);
                watch.deadline.set(now + GOODBYE);
            }
        }
    }
}

impl Shard {
    /// An eighth of the shortest timeout, so that none is overstepped by more than that.
    fn sweep_pause(&self) -> Duration {
        let limits = &self.limits;
        let shortest =
            limits.handshake_timeout.min(limits.request_timeout).min(limits.idle_timeout);
        (shortest / 8).clamp(SWEEP.0, SWEEP.1)
    }
}
