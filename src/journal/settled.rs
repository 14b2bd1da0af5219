//! Which records of a segment are settled: a file of its own beside the segment's.
//!
//! An entry is eight bytes, little-endian: where the record begins, and the CRC32C of the segment's
//! number and that. Each entry can be checked by itself, so whatever a crash does to the file, what
//! it says is true: a record counts as settled only where that was written.
//!
//! Where one of several outputs has settled a record and others have not, two entries say so: where
//! the record begins, under another checksum, and the output's key with a checksum of both.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use super::{
    record::take,
    storage::{Room, Storage, Stored},
};
use crate::dispatch::OutputKey;

/// Length of an entry in bytes.
const ENTRY: usize = 8;
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// What is noted in such a file.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Notes {
    /// Where settled records begin, in order, each once.
    pub(super) settled: Vec<u32>,
    /// Where records begin of which an output has settled its part, and which one.
    pub(super) parts: Vec<(u32, OutputKey)>,
}

/// The writing end of such a file.
#[derive(Debug)]
pub(super) struct SettledLog {
    file: Option<Arc<dyn Stored>>,
    /// Whether it has what is not synced.
    is_dirty: bool,
    /// Where the next entry goes.
    end: u64,
    /// Entries that are not in the file yet: because the disk took nothing, they are tried again.
    owed: Vec<u8>,
    segment: u32,
    /// The part of each entry's CRC that is the same for all.
    seed: u32,
}

impl SettledLog {
    pub(super) fn new(segment: u32) -> Self {
        let owed = Vec::new();
        Self { file: None, is_dirty: false, end: 0, owed, segment, seed: seed(segment) }
    }

    /// Goes on where a file of an earlier run ends.
    pub(super) fn resume(segment: u32, file: Arc<dyn Stored>) -> io::Result<Self> {
        let entry = ENTRY as u64;
        // A torn entry stays as it is: it is none, and the next one begins in its own place.
        let end = file.len()?.div_ceil(entry) * entry;
        Ok(Self { file: Some(file), end, ..Self::new(segment) })
    }

    /// Notes that the record at `offset` is settled.
    pub(super) fn push(&mut self, offset: u32) {
        self.owed.extend(offset.to_le_bytes());
        self.owed.extend(check(self.seed, offset).to_le_bytes());
    }

    /// Notes that `output` has settled its part of the record at `offset`.
    pub(super) fn push_part(&mut self, offset: u32, output: OutputKey) {
        let seed = part_seed(self.seed);
        let begin = check(seed, offset);
        self.owed.extend(offset.to_le_bytes());
        self.owed.extend(begin.to_le_bytes());
        self.owed.extend(output.crc().to_le_bytes());
        self.owed.extend(check(begin, output.crc()).to_le_bytes());
    }

    /// The file, which is made where there is none.
    pub(super) fn open(&mut self, storage: &dyn Storage) -> io::Result<&dyn Stored> {
        let file = match self.file.take() {
            Some(file) => file,
            None => storage.create(&file_name(self.segment), Room::Grow)?,
        };
        Ok(&**self.file.insert(file))
    }

    /// Writes what was pushed.
    ///
    /// # Errors
    /// The disk did not take it; the next call tries again.
    pub(super) fn write(&mut self, storage: &dyn Storage) -> io::Result<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        let owed = std::mem::take(&mut self.owed);
        let end = self.end;
        let outcome =
            self.open(storage).and_then(|file| file.write_at(&mut [IoSlice::new(&owed)], end));
        self.owed = owed;
        outcome?;
        self.end += self.owed.len() as u64;
        self.owed.clear();
        self.is_dirty = true;
        Ok(())
    }

    /// The file, where it has to be synced: that keeps the number of updates small that come twice
    /// after a power cut.
    pub(super) fn take_dirty(&mut self) -> Option<Arc<dyn Stored>> {
        std::mem::take(&mut self.is_dirty).then(|| self.file.clone()).flatten()
    }
}

/// The name of the file beside segment `number`.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:010}.settled")
}

/// What `file` says. What is no entry is passed over.
pub(super) fn read(segment: u32, file: &dyn Stored) -> io::Result<Notes> {
    read_with(segment, file, |_, _| {})
}

/// As [`read`]; `broken` is called with the offset and the bytes of what is no entry.
pub(super) fn read_with(
    segment: u32,
    file: &dyn Stored,
    mut broken: impl FnMut(u64, &[u8]),
) -> io::Result<Notes> {
    let seed = seed(segment);
    let part_seed = part_seed(seed);
    let mut notes = Notes::default();
    // Where the entry before says that a part of a record is settled: where that begins.
    let mut part = None;
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut chunk, at)?;
        for (entry, place) in chunk.get(..n).unwrap_or_default().chunks_exact(ENTRY).zip(0..) {
            let numbers = take(entry, 0).zip(take(entry, 4));
            let numbers = numbers.map(|(a, b)| (u32::from_le_bytes(a), u32::from_le_bytes(b)));
            match (numbers, part.take()) {
                (Some((key, crc)), Some(offset)) if crc == check(check(part_seed, offset), key) => {
                    notes.parts.push((offset, OutputKey::from_crc(key)));
                }
                (Some((offset, crc)), _) if crc == check(seed, offset) => {
                    notes.settled.push(offset);
                }
                (Some((offset, crc)), _) if crc == check(part_seed, offset) => part = Some(offset),
                _ => broken(at + place * ENTRY as u64, entry),
            }
        }
        if n < CHUNK {
            break;
        }
        at += n as u64;
    }
    notes.settled.sort_unstable();
    notes.settled.dedup();
    Ok(notes)
}

/// The part of a checksum that is the same for all entries on parts.
fn part_seed(seed: u32) -> u32 {
    crc32c::crc32c_append(seed, b"part")
}

fn seed(segment: u32) -> u32 {
    crc32c::crc32c(&segment.to_le_bytes())
}

fn check(seed: u32, offset: u32) -> u32 {
    crc32c::crc32c_append(seed, &offset.to_le_bytes())
}
