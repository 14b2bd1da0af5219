//! The journal's maintenance on the disk, which can wait: files for the next segments, syncs,
//! removals.

use std::{
    io::{self, IoSlice},
    mem,
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{
    Journal,
    segment::{Ids, Segment, damaged_name, file_name, ids_name},
    settled,
    storage::{Room, Stored},
};
use crate::{
    config::Ack, control::operation::Step, observe::metrics::JournalState as _,
    outcome::DiskFailure,
};

/// The file that the next segment will be in.
pub(super) const SPARE: &str = "spare.journal";
/// The same while it is being made.
pub(super) const NEW: &str = "new.journal";
/// Bytes of ids that are kept of segments that are gone: more than a million ids.
const IDS_BYTES: u64 = 16 * 1024 * 1024;
/// Pause where nothing is due, and where something could not be removed.
const IDLE: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(1);
/// How long a journal must have had room before that is logged. At its limit it
/// alternates between the two.
const FULL_OVER: Duration = Duration::from_secs(10);
/// A sealed segment of which more than this part is unused gives it back; else its file is kept for
/// a later segment.
const UNUSED_PART: u64 = 16;

/// A task of the housekeeper.
#[derive(Debug)]
pub(crate) enum MaintenanceTask {
    /// Settle the copies that have been held back, if that can be.
    Copies,
    /// Have a file ready for the next segment.
    Prepare,
    /// Remove this segment, all of whose records are settled.
    Retire(u32),
    /// Keep the ids of this segment, which gets no more records.
    Sealed(u32, Ids),
    /// Sync what was written, within the sync interval.
    Sync,
    /// Log that the journal is as large as it may be.
    LogFull,
    /// Do what is left to do, then end.
    Stop,
}

/// Does maintenance; there is one in a process.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    journal: Arc<Journal>,
    /// Segments whose ids are kept in files, with the files' lengths; the oldest first.
    ids: Vec<(u32, u64)>,
    /// Segments that are done, whose files are still there; and whether that has been logged.
    leaving: Vec<(Arc<Segment>, bool)>,
    /// Whether it has been logged that the journal is full.
    is_full_logged: bool,
    /// Since when it is not full any more, where that has been logged.
    room_since: Option<Instant>,
    /// Those that are looked at for what is to be synced; empty in between.
    looked_at: Vec<Arc<Segment>>,
}

impl Housekeeper {
    /// `ids` are the files of ids that are there, with their lengths.
    pub(crate) fn new(journal: Arc<Journal>, ids: Vec<(u32, u64)>) -> Self {
        Self {
            journal,
            ids,
            leaving: Vec::new(),
            is_full_logged: false,
            room_since: None,
            looked_at: Vec::new(),
        }
    }

