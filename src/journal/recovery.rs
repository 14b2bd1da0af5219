//! Recovery: reads what the last run has left, checks it, and prepares it to be delivered.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::{
    header::{HeaderError, SegmentHeader},
    housekeeper::{NEW, SPARE},
    reader::{Found, SegmentReader, read_header},
    record::RecordHeader,
    segment::{Ids, Segment, damaged_ids_name, damaged_name, file_name, ids_name, new_ids_name},
    settled::{self, SettledLog},
    storage::{Storage, Stored},
};
use crate::{
    bots::{BotId, BotKey},
    dispatch::{RecordId, dedup::Window},
    observe::metrics,
    proto::update::UpdateId,
};

/// Numbers of segments are below it. One that is not was not counted up to by a journal, and no
/// segment could come after it.
const NUMBER_MAX: u32 = 4_000_000_000;
/// How often progress is reported, in bytes read.
const PROGRESS_BYTES: u64 = 8 * 1024 * 1024;

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

/// The files of a segment that are there.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Names of files that are kept for an operator to look at.
    pub(super) damaged: Vec<String>,
    pub(super) ids: bool,
    /// Ids that were not all written.
    pub(super) new_ids: bool,
    pub(super) journal: bool,
    pub(super) settled: bool,
}

/// One pass over all files.
struct Recovery<'a, R, P> {
    storage: &'a dyn Storage,
    bots: Vec<BotKey>,
    /// Segments under other names: what belongs to them stays, for when they are put back.
    elsewhere: Vec<u32>,
    remember: R,
    progress: P,
    reported_at: u64,
    found: Recovered,
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub enum RecoveryError {
    /// The directory, or this file in it, cannot be read or changed.
    Io(Option<String>, io::Error),
    /// This file's number is so high that no segment can come after it.
    Number(String),
    /// A later ringhook wrote this file, in this version of the format.
    Version(String, u32),
}

impl From<io::Error> for RecoveryError {
    fn from(error: io::Error) -> Self {
        Self::Io(None, error)
    }
}

/// Reads all of the journal in `storage`. Each update's id is given to `remember`, in the order of
/// the records; false from it says that it was known.
///
/// # Errors
/// The files cannot be listed or read, or are of another version. Damage to what is in them is no
/// error.
pub(crate) fn recover(
    storage: &dyn Storage,
    bots: &[String],
    remember: impl FnMut(BotId, UpdateId) -> bool,
    progress: impl FnMut(RecoveryProgress),
) -> Result<Recovered, RecoveryError> {
    let start = Instant::now();
    let bots = bots.iter().map(|name| BotKey::from_name(name)).collect();
    let (elsewhere, found) = Default::default();
    let mut recovery =
        Recovery { storage, bots, elsewhere, remember, progress, reported_at: 0, found };
    recovery.run()?;
    let mut found = recovery.found;
    found.elapsed = start.elapsed();
    Ok(found)
}

