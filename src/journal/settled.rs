//! Which records of a segment are settled: a file of its own beside the segment's.
//!
//! An entry is eight bytes, little-endian: where the record begins, and the CRC32C of the segment's
//! number and that. Each entry can be checked by itself, so whatever a crash does to the file, what
//! it says is true: a record counts as settled only where that was written.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use super::{
    record::take,
    storage::{Room, Storage, Stored},
};

/// Length of an entry in bytes.
const ENTRY: usize = 8;
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

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

/// The offsets in `file`, in order, each once. What is no entry is passed over.
pub(super) fn read(segment: u32, file: &dyn Stored) -> io::Result<Vec<u32>> {
    read_with(segment, file, |_, _| {})
}

/// As [`read`]; `broken` is called with the offset and the bytes of what is no entry.
pub(super) fn read_with(
    segment: u32,
    file: &dyn Stored,
    mut broken: impl FnMut(u64, &[u8]),
) -> io::Result<Vec<u32>> {
    let seed = seed(segment);
    let mut offsets = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut chunk, at)?;
        for (entry, place) in chunk.get(..n).unwrap_or_default().chunks_exact(ENTRY).zip(0..) {
            let numbers = take(entry, 0).zip(take(entry, 4));
            let numbers = numbers.map(|(a, b)| (u32::from_le_bytes(a), u32::from_le_bytes(b)));
            if let Some((offset, crc)) = numbers
                && crc == check(seed, offset)
            {
                offsets.push(offset);
            } else {
                broken(at + place * ENTRY as u64, entry);
            }
        }
        if n < CHUNK {
            break;
        }
        at += n as u64;
    }
    offsets.sort_unstable();
    offsets.dedup();
    Ok(offsets)
}

fn seed(segment: u32) -> u32 {
    crc32c::crc32c(&segment.to_le_bytes())
}

fn check(seed: u32, offset: u32) -> u32 {
    crc32c::crc32c_append(seed, &offset.to_le_bytes())
}