    /// Does maintenance until it is stopped.
    pub(crate) fn run(mut self, maintenance: &Receiver<MaintenanceTask>) {
        let journal = Arc::clone(&self.journal);
        let begin = |step| journal.operations.housekeeper.during(step, Instant::now());
        let interval = journal.settings.sync_interval;
        let mut sync_due: Option<Instant> = None;
        loop {
            // Long when nothing is due, so that an idle server stays idle.
            let is_idle = self.leaving.is_empty() && !self.is_full_logged;
            let longest = if is_idle { IDLE } else { RETRY };
            let wait = sync_due
                .map_or(longest, |due| due.saturating_duration_since(Instant::now()).min(longest));
            match maintenance.recv_timeout(wait) {
                Ok(MaintenanceTask::Sync) => sync_due = Some(Instant::now() + interval),
                Ok(MaintenanceTask::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(task) => {
                    let is_long = matches!(task, MaintenanceTask::Prepare);
                    let _doing = begin(if is_long { Step::Prepare } else { Step::Housekeep });
                    self.handle(task);
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
            self.log_not_full();
        }
        let _doing = begin(Step::Housekeep);
        self.sync();
    }

    /// Does one task at once.
    pub(super) fn handle(&mut self, task: MaintenanceTask) {
        match task {
            MaintenanceTask::Prepare => self.prepare(),
            MaintenanceTask::Retire(number) => self.retire(number),
            MaintenanceTask::Sealed(number, ids) => {
                self.keep_ids(number, &ids);
                self.give_back(number);
            }
            MaintenanceTask::Sync => self.sync(),
            MaintenanceTask::LogFull => self.log_full(),
            MaintenanceTask::Copies | MaintenanceTask::Stop => {}
        }
        self.clean_up();
        self.journal.settle_held_back();
    }

    fn log_full(&mut self) {
        self.room_since = None;
        if !mem::replace(&mut self.is_full_logged, true) {
            let (segments, bytes) = self.journal.size();
            let max_bytes = self.journal.settings.max_bytes;
            tracing::warn!(
                segments,
                bytes,
                max_bytes,
                "the journal is as large as it may be: updates get 503 until some are settled, or \
                 journal.max_bytes is raised"
            );
        }
    }

    /// Logs once that the journal is not full any more, when that has lasted.
    fn log_not_full(&mut self) {
        if !self.is_full_logged {
            return;
        }
        if self.journal.is_full() {
            self.room_since = None;
        } else if self.room_since.get_or_insert_with(Instant::now).elapsed() >= FULL_OVER {
            self.is_full_logged = false;
            tracing::info!("the journal has room again");
        }
    }

    /// Gives back the room that a sealed segment has not used, unless it is about to be used again.
    fn give_back(&self, number: u32) {
        let Some(segment) = self.journal.segment(number).filter(|it| !it.is_done()) else { return };
        let (end, whole) = (segment.end.load(SeqCst), self.journal.settings.segment_bytes);
        let len = segment.file.len().unwrap_or(0);
        let is_ours = || self.journal.storage.owns(&file_name(number)).unwrap_or(false);
        if len.saturating_sub(end) > whole / UNUSED_PART && is_ours() {
            // Where this fails, the next start does it.
            let _ = segment.file.truncate(end);
        }
    }

    fn prepare(&self) {
        let journal = &self.journal;
        if journal.spare.is_ready() {
            return;
        }
        let len = journal.settings.segment_bytes;
        let room = match journal.settings.ack {
            Ack::Synced => Room::Zero(len),
            // Where no update waits for the disk, zeros gain nothing: they are as much to write as
            // the records themselves.
            Ack::Memory | Ack::Written => Room::Reserve(len),
        };
        // Without a spare the committer makes the file itself, and logs what is wrong.
        if let Ok(file) = journal.storage.create_anew(NEW, room) {
            let _ = self.put_spare(NEW, &file, 0);
        }
    }

    /// Makes the file called `name`, whose head has `head` bytes, the spare one unless there is
    /// one, or was just now.
    ///
    /// # Errors
    /// It has its name still, or no name.
    fn put_spare(&self, name: &str, file: &Arc<dyn Stored>, head: u64) -> io::Result<()> {
        let (journal, storage) = (&self.journal, &*self.journal.storage);
        if !journal.spare.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // One that the committer could not take.
        storage.remove(SPARE)?;
        storage.rename(name, SPARE)?;
        // After a power cut, too, it must not be found blank under its old name.
        let prepared = match head {
            0 => Ok(()),
            _ => storage.sync().and_then(|()| blank(&**file, head)),
        };
        if let Err(error) = prepared {
            storage.remove(SPARE)?;
            return Err(error);
        }
        journal.spare.put(Arc::clone(file));
        Ok(())
    }

    fn keep_ids(&mut self, number: u32, ids: &Ids) {
        // Where a segment's file has been removed, what is unsettled in it is lost with this
        // process: should it come again, it must not be taken for known.
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
    /// Bytes that the disk refused stay behind a segment's end when they cannot be cut off. Then
    /// only the next segment's head has the end, so no segment is removed before such an older one.
    pub(super) fn clean_up(&mut self) {
        let is_uncut = |segment: &&Arc<Segment>| segment.is_uncut.load(SeqCst);
        // Not under the lock: workers need it, and the disk may hang.
        let uncut: Vec<_> = self.journal.segments().values().filter(is_uncut).cloned().collect();
        let uncut = uncut.iter().find_map(|segment| {
            segment.cut(&*self.journal.storage);
            segment.is_uncut.load(SeqCst).then_some(segment.number)
        });
        while let Some((segment, is_logged)) = self.leaving.first_mut() {
            if uncut.is_some_and(|uncut| uncut < segment.number) {
                return;
            }
            let (number, segment) = (segment.number, Arc::clone(segment));
            let was_logged = mem::replace(is_logged, true);
            if let Err(error) = self.let_go(&segment) {
                if !was_logged {
                    tracing::warn!(segment = number, %error, "cannot be removed");
                }
                return;
            }
            self.leaving.remove(0);
            self.journal.shrunk_by(segment.end.load(Relaxed));
        }
    }

    /// Removes a segment, its file first: records without a note that they are settled would be
    /// delivered again.
    fn let_go(&self, segment: &Segment) -> io::Result<()> {
        let journal = &self.journal;
        let (name, storage) = (file_name(segment.number), &*journal.storage);
        if segment.is_damaged {
            unless_gone(storage.put_aside(&name, &damaged_name(segment.number)).map(drop))?;
        } else {
            let whole = journal.settings.segment_bytes;
            // One of an earlier run may still be read, past its last unsettled record.
            let fits = !segment.is_recovered
                && segment.file.len().is_ok_and(|len| len == whole)
                && segment.file.is_linked();
            if !fits || self.put_spare(&name, &segment.file, segment.start).is_err() {
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
            self.journal.report(DiskFailure::Sync, error);
        }
    }
}

/// Makes a file that is to be used again, with a head of `head` bytes, begin as a new one does:
/// with the head of another segment it would look like one that was renamed.
fn blank(file: &dyn Stored, head: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(head).unwrap_or(0)];
    file.write_at(&mut [IoSlice::new(&zeros)], 0)?;
    file.sync()
}

/// A file that is not found was removed before, or with the directory.
fn unless_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
