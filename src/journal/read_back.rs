//! Reading back: what was left in the journal goes to the workers when they have room.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Backlog, Journal,
    backlog::DeferredKey,
    reader::{Found, SegmentReader},
    record::{RecordHeader, now_us},
    segment::Segment,
};
use crate::{
    bots::BotKey,
    control::{Control, operation},
    dispatch::{Dispatcher, Origin, OutputSet, RecordId},
    observe::metrics::{Counter, ReadBackMetrics},
    outcome::{DiskFailure, Refusal},
    proto::update::{ParserLimits, Update, UpdateParser},
};

/// Records read before the workers are woken.
const ROUND: usize = 256;
/// Records of one deferred chat read at once.
const CHAT_ROUND: usize = 32;
/// How long it waits where the workers have no room, where single chats have none, and where the
/// disk cannot be read.
const FULL_PAUSE: Duration = Duration::from_millis(3);
const DEFERRED_PAUSE: Duration = Duration::from_millis(20);
const DISK_PAUSE: Duration = Duration::from_millis(250);
/// What was written can be read, whatever the limit is now.
const DEPTH_MAX: usize = 1024;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReadBackOutcome {
    /// The disk cannot be read just now.
    Disk,
    /// Nothing is left in the journal.
    Idle,
    /// Updates went to the workers, or may do so at once.
    Moved,
    /// The workers have no room.
    Full,
    /// Nothing is left but updates of chats that have no room: they are deferred.
    Deferred,
}

/// Where the updates are read that an earlier run has left of bots which a reload has brought back.
#[derive(Debug)]
struct Adoption {
    bots: Vec<BotKey>,
    segment: Arc<Segment>,
    /// How many of the segment's orphans have been looked at.
    done: usize,
}

/// Reads back what was left in the journal; there is one in a process.
pub(crate) struct ReadBack {
    adoption: Option<Adoption>,
    backlog: Arc<Backlog>,
    dispatcher: Dispatcher,
    journal: Arc<Journal>,
    metrics: Arc<ReadBackMetrics>,
    parser: UpdateParser,
    /// The update for which there was no room.
    pending: Option<(Update, Origin)>,
    /// The segment that is being read; `None` where nothing is.
    reading: Option<(Arc<Segment>, SegmentReader)>,
}

impl ReadBack {
    pub(crate) fn new(
        journal: Arc<Journal>,
        backlog: Arc<Backlog>,
        dispatcher: Dispatcher,
        metrics: Arc<ReadBackMetrics>,
    ) -> Self {
        let limits = ParserLimits { depth_max: DEPTH_MAX, ..ParserLimits::default() };
        let parser = UpdateParser::new(limits);
        Self {
            adoption: None,
            backlog,
            dispatcher,
            journal,
            metrics,
            parser,
            pending: None,
            reading: None,
        }
    }

    /// Works until the server stops taking updates. What is left then is there at the next start.
    pub(crate) fn run(mut self, control: &Control) {
        self.backlog.attach();
        while !control.is_reading_over() {
            let now = Instant::now();
            self.journal.operations.read_back.begin(operation::Step::ReadBack, now);
            let step = self.step(now);
            self.journal.operations.read_back.end();
            self.dispatcher.wake_workers();
            match step {
                ReadBackOutcome::Disk => thread::park_timeout(DISK_PAUSE),
                ReadBackOutcome::Full => thread::park_timeout(FULL_PAUSE),
                ReadBackOutcome::Idle => thread::park(),
                ReadBackOutcome::Deferred => thread::park_timeout(DEFERRED_PAUSE),
                ReadBackOutcome::Moved => {}
            }
        }
    }

    /// Hands some updates on.
    pub(crate) fn step(&mut self, now: Instant) -> ReadBackOutcome {
        let resumed = self.resume(now);
        let read = self.read(now);
        match (resumed, read) {
            (_, ReadBackOutcome::Disk) | (ReadBackOutcome::Disk, _) => ReadBackOutcome::Disk,
            (ReadBackOutcome::Moved, _) | (_, ReadBackOutcome::Moved) => ReadBackOutcome::Moved,
            (ReadBackOutcome::Full, _) | (_, ReadBackOutcome::Full) => ReadBackOutcome::Full,
            (ReadBackOutcome::Deferred, _) | (_, ReadBackOutcome::Deferred) => {
                ReadBackOutcome::Deferred
            }
            // What was read last may have been deferred, for which no wake-up comes.
            (ReadBackOutcome::Idle, ReadBackOutcome::Idle) if !self.backlog.lock().is_empty() => {
                ReadBackOutcome::Deferred
            }
            (ReadBackOutcome::Idle, ReadBackOutcome::Idle) => ReadBackOutcome::Idle,
        }
    }

