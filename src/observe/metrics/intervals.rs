//! What was recorded since the last look: the difference of two snapshots of each stage, taken by
//! the caller. The threads that record take no part in it.

use std::{mem, sync::Arc};

use hdrhistogram::Histogram;

use super::{AllWorkers, Counter, LatencyHistogram, ShardMetrics, Stage, WorkerMetrics, histogram};

/// Gives the intervals of all stages of one server; outlives it.
pub struct Intervals {
    lost: Arc<Counter>,
    shards: Vec<Arc<ShardMetrics>>,
    stages: Vec<Snapshots>,
    workers: AllWorkers,
}

/// The counts of one stage, over all threads.
struct Snapshots {
    /// Up to where intervals have been taken.
    before: Box<[u64]>,
    /// When last looked at.
    now: Box<[u64]>,
    stage: Stage,
}

impl Intervals {
    pub(super) fn new(
        shards: &[Arc<ShardMetrics>],
        workers: &AllWorkers,
        lost: &Arc<Counter>,
    ) -> Self {
        let none = || vec![0; histogram::BUCKETS].into_boxed_slice();
        let stages = Stage::ALL.map(|stage| Snapshots { before: none(), now: none(), stage });
        Self {
            lost: Arc::clone(lost),
            shards: shards.to_vec(),
            stages: stages.into(),
            workers: workers.clone(),
        }
    }

    /// Looks at all stages: what each has recorded since the interval that was
    /// [`settled`](Self::settle) last.
    pub fn look(&mut self) -> Vec<(Stage, Histogram<u64>)> {
        let Self { shards, stages, workers, .. } = self;
        let mut gathered = Vec::with_capacity(stages.len());
        for Snapshots { before, now, stage } in stages {
            now.fill(0);
            for histogram in recorded(shards, workers, *stage) {
                histogram.add_counts_to(now);
            }
            let Ok(mut interval) = histogram::empty() else { continue };
            let counts = now.iter().zip(&**before).map(|(now, before)| now.saturating_sub(*before));
            histogram::add_counts(counts, &mut interval);
            gathered.push((*stage, interval));
        }
        gathered
    }

    /// The interval of the last look is over, and the next one begins where it ended. Without this
    /// the next look has its counts again, with those since.
    pub fn settle(&mut self) {
        for Snapshots { before, now, .. } in &mut self.stages {
            mem::swap(before, now);
        }
    }

    /// Counts an interval that could not be written.
    pub fn lose(&self) {
        self.lost.increment();
    }

    /// Everything that each stage has recorded since the server's start.
    pub fn whole(&self) -> Vec<(Stage, Histogram<u64>)> {
        let sum = |stage: Stage| {
            let mut sum = histogram::empty().ok()?;
            for histogram in recorded(&self.shards, &self.workers, stage) {
                histogram.add_to(&mut sum);
            }
            Some((stage, sum))
        };
        Stage::ALL.into_iter().filter_map(sum).collect()
    }
}

/// The histograms in which `stage` is recorded, one for each thread that does.
pub(super) fn recorded<'a>(
    shards: &'a [Arc<ShardMetrics>],
    workers: &'a AllWorkers,
    stage: Stage,
) -> Vec<&'a LatencyHistogram> {
    let of_shards = |pick: fn(&ShardMetrics) -> &LatencyHistogram| {
        shards.iter().map(|shard| pick(shard)).collect()
    };
    let of_workers = |pick: fn(&WorkerMetrics) -> &LatencyHistogram| {
        workers.iter().map(|worker| pick(worker)).collect()
    };
    match stage {
        Stage::AcceptWait => of_shards(|shard| &shard.accept_wait),
        Stage::HandshakeFull => of_shards(|shard| &shard.handshake_full),
        Stage::HandshakeResumed => of_shards(|shard| &shard.handshake_resumed),
        Stage::Read => of_shards(|shard| &shard.read),
        Stage::Parse => of_shards(|shard| &shard.parse),
        Stage::Commit => of_shards(|shard| &shard.commit),
        Stage::Answer => of_shards(|shard| &shard.answer),
        Stage::QueueWait => of_workers(|worker| &worker.queue_wait),
        Stage::Dispatch => of_workers(|worker| &worker.dispatch),
        Stage::Handler => of_workers(|worker| &worker.handler),
        Stage::Whole => of_workers(|worker| &worker.whole),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::observe::metrics::Metrics;

    #[test]
    fn an_interval_has_what_came_since_the_last_settled_one() {
        let metrics = Metrics::new(2, 1);
        let mut intervals = metrics.intervals();
        let parse = |intervals: &mut Intervals| {
            let (_, histogram) =
                intervals.look().into_iter().find(|(stage, _)| *stage == Stage::Parse).unwrap();
            (histogram.len(), histogram.max())
        };
        for shard in &metrics.shards {
            shard.parse.record(100);
        }
        assert_eq!(parse(&mut intervals), (2, 100));
        metrics.shards.first().unwrap().parse.record(200);
        assert_eq!(parse(&mut intervals), (3, 200), "the look before was not settled");
        intervals.settle();
        assert_eq!(parse(&mut intervals), (0, 0));
        metrics.shards.last().unwrap().parse.record(50);
        assert_eq!(parse(&mut intervals), (1, 50));
        intervals.settle();
        let whole = intervals.whole();
        let (_, whole) = whole.iter().find(|(stage, _)| *stage == Stage::Parse).unwrap();
        assert_eq!(whole.len(), 4);
    }
}
