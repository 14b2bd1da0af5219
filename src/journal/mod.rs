//! The journal: with it every update is written to a file before its 200.
//!
//! ```text
//! shard: intake ---batch--> committer ---update--> dispatch -> worker --settled--> segment
//!    ^                         |    \                 ^
//!    +---------answer----------+     backlog ----> read back        housekeeper beside it
//! ```
//!
//! A shard copies each body into its batch ([`intake`](self)). The committer, one thread at a time,
//! writes what has gathered to the active segment while the next batches gather, so a batch is as
//! large as the disk is slow, and no update waits for a timer. Only then
//! are the connections woken, and the updates handed to the workers: no handler sees an update that
//! a crash could take back. What does not fit into the queues stays in the journal and is read back
//! when there is room. A worker notes what it has settled beside the segment; a segment with
//! nothing left is used again or removed.
//!
//! | file | question |
//! |---|---|
//! | `record`, `header`, `settled`, `segment` | what is in the files |
//! | `reader` | how they are read, also when damaged |
//! | `storage` | which operations of a file system are used |
//! | `directory` | the real one: which process owns it, and what is touched in it |
//! | `batch`, `intake` | how a shard waits for a commit without blocking |
//! | `log`, `committer`, `hand_over` | how records are written |
//! | `helpers` | when a worker does the committer's work |
//! | `backlog`, `read_back` | in which order updates go to the workers |
//! | `parts` | which outputs have not settled a record |
//! | `spare` | which file the next segment will be in |
//! | `housekeeper` | what else is done on the disk |
//! | `recovery` | what is found at the start |
//! | `inspect` | what a tool sees that looks into it |

mod backlog;
mod batch;
mod committer;
mod directory;
mod hand_over;
mod header;
mod helpers;
mod housekeeper;
pub mod inspect;
mod intake;
mod log;
mod parts;
mod read_back;
mod reader;
mod record;
mod recovery;
mod segment;
mod settled;
mod spare;
mod storage;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use crossbeam_utils::CachePadded;

pub(crate) use self::{
    backlog::Backlog,
    batch::{Batch, Staged},
    committer::{Commits, Committer},
    directory::is_held_here,
    hand_over::{BatchReturn, CommitterThread},
    header::SegmentHeader,
    housekeeper::{Housekeeper, MaintenanceTask},
    intake::{Intake, Ticket},
    log::Log,
    parts::Parts,
    read_back::ReadBack,
    reader::{Found, SegmentReader},
    record::{BODY_MAX, record_len, seal},
    recovery::{Recovered, recover},
    storage::Stored,
};
pub use self::{
    directory::Directory,
    record::{RecordHeader, now_us},
    recovery::{RecoveryError, RecoveryProgress},
};
use self::{helpers::Helpers, segment::Segment, spare::Spare, storage::Storage};
use crate::{
    bots::{BotId, BotKey, BotRegistry},
    config::Ack,
    control::operation::Operation,
    dispatch::{RecordId, Scheduler},
    observe::metrics::{JournalState, UnroutedCounts},
    outcome::DiskFailure,
};

/// How long a failed commit counts where none has come after it. The senders come again each
/// second.
const FAILING: Duration = Duration::from_secs(30);

/// What a journal is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) ack: Ack,
    pub(crate) max_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) sync_interval: Duration,
}

/// The operations of its threads.
#[derive(Debug, Default)]
struct Operations {
    committer: Arc<Operation>,
    housekeeper: Arc<Operation>,
    read_back: Arc<Operation>,
}

