//! The journal as it lies on the disk, for tools that look into it.
//!
//! Nothing is changed, and no lock is taken: a server may run meanwhile, whose files grow and go. A
//! record that is being written looks like one that a crash has torn, so what looks wrong in the
//! segment at the end is looked at again. What is wrong in a segment that has gone is no damage.
//! Only the [`Settler`] writes, for a caller that owns the directory.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    thread,
    time::Duration,
};

use super::{
    RecoveryError,
    header::SegmentHeader,
    housekeeper::{NEW, SPARE},
    reader::{Found, SegmentReader},
    record::RecordHeader,
    recovery::{Files, Head, Heads, list},
    segment::{Ids, file_name, ids_name},
    settled::{self, Notes, SettledLog},
    storage::{Storage, Stored},
};
use crate::{
    bots::BotKey,
    dispatch::{RecordId, dedup::Window},
    proto::update::UpdateId,
};

/// Where something looks unfinished: how often it is looked at again in a segment, how often at one
/// offset, and after which pause.
const LOOKS: u32 = 20;
const LOOKS_AT_ONE: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// All files of a journal, and the heads of its segments.
#[derive(Debug)]
pub struct Inspection<'a> {
    storage: &'a dyn Storage,
    files: BTreeMap<u32, Files>,
    heads: Heads,
}

/// One segment, whose records are read in order.
#[derive(Debug)]
pub struct Records<'a> {
    /// The segment's number.
    pub number: u32,
    /// When it was begun, in microseconds since 1970; `None` where its head is not whole.
    pub created_us: Option<i64>,
    /// Whether it is known where its records end, so that it gets no more of them.
    pub is_sealed: bool,
    /// Places in its file of settled records that say nothing, and whether a crash may have done
    /// that.
    pub broken_notes: Vec<(u64, bool)>,
    file: Arc<dyn Stored>,
    /// Where something was found first that is no record of it.
    is_empty: bool,
    /// Whether its head is damaged, or none, which has not been reported yet.
    is_headless: bool,
    /// What it is where it is no segment of this number.
    foreign: Option<String>,
    looks_left: u32,
    reader: SegmentReader,
    settled: Vec<u32>,
    storage: &'a dyn Storage,
}

