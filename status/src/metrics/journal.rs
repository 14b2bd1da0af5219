//! The journal. Without one the families have no series.

use std::fmt;

use ringhook::{JournalReport, report::DiskFailure};

use super::{
    families::{Families, Head, Label, counts, head},
    snapshot::Snapshot,
};

pub(super) fn write(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let journal = of.report.journal.as_ref();
    let mut counter = |head: Head, value: fn(&JournalReport) -> u64| {
        families.counters(head, one(journal.map(value)))
    };
    counter(head("journal_records", "Records written"), |it| it.appended_records)?;
    counter(head("journal_written", "Bytes of these records").bytes(), |it| it.appended_bytes)?;
    counter(
        head("journal_commits", "Writes that the disk took, of all that had gathered"),
        |it| it.batch_records.as_ref().map_or(0, |records| records.count),
    )?;
    counter(
        head("journal_failed_batches", "Writes that the disk did not take; their requests got 503"),
        |it| it.failed_batches,
    )?;
    counter(head("journal_failed_records", "Records in them"), |it| it.failed_records)?;
    counter(
        head("journal_left_records", "Updates left in the journal because a queue was full"),
        |it| it.left_records,
    )?;
    counter(head("journal_read_back_records", "Updates read back from it"), |it| {
        it.read_back_records
    })?;
    counter(
        head("journal_corrupt_records", "Places that are no records although they were"),
        |it| it.corrupt_records,
    )?;
    let mut gauge = |head: Head, value: fn(&JournalReport) -> u64| {
        families.gauges(head, one(journal.map(value)))
    };
    gauge(head("journal_lag_records", "Records whose updates are not settled"), |it| {
        it.lag_records
    })?;
    gauge(head("journal_lag", "Bytes of these records").bytes(), |it| it.lag_bytes)?;
    gauge(head("journal_segments", "Segments in use"), |it| it.segments as u64)?;
    gauge(head("journal_size", "Bytes of the records in all segments").bytes(), |it| it.bytes)?;
    let limit = journal.map(|_| of.config.journal.max_bytes);
    families.gauges(head("journal_limit", "Bytes that it may have").bytes(), one(limit))?;
    let failures = journal.into_iter().flat_map(|journal| {
        counts("reason", DiskFailure::ALL, &journal.failures, DiskFailure::as_str)
    });
    families.counters(head("journal_disk_failures", "What the disk would not do"), failures)
}

fn one(value: Option<u64>) -> impl Iterator<Item = ([Label<'static>; 0], u64)> {
    value.into_iter().map(|value| ([], value))
}
