//! The slowest requests: their updates' ids and the times of their stages. No content.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{Counter, Metrics, Stage};
use crate::{
    bots::{BotId, BotRegistry},
    duration::nanos,
};

/// Records that each thread keeps, the slowest ones.
const KEPT: usize = 64;
/// Bound that nothing exceeds.
const NEVER: u64 = u64::MAX;

/// One thread's slowest requests. The thread asks [`is_slow`](Self::is_slow) for each update; the
/// rest costs something for slow ones only.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// Nanoseconds that count as slow.
    bound_ns: AtomicU64,
    /// Requests that were slow.
    count: Counter,
    /// With the log full, what a request must exceed to be kept, so that a flood of slow ones does
    /// not take the lock for each of them.
    floor_ns: AtomicU64,
    records: Mutex<Vec<SlowRecord>>,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self {
            bound_ns: AtomicU64::new(NEVER),
            count: Counter::default(),
            floor_ns: AtomicU64::new(0),
            records: Mutex::default(),
        }
    }
}

/// What one thread knows of a slow request.
#[derive(Clone, Debug)]
pub(crate) struct SlowRecord {
    pub(crate) bot: BotId,
    pub(crate) received_at: Instant,
    /// Index of the shard, where the thread knows it: `usize::MAX` where none does.
    pub(crate) shard: usize,
    /// Nanoseconds of the stages that the thread has timed.
    pub(crate) stages: Vec<(Stage, u64)>,
    pub(crate) update_id: i64,
}

impl SlowRecord {
    fn worst_ns(&self) -> u64 {
        self.stages.iter().map(|(_, ns)| *ns).max().unwrap_or(0)
    }
}

impl SlowLog {
    /// From now on requests count as slow that take longer than `bound`; `None`: none does.
    pub(crate) fn set_bound(&self, bound: Option<Duration>) {
        self.bound_ns.store(bound.map_or(NEVER, nanos), Relaxed);
    }

    /// A load and a comparison that is nearly always false.
    #[inline]
    pub(crate) fn is_slow(&self, ns: u64) -> bool {
        ns > self.bound_ns.load(Relaxed)
    }

    /// Keeps the record of a slow request if it is among the slowest. Only the log's thread may
    /// call this.
    #[cold]
    pub(crate) fn note(&self, record: SlowRecord) {
        self.count.increment();
        let ns = record.worst_ns();
        if ns <= self.floor_ns.load(Relaxed) {
            return;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() < KEPT {
            records.push(record);
        } else if let Some(least) = records.iter_mut().min_by_key(|it| it.worst_ns()) {
            *least = record;
        }
        if records.len() == KEPT {
            let floor = records.iter().map(SlowRecord::worst_ns).min().unwrap_or(0);
            self.floor_ns.store(floor, Relaxed);
        }
    }
}

/// The slowest requests since the server's start.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SlowReport {
    /// What counts as slow, in microseconds: `profile.slow`.
    pub bound_us: f64,
    /// Updates that were read, or answered with 200, later than that.
    pub answered: u64,
    /// Updates that were handled later than that, counted from their last byte.
    pub handled: u64,
    /// The slowest of them, the worst first; at most [`SlowReport::REQUESTS_MAX`].
    pub requests: Vec<SlowRequest>,
}

/// A slow request. Of a request there is nothing here but its numbers.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SlowRequest {
    /// Name of the bot.
    pub bot: String,
    /// The update's id.
    pub update_id: i64,
    /// Index of the shard that received it; `None` where no shard did, or where only a worker has
    /// found it slow after it had waited in the journal.
    pub shard: Option<usize>,
    /// When its last byte had come, in seconds after the server's start.
    pub received_s: f64,
    /// Microseconds of the stages that are known of it.
    #[serde(rename = "stages_us", serialize_with = "by_stage")]
    pub stages_us: Vec<(Stage, f64)>,
}

