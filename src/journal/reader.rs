//! Reading a segment: record by record, over whatever a crash or a bad disk has left.

use std::{io, sync::Arc};

use memchr::memmem;

use super::{
    header::{HEAD_MAX, HeaderError, SegmentHeader},
    record::{HEADER_BYTES, MARKER, RecordHeader},
    storage::Stored,
};

/// Bytes read at once; a few in tests, so that records lie across the ends of what is read.
const CHUNK: usize = if cfg!(test) { 512 } else { 256 * 1024 };

/// What was found at one place of a segment.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A whole record.
    Record { header: RecordHeader, offset: u32, body: &'a [u8] },
    /// Bytes that are no record, with whole ones behind them.
    Corrupt { offset: u64, len: u64 },
    /// The beginning of a record that was never finished, and nothing behind it.
    Torn,
}

/// Reads the records of one segment's file in order.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    /// Bytes of the file from `start` on.
    buffer: Vec<u8>,
    start: u64,
    /// Where the next record is looked for.
    at: u64,
    /// Where the records end, if that is known; else at the last whole one.
    end: Option<u64>,
    file: Arc<dyn Stored>,
    is_done: bool,
    /// Whether something that may have been a record was found where none is.
    saw_marker: bool,
    segment: u32,
}

/// Reads the head of a segment's file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_header(file: &dyn Stored) -> io::Result<Result<SegmentHeader, HeaderError>> {
    let mut bytes = vec![0; 4096];
    let mut n = file.read_at(&mut bytes, 0)?;
    let announced = super::record::take(&bytes, 12).map_or(0, u32::from_le_bytes) as usize;
    if announced > bytes.len() && announced <= HEAD_MAX {
        bytes.resize(announced, 0);
        n = file.read_at(&mut bytes, 0)?;
    }
    Ok(SegmentHeader::read(bytes.get(..n).unwrap_or_default()))
}

impl SegmentReader {
    /// Reads segment number `segment` from `at` to `end`.
    pub(crate) fn new(file: Arc<dyn Stored>, segment: u32, at: u64, end: Option<u64>) -> Self {
        Self {
            buffer: Vec::new(),
            start: at,
            at,
            end,
            file,
            is_done: false,
            saw_marker: false,
            segment,
        }
    }

    /// Where the next record is looked for, in bytes from the file's start.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The body of the record at `offset`, which is the one that was found last.
    pub(super) fn body(&self, header: &RecordHeader, offset: u32) -> &[u8] {
        let body = self.buffered(u64::from(offset)).get(HEADER_BYTES..header.record_len() as usize);
        body.unwrap_or_default()
    }

    /// True where something that may have been a record was found where none is.
    pub(super) fn saw_marker(&self) -> bool {
        self.saw_marker
    }

    /// Records now end at `end`.
    pub(crate) fn extend_to(&mut self, end: u64) {
        if self.end.is_none_or(|old| old < end) {
            // What was read beyond the old end may have been written since.
            self.buffer.clear();
            self.start = self.at;
        }
        self.end = Some(end);
        self.is_done = false;
    }

    /// The next thing in the segment; `None` at its end.
    ///
    /// # Errors
    /// The file cannot be read there; the next call tries again.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        if self.is_done || self.end.is_some_and(|end| self.at >= end) {
            return Ok(None);
        }
        let offset = self.at;
        let header = match self.record_at(offset)? {
            Some(header) => header,
            None => return self.over_damage(offset),
        };
        let body = (offset - self.start) as usize + HEADER_BYTES;
        // It was checked to be there. An empty one instead would be given up as a damaged record.
        let Some(body) = self.buffer.get(body..body + header.body_len as usize) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        self.at = offset + header.record_len();
        // A segment is smaller than 4 GiB.
        Ok(Some(Found::Record { header, offset: offset as u32, body }))
    }

    /// Looks for the next whole record behind `offset`, where none is.
    fn over_damage(&mut self, offset: u64) -> io::Result<Option<Found<'_>>> {
        // The beginning of a record of this segment, as far as it goes, is one that was torn.
        self.fill(offset, HEADER_BYTES)?;
        let begins = self.buffered(offset).starts_with(&MARKER);
        let stale = begins && self.is_stale(offset);
        let next = self.find_record(offset + 1)?;
        match (next, self.end) {
            (Some(next), _) => {
                self.at = next;
                Ok(Some(Found::Corrupt { offset, len: next - offset }))
            }
            // It is known that there were records up to the end.
            (None, Some(end)) => {
                self.at = end;
                self.is_done = true;
                Ok(Some(Found::Corrupt { offset, len: end - offset }))
            }
            (None, None) => {
                self.is_done = true;
                Ok((begins && !stale).then_some(Found::Torn))
            }
        }
    }

    /// True where a whole header of another segment is at `offset`: the file's former life.
    fn is_stale(&self, offset: u64) -> bool {
        let bytes = self.buffered(offset);
        let number = super::record::take(bytes, 32).map(u32::from_le_bytes);
        number.is_some_and(|number| {
            number != self.segment && RecordHeader::read(bytes, number).is_some()
        })
    }

    /// The offset of the first whole record from `from` on.
    fn find_record(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        loop {
            if self.end.is_some_and(|end| at >= end) {
                return Ok(None);
            }
            // A marker is no zeros, so none begins where nothing was written.
            match self.file.next_data(at)? {
                None => return Ok(None),
                Some(data) => at = data,
            }
            self.fill(at, CHUNK)?;
            let bytes = self.buffered(at);
            match memmem::find(bytes, &MARKER) {
                Some(distance) => {
                    at += distance as u64;
                    if self.record_at(at)?.is_some() {
                        self.saw_marker = true;
                        return Ok(Some(at));
                    }
                    // A file that was about to be used again is full of the former life's.
                    self.saw_marker |= !self.is_stale(at);
                    at += 1;
                }
                None if bytes.len() < MARKER.len() => return Ok(None),
                // The marker may lie across the end of what was read.
                None => at += (bytes.len() + 1 - MARKER.len()) as u64,
            }
        }
    }

    /// The header of the whole record at `offset`, which is in the buffer then.
    fn record_at(&mut self, offset: u64) -> io::Result<Option<RecordHeader>> {
        self.fill(offset, HEADER_BYTES)?;
        let Some(header) = RecordHeader::read(self.buffered(offset), self.segment) else {
            return Ok(None);
        };
        let len = header.record_len();
        if self.end.is_some_and(|end| offset + len > end) {
            return Ok(None);
        }
        self.fill(offset, len as usize)?;
        let body = self.buffered(offset).get(HEADER_BYTES..len as usize);
        Ok(body.is_some_and(|body| header.fits(body)).then_some(header))
    }

    fn buffered(&self, offset: u64) -> &[u8] {
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.buffer.get(from..).unwrap_or_default()
    }

    /// Makes the buffer hold `len` bytes from `offset` on, or up to the file's end.
    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        if offset >= self.start && self.buffered(offset).len() >= len {
            return Ok(());
        }
        let wanted = len.max(CHUNK);
        let kept = if offset >= self.start { self.buffered(offset).len() } else { 0 };
        let from = self.buffer.len() - kept;
        self.buffer.drain(..from);
        self.start = offset;
        self.buffer.resize(wanted, 0);
        let rest = self.buffer.get_mut(kept..).unwrap_or_default();
        let outcome = self.file.read_at(rest, offset + kept as u64);
        let n = *outcome.as_ref().unwrap_or(&0);
        self.buffer.truncate(kept + n);
        outcome.map(drop)
    }
}