    /// Reads on where everything is read back.
    fn read(&mut self, now: Instant) -> ReadBackOutcome {
        if let Some((update, origin)) = self.pending.take()
            && !self.hand_on(update, origin, now)
        {
            return ReadBackOutcome::Full;
        }
        if self.begin_adoption() {
            return self.adopt(now);
        }
        if self.reading.is_none() && !self.begin() {
            return ReadBackOutcome::Idle;
        }
        for _ in 0..ROUND {
            match self.read_one(now) {
                Some(ReadBackOutcome::Moved) => {}
                Some(step) => return step,
                None if self.go_on() => {}
                None => return ReadBackOutcome::Idle,
            }
        }
        ReadBackOutcome::Moved
    }

    /// Begins to read what was left of bots that have been brought back; false where there is
    /// nothing of that.
    fn begin_adoption(&mut self) -> bool {
        if self.adoption.is_some() {
            return true;
        }
        let bots = std::mem::take(&mut self.backlog.lock().adopted);
        if bots.is_empty() {
            return false;
        }
        self.adoption = self.adopt_from(0, bots);
        true
    }

    /// The first segment from `number` on that has orphans.
    fn adopt_from(&self, number: u32, bots: Vec<BotKey>) -> Option<Adoption> {
        let segments = self.journal.segments();
        let mut from = segments.range(number..).map(|(_, segment)| segment);
        let segment = Arc::clone(from.find(|segment| !segment.orphans.is_empty())?);
        drop(segments);
        Some(Adoption { bots, segment, done: 0 })
    }

    /// Hands on what was left of bots that have been brought back, in the order of the records.
    fn adopt(&mut self, now: Instant) -> ReadBackOutcome {
        for _ in 0..ROUND {
            let Some(adoption) = &mut self.adoption else { break };
            let Some(offset) = adoption.segment.orphans.get(adoption.done).copied() else {
                let bots = std::mem::take(&mut adoption.bots);
                let next = adoption.segment.number.saturating_add(1);
                self.adoption = self.adopt_from(next, bots);
                continue;
            };
            let segment = Arc::clone(&adoption.segment);
            let record = RecordId { segment: segment.number, offset };
            let read = segment.read(offset);
            let Adoption { bots, done, .. } = adoption;
            let (header, body) = match read {
                Ok(Some((header, _))) if !bots.contains(&header.bot) => {
                    *done += 1;
                    continue;
                }
                Ok(Some(found)) => found,
                Ok(None) => {
                    *done += 1;
                    damaged(&self.metrics.corrupt, record.segment, u64::from(offset), 0);
                    continue;
                }
                Err(error) => {
                    self.journal.report(DiskFailure::Read, &error);
                    return ReadBackOutcome::Disk;
                }
            };
            *done += 1;
            let Some(update) = parse(&mut self.parser, &self.journal, &header, &body, now) else {
                let bytes = header.record_len();
                damaged(&self.metrics.corrupt, record.segment, u64::from(offset), bytes);
                continue;
            };
            let is_replayed = segment.is_recovered || header.is_fed;
            let origin =
                Origin { is_part: false, is_replayed, record: Some(record), shard: usize::MAX };
            if !self.hand_on(update, origin, now) {
                return ReadBackOutcome::Full;
            }
        }
        ReadBackOutcome::Moved
    }

    /// Starts where the committer has left off; false where nothing is left behind.
    fn begin(&mut self) -> bool {
        let backlog = Arc::clone(&self.backlog);
        let mut state = backlog.lock();
        let Some(from) = state.from.take() else { return false };
        let (last, last_end) = state.committed;
        let is_open = self.open(from.segment, last, Some(u64::from(from.offset)));
        match is_open || state.adopted.is_empty() {
            true => state.is_behind = is_open,
            // Bots were brought back since the last look: nothing new overtakes what is left of
            // them. A segment is smaller than 4 GiB.
            false => state.fall_behind(RecordId { segment: last, offset: last_end as u32 }),
        }
        is_open
    }

