//! What the journal's threads count, and what a report says of it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Counter, LatencyHistogram, Metrics, Percentiles};
use crate::{config::Ack, outcome::DiskFailure};

/// Written by the committer's thread only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CommitterMetrics {
    /// Records in each write.
    pub(crate) batch_records: LatencyHistogram,
    /// Bytes of committed records.
    pub(crate) bytes: Counter,
    /// From a batch's submission to its being committed.
    pub(crate) commit: LatencyHistogram,
    /// Writes that the disk did not take, and the records in them.
    pub(crate) failed_batches: Counter,
    pub(crate) failed_records: Counter,
    /// Updates that did not fit into the queues and were left in the journal.
    pub(crate) left: Counter,
    /// Committed records.
    pub(crate) records: Counter,
    pub(crate) unrouted: UnroutedCounts,
}

/// Records whose updates go to no output, and their bytes.
#[derive(Debug, Default)]
pub(crate) struct UnroutedCounts {
    pub(crate) bytes: Counter,
    pub(crate) records: Counter,
}

/// Written by the thread that reads back only.
#[derive(Debug, Default)]
pub(crate) struct ReadBackMetrics {
    /// Parts that are no records any more.
    pub(crate) corrupt: Counter,
    /// Records handed to the workers.
    pub(crate) records: Counter,
    pub(crate) unrouted: UnroutedCounts,
}

/// What a report asks a journal for.
pub(crate) trait JournalState: fmt::Debug + Send + Sync {
    /// Segments that are in use, and the bytes of the records in them.
    fn size(&self) -> (usize, u64);

    /// What the disk would not do, and how often.
    fn failures(&self) -> Vec<(DiskFailure, u64)>;
}

/// All of a journal's metrics.
#[derive(Clone, Debug)]
pub(crate) struct JournalMetrics {
    pub(crate) ack: Ack,
    pub(crate) committer: Arc<CommitterMetrics>,
    pub(crate) journal: Arc<dyn JournalState>,
    pub(crate) read_back: Arc<ReadBackMetrics>,
    pub(crate) recovered: Recovery,
}

/// What a start has found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) bytes: u64,
    pub(crate) corrupt: u64,
    pub(crate) duplicates: u64,
    pub(crate) elapsed: Duration,
    pub(crate) orphans: u64,
    pub(crate) records: u64,
    pub(crate) torn: u64,
}

/// The journal since the server's start.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JournalReport {
    /// What a 200 promises.
    pub ack: String,
    /// Records written, which is updates acknowledged and to be acknowledged.
    pub appended_records: u64,
    /// Bytes of these records.
    pub appended_bytes: u64,
    /// Records written per second, on average.
    pub appended_per_s: f64,
    /// Records in a write: how much has gathered while the one before was under way.
    pub batch_records: Option<Percentiles>,
    /// Microseconds from a batch's submission by a shard to its being committed.
    pub commit_us: Option<Percentiles>,
    /// Writes that the disk did not take; their requests got 503.
    pub failed_batches: u64,
    /// Records in them.
    pub failed_records: u64,
    /// What the disk would not do, and how often.
    pub failures: BTreeMap<DiskFailure, u64>,
    /// Updates that did not fit into the queues and were left in the journal.
    pub left_records: u64,
    /// Updates read back from it.
    pub read_back_records: u64,
    /// Records whose updates are not settled yet.
    pub lag_records: u64,
    /// Bytes of these records.
    pub lag_bytes: u64,
    /// Segments that have such records, or may get some.
    pub segments: usize,
    /// Bytes of the records in all segments.
    pub bytes: u64,
    /// Records that the start has found not settled.
    pub recovered_records: u64,
    /// Seconds that the start took to read the journal.
    pub recovery_s: f64,
    /// Records found at the start whose update was in an earlier one as well.
    pub recovered_duplicates: u64,
    /// Records of bots that are not configured; they wait until they are.
    pub orphaned_records: u64,
    /// Records that a crash had left unfinished and that were cut off.
    pub torn_tails: u64,
    /// Places that are no records although they were; the log names file and offset.
    pub corrupt_records: u64,
}

impl JournalReport {
    pub(super) fn new(metrics: &Metrics, uptime: Duration) -> Option<Self> {
        let JournalMetrics { ack, committer, journal, read_back, recovered } =
            metrics.journal.as_ref()?;
        let settled = |pick: fn(&super::WorkerMetrics) -> &Counter| -> u64 {
            metrics.workers.iter().map(|worker| pick(worker).get()).sum()
        };
        // What is settled is read first: it never is more than what is appended.
        let unrouted = [&committer.unrouted, &read_back.unrouted];
        let settled_records = settled(|worker| &worker.settled)
            + unrouted.iter().map(|counts| counts.records.get()).sum::<u64>();
        let settled_bytes = settled(|worker| &worker.settled_bytes)
            + unrouted.iter().map(|counts| counts.bytes.get()).sum::<u64>();
        let (segments, bytes) = journal.size();
        let (appended_records, appended_bytes) = (committer.records.get(), committer.bytes.get());
        let known = recovered.records + recovered.orphans + appended_records;
        Some(Self {
            ack: ack.to_string(),
            appended_records,
            appended_bytes,
            appended_per_s: (appended_records as f64 / uptime.as_secs_f64().max(1e-3)).round(),
            batch_records: Percentiles::of_counts(&committer.batch_records),
            commit_us: Percentiles::of_latency(&committer.commit),
            failed_batches: committer.failed_batches.get(),
            failed_records: committer.failed_records.get(),
            failures: journal.failures().into_iter().filter(|(_, count)| *count > 0).collect(),
            left_records: committer.left.get(),
            read_back_records: read_back.records.get(),
            lag_records: known.saturating_sub(settled_records),
            lag_bytes: (recovered.bytes + appended_bytes).saturating_sub(settled_bytes),
            segments,
            bytes,
            recovered_records: recovered.records,
            recovery_s: (recovered.elapsed.as_secs_f64() * 1e3).round() / 1e3,
            recovered_duplicates: recovered.duplicates,
            orphaned_records: recovered.orphans,
            torn_tails: recovered.torn,
            corrupt_records: recovered.corrupt + read_back.corrupt.get(),
        })
    }
}

impl fmt::Display for JournalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batch = self.batch_records.map_or(0.0, |records| records.p50);
        writeln!(
            f,
            "journal      {}: {} appended ({}/s, {batch} a write), {} not settled, {} segment(s)",
            self.ack, self.appended_records, self.appended_per_s, self.lag_records, self.segments
        )?;
        let asides = [
            (self.recovered_records, "recovered"),
            (self.torn_tails, "torn"),
            (self.corrupt_records, "corrupt"),
            (self.orphaned_records, "of unknown bots"),
            (self.left_records, "left behind for a while"),
            (self.failed_records, "failed to be written"),
        ];
        let asides: Vec<_> = asides
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !asides.is_empty() {
            writeln!(f, "             {}", asides.join(", "))?;
        }
        Ok(())
    }
}
