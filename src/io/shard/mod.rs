//! A shard: one thread, one CPU, one event loop, and the connections on it.
//!
//! | file | what is in it |
//! |---|---|
//! | `admission` | which connections shake hands, and which wait for it |
//! | `sweep` | the timer behind all deadlines |

mod admission;
mod sweep;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use crossbeam_channel::Receiver;
use futures_channel::mpsc;
use futures_core::Stream as _;

use self::{admission::HandshakeAdmission, sweep::sweep};
use crate::{
    bots::BotRegistry,
    config::DriverKind,
    control::Heartbeat,
    io::{
        accepted::AcceptedConnection,
        background::Background,
        config_snapshot::ConfigSnapshot,
        connection::{ConnectionContext, IngestPath},
        connection_table::ConnectionTable,
        handshake_scheduler::{HandshakeScheduler, pace},
        longest_idle::LongestIdle,
        memory_pools::MemoryPools,
        peer_limit::PeerConnectionLimit,
        runtime::{Rounds, Runtime, Submitted},
    },
    observe::{incidents::IncidentWriter, metrics::ShardMetrics, recent::RecentWriter},
    outcome::TurnedAway,
    proto::{answers::Answers, update::Recycled},
    tls::TlsConfig,
};

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
    /// has been for [`IDLE_ENOUGH`](crate::io::connection_table::IDLE_ENOUGH).
    ReplaceIdle(AcceptedConnection),
    /// Serve by this from now on.
    ConfigSnapshot(Arc<ConfigSnapshot>),
    /// To be dropped: what was routed before has been handed on then.
    Routed(Arc<()>),
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
    pub(crate) recent: RecentWriter,
    /// `None` where no listener speaks it.
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) ingest_path: IngestPath,
}

/// One thread's connections and what they share. Never leaves its thread.
struct Shard {
    admission: HandshakeAdmission,
    background: Rc<Background>,
    context: Rc<ConnectionContext>,
    heartbeat: Arc<Heartbeat>,
    longest_idle: Arc<LongestIdle>,
    /// Wakes the shard's main task when the last connection has ended.
    main: RefCell<Option<Waker>>,
    open: Arc<AtomicUsize>,
    /// Connections whose task has not ended.
    tasks: Cell<usize>,
}

impl Seed {
    /// Runs the shard on `runtime` until it is told to drain and its last connection has ended.
    pub(crate) fn run(self, mut runtime: Runtime, driver: DriverKind) {
        let context = Rc::new(ConnectionContext {
            answers: Answers::default(),
            driver,
            handshakes: Rc::<HandshakeScheduler>::default(),
            incidents: self.incidents,
            ingest_path: self.ingest_path,
            is_draining: Cell::new(false),
            memory: MemoryPools::new(&self.snapshot, self.returns),
            metrics: self.metrics,
            permits: self.permits,
            recent: self.recent,
            registry: self.registry,
            snapshot: RefCell::new(self.snapshot),
            table: ConnectionTable::default(),
            tls: self.tls.as_ref().map(TlsConfig::rustls),
        });
        let shard = Rc::new(Shard {
            admission: HandshakeAdmission::default(),
            background: Rc::default(),
            context: Rc::clone(&context),
            heartbeat: self.heartbeat,
            longest_idle: self.idle,
            main: RefCell::default(),
            open: self.open,
            tasks: Cell::new(0),
        });
        let mut mailbox = self.mailbox;
        // Whatever becomes of its tasks, nothing more comes of it: the committer ends without it.
        let closing = Closing(&context.ingest_path);
        runtime.block_on(async {
            let background = &shard.background;
            // They hold the shard weakly, and over no wait: after a panic they must not keep it.
            background.spawn(end_rounds(Rc::downgrade(&shard), Submitted::new(driver).ok()));
            background.spawn(pace(
                Rc::downgrade(&context.handshakes),
                Rc::clone(background),
                Rounds::new(driver).ok(),
            ));
            background.spawn(sweep(Rc::downgrade(&shard), Rounds::new(driver).ok()));
            poll_fn(|waker| shard.poll_mailbox(&mut mailbox, waker)).await;
            background.end().await;
        });
        shard.heartbeat.end();
        drop(closing);
        if let IngestPath::Memory(dispatcher) = &context.ingest_path {
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
                    if self.context.table.evict_idle(&self.longest_idle) {
                        self.begin(accepted);
                    } else {
                        // Before the peer can know.
                        self.context.turned_away(accepted.peer, TurnedAway::Connections);
                        drop(accepted);
                        self.open.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                Poll::Ready(Some(Message::ConfigSnapshot(snapshot))) => {
                    self.context.memory.apply(&snapshot);
                    self.context.snapshot.replace(snapshot);
                }
                Poll::Ready(Some(Message::Routed(token))) => drop(token),
                Poll::Ready(Some(Message::Drain)) => self.drain(),
                Poll::Ready(Some(Message::Abort)) => {
                    self.drain();
                    self.context.table.shutdown_all();
                }
                Poll::Ready(None) => {
                    self.drain();
                    break;
                }
                Poll::Pending => break,
            }
        }
        if self.context.is_draining.get() && self.tasks.get() == 0 {
            return Poll::Ready(());
        }
        *self.main.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    fn drain(&self) {
        if !self.context.is_draining.replace(true) {
            self.dismiss_waiting();
            self.context.table.drain(Instant::now());
            // The sweep, whose next look would be too late.
            self.background.wake();
        }
    }

    /// To be called by each connection's task as its last act.
    fn connection_ended(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.tasks.set(self.tasks.get().saturating_sub(1));
        if self.context.is_draining.get()
            && self.tasks.get() == 0
            && let Some(main) = self.main.borrow_mut().take()
        {
            main.wake();
        }
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
            match &shard.context.ingest_path {
                IngestPath::Memory(dispatcher) => {
                    dispatcher.set_waker(context.waker());
                    if dispatcher.has_news() { Poll::Ready(()) } else { Poll::Pending }
                }
                IngestPath::Journal(intake) => {
                    intake.poll(context, |memory| shard.context.memory.keep(memory));
                    Poll::Pending
                }
            }
        })
        .await;
        if is_over {
            return;
        }
        // The answers go first: waking a worker is a system call, and one that shares this CPU may
        // take it at once.
        if let Some(submitted) = &submitted {
            submitted.all().await;
        }
        let Some(shard) = shard.upgrade() else { return };
        if let IngestPath::Memory(dispatcher) = &shard.context.ingest_path {
            dispatcher.wake_workers();
        }
    }
}
