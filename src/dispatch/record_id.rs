//! Which record of the journal an update is.

use std::fmt;

/// Where a record is. Records are ordered as they were written.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordId {
    /// Number of the segment.
    pub segment: u32,
    /// Where in the segment's file the record begins, in bytes.
    pub offset: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}
