//! One segment as the threads of a server share it.

use std::{
    io::{self, IoSlice},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use super::{
    record::{HEADER_BYTES, RecordHeader, take},
    settled::SettledLog,
    storage::{Room, Storage, Stored},
};
use crate::{bots::BotKey, dispatch::OutputKey, proto::update::UpdateId};

/// How a file of ids begins.
const IDS_MAGIC: [u8; 8] = *b"ringids1";
/// Length of its head and of an entry, in bytes.
const IDS_HEAD: usize = 24;
const IDS_ENTRY: usize = 12;

/// A segment that has records to be settled, or may get some.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(super) file: Arc<dyn Stored>,
    /// Where its records begin.
    pub(super) start: u64,
    /// Where what was acknowledged in it ends. Written by the committer.
    pub(super) end: AtomicU64,
    /// Whether a sync of it has failed behind the committer's back, so that it must not grow.
    pub(super) has_failed: AtomicBool,
    /// Whether bytes were found in it that are no record: its file is kept for an operator to look
    /// at.
    pub(super) is_damaged: bool,
    /// Whether an earlier run wrote it: the ids in it have been seen, that is no reason to drop its
    /// updates.
    pub(super) is_recovered: bool,
    /// Whether there is something behind its end that could not be cut off.
    pub(super) is_uncut: AtomicBool,
    /// Whether it has got all that it will get.
    pub(super) is_sealed: AtomicBool,
    /// Of a recovered segment, the records that are not delivered, in order.
    pub(super) skip: Vec<u32>,
    /// Of these, the ones that are not settled: their bot was not configured at the start.
    pub(super) orphans: Vec<u32>,
    pub(super) settled: Mutex<SettledLog>,
    /// Up to where its file has been synced by the housekeeper, the only writer of this.
    pub(super) synced: AtomicU64,
    /// Records in it that are not settled.
    pub(super) unsettled: AtomicU64,
}

impl Segment {
    /// A segment without records, which begin at `start`.
    pub(super) fn new(number: u32, file: Arc<dyn Stored>, start: u64) -> Self {
        Self {
            number,
            file,
            start,
            end: AtomicU64::new(start),
            has_failed: AtomicBool::new(false),
            is_damaged: false,
            is_recovered: false,
            is_sealed: AtomicBool::new(false),
            is_uncut: AtomicBool::new(false),
            skip: Vec::new(),
            orphans: Vec::new(),
            settled: Mutex::new(SettledLog::new(number)),
            synced: AtomicU64::new(0),
            unsettled: AtomicU64::new(0),
        }
    }

    /// True where it has got all that it will get and everything in it is settled.
    pub(super) fn is_done(&self) -> bool {
        self.is_sealed.load(SeqCst) && self.unsettled.load(SeqCst) == 0
    }

    /// Cuts off what is behind its end.
    ///
    /// A file that this process does not own any more is left as it is: another process may have
    /// gone on in it. Where a start of this directory's could not find it either, nothing is to be
    /// cut off.
    pub(super) fn cut(&self, storage: &dyn Storage) {
        let is_uncut = match storage.owns(&file_name(self.number)) {
            Ok(true) => self.file.truncate(self.end.load(SeqCst)).is_err(),
            Ok(false) => false,
            // The directory may come back with it.
            Err(_) => self.file.is_linked(),
        };
        self.is_uncut.store(is_uncut, SeqCst);
    }

    /// Makes the file for what is settled while there is a descriptor to be had. Without it, it is
    /// made when it is needed.
    pub(super) fn open_settled(&self, storage: &dyn Storage) {
        let _ = self.settled.lock().unwrap_or_else(PoisonError::into_inner).open(storage);
    }

    /// Settles the records at `offsets`; true where they were the last ones.
    ///
    /// # Errors
    /// The disk did not take it. They are settled all the same while the process lives.
    pub(super) fn settle(
        &self,
        offsets: impl ExactSizeIterator<Item = u32>,
        storage: &dyn Storage,
    ) -> (bool, io::Result<()>) {
        let count = offsets.len() as u64;
        let mut log = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.for_each(|offset| log.push(offset));
        let outcome = log.write(storage);
        drop(log);
        let before = self.unsettled.fetch_sub(count, SeqCst);
        debug_assert!(before >= count, "{count} of {before} records are settled");
        let is_last = before == count;
        (is_last && self.is_sealed.load(SeqCst), outcome)
    }

    /// Notes that `output` has settled its part of the records at `offsets`.
    ///
    /// # Errors
    /// The disk did not take it; it is tried again with the next note.
    pub(super) fn settle_parts(
        &self,
        offsets: impl Iterator<Item = u32>,
        output: OutputKey,
        storage: &dyn Storage,
    ) -> io::Result<()> {
        let mut log = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.for_each(|offset| log.push_part(offset, output));
        log.write(storage)
    }

    /// The record at `offset`; `None` where there is no whole one any more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(&self, offset: u32) -> io::Result<Option<(RecordHeader, Vec<u8>)>> {
        let offset = u64::from(offset);
        let mut head = [0; HEADER_BYTES];
        self.file.read_at(&mut head, offset)?;
        let Some(header) = RecordHeader::read(&head, self.number) else { return Ok(None) };
        let mut body = vec![0; header.body_len as usize];
        self.file.read_at(&mut body, offset + HEADER_BYTES as u64)?;
        Ok(header.fits(&body).then_some((header, body)))
    }
}

/// The name of segment `number`'s file.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:010}.journal")
}

/// The name under which the file of a damaged segment is kept.
pub(crate) fn damaged_name(number: u32) -> String {
    format!("{number:010}.damaged")
}

