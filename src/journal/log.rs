//! The writing end of the journal: records go to the active segment, and a new one is begun when it
//! is full or when the disk has failed under it.

use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};

use super::{
    Journal, MaintenanceTask,
    batch::Batch,
    directory::is_lost,
    header::SegmentHeader,
    record::{self},
    segment::{Ids, Segment, file_name},
    storage::{Room, Stored, is_no_room},
};
use crate::{bots::BotKey, config::Ack, outcome::DiskFailure, proto::update::UpdateId};

/// How long a new segment is not tried again where none could be begun. The senders come again
/// after a second.
const PAUSE: Duration = Duration::from_millis(100);
/// On a disk without room for a whole segment, such parts of one are tried.
const SMALL: [u64; 2] = [16, 256];
/// Numbers that are passed over where files of other origin have them.
const TAKEN_MAX: u32 = 100;
/// Batches that one call writes; there are more only where there are many shards.
const PARTS: usize = 16;

/// Writes records; there is one in a process.
#[derive(Debug)]
pub(crate) struct Log {
    journal: Arc<Journal>,
    active: Option<Active>,
    /// Number of the segment that was begun last.
    last: u32,
    /// The segment before the next one, and where its records end.
    previous: Option<(u32, u64)>,
    /// Until when no new segment is tried.
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    ids: Vec<(BotKey, UpdateId)>,
    /// Up to where the file has room of its own.
    room: u64,
    /// Whether the next one has been asked for.
    is_next_asked: bool,
    /// How many bots the head names.
    named: usize,
}

impl Log {
    /// Goes on after segment `last`, whose records end as `previous` says.
    pub(crate) fn new(journal: Arc<Journal>, last: u32, previous: Option<(u32, u64)>) -> Self {
        Self { journal, active: None, last, previous, paused_until: None }
    }

    /// Commits the records of `batches`, all or none: the segment and where in it they begin.
    ///
    /// # Errors
    /// They count as not written. The segment is sealed without them; the next call begins another.
    pub(super) fn append(
        &mut self,
        batches: &mut [Batch],
        now: Instant,
    ) -> Result<(Arc<Segment>, u64), DiskFailure> {
        let len: u64 = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        let is_full = |active: &Active| {
            let end = active.segment.end.load(Relaxed);
            end > active.segment.start && end + len > active.room
        };
        if self.active.as_ref().is_some_and(|it| it.segment.has_failed.load(SeqCst)) {
            self.seal(true);
        } else if self.active.as_ref().is_some_and(|it| is_full(it) || self.has_unnamed(it)) {
            self.seal(false);
        }
        let active = match &mut self.active {
            Some(active) => active,
            None => {
                let begun = self.begin(len, now)?;
                self.active.insert(begun)
            }
        };
        let segment = Arc::clone(&active.segment);
        let at = segment.end.load(Relaxed);
        batches.iter_mut().for_each(|batch| batch.seal(segment.number));
        let settings = &self.journal.settings;
        let synced = settings.ack == Ack::Synced;
        let outcome =
            write(&*segment.file, batches, at).map_err(|error| (DiskFailure::Write, error));
        let outcome = outcome.and_then(|()| {
            if synced {
                segment.file.sync().map_err(|error| (DiskFailure::Sync, error))?;
            }
            // Where the directory has gone, or is another process's, a later start would not find
            // what was written. The next record begins a segment in a new one, if that is possible.
            let removed = |error| (DiskFailure::Removed, error);
            self.journal.storage.is_ours().map_err(removed)?;
            match segment.file.is_linked() {
                true => Ok(()),
                false => Err(removed(io::ErrorKind::NotFound.into())),
            }
        });
        if let Err((failure, error)) = outcome {
            self.seal(true);
            self.journal.report(failure, &error);
            return Err(failure);
        }
        let ids = batches.iter().flat_map(|batch| &batch.entries);
        let ids = ids.filter_map(|entry| entry.update.as_ref());
        let key = |bot| self.journal.key_of(bot);
        active.ids.extend(ids.map(|update| (key(update.bot()), update.id())));
        let end = at + len;
        debug_assert!(segment.start <= at && segment.end.load(Relaxed) == at);
        segment.end.store(end, SeqCst);
        let records: u64 = batches.iter().map(|batch| batch.entries.len() as u64).sum();
        segment.unsettled.fetch_add(records, SeqCst);
        if !active.is_next_asked && end > active.room / 2 {
            active.is_next_asked = true;
            self.journal.task(MaintenanceTask::Prepare);
        }
        self.journal.grown_by(len);
        if !synced {
            self.journal.ask_for_sync();
        }
        if end >= active.room {
            // Not with the next records: were this one alone as large as the journal may be, there
            // would be none until it is gone, and it would not go before it is sealed.
            self.seal(false);
        }
        Ok((segment, at))
    }

