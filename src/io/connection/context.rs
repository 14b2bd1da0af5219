//! What a connection uses of its shard.

use std::{
    cell::{Cell, Ref, RefCell},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use rustls::ServerConfig;

use crate::{
    bots::BotRegistry,
    config::{DriverKind, Limits},
    dispatch::Dispatcher,
    io::{
        config_snapshot::ConfigSnapshot,
        connection_table::{ConnectionTable, DRAIN_BUSY, DRAIN_HANDSHAKE},
        handshake_scheduler::HandshakeScheduler,
        memory_pools::MemoryPools,
        peer_limit::PeerConnectionLimit,
    },
    journal::Intake,
    observe::{
        incidents::{IncidentKind, IncidentWriter},
        metrics::ShardMetrics,
        recent::RecentWriter,
    },
    outcome::TurnedAway,
    proto::answers::Answers,
};

/// How updates get from a shard to the workers.
// There is one in each shard, and it is never moved.
#[allow(clippy::large_enum_variant)]
pub(crate) enum IngestPath {
    /// By way of the journal: a 200 waits for the record.
    Journal(Intake),
    /// Straight into their queues.
    Memory(Dispatcher),
}

/// What the connections of a shard share. Never leaves its thread.
pub(crate) struct ConnectionContext {
    pub(crate) answers: Answers,
    pub(crate) driver: DriverKind,
    pub(crate) handshakes: Rc<HandshakeScheduler>,
    pub(crate) incidents: IncidentWriter,
    pub(crate) ingest_path: IngestPath,
    pub(crate) is_draining: Cell<bool>,
    pub(crate) memory: MemoryPools,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) permits: Arc<PeerConnectionLimit>,
    pub(crate) recent: RecentWriter,
    pub(crate) registry: Arc<BotRegistry>,
    pub(crate) snapshot: RefCell<Arc<ConfigSnapshot>>,
    pub(crate) table: ConnectionTable,
    /// `None` where no listener speaks it.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl ConnectionContext {
    /// Until when a connection that has been answered at `answered_at` may be silent during a stop.
    pub(crate) fn last_word_deadline(answered_at: Instant) -> Instant {
        answered_at + DRAIN_BUSY
    }

    /// Until when the handshake of a connection accepted at `accepted_at` may take.
    pub(crate) fn handshake_deadline(&self, accepted_at: Instant) -> Instant {
        let timeout = self.limits().handshake_timeout;
        self.hastened(accepted_at + timeout)
    }

    /// `deadline`, or the sooner one that a stop leaves to a client that has not made a request
    /// yet.
    pub(crate) fn hastened(&self, deadline: Instant) -> Instant {
        if self.is_draining.get() {
            deadline.min(Instant::now() + DRAIN_HANDSHAKE)
        } else {
            deadline
        }
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
}