impl<R, P> Recovery<'_, R, P>
where
    R: FnMut(BotId, UpdateId) -> bool,
    P: FnMut(RecoveryProgress),
{
    fn run(&mut self) -> Result<(), RecoveryError> {
        let files = list(self.storage)?;
        for leftover in [NEW, SPARE] {
            let _ = self.storage.remove(leftover);
        }
        let Heads { mut open, ends } = Heads::read(self.storage, &files)?;
        for (number, (file, _)) in &open {
            self.found.scanned.of += at_file(file_name(*number), file.len())?;
        }
        self.elsewhere = open.values().filter_map(|(_, head)| head.is_segment()).collect();
        for (number, files) in files {
            if files.new_ids {
                let _ = self.storage.remove(&new_ids_name(number));
            }
            let ids = match files.ids {
                true => self.read_ids(number)?,
                false => None,
            };
            // One that is not whole is written anew.
            let files = Files { ids: ids.is_some(), ..files };
            let opened = open.remove(&number);
            let is_begun = match &opened {
                Some((_, head)) => matches!(head, Head::Whole(_)),
                None => false,
            };
            if !(1..NUMBER_MAX).contains(&number) && (is_begun || files.ids) {
                let name = if is_begun { file_name(number) } else { ids_name(number) };
                return Err(RecoveryError::Number(name));
            }
            let is_kept = match opened {
                Some((file, head)) => {
                    let end = ends.get(&number).copied().or(ids.as_ref().map(|ids| ids.end));
                    // What cannot be read now may be read later: nothing is given up here.
                    self.segment(number, file, &head, end, &files, ids.as_ref())?
                }
                None => {
                    for (bot, id) in ids.unwrap_or_default().ids {
                        self.remember(bot, id);
                    }
                    if files.settled {
                        self.forget_settled(number);
                    }
                    files.ids || files.settled || !files.damaged.is_empty()
                }
            };
            if is_kept && number < NUMBER_MAX {
                self.found.last = self.found.last.max(number);
            }
        }
        Ok(())
    }

    /// Removes the notes of a segment that is gone, if they are such.
    fn forget_settled(&self, number: u32) {
        if self.elsewhere.contains(&number) {
            return;
        }
        let name = settled::file_name(number);
        let mut is_broken = false;
        let read = self
            .storage
            .open(&name)
            .and_then(|file| settled::read_with(number, &*file, |_, _| is_broken = true));
        if read.is_ok_and(|notes| !notes.is_empty() || !is_broken) {
            let _ = self.storage.remove(&name);
        }
    }

    fn read_ids(&mut self, number: u32) -> Result<Option<Ids>, RecoveryError> {
        let name = ids_name(number);
        let file = at_file(name.clone(), self.storage.open(&name))?;
        let ids = at_file(name.clone(), Ids::read(number, &*file))?;
        let len = at_file(name.clone(), file.len())?;
        if ids.is_some() {
            self.found.ids.push((number, len));
        } else if len == 0 {
            // What a full disk has left of it.
            let _ = self.storage.remove(&name);
        } else {
            let aside = self.storage.put_aside(&name, &damaged_ids_name(number));
            let kept_as = at_file(name.clone(), aside)?;
            self.found.aside.push(Aside { file: name, kept_as, is_segment: None });
        }
        Ok(ids)
    }

    /// Records an id; false where it was known.
    fn remember(&mut self, key: BotKey, id: UpdateId) -> bool {
        match self.bot_of(key) {
            Some(bot) => (self.remember)(bot, id),
            // A reload may bring the bot back.
            None => self.found.orphaned.entry(key).or_default().accept(id.get()),
        }
    }

    fn bot_of(&self, key: BotKey) -> Option<BotId> {
        let index = self.bots.iter().position(|known| *known == key)?;
        u32::try_from(index).ok().map(BotId::new)
    }

    /// Reads a segment and keeps it if anything in it is to be delivered, now or later; false where
    /// it was never begun.
    fn segment(
        &mut self,
        number: u32,
        file: Arc<dyn Stored>,
        head: &Head,
        end: Option<u64>,
        files: &Files,
        ids: Option<&Ids>,
    ) -> Result<bool, RecoveryError> {
        let mut log = match files.settled {
            true => {
                let notes = self.storage.open(&settled::file_name(number)).and_then(|file| {
                    let offsets = settled::read(number, &*file)?;
                    Ok((offsets, SettledLog::resume(number, file)?))
                });
                at_file(settled::file_name(number), notes)?
            }
            false => (Vec::new(), SettledLog::new(number)),
        };
        let (settled, settled_log) = (&log.0, &mut log.1);
        let start = match head {
            Head::Whole(header) => u64::from(header.len),
            Head::Unused | Head::Damaged | Head::Foreign | Head::Elsewhere(_) => 0,
        };
        let mut reader = SegmentReader::new(Arc::clone(&file), number, start, end);
        let mut kept = Kept { end: start, ..Kept::default() };
        let bytes_before = self.found.scanned.bytes;
        let name = || file_name(number);
        while let Some(found) = at_file(name(), reader.next())? {
            match found {
                Found::Record { header, offset, .. } => {
                    kept.end = u64::from(offset) + header.record_len();
                    kept.ids.push((header.bot, header.update_id));
                    let is_settled = settled.binary_search(&offset).is_ok();
                    self.record(&mut kept, settled_log, number, &header, offset, is_settled);
                    self.report_progress(bytes_before + kept.end);
                }
                Found::Corrupt { offset, len } => {
                    kept.end = offset + len;
                    kept.damages.push(Damage { file: file_name(number), offset, bytes: len });
                }
                Found::Torn => kept.torn += 1,
            }
        }
        let file_len = at_file(name(), file.len())?;
        // The space behind the last record was only reserved.
        self.found.scanned.bytes = bytes_before + kept.end;
        self.found.scanned.of =
            self.found.scanned.of.saturating_sub(file_len - kept.end.min(file_len));
        if start == 0 && kept.ids.is_empty() {
            // A file that was never begun, unless it is known to have held records or looks like
            // it.
            let is_begun = matches!(head, Head::Damaged);
            let is_damaged = !kept.damages.is_empty() || is_begun && reader.saw_marker();
            self.found.torn += u64::from(is_begun && !is_damaged);
            let is_foreign = matches!(head, Head::Foreign | Head::Elsewhere(_));
            let retire = match is_foreign {
                true => self.keep_aside(number, head, files),
                false => self.retire(number, file_len, is_damaged, files),
            };
            at_file(name(), retire)?;
            return Ok(is_damaged || is_foreign);
        }
        // What is behind it is of no record. Should this not work, it is tried again.
        let is_uncut = file_len > kept.end && file.truncate(kept.end).is_err();
        self.found.previous = Some((number, kept.end));
        self.found.torn += kept.torn;
        let is_damaged = !kept.damages.is_empty();
        self.found.damages.append(&mut kept.damages);
        if let Err(error) = settled_log.write(self.storage) {
            tracing::warn!(segment = number, %error, "cannot note which records are settled");
        }
        let found = Ids { end: kept.end, ids: kept.ids };
        at_file(ids_name(number), self.keep_ids(number, &*file, &found, ids, files))?;
        let mut segment = Segment::new(number, file, start);
        segment.end.store(kept.end, SeqCst);
        segment.is_damaged = is_damaged;
        segment.is_recovered = true;
        segment.is_sealed.store(true, SeqCst);
        segment.is_uncut.store(is_uncut, SeqCst);
        segment.skip = kept.skip;
        segment.orphans = kept.orphans;
        segment.settled = Mutex::new(log.1);
        segment.unsettled.store(kept.unsettled, SeqCst);
        self.found.segments.push(segment);
        Ok(true)
    }

    /// Makes the file of ids say what the segment holds, and the segment hold it for good.
    ///
    /// The ids may be on the disk and records not, after a power cut. What is taken for known
    /// because of such an id would be acknowledged and never delivered, once the segment is gone.
    fn keep_ids(
        &mut self,
        number: u32,
        file: &dyn Stored,
        found: &Ids,
        written: Option<&Ids>,
        files: &Files,
    ) -> io::Result<()> {
        if written.is_some_and(|written| written.ids == found.ids) {
            return Ok(());
        }
        self.found.ids.retain(|(other, _)| *other != number);
        // A killed process may have left records that were neither synced nor acknowledged. Copies
        // that come now are dropped as duplicates of these, so these must outlive a power cut.
        if let Err(error) = file.sync() {
            tracing::warn!(segment = number, %error, "what was found cannot be made durable");
        }
        if files.ids {
            self.storage.remove(&ids_name(number))?;
        }
        let kept = match found.ids.is_empty() {
            true => Ok(None),
            false => found.write(number, self.storage).map(Some),
        };
        match kept {
            Ok(Some(bytes)) => {
                self.found.ids.push((number, bytes));
                return Ok(());
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(segment = number, %error, "cannot keep update ids"),
        }
        Ok(())
    }

    /// Keeps a file that is no segment of this number.
    fn keep_aside(&mut self, number: u32, head: &Head, files: &Files) -> io::Result<()> {
        let file = file_name(number);
        let kept_as = self.storage.put_aside(&file, &damaged_name(number))?;
        self.found.aside.push(Aside { file, kept_as, is_segment: head.is_segment() });
        if files.settled {
            self.forget_settled(number);
        }
        Ok(())
    }

    /// Removes a file without a record in it, unless it looks as if it had held some.
    fn retire(
        &mut self,
        number: u32,
        bytes: u64,
        is_damaged: bool,
        files: &Files,
    ) -> io::Result<()> {
        let name = file_name(number);
        if files.ids {
            // First and for good: without the segment they would be taken for those of updates that
            // have been delivered.
            self.storage.remove(&ids_name(number))?;
            self.storage.sync()?;
            self.found.ids.retain(|(other, _)| *other != number);
        }
        if is_damaged {
            self.found.damages.push(Damage { file: name.clone(), offset: 0, bytes });
            self.storage.put_aside(&name, &damaged_name(number))?;
        } else {
            self.storage.remove(&name)?;
        }
        match self.elsewhere.contains(&number) {
            true => Ok(()),
            false => self.storage.remove(&settled::file_name(number)),
        }
    }

    fn record(
        &mut self,
        kept: &mut Kept,
        log: &mut SettledLog,
        segment: u32,
        header: &RecordHeader,
        offset: u32,
        is_settled: bool,
    ) {
        self.found.scanned.records += 1;
        let bot = self.bot_of(header.bot);
        let is_new = self.remember(header.bot, header.update_id) || header.is_fed;
        if !is_settled && bot.is_some() && is_new {
            kept.unsettled += 1;
            self.found.records += 1;
            self.found.bytes += header.record_len();
            self.found.from.get_or_insert(RecordId { segment, offset });
            return;
        }
        kept.skip.push(offset);
        if !is_settled && is_new {
            kept.unsettled += 1;
            kept.orphans.push(offset);
            self.found.orphans += 1;
        } else if !is_settled {
            self.found.duplicates += 1;
            log.push(offset);
        }
    }

    fn report_progress(&mut self, bytes: u64) {
        if bytes >= self.reported_at + PROGRESS_BYTES {
            self.reported_at = bytes;
            (self.progress)(RecoveryProgress { bytes, ..self.found.scanned });
        }
    }
}

/// How a segment's file begins.
#[derive(Debug)]
pub(super) enum Head {
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
    pub(super) fn is_segment(&self) -> Option<u32> {
        match self {
            Self::Elsewhere(number) => Some(*number),
            _ => None,
        }
    }
}

/// The files of all segments, opened.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// By the segments' numbers.
    pub(super) open: BTreeMap<u32, (Arc<dyn Stored>, Head)>,
    /// Where the records of segments end, as their successors' heads say.
    pub(super) ends: BTreeMap<u32, u64>,
}

