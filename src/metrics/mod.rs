//! What each thread counts and times. Every counter has one writer; a report sums them.

mod counter;
mod histogram;
mod journal;
mod report;

use std::{sync::Arc, time::Duration};

pub(crate) use self::{
    counter::Counter,
    histogram::LatencyHistogram,
    journal::{CommitterMetrics, JournalMetrics, ReadBackMetrics},
};
pub use self::{
    journal::JournalReport,
    report::{Percentiles, Report},
};
use crate::{
    connection::CloseReason, dispatch::Refusal, http::Status, route::Forbidden, tls::TlsConfig,
    update::UpdateKind,
};

/// A stretch of an update's way, timed on its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// From the connection's hand-off to its shard to the end of the TLS handshake.
    Handshake,
    /// From a request's first decrypted byte to its last; 0 where one read brought it whole.
    Read,
    /// The body's parse in place.
    Parse,
    /// From the end of the parse to the record's being in the journal; without one, never.
    Commit,
    /// From the request's last byte to the 200 handed to the kernel.
    Answer,
    /// From the hand-off to the moment a worker takes the update.
    QueueWait,
    /// The handler's call, or the sink's write and flush.
    Handler,
    /// From the request's last byte to the end of the handler's call.
    Whole,
}

impl Stage {
    /// All stages in the order in which an update passes them.
    pub const ALL: [Self; 8] = [
        Self::Handshake,
        Self::Read,
        Self::Parse,
        Self::Commit,
        Self::Answer,
        Self::QueueWait,
        Self::Handler,
        Self::Whole,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Read => "read",
            Self::Parse => "parse",
            Self::Commit => "commit",
            Self::Answer => "answer",
            Self::QueueWait => "queue_wait",
            Self::Handler => "handler",
            Self::Whole => "whole",
        }
    }
}

/// The nanoseconds of `duration`, as histograms take them.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Written by the acceptor's thread only.
#[derive(Debug, Default)]
pub(crate) struct AcceptorMetrics {
    /// Connections taken from the listening socket.
    pub(crate) accepted: Counter,
    /// Times that accepting paused because the process had no file descriptor left.
    pub(crate) paused: Counter,
    /// Accepted connections that were closed at once, by [`TurnedAway`].
    pub(crate) refused: [Counter; TurnedAway::ALL.len()],
}

impl AcceptorMetrics {
    pub(crate) fn refused(&self, why: TurnedAway) {
        if let Some(counter) = self.refused.get(why as usize) {
            counter.increment();
        }
    }
}

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum TurnedAway {
    /// Its peer is not on the list of those who may connect.
    Address,
    /// There were as many as there may be, and none of them was idle.
    Connections,
    /// Too many waited for their TLS handshake.
    Handshakes,
    /// Its address had as many as it may.
    PerAddress,
    /// On a listener for balancers, what it sent first was no PROXY header.
    ProxyMalformed,
    /// There it sent no whole header in time.
    ProxyMissing,
    /// No shard would take it.
    Shards,
}

impl TurnedAway {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] = [
        Self::Address,
        Self::Connections,
        Self::Handshakes,
        Self::PerAddress,
        Self::ProxyMalformed,
        Self::ProxyMissing,
        Self::Shards,
    ];

    /// The name in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::PerAddress => "per_address",
            Self::ProxyMalformed => "proxy_malformed",
            Self::ProxyMissing => "proxy_missing",
            Self::Shards => "shards",
        }
    }
}

/// Written by one shard's thread only.
#[derive(Debug, Default)]
pub(crate) struct ShardMetrics {
    /// Updates whose 200 has been handed to the kernel.
    pub(crate) acknowledged: Counter,
    /// Ended connections, by [`CloseReason`].
    pub(crate) closed: [Counter; CloseReason::ALL.len()],
    /// Requests answered 403, by [`Forbidden`].
    pub(crate) forbidden: [Counter; Forbidden::ALL.len()],
    /// TLS handshakes that ended in an error or a timeout.
    pub(crate) handshakes_failed: Counter,
    /// Completed handshakes with certificate.
    pub(crate) handshakes_full: Counter,
    /// Completed handshakes that resumed a session.
    pub(crate) handshakes_resumed: Counter,
    /// Updates refused, by [`Refusal`].
    pub(crate) refused: [Counter; Refusal::ALL.len()],
    /// Updates parsed and known to be for a bot.
    pub(crate) received: Counter,
    /// Requests not answered with 200, by [`Status`].
    pub(crate) rejected: [Counter; Status::ALL.len()],
    /// Connections closed before anything was served on them, by [`TurnedAway`].
    pub(crate) turned_away: [Counter; TurnedAway::ALL.len()],
    /// Stages that end on the shard.
    pub(crate) handshake: LatencyHistogram,
    pub(crate) read: LatencyHistogram,
    pub(crate) parse: LatencyHistogram,
    pub(crate) commit: LatencyHistogram,
    pub(crate) answer: LatencyHistogram,
}

