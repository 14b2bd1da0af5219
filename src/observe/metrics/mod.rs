//! The counters and histograms of all threads. Each has one writer; a report sums them.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the stages, and what each thread counts |
//! | `bots` | what became of the updates of each bot and kind |
//! | `buckets` | how many durations of a stage are within given bounds |
//! | `counter`, `histogram` | a counter and a histogram with one writer |
//! | `hangs` | how often each step was found to hang |
//! | `journal` | what the threads of the journal count, and their part of the report |
//! | `outputs` | updates that did not go to exactly one output |
//! | `polls`, `webhooks` | getUpdates and the webhooks of each bot, and their parts of the report |
//! | `slow` | the slowest requests, and their part of the report |
//! | `process` | CPU time and memory of the process |
//! | `report` | the sums of all threads at one moment |
//! | `workers` | those of the workers, which a reload may add |
//! | `intervals` | what was recorded since the last look, for profiles |

mod bots;
mod buckets;
mod counter;
mod hangs;
mod histogram;
mod intervals;
mod journal;
mod outputs;
mod polls;
mod process;
mod report;
mod slow;
mod webhooks;
mod workers;

use std::{sync::Arc, time::Duration};

pub(crate) use self::{
    bots::FinishedCounts,
    counter::Counter,
    hangs::HangCounts,
    histogram::LatencyHistogram,
    journal::{
        CommitterMetrics, JournalMetrics, JournalState, ReadBackMetrics, Recovery, UnroutedCounts,
    },
    outputs::OutputCounts,
    slow::{SlowLog, SlowRecord, by_stage},
    workers::AllWorkers,
};
pub use self::{
    buckets::StageBuckets,
    intervals::Intervals,
    journal::JournalReport,
    outputs::OutputReport,
    polls::{PollMetrics, PollReport, Polls},
    report::{Percentiles, Report},
    slow::{SlowReport, SlowRequest},
    webhooks::{WebhookReport, Webhooks},
};
use crate::{
    outcome::{CloseReason, Forbidden, Refusal, TurnedAway},
    proto::{http::Status, update::UpdateKind},
    tls::TlsConfig,
};

/// A part of an update's path that is timed on its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// From accepting a connection to the moment when its shard takes it up.
    AcceptWait,
    /// From there to the end of a TLS handshake with certificate.
    HandshakeFull,
    /// The same of a handshake that resumed a session.
    HandshakeResumed,
    /// From a request's first decrypted byte to its last; 0 where one read brought it whole.
    Read,
    /// The body's parse in place.
    Parse,
    /// From the end of the parse to the record's being in the journal; without one, never.
    Commit,
    /// From the request's last byte to the 200 handed to the kernel.
    Answer,
    /// From the hand-off to a worker's looking for it.
    QueueWait,
    /// From there to the worker's having it: the inbox is emptied into the lanes, duplicates are
    /// dropped, and the chat's lane comes first.
    Dispatch,
    /// The handler's call, or the sink's write and flush.
    Handler,
    /// From the request's last byte to the end of the handler's call.
    Whole,
}

impl Stage {
    /// All stages in the order in which an update passes them.
    pub const ALL: [Self; 11] = [
        Self::AcceptWait,
        Self::HandshakeFull,
        Self::HandshakeResumed,
        Self::Read,
        Self::Parse,
        Self::Commit,
        Self::Answer,
        Self::QueueWait,
        Self::Dispatch,
        Self::Handler,
        Self::Whole,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptWait => "accept_wait",
            Self::HandshakeFull => "handshake_full",
            Self::HandshakeResumed => "handshake_resumed",
            Self::Read => "read",
            Self::Parse => "parse",
            Self::Commit => "commit",
            Self::Answer => "answer",
            Self::QueueWait => "queue_wait",
            Self::Dispatch => "dispatch",
            Self::Handler => "handler",
            Self::Whole => "whole",
        }
    }
}

/// Written by the acceptor's thread only.
///
/// As those of shards and workers it begins and ends with pairs of cache lines, which is how CPUs
/// fetch them: what one thread counts is never on a line on which another one counts.
#[derive(Debug, Default)]
#[repr(align(128))]
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