impl Heads {
    /// Opens the segments among `files`. One that has gone since is left out: a server that runs
    /// removes segments while a tool looks into them.
    ///
    /// # Errors
    /// A file cannot be read, or is of another version.
    pub(super) fn read(
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

/// Names the file in an error.
fn at_file<T>(name: String, outcome: io::Result<T>) -> Result<T, RecoveryError> {
    outcome.map_err(|error| RecoveryError::Io(Some(name), error))
}

/// The contents of one segment.
#[derive(Debug, Default)]
struct Kept {
    damages: Vec<Damage>,
    end: u64,
    ids: Vec<(BotKey, UpdateId)>,
    orphans: Vec<u32>,
    skip: Vec<u32>,
    torn: u64,
    unsettled: u64,
}

/// The files of each segment, by its number.
pub(super) fn list(storage: &dyn Storage) -> io::Result<BTreeMap<u32, Files>> {
    let mut files = BTreeMap::<u32, Files>::new();
    for name in storage.names()? {
        let Some((number, kind)) = name.split_once('.') else { continue };
        let is_number = number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit());
        let Some(number) = number.parse().ok().filter(|_| is_number) else { continue };
        // A file with another name is not the journal's.
        match kind {
            "ids" => files.entry(number).or_default().ids = true,
            "ids.new" => files.entry(number).or_default().new_ids = true,
            "journal" => files.entry(number).or_default().journal = true,
            "settled" => files.entry(number).or_default().settled = true,
            _ if kind.starts_with("damaged") || kind.starts_with("ids.damaged") => {
                files.entry(number).or_default().damaged.push(name);
            }
            _ => {}
        }
    }
    Ok(files)
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
