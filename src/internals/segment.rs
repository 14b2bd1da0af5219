//! A segment of the journal in memory, for fuzzing.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use crate::{
    bots::BotKey,
    journal::{Found, RecordHeader, SegmentHeader, SegmentReader, Stored, seal},
    proto::update::UpdateId,
};

/// The number of the only segment.
const SEGMENT: u32 = 7;

/// A file that is read.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl Stored for Bytes {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn is_linked(&self) -> bool {
        true
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(offset..).unwrap_or_default();
        Ok(buffer.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, _: &mut [IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The file of a segment with these bodies, and where its records begin.
pub fn segment<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, usize) {
    let mut bytes = SegmentHeader::new(SEGMENT, None, 0, &[]).to_bytes();
    let start = bytes.len();
    for body in bodies {
        let at = bytes.len();
        let header = RecordHeader::new(BotKey::from_name(""), UpdateId::new(0), 0, false, body);
        bytes.extend(header.to_bytes());
        bytes.extend(body);
        bytes.get_mut(at..).into_iter().for_each(|record| seal(record, SEGMENT));
    }
    (bytes, start)
}

/// Where the records of the file begin and end.
#[must_use]
pub fn records(file: Vec<u8>, start: usize, end: Option<u64>) -> Vec<(usize, usize)> {
    let mut reader = SegmentReader::new(Arc::new(Bytes(file)), SEGMENT, start as u64, end);
    let mut records = Vec::new();
    while let Ok(Some(found)) = reader.next() {
        if let Found::Record { header, offset, .. } = found {
            let offset = offset as usize;
            records.push((offset, offset + header.record_len() as usize));
        }
    }
    records
}