/// What is at one offset of a segment.
#[derive(Debug)]
pub enum Item<'a> {
    /// A whole record.
    #[allow(missing_docs)]
    Record { header: RecordHeader, id: RecordId, body: &'a [u8], is_settled: bool },
    /// Bytes that are no record where there was one.
    Damage {
        /// Where it begins, in bytes.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// A record, or a head, that was begun and not finished.
    Unfinished {
        /// Where it begins, in bytes.
        offset: u64,
    },
}

impl<'a> Inspection<'a> {
    /// Lists the files in `storage` and reads the heads of the segments.
    ///
    /// # Errors
    /// A file cannot be read, or is of another version.
    pub fn new(storage: &'a dyn Storage) -> Result<Self, RecoveryError> {
        let files = list(storage)?;
        let heads = Heads::read(storage, &files)?;
        Ok(Self { storage, files, heads })
    }

    /// The numbers of all segments that there are files of, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.files.keys().copied()
    }

    /// True where there was a file of segment `number`.
    pub fn has_segment(&self, number: u32) -> bool {
        self.heads.open.contains_key(&number)
    }

    /// Records that are not settled; what cannot be read is none.
    pub fn unsettled(&self) -> u64 {
        let of = |number| {
            let mut count = 0;
            let Ok(Some(mut records)) = self.records(number) else { return 0 };
            while let Ok(Some(item)) = records.next_item() {
                count += u64::from(matches!(item, Item::Record { is_settled: false, .. }));
            }
            count
        };
        self.numbers().map(of).sum()
    }

    /// The name of the file of segment `number`'s ids.
    pub fn ids_name(number: u32) -> String {
        ids_name(number)
    }

    /// Bytes of the segments' files.
    pub fn file_bytes(&self) -> u64 {
        self.heads.open.values().filter_map(|(file, _)| file.len().ok()).sum()
    }

    /// The names of the bots of the servers that wrote the segments, by their keys.
    pub fn bots(&self) -> HashMap<BotKey, String> {
        let heads = self.heads.open.values().filter_map(|(_, head)| match head {
            Head::Whole(header) => Some(header),
            _ => None,
        });
        heads
            .flat_map(|head| &head.bots)
            .map(|name| (BotKey::from_name(name), name.clone()))
            .collect()
    }

    /// Begins to read segment `number`; `None` where its file has gone.
    ///
    /// # Errors
    /// The name of a file that cannot be read, and why.
    pub fn records(&self, number: u32) -> Result<Option<Records<'a>>, (String, io::Error)> {
        let Some((file, head)) = self.heads.open.get(&number) else { return Ok(None) };
        let mut end = self.heads.ends.get(&number).copied();
        if end.is_none() {
            end = self.ids(number)?.flatten().map(|ids| ids.end);
        }
        let mut broken_notes = Vec::new();
        let name = settled::file_name(number);
        let settled = self.open(&name).and_then(|file| {
            let Some(file) = file else { return Ok(Notes::default()) };
            settled::read_with(number, &*file, |offset, entry| {
                // What a crash leaves out is zeros.
                broken_notes.push((offset, entry.last() == Some(&0)));
            })
        });
        let settled = settled.map_err(|error| (name, error))?.settled;
        let header = match head {
            Head::Whole(header) => Some(header),
            _ => None,
        };
        let start = header.map_or(0, |header| u64::from(header.len));
        let records = Records {
            number,
            created_us: header.map(|header: &SegmentHeader| header.created_us),
            is_sealed: end.is_some(),
            broken_notes,
            file: Arc::clone(file),
            is_empty: true,
            is_headless: !matches!(head, Head::Whole(_) | Head::Unused),
            foreign: match head {
                Head::Elsewhere(number) => {
                    Some(format!("it is segment {number} under another name"))
                }
                Head::Foreign => Some("it is no file of this journal".to_owned()),
                Head::Damaged | Head::Unused | Head::Whole(_) => None,
            },
            looks_left: LOOKS,
            reader: SegmentReader::new(Arc::clone(file), number, start, end),
            settled,
            storage: self.storage,
        };
        // The notes go after the segment's file. Without them, everything would look unsettled.
        Ok((!records.is_gone()).then_some(records))
    }

    /// The ids that were kept of segment `number`: `None` where there is no such file,
    /// `Some(None)` where it is not whole.
    ///
    /// # Errors
    /// The name of the file that cannot be read, and why.
    pub fn ids(&self, number: u32) -> Result<Option<Option<Ids>>, (String, io::Error)> {
        let name = ids_name(number);
        let read = || {
            let mut looks_left = 2;
            loop {
                let Some(file) = self.open(&name)? else { return Ok(None) };
                let ids = Ids::read(number, &*file)?;
                // It may be about to be written.
                looks_left -= 1;
                if ids.is_some() || looks_left == 0 {
                    return Ok(Some(ids));
                }
                thread::sleep(LOOK_PAUSE);
            }
        };
        if !self.files.get(&number).is_some_and(|files| files.ids) {
            return Ok(None);
        }
        read().map_err(|error| (name.clone(), error))
    }

    /// Names and lengths of the files that are kept for an operator to look at.
    pub fn kept(&self) -> Vec<(String, u64)> {
        self.lengths(self.files.values().flat_map(|files| files.damaged.iter().cloned()))
    }

    /// Names and lengths of the files of ids.
    pub fn ids_files(&self) -> Vec<(String, u64)> {
        let ids = self.files.iter().filter(|(_, files)| files.ids);
        self.lengths(ids.map(|(number, _)| ids_name(*number)))
    }

    /// Names and lengths of the files that segments to come will be in.
    pub fn spares(&self) -> Vec<(String, u64)> {
        self.lengths([SPARE, NEW].into_iter().map(str::to_owned))
    }

    fn lengths(&self, names: impl Iterator<Item = String>) -> Vec<(String, u64)> {
        // A file that has gone, or may not be read, has no length.
        let len = |name: &str| self.open(name).ok().flatten().and_then(|file| file.len().ok());
        names.filter_map(|name| len(&name).map(|len| (name, len))).collect()
    }

    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn Stored>>> {
        match self.storage.open(name) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Records<'_> {
    /// The name of the segment's file.
    pub fn file_name(&self) -> String {
        file_name(self.number)
    }

    /// The name of the file of its settled records.
    pub fn settled_name(&self) -> String {
        settled::file_name(self.number)
    }

    /// Length of its file in bytes; of what is in it, that is the upper bound.
    pub fn file_len(&self) -> u64 {
        self.file.len().unwrap_or(0)
    }

    /// What the file is where it is no segment of its name's number.
    pub fn foreign(&self) -> Option<&str> {
        self.foreign.as_deref()
    }

    /// Where the next thing is looked for, in bytes from the file's start.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The next thing in the segment; `None` at its end.
    ///
    /// # Errors
    /// The file cannot be read there.
    pub fn next_item(&mut self) -> io::Result<Option<Item<'_>>> {
        loop {
            let at = self.reader.position();
            let item = match self.reader.next()? {
                None => break,
                Some(Found::Record { header, offset, .. }) => {
                    self.is_empty = false;
                    let is_settled = self.settled.binary_search(&offset).is_ok();
                    let id = RecordId { segment: self.number, offset };
                    let body = self.reader.body(&header, offset);
                    return Ok(Some(Item::Record { header, id, body, is_settled }));
                }
                Some(Found::Corrupt { offset, len }) => Item::Damage { offset, len },
                Some(Found::Torn) => Item::Unfinished { offset: at },
            };
            if self.is_gone() {
                return Ok(None);
            }
            if !self.is_sealed && self.is_whole_by_now(at)? {
                self.reader = SegmentReader::new(Arc::clone(&self.file), self.number, at, None);
                continue;
            }
            self.is_empty = false;
            return Ok(Some(item));
        }
        // Without a head and a record, the reader has nothing that it could call damage.
        let is_headless = std::mem::take(&mut self.is_headless) && self.is_empty;
        if !is_headless || self.is_gone() {
            return Ok(None);
        }
        let len = self.file_len();
        Ok(Some(match self.foreign.is_some() || self.reader.saw_marker() {
            true => Item::Damage { offset: 0, len },
            false => Item::Unfinished { offset: 0 },
        }))
    }

    /// True where a record at `at` has been finished since it did not look like one.
    fn is_whole_by_now(&mut self, at: u64) -> io::Result<bool> {
        for _ in 0..LOOKS_AT_ONE {
            if self.looks_left == 0 {
                break;
            }
            self.looks_left -= 1;
            thread::sleep(LOOK_PAUSE);
            let mut again = SegmentReader::new(Arc::clone(&self.file), self.number, at, None);
            if let Some(Found::Record { offset, .. }) = again.next()?
                && u64::from(offset) == at
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True where the segment was removed: its file may hold another one by now.
    fn is_gone(&self) -> bool {
        let opened = self.storage.open(&self.file_name());
        opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

/// The ids of each bot that were seen, to find the records whose update is in an earlier one.
#[derive(Debug, Default)]
pub struct SeenIds(HashMap<BotKey, Window>);

impl SeenIds {
    /// Records an id; false where it was known.
    pub fn remember(&mut self, bot: BotKey, id: UpdateId) -> bool {
        self.0.entry(bot).or_default().accept(id.get())
    }
}

/// Notes which records are settled, for a caller that owns the directory and runs no server in it.
#[derive(Debug)]
pub struct Settler<'a> {
    storage: &'a dyn Storage,
    log: Option<(u32, SettledLog)>,
}

impl<'a> Settler<'a> {
    /// Settles records in `storage`.
    pub fn new(storage: &'a dyn Storage) -> Self {
        Self { storage, log: None }
    }

    /// Notes that `records`, which are in order, are settled; it is empty afterwards.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn settle(&mut self, records: &mut Vec<RecordId>) -> io::Result<()> {
        for run in records.chunk_by(|a, b| a.segment == b.segment) {
            let Some(number) = run.first().map(|record| record.segment) else { continue };
            if self.log.as_ref().is_none_or(|(of, _)| *of != number) {
                self.sync()?;
            }
            let log = match self.log.take() {
                Some((_, log)) => log,
                None => self.resume(number)?,
            };
            let (_, log) = self.log.insert((number, log));
            run.iter().for_each(|record| log.push(record.offset));
            log.write(self.storage)?;
        }
        records.clear();
        Ok(())
    }

    /// Makes durable what was noted.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some((_, mut log)) = self.log.take() else { return Ok(()) };
        if let Some(file) = log.take_dirty() {
            file.sync()?;
        }
        self.storage.sync()
    }

    fn resume(&self, number: u32) -> io::Result<SettledLog> {
        match self.storage.open(&settled::file_name(number)) {
            Ok(file) => SettledLog::resume(number, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SettledLog::new(number)),
            Err(error) => Err(error),
        }
    }
}
