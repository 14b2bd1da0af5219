//! The heads of all segments' files, by which the segments are identified.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{Files, RecoveryError};
use crate::journal::{
    header::{HeaderError, SegmentHeader},
    reader::read_header,
    segment::file_name,
    storage::{Storage, Stored},
};

/// How a segment's file begins.
#[derive(Debug)]
pub(in crate::journal) enum Head {
    /// It was being written.
    Damaged,
    /// It is the whole head of this other segment.
    Elsewhere(u32),
    /// It was not written by a ringhook.
    Foreign,
    Unused,
    Whole(SegmentHeader),
}

impl Head {
    /// The number of the other segment whose head it is.
    pub(in crate::journal) fn is_segment(&self) -> Option<u32> {
        match self {
            Self::Elsewhere(number) => Some(*number),
            _ => None,
        }
    }
}

/// The files of all segments, opened.
#[derive(Debug, Default)]
pub(in crate::journal) struct Heads {
    /// By the segments' numbers.
    pub(in crate::journal) open: BTreeMap<u32, (Arc<dyn Stored>, Head)>,
    /// Where the records of segments end, as their successors' heads say.
    pub(in crate::journal) ends: BTreeMap<u32, u64>,
}

impl Heads {
    /// Opens the segments among `files`. One that has gone since is left out: a server that runs
    /// removes segments while a tool looks into them.
    ///
    /// # Errors
    /// A file cannot be read, or is of another version.
    pub(in crate::journal) fn read(
        storage: &dyn Storage,
        files: &BTreeMap<u32, Files>,
    ) -> Result<Self, RecoveryError> {
        let mut heads = Self::default();
        for (number, _) in files.iter().filter(|(_, files)| files.journal) {
            let name = file_name(*number);
            let read = match storage.open(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.and_then(|file| Ok((read_header(&*file)?, file))),
            };
            let (header, file) =
                read.map_err(|error| RecoveryError::Io(Some(name.clone()), error))?;
            let head = match header {
                Ok(header) if header.number == *number => Head::Whole(header),
                // A file that is used again gets a blank one first.
                Ok(header) => Head::Elsewhere(header.number),
                Err(HeaderError::Blank) => Head::Unused,
                Err(HeaderError::Damaged) => Head::Damaged,
                Err(HeaderError::Foreign) => Head::Foreign,
                Err(HeaderError::Version(version)) => {
                    return Err(RecoveryError::Version(name, version));
                }
            };
            if let Head::Whole(header) = &head {
                heads.ends.extend(header.previous);
            }
            heads.open.insert(*number, (file, head));
        }
        Ok(heads)
    }
}