    /// Opens segment `number`, or the first one behind it that is there, `last` at the most; at
    /// `offset` if it is `number` itself.
    fn open(&mut self, number: u32, last: u32, offset: Option<u64>) -> bool {
        if number > last {
            return false;
        }
        let segments = self.journal.segments();
        let segment = segments.range(number..=last).next().map(|(_, segment)| Arc::clone(segment));
        drop(segments);
        let Some(segment) = segment else { return false };
        let at = offset.filter(|_| segment.number == number).unwrap_or(segment.start);
        let reader = SegmentReader::new(Arc::clone(&segment.file), segment.number, at, Some(at));
        self.reading = Some((segment, reader));
        true
    }

    /// At the end of what was known of a segment: learns of more, goes to the next one, or ends;
    /// false where everything has gone to the workers.
    fn go_on(&mut self) -> bool {
        let Some((segment, reader)) = &mut self.reading else { return false };
        let (number, at) = (segment.number, reader.position());
        // Dropped without the lock: its file may be removed with it, for which the disk may take
        // its time.
        let segment = Arc::clone(segment);
        // The committer publishes under this lock what it has committed, and hands nothing on as
        // long as it finds that reading back is not over.
        let backlog = Arc::clone(&self.backlog);
        let mut state = backlog.lock();
        let (last, last_end) = state.committed;
        debug_assert!(number <= last && state.is_behind, "segment {number} of {last} is read");
        let end = if number == last { last_end } else { segment.end() };
        let is_awaited = !state.adopted.is_empty();
        if at < end {
            // What an earlier run has left of bots that were brought back goes before all that has
            // come since: the next round begins with that.
            if !is_awaited {
                reader.extend_to(end);
            }
            return true;
        }
        if self.open(number + 1, last, None) {
            return true;
        }
        self.reading = None;
        match is_awaited {
            // A segment is smaller than 4 GiB.
            true => state.fall_behind(RecordId { segment: last, offset: last_end as u32 }),
            false => state.is_behind = false,
        }
        false
    }

    /// Takes the next record; `None` at the end of what is known of the segment.
    fn read_one(&mut self, now: Instant) -> Option<ReadBackOutcome> {
        let (segment, reader) = self.reading.as_mut()?;
        let number = segment.number;
        let (header, offset, body) = match reader.next() {
            Ok(Some(Found::Record { header, offset, body })) => (header, offset, body),
            Ok(Some(Found::Corrupt { offset, len })) => {
                damaged(&self.metrics.corrupt, number, offset, len);
                return Some(ReadBackOutcome::Moved);
            }
            Ok(Some(Found::Torn) | None) => return None,
            Err(error) => {
                self.journal.report(DiskFailure::Read, &error);
                return Some(ReadBackOutcome::Disk);
            }
        };
        if segment.skip.binary_search(&offset).is_ok() {
            return Some(ReadBackOutcome::Moved);
        }
        let record = RecordId { segment: number, offset };
        let is_replayed = segment.is_recovered || header.is_fed;
        let Some(update) = parse(&mut self.parser, &self.journal, &header, body, now) else {
            damaged(&self.metrics.corrupt, number, u64::from(offset), header.record_len());
            return Some(ReadBackOutcome::Moved);
        };
        let origin =
            Origin { is_part: false, is_replayed, record: Some(record), shard: usize::MAX };
        Some(if self.hand_on(update, origin, now) {
            ReadBackOutcome::Moved
        } else {
            ReadBackOutcome::Full
        })
    }

    /// False where there is no room; the update is kept then.
    fn hand_on(&mut self, update: Update, origin: Origin, now: Instant) -> bool {
        let mut state = self.backlog.lock();
        let outcome = state.hand_on(&self.dispatcher, &self.journal, update, now, origin);
        let mut unrouted = state.take_unrouted();
        drop(state);
        self.journal.settle_unrouted(&mut unrouted, &self.metrics.unrouted);
        match outcome {
            Ok(()) => {
                self.metrics.records.increment();
                true
            }
            Err((Refusal::Chat, update)) => {
                self.parser.keep(update.recycle());
                true
            }
            Err((_, update)) => {
                self.pending = Some((update, origin));
                false
            }
        }
    }

