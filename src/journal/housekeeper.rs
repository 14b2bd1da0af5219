//! What has to be done on the disk and can wait: files for the next segments, syncs, removals.

use std::{
    io, mem,
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{
    Journal,
    log::Failure,
    segment::{Ids, Segment, damaged_name, file_name, ids_name},
    settled,
    storage::{Room, Stored},
};
use crate::{config::Ack, operation::Step};

/// The file that the next segment will be in.
pub(super) const SPARE: &str = "spare.journal";
/// The same while it is being made.
pub(super) const NEW: &str = "new.journal";
/// Bytes of ids that are kept of segments that are gone: more than a million ids.
const IDS_BYTES: u64 = 16 * 1024 * 1024;
/// How long it waits where nothing is due, and where something could not be removed.
const IDLE: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(1);

/// Something for the housekeeper to do.
#[derive(Debug)]
pub(crate) enum Chore {
    /// Have a file ready for the next segment.
    Prepare,
    /// Remove this segment, all of whose records are settled.
    Retire(u32),
    /// Keep the ids of this segment, which gets no more records.
    Sealed(u32, Ids),
    /// Sync what was written, within the sync interval.
    Sync,
    /// Do what is to be done, then end.
    Stop,
}

/// Does chores; there is one in a process.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    journal: Arc<Journal>,
    /// Segments whose ids are kept in files, with the files' lengths; the oldest first.
    ids: Vec<(u32, u64)>,
    /// Segments that are done, whose files are still there; and whether that has been said.
    leaving: Vec<(Arc<Segment>, bool)>,
    /// Those that are looked at for what is to be synced; empty in between.
    looked_at: Vec<Arc<Segment>>,
}

impl Housekeeper {
    /// `ids` are the files of ids that are there, with their lengths.
    pub(crate) fn new(journal: Arc<Journal>, ids: Vec<(u32, u64)>) -> Self {
        Self { journal, ids, leaving: Vec::new(), looked_at: Vec::new() }
    }