    /// True where the records of `batches` fit into the open segment, with nothing to be begun or
    /// ended before or behind them.
    pub(super) fn is_open_for(&self, batches: &[Batch]) -> bool {
        let len: u64 = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        self.active.as_ref().is_some_and(|active| {
            let segment = &active.segment;
            segment.end.load(Relaxed) + len < active.room
                && !segment.has_failed.load(SeqCst)
                && !self.has_unnamed(active)
        })
    }

    /// True where there are bots that the head of the segment does not name: tools that look into
    /// the journal later should find the names of all bots whose records are in it.
    fn has_unnamed(&self, active: &Active) -> bool {
        active.named < self.journal.registry.len()
    }

    /// Begins a segment before there is anything to write: a disk that refuses is known at the
    /// start then, and the first update waits for nothing.
    pub(crate) fn open(&mut self, now: Instant) {
        if self.active.is_none() {
            self.active = self.begin(0, now).ok();
        }
    }

    /// Begins the next segment, for a batch of `len` bytes at least.
    fn begin(&mut self, len: u64, now: Instant) -> Result<Active, DiskFailure> {
        if self.paused_until.is_some_and(|until| now < until) {
            return Err(DiskFailure::Begin);
        }
        let names: Vec<_> = self.journal.registry.names().map(str::to_owned).collect();
        let (number, header, file, room) = match self.begin_file(&names, len) {
            Ok(begun) => begun,
            Err(error) => {
                self.paused_until = Some(now + PAUSE);
                if !(is_lost(&error) && self.journal.is_lost()) {
                    self.journal.report(DiskFailure::Begin, &error);
                }
                self.journal.set_lost(is_lost(&error));
                return Err(DiskFailure::Begin);
            }
        };
        self.paused_until = None;
        self.journal.set_lost(false);
        debug_assert!(
            number > self.last && self.previous.is_none_or(|(before, _)| before < number)
        );
        self.last = number;
        self.journal.grown_by(u64::from(header.len));
        let segment = Arc::new(Segment::new(number, file, u64::from(header.len)));
        segment.open_settled(&*self.journal.storage);
        self.journal.segments_mut().insert(number, Arc::clone(&segment));
        Ok(Active { segment, ids: Vec::new(), room, is_next_asked: false, named: names.len() })
    }

    /// The file of the next segment, with its head in it, its number, and how much room it has.
    fn begin_file(
        &self,
        names: &[String],
        len: u64,
    ) -> io::Result<(u32, SegmentHeader, Arc<dyn Stored>, u64)> {
        let mut tried = 0;
        loop {
            tried += 1;
            let number = self.last.checked_add(tried);
            let number = number.ok_or_else(|| io::Error::other("no numbers are left"))?;
            let header = SegmentHeader::new(number, self.previous, record::now_us(), names);
            let needed = u64::from(header.len) + len;
            let begun = self.file_for(number, needed).and_then(|(file, room)| {
                file.write_at(&mut [IoSlice::new(&header.to_bytes())], 0)?;
                Ok((number, header, file, room))
            });
            match begun {
                // A file of this number that this process has not made stays as it is.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < TAKEN_MAX => {
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                Err(error) => {
                    let _ = self.journal.storage.remove(&file_name(number));
                    return Err(error);
                }
                begun => return begun,
            }
        }
    }

    /// The file of segment `number` and how much room it has: the spare one, or a new one.
    fn file_for(&self, number: u32, needed: u64) -> io::Result<(Arc<dyn Stored>, u64)> {
        let whole = self.journal.settings.segment_bytes;
        let storage = &*self.journal.storage;
        let name = file_name(number);
        if needed <= whole
            && let Some(spare) = self.journal.take_spare(&name)
        {
            storage.sync()?;
            return Ok((spare, whole));
        }
        let mut room = whole.max(needed);
        let mut created = storage.create_anew(&name, Room::Reserve(room));
        for part in SMALL {
            if created.as_ref().is_err_and(is_no_room) {
                room = (whole / part).max(needed);
                created = storage.create_anew(&name, Room::Reserve(room));
            }
        }
        let file = created?;
        // A file that a power cut leaves without a name holds nothing.
        storage.sync()?;
        Ok((file, room))
    }