impl SlowRequest {
    /// The longest stage and its microseconds.
    #[must_use]
    pub fn worst(&self) -> Option<(Stage, f64)> {
        self.stages_us.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl SlowReport {
    /// The most requests of a report.
    pub const REQUESTS_MAX: usize = 64;

    /// What the threads have kept; `None` where nothing counts as slow. What shard and worker know
    /// of one request is put together.
    pub(crate) fn new(
        metrics: &Metrics,
        registry: &BotRegistry,
        started_at: Instant,
    ) -> Option<Self> {
        let shards = || metrics.shards.iter().map(|shard| &shard.slow);
        let workers = || metrics.workers.iter().map(|worker| &worker.slow);
        let bound = shards().chain(workers()).map(|log| log.bound_ns.load(Relaxed)).next()?;
        if bound == NEVER {
            return None;
        }
        let mut requests: HashMap<(BotId, i64, Instant), SlowRecord> = HashMap::new();
        let mut take = |log: &SlowLog, shard: Option<usize>| {
            let records = log.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for record in records {
                let key = (record.bot, record.update_id, record.received_at);
                let shard = shard.unwrap_or(record.shard);
                match requests.get_mut(&key) {
                    Some(known) => {
                        known.stages.extend(record.stages);
                        known.shard = known.shard.min(shard);
                    }
                    None => drop(requests.insert(key, SlowRecord { shard, ..record })),
                }
            }
        };
        shards().enumerate().for_each(|(index, log)| take(log, Some(index)));
        workers().for_each(|log| take(log, None));
        let mut records: Vec<_> = requests.into_values().collect();
        records.sort_by_key(|record| (Reverse(record.worst_ns()), record.update_id));
        let requests = records.into_iter().take(Self::REQUESTS_MAX).map(|record| {
            let stages: BTreeMap<usize, (Stage, f64)> = record
                .stages
                .iter()
                .map(|(stage, ns)| (*stage as usize, (*stage, *ns as f64 / 1e3)))
                .collect();
            let received = record.received_at.saturating_duration_since(started_at);
            SlowRequest {
                bot: registry.name(record.bot).unwrap_or_default().to_owned(),
                update_id: record.update_id,
                shard: (record.shard < metrics.shards.len()).then_some(record.shard),
                received_s: (received.as_secs_f64() * 1e3).round() / 1e3,
                stages_us: stages.into_values().collect(),
            }
        });
        Some(Self {
            bound_us: bound as f64 / 1e3,
            answered: shards().map(|log| log.count.get()).sum(),
            handled: workers().map(|log| log.count.get()).sum(),
            requests: requests.collect(),
        })
    }
}

pub(crate) fn by_stage<S: Serializer>(
    stages: &[(Stage, f64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(stages.len()))?;
    for (stage, us) in stages {
        map.serialize_entry(stage.as_str(), us)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn record(update_id: i64, received_at: Instant, stages: &[(Stage, u64)]) -> SlowRecord {
        let bot = BotId::new(0);
        SlowRecord { bot, received_at, shard: usize::MAX, stages: stages.to_vec(), update_id }
    }

    fn registry() -> BotRegistry {
        let registry = BotRegistry::default();
        registry.register(["shop"].into_iter()).unwrap();
        registry
    }

    #[test]
    fn without_a_bound_nothing_is_slow() {
        let metrics = Metrics::new(1, 1);
        assert!(!metrics.shards[0].slow.is_slow(u64::MAX));
        assert!(SlowReport::new(&metrics, &registry(), Instant::now()).is_none());
    }

    #[test]
    fn the_slowest_are_kept_and_what_two_threads_know_is_put_together() {
        let metrics = Metrics::new(2, 1);
        metrics.set_slow(Some(Duration::from_nanos(100)));
        let start = Instant::now();
        let (shard, worker) =
            (&metrics.shards[1].slow, &metrics.workers.iter().next().unwrap().slow);
        assert!(shard.is_slow(101) && !shard.is_slow(100));
        for id in 0..1000 {
            // In an order that is neither rising nor falling.
            let ns = 1000 + (id * 7919 % 1000) as u64;
            worker.note(record(id, start, &[(Stage::Handler, ns - 10), (Stage::Whole, ns)]));
        }
        let slowest = (0..1000).find(|id| id * 7919 % 1000 == 999).unwrap();
        shard.note(record(slowest, start, &[(Stage::Read, 5), (Stage::Answer, 200)]));
        // The same update again, as Telegram sends it: another request.
        let again = start + Duration::from_secs(1);
        shard.note(record(slowest, again, &[(Stage::Answer, 5000)]));
        let report = SlowReport::new(&metrics, &registry(), start).unwrap();
        assert_eq!((report.answered, report.handled), (2, 1000));
        assert_eq!(report.requests.len(), SlowReport::REQUESTS_MAX);
        let first = &report.requests[0];
        assert_eq!((first.update_id, first.shard, first.received_s), (slowest, Some(1), 1.0));
        let json = serde_json::to_value(&report.requests[1]).unwrap();
        let stages =
            serde_json::json!({"read": 0.005, "answer": 0.2, "handler": 1.989, "whole": 1.999});
        assert_eq!(json["stages_us"], stages);
        assert_eq!((json["bot"].as_str(), json["shard"].as_u64()), (Some("shop"), Some(1)));
        // Of the worker's thousand the 64 slowest.
        let worst: Vec<f64> = report.requests[1..].iter().map(|it| it.worst().unwrap().1).collect();
        let expected: Vec<f64> = (0..63).map(|n| f64::from(1999 - n) / 1e3).collect();
        assert_eq!(worst, expected);
    }
}