/// The journal as all its threads share it.
#[derive(Debug)]
pub(crate) struct Journal {
    maintenance: Sender<MaintenanceTask>,
    committer: CommitterThread,
    /// How often each [`DiskFailure`] has happened.
    failures: [AtomicU64; DiskFailure::ALL.len()],
    /// When the last commit failed, in milliseconds since `since`, or 0 where it did not.
    failed_at: AtomicU64,
    /// Records of copies that are not to be settled yet.
    held_back: Mutex<Vec<RecordId>>,
    helpers: Helpers,
    /// Whether no more updates are taken because the journal is as large as it may be. Shards read
    /// it for each update, so nothing that is written as often is beside it.
    is_full: CachePadded<AtomicBool>,
    /// Whether its directory was taken away or is another process's.
    is_lost: AtomicBool,
    is_sync_due: AtomicBool,
    operations: Operations,
    parts: Parts,
    registry: Arc<BotRegistry>,
    segments: CachePadded<RwLock<BTreeMap<u32, Arc<Segment>>>>,
    settings: Settings,
    since: Instant,
    /// A file for the next segment.
    spare: Spare,
    storage: Arc<dyn Storage>,
    /// Bytes of the records in all segments.
    used: CachePadded<AtomicU64>,
}

impl Journal {
    /// A journal in `storage` with the segments that were recovered, and the maintenance for its
    /// [`Housekeeper`].
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        settings: Settings,
        registry: Arc<BotRegistry>,
        segments: Vec<Segment>,
    ) -> (Arc<Self>, Receiver<MaintenanceTask>) {
        let (maintenance, to_do) = unbounded();
        let used = segments.iter().map(|segment| segment.end.load(Relaxed)).sum();
        let segments = segments.into_iter().map(|segment| (segment.number, Arc::new(segment)));
        let journal = Self {
            maintenance,
            committer: CommitterThread::default(),
            failures: Default::default(),
            failed_at: AtomicU64::new(0),
            held_back: Mutex::default(),
            helpers: Helpers::default(),
            is_full: CachePadded::new(AtomicBool::new(used >= settings.max_bytes)),
            is_lost: AtomicBool::new(false),
            is_sync_due: AtomicBool::new(false),
            operations: Operations::default(),
            parts: Parts::default(),
            registry,
            segments: CachePadded::new(RwLock::new(segments.collect())),
            settings,
            since: Instant::now(),
            spare: Spare::default(),
            storage,
            used: CachePadded::new(AtomicU64::new(used)),
        };
        let journal = Arc::new(journal);
        for segment in journal.segments().values().filter(|segment| segment.is_done()) {
            journal.task(MaintenanceTask::Retire(segment.number));
        }
        (journal, to_do)
    }

    /// The operations of its threads.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        let Operations { committer, housekeeper, read_back } = &self.operations;
        [committer, housekeeper, read_back].into_iter()
    }

    /// The records that go to several outputs.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What a 200 promises.
    pub(crate) fn ack(&self) -> Ack {
        self.settings.ack
    }

    /// To be called by the committer's thread.
    fn attach_committer(&self) {
        self.committer.attach();
    }

    /// Wakes the committer: there is a batch, or there may be none any more.
    pub(crate) fn wake_committer(&self) {
        self.committer.wake();
    }

    /// Lets workers of `workers` commit where they would sleep otherwise. A sync is too long for
    /// that: what they have to handle would wait for it.
    pub(crate) fn set_helpers(&self, workers: &Arc<Scheduler>) {
        if self.settings.ack == Ack::Written {
            self.helpers.set_workers(workers);
        }
    }

    /// Has the batch committed that was sent just before: by a worker that sleeps, if there is one
    /// and the disk is quick, or else by the committer.
    fn ask_for_commit(&self, now: Instant) {
        if !self.helpers.ask(now) {
            self.wake_committer();
        }
    }

    /// The workers that commit in the committer's place.
    pub(crate) fn helpers(&self) -> &Helpers {
        &self.helpers
    }

    /// True where no more updates are taken because the journal is as large as it may be.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    /// True where the directory was replaced or is another process's: no update is taken until the
    /// server is started again.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Relaxed)
    }

    /// To be called by the committer when it has tried to begin a segment.
    fn set_lost(&self, is_lost: bool) {
        if self.is_lost.swap(is_lost, Relaxed) == is_lost {
            return;
        }
        if is_lost {
            tracing::error!(
                "the journal's directory was replaced, or another server has it: this one touches \
                 nothing in it and answers 503; what it has acknowledged is delivered as long as it \
                 runs. Where another server has taken its place, stop this one; else start it again"
            );
        } else {
            tracing::info!("the journal has its directory again");
        }
    }

    /// True where the last commit failed, and lately: an older failure says nothing of the disk
    /// now.
    pub(crate) fn is_failing(&self, now: Instant) -> bool {
        let failed_at = self.failed_at.load(Relaxed);
        let since = self.millis(now).saturating_sub(failed_at);
        failed_at > 0 && u128::from(since) < FAILING.as_millis()
    }

    /// To be called by the committer with the outcome of each commit.
    fn tried(&self, is_committed: bool, now: Instant) {
        if !is_committed {
            self.failed_at.store(self.millis(now), Relaxed);
        } else if self.failed_at.load(Relaxed) != 0 {
            self.failed_at.store(0, Relaxed);
        }
    }

    /// Milliseconds from the beginning to `now`, at least 1.
    fn millis(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.since).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX).max(1)
    }

    /// Notes that the updates of `records` are settled: handled, dead-lettered or dropped by rule.
    /// `records` is empty afterwards.
    pub(crate) fn settle(&self, records: &mut Vec<RecordId>) {
        records.sort_unstable();
        for run in records.chunk_by(|a, b| a.segment == b.segment) {
            let number = run.first().map_or(0, |record| record.segment);
            // One stays until all in it is settled.
            let segment = self.segment(number);
            debug_assert!(segment.is_some(), "segment {number} is gone, a record is settled twice");
            let Some(segment) = segment else { continue };
            let offsets = run.iter().map(|record| record.offset);
            let (is_done, outcome) = segment.settle(offsets, &*self.storage);
            if let Err(error) = outcome {
                self.report(DiskFailure::Settle, &error);
            }
            if is_done {
                self.task(MaintenanceTask::Retire(number));
            } else if self.is_full() && segment.unsettled.load(SeqCst) == 0 {
                // The active one, which the committer alone can seal.
                self.wake_committer();
            }
        }
        if !records.is_empty() {
            self.ask_for_sync();
        }
        records.clear();
    }

    /// Notes that `output` has settled its part of `records`, which other outputs have not settled
    /// yet: after a restart it does not get them again. `records` is empty afterwards.
    pub(crate) fn settle_parts(&self, records: &mut Vec<RecordId>, output: usize) {
        let key = self.parts.key_of(output);
        debug_assert!(key.is_some(), "output {output} is not known");
        records.sort_unstable();
        for run in records.chunk_by(|a, b| a.segment == b.segment) {
            let number = run.first().map_or(0, |record| record.segment);
            let Some((segment, key)) = self.segment(number).zip(key) else { continue };
            let offsets = run.iter().map(|record| record.offset);
            if let Err(error) = segment.settle_parts(offsets, key, &*self.storage) {
                self.report(DiskFailure::Settle, &error);
            }
        }
        if !records.is_empty() {
            self.ask_for_sync();
        }
        records.clear();
    }

    /// Settles records, each with the bytes of its update, that go to no output. `unrouted` is
    /// empty afterwards.
    fn settle_unrouted(&self, unrouted: &mut Vec<(RecordId, u64)>, counts: &UnroutedCounts) {
        if unrouted.is_empty() {
            return;
        }
        counts.records.add(unrouted.len() as u64);
        counts.bytes.add(unrouted.iter().map(|(_, bytes)| record_len(*bytes)).sum());
        self.settle(&mut unrouted.drain(..).map(|(record, _)| record).collect());
    }

    /// Notes that the records of `copies` are settled, whose updates have come before. `copies` is
    /// empty afterwards.
    ///
    /// Where an unsettled update may be in a file that was taken away, its copy is all that a later
    /// start would find of it: then the copies wait until such updates are settled.
    pub(crate) fn settle_copies(&self, copies: &mut Vec<RecordId>) {
        if copies.is_empty() {
            return;
        }
        let are_held_back = self.hold_back(copies);
        self.settle(copies);
        if are_held_back {
            // What they wait for may have been settled in between.
            self.task(MaintenanceTask::Copies);
        }
    }

    /// Settles the copies that have been held back, unless they still wait.
    fn settle_held_back(&self) {
        let mut copies = mem::take(&mut *self.held_back());
        if !copies.is_empty() {
            self.hold_back(&mut copies);
            self.settle(&mut copies);
        }
    }

    /// Keeps those of `copies` that a later start would find while it would not find all that is
    /// unsettled; true where it keeps any.
    fn hold_back(&self, copies: &mut Vec<RecordId>) -> bool {
        // Not under the lock: workers need it, and the disk may hang. What is left of bots that are
        // not configured has not been taken, so nothing is a copy of it.
        let is_awaited = |it: &&Arc<Segment>| it.unsettled.load(SeqCst) > it.orphans.len() as u64;
        let awaited: Vec<_> = self.segments().values().filter(is_awaited).cloned().collect();
        let is_ours = |number| self.storage.owns(&segment::file_name(number)).unwrap_or(false);
        if awaited.iter().all(|segment| is_ours(segment.number)) {
            return false;
        }
        let (mut kept, others) =
            mem::take(copies).into_iter().partition::<Vec<_>, _>(|copy| is_ours(copy.segment));
        *copies = others;
        let keeps_any = !kept.is_empty();
        self.held_back().append(&mut kept);
        keeps_any
    }

    fn held_back(&self) -> MutexGuard<'_, Vec<RecordId>> {
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the housekeeper end when it has done what is left to do.
    pub(crate) fn stop(&self) {
        self.task(MaintenanceTask::Stop);
    }

    /// The key of a bot.
    pub(crate) fn key_of(&self, bot: BotId) -> BotKey {
        self.registry.key_of(bot)
    }

    /// The bot with this key, if it has been configured since the start.
    fn bot_of(&self, key: BotKey) -> Option<BotId> {
        self.registry.id_of_key(key)
    }

    fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.segments().get(&number).cloned()
    }

    fn segments(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn segments_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the spare file and calls it `name`.
    fn take_spare(&self, name: &str) -> Option<Arc<dyn Stored>> {
        self.spare.take(|| self.storage.rename(housekeeper::SPARE, name))
    }

    fn task(&self, task: MaintenanceTask) {
        // Without a housekeeper the process is about to end.
        let _ = self.maintenance.send(task);
    }

    fn ask_for_sync(&self) {
        // Not relaxed: a thread that finds it set relies on the housekeeper to see what was written
        // before.
        if !self.is_sync_due.load(SeqCst) && !self.is_sync_due.swap(true, SeqCst) {
            self.task(MaintenanceTask::Sync);
        }
    }

    fn grown_by(&self, bytes: u64) {
        if self.used.fetch_add(bytes, SeqCst) + bytes >= self.settings.max_bytes {
            if !self.is_full.swap(true, SeqCst) {
                self.task(MaintenanceTask::LogFull);
            }
            // It may have shrunk in between.
            self.shrunk_by(0);
        }
    }

    fn shrunk_by(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, SeqCst);
        debug_assert!(before >= bytes, "{bytes} of {before} bytes are given back");
        if before.saturating_sub(bytes) < self.settings.max_bytes {
            self.is_full.store(false, SeqCst);
        }
    }

    /// Counts a failure, and logs it where the count has doubled.
    #[cold]
    fn report(&self, failure: DiskFailure, error: &io::Error) {
        let Some(count) = self.failures.get(failure as usize) else { return };
        let count = count.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            let step = failure.as_str();
            tracing::warn!(step, %error, count, "the journal's disk has failed");
        }
    }
}

impl JournalState for Journal {
    fn size(&self) -> (usize, u64) {
        (self.segments().len(), self.used.load(Relaxed))
    }

    fn failures(&self) -> Vec<(DiskFailure, u64)> {
        let counts = self.failures.iter().map(|count| count.load(Relaxed));
        DiskFailure::ALL.into_iter().zip(counts).collect()
    }
}