    /// Hands on the updates of chats that were full and are no more.
    fn resume(&mut self, now: Instant) -> ReadBackOutcome {
        let state = self.backlog.lock();
        if !state.has_deferred() {
            return ReadBackOutcome::Idle;
        }
        let dispatcher = &self.dispatcher;
        let has_room = |key: DeferredKey| dispatcher.has_room(key.output, key.lane);
        let chats = state.deferred_with_room(CHAT_ROUND, has_room);
        drop(state);
        let mut step = ReadBackOutcome::Deferred;
        let mut blocked = OutputSet::NONE;
        for (key, records) in chats {
            // It has no room for any chat, so nothing is read for it in vain.
            if blocked.contains(key.output) {
                continue;
            }
            let mut gone = 0;
            for record in records {
                match self.resume_one(key, record, now) {
                    Ok(()) => gone += 1,
                    // What is behind it must not overtake it.
                    Err(Some(refusal)) => {
                        if refusal != Refusal::Chat {
                            blocked = blocked.with(key.output);
                        }
                        break;
                    }
                    Err(None) => {
                        step = ReadBackOutcome::Disk;
                        break;
                    }
                }
            }
            self.backlog.lock().resume(key, gone);
            if gone > 0 && step == ReadBackOutcome::Deferred {
                step = ReadBackOutcome::Moved;
            }
        }
        step
    }

    /// Hands one deferred update to its output, if it can ever be.
    ///
    /// # Errors
    /// Why the output does not take it now; `None` where the disk cannot be read.
    fn resume_one(
        &mut self,
        key: DeferredKey,
        record: RecordId,
        now: Instant,
    ) -> Result<(), Option<Refusal>> {
        let unreadable = |this: &Self, bytes| {
            damaged(&this.metrics.corrupt, record.segment, u64::from(record.offset), bytes);
            Ok(())
        };
        let segment = self.journal.segment(record.segment);
        debug_assert!(segment.is_some(), "{record:?} is deferred and its segment gone");
        let Some(segment) = segment else { return unreadable(self, 0) };
        let (header, body) = match segment.read(record.offset) {
            Ok(Some(found)) => found,
            Ok(None) => return unreadable(self, 0),
            Err(error) => {
                self.journal.report(DiskFailure::Read, &error);
                return Err(None);
            }
        };
        let Some(update) = parse(&mut self.parser, &self.journal, &header, &body, now) else {
            return unreadable(self, 0);
        };
        let is_replayed = segment.is_recovered || header.is_fed;
        let is_part = self.journal.parts().is_part(record);
        let origin = Origin { is_part, is_replayed, record: Some(record), shard: usize::MAX };
        match self.dispatcher.hand_to(key.output, update, now, origin) {
            Ok(()) => {
                self.metrics.records.increment();
                Ok(())
            }
            Err((refusal, update)) => {
                self.parser.keep(update.recycle());
                Err(Some(refusal))
            }
        }
    }
}

impl Segment {
    fn end(&self) -> u64 {
        self.end.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// The update of a record; `None` where its bot is not configured or the body is none, which only
/// another program can have written.
fn parse(
    parser: &mut UpdateParser,
    journal: &Journal,
    header: &RecordHeader,
    body: &[u8],
    now: Instant,
) -> Option<Update> {
    let bot = journal.bot_of(header.bot)?;
    let age = u64::try_from(now_us().saturating_sub(header.received_us)).unwrap_or(0);
    let received_at = now.checked_sub(Duration::from_micros(age)).unwrap_or(now);
    let mut bytes = parser.take_body(body.len());
    bytes.extend(body);
    parser.parse(bytes, bot, received_at).ok()
}

#[cold]
fn damaged(count: &Counter, segment: u32, offset: u64, bytes: u64) {
    count.increment();
    let file = super::segment::file_name(segment);
    tracing::error!(file, offset, bytes, "a part of the journal cannot be read, it is passed over");
}

#[cfg(test)]
mod tests;