impl ShardMetrics {
    pub(crate) fn rejected(&self, status: Status) {
        if let Some(counter) = Status::ALL
            .iter()
            .position(|known| *known == status)
            .and_then(|index| self.rejected.get(index))
        {
            counter.increment();
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal as usize) {
            counter.increment();
        }
    }

    pub(crate) fn turned_away(&self, why: TurnedAway) {
        if let Some(counter) = self.turned_away.get(why as usize) {
            counter.increment();
        }
    }

    pub(crate) fn forbidden(&self, why: Forbidden) {
        if let Some(counter) = self.forbidden.get(why as usize) {
            counter.increment();
        }
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        if let Some(counter) = self.closed.get(reason as usize) {
            counter.increment();
        }
    }
}

/// Written by one worker's thread only.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    /// Updates that had been accepted before and were not handled again.
    pub(crate) duplicates: Counter,
    /// Updates skipped because they had waited too long, by place in [`EXPIRING`].
    pub(crate) expired: [Counter; EXPIRING.len()],
    /// Updates whose handler said `Done`.
    pub(crate) handled: Counter,
    /// Updates whose handler said `Failed` or panicked.
    pub(crate) failed: Counter,
    /// Of the failed ones, those whose handler panicked.
    pub(crate) panicked: Counter,
    /// Calls that ended in `Retry`.
    pub(crate) retried: Counter,
    /// Records of the journal that are settled, and their bytes.
    pub(crate) settled: Counter,
    pub(crate) settled_bytes: Counter,
    /// Stages that end on the worker.
    pub(crate) queue_wait: LatencyHistogram,
    pub(crate) handler: LatencyHistogram,
    pub(crate) whole: LatencyHistogram,
}

/// The kinds of updates that Telegram takes no answer to after less than a day.
pub(crate) const EXPIRING: [UpdateKind; 4] = [
    UpdateKind::CallbackQuery,
    UpdateKind::InlineQuery,
    UpdateKind::PreCheckoutQuery,
    UpdateKind::ShippingQuery,
];

impl WorkerMetrics {
    pub(crate) fn expired(&self, kind: UpdateKind) {
        if let Some(counter) = EXPIRING
            .iter()
            .position(|known| *known == kind)
            .and_then(|index| self.expired.get(index))
        {
            counter.increment();
        }
    }
}

/// All threads' metrics of one server, to be summed.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) acceptor: Arc<AcceptorMetrics>,
    /// Updates fed in by the program, not by the wire; written under the feeder's lock.
    pub(crate) fed: Counter,
    pub(crate) journal: Option<JournalMetrics>,
    /// Configurations that were put in force while the server ran, and those that were not because
    /// they were wrong; written under the lock of the settings.
    pub(crate) reloads: Counter,
    pub(crate) reload_failures: Counter,
    pub(crate) shards: Vec<Arc<ShardMetrics>>,
    /// Counts its reloads itself, since the program may ask for one as well.
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
}

impl Metrics {
    pub(crate) fn new(shards: usize, workers: usize) -> Self {
        Self {
            acceptor: Arc::default(),
            fed: Counter::default(),
            journal: None,
            reloads: Counter::default(),
            reload_failures: Counter::default(),
            shards: (0..shards).map(|_| Arc::default()).collect(),
            tls: None,
            workers: (0..workers).map(|_| Arc::default()).collect(),
        }
    }

    /// The histograms in which `stage` is recorded, one for each thread that does.
    pub(crate) fn stage(&self, stage: Stage) -> Vec<&LatencyHistogram> {
        let shards = |pick: fn(&ShardMetrics) -> &LatencyHistogram| {
            self.shards.iter().map(|shard| pick(shard)).collect()
        };
        let workers = |pick: fn(&WorkerMetrics) -> &LatencyHistogram| {
            self.workers.iter().map(|worker| pick(worker)).collect()
        };
        match stage {
            Stage::Handshake => shards(|shard| &shard.handshake),
            Stage::Read => shards(|shard| &shard.read),
            Stage::Parse => shards(|shard| &shard.parse),
            Stage::Commit => shards(|shard| &shard.commit),
            Stage::Answer => shards(|shard| &shard.answer),
            Stage::QueueWait => workers(|worker| &worker.queue_wait),
            Stage::Handler => workers(|worker| &worker.handler),
            Stage::Whole => workers(|worker| &worker.whole),
        }
    }
}