/// Written by one shard's thread only.
#[derive(Debug, Default)]
#[repr(align(128))]
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
    /// Requests that were slow up to their answer.
    pub(crate) slow: SlowLog,
    /// Stages that end on the shard.
    pub(crate) accept_wait: LatencyHistogram,
    pub(crate) handshake_full: LatencyHistogram,
    pub(crate) handshake_resumed: LatencyHistogram,
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
#[repr(align(128))]
pub(crate) struct WorkerMetrics {
    /// Updates that had been accepted before and were not handled again.
    pub(crate) duplicates: Counter,
    /// Updates skipped because they had waited too long, by place in [`EXPIRING`].
    pub(crate) expired: [Counter; EXPIRING.len()],
    /// Updates that need no further call, by bot and by kind.
    pub(crate) finished: FinishedCounts,
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
    /// Requests that were slow up to the end of their handling.
    pub(crate) slow: SlowLog,
    /// Stages that end on the worker.
    pub(crate) queue_wait: LatencyHistogram,
    pub(crate) dispatch: LatencyHistogram,
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

/// Updates that the program brings, not the wire; written under the feeder's lock.
#[derive(Debug, Default)]
pub(crate) struct FeederMetrics {
    /// Those that are looked at for whether they have been seen.
    pub(crate) delivered: Counter,
    /// Those that are fed in again on purpose.
    pub(crate) fed: Counter,
}

/// All threads' metrics of one server, to be summed. A clone is the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) acceptor: Arc<AcceptorMetrics>,
    pub(crate) feeder: Arc<FeederMetrics>,
    pub(crate) hangs: Arc<HangCounts>,
    pub(crate) polls: Arc<Polls>,
    pub(crate) journal: Option<JournalMetrics>,
    pub(crate) outputs: Arc<OutputCounts>,
    /// Intervals of the profile that could not be written when they were due; written by the
    /// profile's thread only.
    pub(crate) profile_lost: Arc<Counter>,
    /// Configurations that were put in force while the server ran, and those that were not because
    /// they were wrong; written under the lock of the settings.
    pub(crate) reloads: Arc<Counter>,
    pub(crate) reload_failures: Arc<Counter>,
    pub(crate) shards: Vec<Arc<ShardMetrics>>,
    /// Counts its reloads itself, since the program may ask for one as well.
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) webhooks: Arc<Webhooks>,
    pub(crate) workers: AllWorkers,
}

impl Metrics {
    pub(crate) fn new(shards: usize, workers: usize) -> Self {
        Self {
            acceptor: Arc::default(),
            feeder: Arc::default(),
            hangs: Arc::default(),
            polls: Arc::default(),
            journal: None,
            outputs: Arc::default(),
            profile_lost: Arc::default(),
            reloads: Arc::default(),
            reload_failures: Arc::default(),
            shards: (0..shards).map(|_| Arc::default()).collect(),
            tls: None,
            webhooks: Arc::default(),
            workers: AllWorkers::new(workers),
        }
    }

    /// The histograms in which `stage` is recorded, one for each thread that does.
    pub(crate) fn stage(&self, stage: Stage) -> Vec<&LatencyHistogram> {
        intervals::recorded(&self.shards, &self.workers, stage)
    }

    /// What is recorded from now on and before, interval by interval.
    pub(crate) fn intervals(&self) -> Intervals {
        Intervals::new(&self.shards, &self.workers, &self.profile_lost)
    }

    /// Sets what counts as slow.
    pub(crate) fn set_slow(&self, bound: Option<Duration>) {
        self.shards.iter().for_each(|shard| shard.slow.set_bound(bound));
        self.workers.iter().for_each(|worker| worker.slow.set_bound(bound));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, ops::Range, sync::atomic::AtomicU64};

    use super::*;

    /// Bytes that a CPU fetches together: a cache line and its neighbour.
    const PAIR: usize = 128;

    fn bytes_of<T>(value: &T) -> Range<usize> {
        let start = std::ptr::from_ref(value) as usize;
        start..start + size_of_val(value)
    }

    fn buckets_of(histogram: &LatencyHistogram) -> Range<usize> {
        let buckets: &[AtomicU64] = histogram.buckets();
        let start = buckets.as_ptr() as usize;
        start..start + size_of_val(buckets)
    }

    #[test]
    fn no_two_threads_count_on_one_cache_line() {
        let metrics = Metrics::new(5, 5);
        let mut written: Vec<(String, Range<usize>)> = Vec::new();
        for (index, shard) in metrics.shards.iter().enumerate() {
            let owner = format!("shard {index}");
            written.push((owner.clone(), bytes_of(&**shard)));
            let ShardMetrics { accept_wait, handshake_full, handshake_resumed, .. } = &**shard;
            let ShardMetrics { read, parse, commit, answer, .. } = &**shard;
            let handshakes = [accept_wait, handshake_full, handshake_resumed];
            let all = handshakes.into_iter().chain([read, parse, commit, answer]);
            written.extend(all.map(|it| (owner.clone(), buckets_of(it))));
        }
        for (index, worker) in metrics.workers.iter().enumerate() {
            let owner = format!("worker {index}");
            written.push((owner.clone(), bytes_of(&**worker)));
            let WorkerMetrics { queue_wait, dispatch, handler, whole, .. } = &**worker;
            let all = [queue_wait, dispatch, handler, whole];
            written.extend(all.map(|it| (owner.clone(), buckets_of(it))));
        }
        written.push(("acceptor".to_owned(), bytes_of(&*metrics.acceptor)));
        let mut owners: HashMap<usize, String> = HashMap::new();
        for (owner, bytes) in written {
            for pair in bytes.start / PAIR..bytes.end.div_ceil(PAIR) {
                let other = owners.insert(pair, owner.clone());
                assert!(other.is_none_or(|other| other == owner), "{owner} shares a line");
            }
        }
    }
}