    /// Does chores until it is told to stop.
    pub(crate) fn run(mut self, chores: &Receiver<Chore>) {
        let journal = Arc::clone(&self.journal);
        let begin = |step| journal.operations.housekeeper.during(step, Instant::now());
        let interval = journal.settings.sync_interval;
        let mut sync_due: Option<Instant> = None;
        loop {
            // Long when nothing is due, so that an idle server stays idle.
            let longest = if self.leaving.is_empty() { IDLE } else { RETRY };
            let wait = sync_due
                .map_or(longest, |due| due.saturating_duration_since(Instant::now()).min(longest));
            match chores.recv_timeout(wait) {
                Ok(Chore::Sync) => sync_due = Some(Instant::now() + interval),
                Ok(Chore::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(chore) => {
                    let is_long = matches!(chore, Chore::Prepare);
                    let _doing = begin(if is_long { Step::Prepare } else { Step::Housekeep });
                    self.handle(chore);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _doing = begin(Step::Housekeep);
                    self.clean_up();
                }
            }
            if sync_due.is_some_and(|due| due <= Instant::now()) {
                sync_due = None;
                let _doing = begin(Step::Housekeep);
                self.sync();
            }
        }
        let _doing = begin(Step::Housekeep);
        self.sync();
    }

    /// Does one chore at once.
    pub(super) fn handle(&mut self, chore: Chore) {
        match chore {
            Chore::Prepare => self.prepare(),
            Chore::Retire(number) => self.retire(number),
            Chore::Sealed(number, ids) => self.keep_ids(number, &ids),
            Chore::Sync => self.sync(),
            Chore::Stop => {}
        }
        self.clean_up();
    }

    fn prepare(&self) {
        let journal = &self.journal;
        if journal.spare().is_some() {
            return;
        }
        let len = journal.settings.segment_bytes;
        let room = match journal.settings.ack {
            Ack::Synced => Room::Zero(len),
            // Who does not wait for the disk gains nothing from zeros, which are as much to write
            // as the records themselves.
            Ack::Memory | Ack::Written => Room::Reserve(len),
        };
        // Without a spare the committer makes the file itself, and says what is wrong.
        if let Ok(file) = journal.storage.create(NEW, room) {
            self.put_spare(NEW, file);
        }
    }

    /// Makes the file called `name` the spare one unless there is one; false where it is not.
    fn put_spare(&self, name: &str, file: Arc<dyn Stored>) -> bool {
        let mut spare = self.journal.spare();
        if spare.is_none() && self.journal.storage.rename(name, SPARE).is_ok() {
            *spare = Some(file);
            return true;
        }
        false
    }

    fn keep_ids(&mut self, number: u32, ids: &Ids) {
        // Where somebody has removed the segment's file, what is unsettled is lost with this process:
        // should it come again, it must not be taken for known.
        let is_removed = |segment: &Segment| !segment.is_done() && !segment.file.is_linked();
        if ids.ids.is_empty() || self.journal.segment(number).as_deref().is_some_and(is_removed) {
            return;
        }
        let storage = &*self.journal.storage;
        match ids.write(number, storage).and_then(|bytes| storage.sync().map(|()| bytes)) {
            Ok(bytes) => self.ids.push((number, bytes)),
            Err(error) => {
                tracing::warn!(segment = number, %error, "its update ids cannot be kept: after a \
                    crash, updates in it may not be known when they come again");
            }
        }
        let segments = self.journal.segments();
        let mut kept = 0;
        let mut gone = Vec::new();
        for (number, bytes) in self.ids.iter().rev() {
            kept += bytes;
            if kept > IDS_BYTES && !segments.contains_key(number) {
                gone.push(*number);
            }
        }
        drop(segments);
        for number in gone {
            if self.journal.storage.remove(&ids_name(number)).is_ok() {
                self.ids.retain(|(of, _)| *of != number);
            }
        }
    }

    fn retire(&mut self, number: u32) {
        let journal = &self.journal;
        if journal.segment(number).is_some_and(|segment| segment.is_done())
            && let Some(segment) = journal.segments_mut().remove(&number)
        {
            self.leaving.push((segment, false));
            self.leaving.sort_unstable_by_key(|(segment, _)| segment.number);
        }
    }

    /// Does what is overdue because the disk did not do it before.
    ///
    /// What was refused stays behind a segment's end when it cannot be cut off. Then the next
    /// segment's head alone says where the end is, so no segment goes before such an older one.
    pub(super) fn clean_up(&mut self) {
        // No lock is held while the disk works: the committer would wait for both.
        let is_uncut = |segment: &&Arc<Segment>| segment.is_uncut.load(SeqCst);
        let segments = self.journal.segments();
        let segments: Vec<_> = segments.values().filter(is_uncut).cloned().collect();
        let uncut = segments.iter().find_map(|segment| {
            let is_uncut = segment.file.truncate(segment.end.load(SeqCst)).is_err();
            segment.is_uncut.store(is_uncut, SeqCst);
            is_uncut.then_some(segment.number)
        });
        while let Some((segment, is_told)) = self.leaving.first_mut() {
            if uncut.is_some_and(|uncut| uncut < segment.number) {
                return;
            }
            let (number, segment) = (segment.number, Arc::clone(segment));
            let was_told = mem::replace(is_told, true);
            if let Err(error) = self.let_go(&segment) {
                if !was_told {
                    tracing::warn!(segment = number, %error, "cannot be removed");
                }
                return;
            }
            self.leaving.remove(0);
            self.journal.shrunk_by(segment.end.load(Relaxed));
        }
    }

    /// Lets a segment go, its file first: records without a note that they are settled would be
    /// delivered again.
    fn let_go(&self, segment: &Segment) -> io::Result<()> {
        let journal = &self.journal;
        let (name, storage) = (file_name(segment.number), &*journal.storage);
        if segment.is_damaged {
            unless_gone(storage.rename(&name, &damaged_name(segment.number)))?;
        } else {
            let whole = journal.settings.segment_bytes;
            // One of an earlier run may still be read, past its last unsettled record.
            let fits = !segment.is_recovered
                && segment.file.len().is_ok_and(|len| len == whole)
                && segment.file.is_linked();
            if !fits || !self.put_spare(&name, Arc::clone(&segment.file)) {
                storage.remove(&name)?;
            }
        }
        unless_gone(storage.sync())?;
        storage.remove(&settled::file_name(segment.number))
    }

    /// Makes durable what was written since the last time.
    fn sync(&mut self) {
        let mut segments = mem::take(&mut self.looked_at);
        let journal = &self.journal;
        journal.is_sync_due.store(false, SeqCst);
        segments.extend(journal.segments().values().cloned());
        for segment in segments.drain(..) {
            let mut log = segment.settled.lock().unwrap_or_else(PoisonError::into_inner);
            // What the disk did not take is tried again, although no other update of this segment
            // may be settled for long. Its failure has been counted.
            let _ = log.write(&*journal.storage);
            let settled = log.take_dirty();
            drop(log);
            // Should this fail, more updates come twice after a power cut; none is lost.
            let _ = settled.map(|file| file.sync());
            let end = segment.end.load(SeqCst);
            let is_synced = segment.synced.load(Relaxed) == end;
            if journal.settings.ack == Ack::Written && !is_synced {
                match segment.file.sync() {
                    Ok(()) => segment.synced.store(end, Relaxed),
                    Err(error) => self.failed(&segment, &error),
                }
            }
        }
        self.looked_at = segments;
    }

    /// The data may not be on the disk although the kernel may say so the next time.
    fn failed(&self, segment: &Segment, error: &io::Error) {
        segment.synced.store(segment.end.load(SeqCst), Relaxed);
        if !segment.has_failed.swap(true, SeqCst) {
            self.journal.report(Failure::Sync, error);
        }
    }
}

/// What cannot be found was done before, or by who has removed the directory.
fn unless_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
