//! The result of recovery: what was found in a journal at the start.

use std::{collections::HashMap, time::Duration};

use crate::{
    bots::BotKey,
    dispatch::{OutputKey, RecordId, dedup::Window},
    journal::segment::{Segment, file_name},
    observe::metrics,
};

/// How far the reading of a journal has got.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryProgress {
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes that there are.
    pub of: u64,
    /// Records found so far.
    pub records: u64,
}

/// A part of a segment's file that is no record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Damage {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A file that is not what its name says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Aside {
    pub(crate) file: String,
    /// What it is called now, so that nothing removes it.
    pub(crate) kept_as: String,
    /// The number of the segment that it is in truth.
    pub(crate) is_segment: Option<u32>,
}

impl Aside {
    /// What it is, and what an operator can do about it.
    pub(crate) fn describe(&self) -> String {
        let Self { file, kept_as, is_segment } = self;
        match is_segment {
            Some(number) => format!(
                "{file} is segment {number} under another name: it is kept as {kept_as}, and \
                 nothing in it is delivered; to have that, stop the server, name it {}, if there \
                 is none, and start again",
                file_name(*number)
            ),
            None => format!("{file} is no file of this journal: it is kept as {kept_as}"),
        }
    }
}

/// What was found at the start.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Files that were put aside.
    pub(crate) aside: Vec<Aside>,
    /// Records that are delivered now, and the bytes of their records.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Records read in all, and the bytes of all files up to the last record of each.
    pub(crate) scanned: RecoveryProgress,
    /// Parts in the middle of a segment that are no records.
    pub(crate) damages: Vec<Damage>,
    /// Records whose update is in an earlier one as well: settled now.
    pub(crate) duplicates: u64,
    /// Records of bots that are not configured: they stay until they are.
    pub(crate) orphans: u64,
    /// What is known of the bots that are not configured: the ids that were seen.
    pub(crate) orphaned: HashMap<BotKey, Window>,
    /// Records that were begun and not finished: cut off.
    pub(crate) torn: u64,
    pub(crate) elapsed: Duration,
    /// The outputs that have settled their part of a record that is delivered now.
    pub(crate) parts: HashMap<RecordId, Vec<OutputKey>>,
    /// The first record to be delivered.
    pub(crate) from: Option<RecordId>,
    /// Number of the last segment that there ever was.
    pub(crate) last: u32,
    /// The last segment that is there, and where its records end.
    pub(crate) previous: Option<(u32, u64)>,
    /// Files of ids, with their lengths.
    pub(crate) ids: Vec<(u32, u64)>,
    pub(crate) segments: Vec<Segment>,
}

impl From<&Recovered> for metrics::Recovery {
    fn from(found: &Recovered) -> Self {
        Self {
            bytes: found.bytes,
            corrupt: found.damages.len() as u64,
            duplicates: found.duplicates,
            elapsed: found.elapsed,
            orphans: found.orphans,
            records: found.records,
            torn: found.torn,
        }
    }
}
