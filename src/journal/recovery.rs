//! Recovery: reads what the last run has left, checks it, and prepares it to be delivered.

mod error;
mod files;
mod heads;
mod recovered;

use std::{
    io,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Instant,
};

pub use self::error::RecoveryError;
pub use self::recovered::RecoveryProgress;
pub(crate) use self::recovered::{Aside, Damage, Recovered};
pub(super) use self::{
    files::{Files, list},
    heads::{Head, Heads},
};
use super::{
    housekeeper::{NEW, SPARE},
    reader::{Found, SegmentReader},
    record::RecordHeader,
    segment::{Ids, Segment, damaged_ids_name, damaged_name, file_name, ids_name, new_ids_name},
    settled::{self, Notes, SettledLog},
    storage::{Storage, Stored},
};
use crate::{
    bots::{BotId, BotKey},
    dispatch::RecordId,
    proto::update::UpdateId,
};

/// Numbers of segments are below it. One that is not was not counted up to by a journal, and no
/// segment could come after it.
const NUMBER_MAX: u32 = 4_000_000_000;
/// How often progress is reported, in bytes read.
const PROGRESS_BYTES: u64 = 8 * 1024 * 1024;

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
        if read.is_ok_and(|notes| notes != Notes::default() || !is_broken) {
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
                    let notes = settled::read(number, &*file)?;
                    Ok((notes, SettledLog::resume(number, file)?))
                });
                at_file(settled::file_name(number), notes)?
            }
            false => (Notes::default(), SettledLog::new(number)),
        };
        let (Notes { settled, parts }, settled_log) = (&log.0, &mut log.1);
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
        for (offset, output) in parts {
            // What is settled as a whole, or by rule, is delivered to no output again.
            if settled.binary_search(offset).is_err() && kept.skip.binary_search(offset).is_err() {
                let record = RecordId { segment: number, offset: *offset };
                self.found.parts.entry(record).or_default().push(*output);
            }
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