/// The name of the file that outlives segment `number`, with the ids in it.
pub(crate) fn ids_name(number: u32) -> String {
    format!("{number:010}.ids")
}

/// The same while it is being written.
pub(super) fn new_ids_name(number: u32) -> String {
    format!("{number:010}.ids.new")
}

/// The name under which a file is kept that has a name of such ids and is none.
pub(super) fn damaged_ids_name(number: u32) -> String {
    format!("{number:010}.ids.damaged")
}

/// What is kept of a sealed segment, so that its updates are known when they come again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ids {
    /// Where its records end.
    pub(crate) end: u64,
    /// Bot and id of each record, in order.
    pub ids: Vec<(BotKey, UpdateId)>,
}

impl Ids {
    /// Writes and syncs the file of segment `number`; its length in bytes.
    pub(super) fn write(&self, number: u32, storage: &dyn Storage) -> io::Result<u64> {
        let mut bytes = Vec::with_capacity(IDS_HEAD + IDS_ENTRY * self.ids.len() + 4);
        bytes.extend(IDS_MAGIC);
        bytes.extend(number.to_le_bytes());
        bytes.extend((self.ids.len() as u32).to_le_bytes());
        bytes.extend(self.end.to_le_bytes());
        for (bot, id) in &self.ids {
            bytes.extend(bot.crc().to_le_bytes());
            bytes.extend(id.get().to_le_bytes());
        }
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        // Under its name it is whole, whatever happens: a part of it would be damage for ever.
        let name = new_ids_name(number);
        let file = storage.create_anew(&name, Room::Grow)?;
        let written = file
            .write_at(&mut [IoSlice::new(&bytes)], 0)
            .and_then(|()| file.sync())
            .and_then(|()| storage.rename(&name, &ids_name(number)));
        if let Err(error) = written {
            let _ = storage.remove(&name);
            return Err(error);
        }
        Ok(bytes.len() as u64)
    }

    /// Reads the file of segment `number`; `None` where it is not whole.
    pub(crate) fn read(number: u32, file: &dyn Stored) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
        let n = file.read_at(&mut bytes, 0)?;
        bytes.truncate(n);
        Ok(Self::parse(number, &bytes))
    }

    fn parse(number: u32, bytes: &[u8]) -> Option<Self> {
        let (checked, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let is_whole = checked.starts_with(&IDS_MAGIC)
            && take(crc, 0).map(u32::from_le_bytes) == Some(crc32c::crc32c(checked))
            && take(checked, 8).map(u32::from_le_bytes) == Some(number);
        is_whole.then_some(())?;
        let end = u64::from_le_bytes(take(checked, 16)?);
        let entry = |entry: &[u8]| {
            let bot = BotKey::from_crc(u32::from_le_bytes(take(entry, 0)?));
            Some((bot, UpdateId::new(i64::from_le_bytes(take(entry, 4)?))))
        };
        let ids = checked.get(IDS_HEAD..)?.chunks_exact(IDS_ENTRY).filter_map(entry).collect();
        Some(Self { end, ids })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;
    use crate::journal::{Directory, settled};

    #[test]
    fn ids_come_back_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Directory::own(dir.path()).unwrap();
        let ids = (0..1000).map(|id| (BotKey::from_crc(id % 3), UpdateId::new(i64::from(id) - 5)));
        let ids = Ids { end: 1 << 31, ids: ids.collect() };
        ids.write(7, &storage).unwrap();
        let file = storage.open(&ids_name(7)).unwrap();
        assert_eq!(Ids::read(7, &*file).unwrap(), Some(ids));
        assert_eq!(Ids::read(8, &*file).unwrap(), None);
        for end in [0, 3, 23, 24, 100, 12_026] {
            file.truncate(end).unwrap();
            assert_eq!(Ids::read(7, &*file).unwrap(), None);
        }
    }

    #[test]
    fn what_is_settled_is_found_again_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Directory::own(dir.path()).unwrap();
        let file = storage.create("segment", Room::Grow).unwrap();
        let segment = Segment::new(3, file, 60);
        segment.unsettled.store(20_000, SeqCst);
        let (is_done, outcome) = segment.settle((0..10_000).map(|n| n * 9), &storage);
        outcome.unwrap();
        assert!(!is_done);
        // A torn entry, then more after a restart.
        let log = storage.open(&settled::file_name(3)).unwrap();
        log.write_at(&mut [IoSlice::new(&[1, 2, 3])], 80_000).unwrap();
        let file = storage.open(&settled::file_name(3)).unwrap();
        *segment.settled.lock().unwrap() = SettledLog::resume(3, file).unwrap();
        segment.settle([5_u32, 7].into_iter(), &storage).1.unwrap();
        let (one, other) = (OutputKey::from_name("one"), OutputKey::from_name("other"));
        segment.settle_parts([11, 0].into_iter(), one, &storage).unwrap();
        segment.settle_parts([11].into_iter(), other, &storage).unwrap();
        let mut broken = Vec::new();
        let read = settled::read_with(3, &*log, |at, _| broken.push(at)).unwrap();
        assert_eq!(broken, [80_000]);
        assert_eq!(read.settled.len(), 10_002);
        assert_eq!(read.settled[..4], [0, 5, 7, 9]);
        assert_eq!(read.parts, [(11, one), (0, one), (11, other)]);
        assert_eq!(settled::read(4, &*log).unwrap(), settled::Notes::default());
        // The second half of the last note is torn.
        log.truncate(log.len().unwrap() - 1).unwrap();
        assert_eq!(settled::read(3, &*log).unwrap().parts, [(11, one), (0, one)]);
    }
}