    /// Where the journal is full: seals the active segment if everything in it is settled, so that
    /// its room is given back. Further records would not seal it, as there are none.
    pub(super) fn make_room(&mut self) {
        let Some(Active { segment, .. }) = &self.active else { return };
        let is_empty = segment.end.load(Relaxed) == segment.start;
        if self.journal.is_full() && !is_empty && segment.unsettled.load(SeqCst) == 0 {
            self.seal(segment.has_failed.load(SeqCst));
        }
    }

    /// Ends the active segment where its committed records end. After a failure, what was written
    /// behind them must not be found, whatever became of it.
    fn seal(&mut self, is_failed: bool) {
        let Some(Active { segment, ids, .. }) = self.active.take() else { return };
        let end = segment.end.load(Relaxed);
        if is_failed {
            // The head of the next segment has this one's end, should this not work.
            segment.cut(&*self.journal.storage);
        }
        self.previous = Some((segment.number, end));
        // Before a worker can have the segment removed: its ids are kept first.
        self.journal.task(MaintenanceTask::Sealed(segment.number, Ids { end, ids }));
        segment.is_sealed.store(true, SeqCst);
        if segment.is_done() {
            self.journal.task(MaintenanceTask::Retire(segment.number));
        }
    }

    /// Makes everything durable, for a stop.
    pub(super) fn close(&mut self) {
        let Some(Active { segment, .. }) = &self.active else { return };
        if let Err(error) = segment.file.sync() {
            self.journal.report(DiskFailure::Sync, &error);
        }
        // The next start does not read what was reserved. Should this not work, it does. A file
        // that was moved away may be another process's by now.
        if self.journal.storage.owns(&file_name(segment.number)).unwrap_or(false) {
            let _ = segment.file.truncate(segment.end.load(Relaxed));
        }
    }
}

/// Writes the records of `batches`, one behind the other, from `offset` on.
fn write(file: &dyn Stored, batches: &[Batch], mut offset: u64) -> io::Result<()> {
    for group in batches.chunks(PARTS) {
        let mut parts = [IoSlice::new(&[]); PARTS];
        let mut len = 0;
        for (part, batch) in parts.iter_mut().zip(group) {
            *part = IoSlice::new(&batch.bytes);
            len += batch.bytes.len() as u64;
        }
        let more = || io::Error::other("more batches than parts");
        file.write_at(parts.get_mut(..group.len()).ok_or_else(more)?, offset)?;
        offset += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;
    use crate::{
        bots::BotId,
        journal::{Directory, Settings, tests::registry},
        proto::update::UpdateParser,
    };

    fn batch(journal: &Journal) -> Batch {
        let text = br#"{"update_id":1}"#;
        let update = UpdateParser::default();
        let mut update = update;
        let update = update.parse(text.to_vec().into(), BotId::new(0), Instant::now());
        let update = update.ok().unwrap();
        let mut batch = Batch::new(0);
        let staged = batch.stage(text);
        let key = journal.key_of(BotId::new(0));
        batch.push(&staged, update, key, 0, false, 0);
        batch
    }

    /// Another process may have gone on in a file that was moved away with its directory.
    #[test]
    fn a_file_that_was_moved_away_is_not_cut() {
        type End = fn(&mut Log, Batch);
        let ends: [End; 2] = [
            |log, batch| {
                assert_eq!(
                    log.append(&mut [batch], Instant::now()).unwrap_err(),
                    DiskFailure::Removed
                )
            },
            |log, _| log.close(),
        ];
        for end in ends {
            for comes_back in [false, true] {
                let parent = tempfile::tempdir().unwrap();
                let (path, away) = (parent.path().join("journal"), parent.path().join("away"));
                let settings = Settings {
                    ack: Ack::Written,
                    max_bytes: 1 << 30,
                    segment_bytes: 10_000,
                    sync_interval: Duration::from_secs(1),
                };
                let storage = Arc::new(Directory::own(&path).unwrap());
                let (journal, _chores) =
                    Journal::new(storage, settings, registry(&["bot".to_owned()]), Vec::new());
                let mut log = Log::new(Arc::clone(&journal), 0, None);
                log.append(&mut [batch(&journal)], Instant::now()).unwrap();
                fs::rename(&path, &away).unwrap();
                if comes_back {
                    // Under its name there is a journal of this process's again.
                    let _ = journal.storage.create("other", Room::Grow).unwrap();
                }
                let file = away.join(file_name(1));
                assert_eq!(fs::metadata(&file).unwrap().len(), 10_000);
                if comes_back {
                    log.seal(true);
                    assert!(!journal.segment(1).unwrap().is_uncut.load(SeqCst));
                } else {
                    end(&mut log, batch(&journal));
                }
                assert_eq!(fs::metadata(&file).unwrap().len(), 10_000);
            }
        }
    }
}
