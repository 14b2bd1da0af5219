//! Updates that the program itself brings.

use std::{
    fmt, iter,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering::SeqCst, fence},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::{
    bots::{BotId, BotRegistry},
    control::operation::{Crowd, Operation, Step},
    delivery::dead_letters::DeadLetters,
    dispatch::{Dispatcher, Origin},
    journal::{BODY_MAX, Batch, Journal, now_us},
    observe::metrics::{FeederMetrics, Metrics},
    proto::update::{ParseError, Update, UpdateParser},
};

/// Bytes of updates that are written together at the most; one update may have more.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Pause between two checks of a stop whether a caller that brings updates is done, and of a caller
/// that waits for the disk whether the server still does.
const CLOSE_STEP: Duration = Duration::from_millis(5);
const END_LOOK: Duration = Duration::from_millis(100);

/// Where threads of the program bring updates, one thread at a time.
#[derive(Clone, Debug)]
pub struct Inlet {
    /// `None` before the server has started and once it has stopped.
    feeder: Arc<Mutex<Option<Feeder>>>,
    end: Arc<End>,
    /// The operation under its lock.
    feeding: Arc<Operation>,
    /// The operations beside it, of several threads.
    dead_lettering: Arc<Crowd>,
    metrics: Arc<FeederMetrics>,
    registry: Arc<BotRegistry>,
}

impl Inlet {
    /// One that takes nothing yet.
    pub(super) fn closed(metrics: &Metrics, registry: &Arc<BotRegistry>) -> Self {
        let metrics = Arc::clone(&metrics.feeder);
        let (feeder, end, feeding, dead_lettering) = Default::default();
        let registry = Arc::clone(registry);
        Self { feeder, end, feeding, dead_lettering, metrics, registry }
    }

    /// True where no thread brings anything at this moment.
    pub(super) fn is_free(&self) -> bool {
        !matches!(self.feeder.try_lock(), Err(TryLockError::WouldBlock))
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        iter::once(&self.feeding).chain(self.dead_lettering.operations())
    }

    /// For the feeder.
    pub(super) fn end(&self) -> Arc<End> {
        Arc::clone(&self.end)
    }

    pub(super) fn open(&self, feeder: Feeder) {
        *self.feeder.lock().unwrap_or_else(PoisonError::into_inner) = Some(feeder);
    }

    /// Takes nothing any more, on no thread. A caller that brings updates at this moment has until
    /// `deadline` to learn that they are safe, and is left alone then: a disk that does not answer
    /// may keep it.
    pub(super) fn close(&self, deadline: Instant) {
        self.end.is_near.store(true, SeqCst);
        loop {
            match self.feeder.try_lock() {
                Ok(mut feeder) => return drop(feeder.take()),
                Err(TryLockError::Poisoned(feeder)) => return drop(feeder.into_inner().take()),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => break,
                Err(TryLockError::WouldBlock) => thread::sleep(CLOSE_STEP),
            }
        }
        self.end.has_come.store(true, SeqCst);
        self.leave();
    }

    /// Drops the feeder where the server does not wait for it any more. To be called once that is
    /// so and by each caller that has released the feeder: of the two, one at least sees the other.
    fn leave(&self) {
        fence(SeqCst);
        if !self.end.has_come.load(SeqCst) {
            return;
        }
        match self.feeder.try_lock() {
            Ok(mut feeder) => drop(feeder.take()),
            Err(TryLockError::Poisoned(feeder)) => drop(feeder.into_inner().take()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// The feeder, for one caller at a time.
    fn hold(&self) -> Held<'_> {
        let feeder = self.feeder.lock().unwrap_or_else(PoisonError::into_inner);
        Held { feeder: Some(feeder), inlet: self }
    }

    /// What [`Server::feed`](super::Server::feed) does.
    pub(super) fn feed(&self, bot: &str, update: &[u8]) -> Result<(), FeedError> {
        let bot = self.bot(bot)?;
        self.with(|feeder| {
            feeder.take(bot, &[update], true)?;
            self.metrics.fed.increment();
            Ok(())
        })
    }

    /// What [`Server::deliver`](super::Server::deliver) does.
    pub fn deliver(&self, bot: &str, updates: &[impl AsRef<[u8]>]) -> Result<usize, FeedError> {
        let bot = self.bot(bot)?;
        let mut taken = 0;
        while let Some(rest) = updates.get(taken..).filter(|rest| !rest.is_empty()) {
            let outcome = self.with(|feeder| {
                let taken = feeder.take(bot, rest, false)?;
                self.metrics.delivered.add(taken as u64);
                Ok(taken)
            });
            match outcome {
                Ok(more) => taken += more,
                Err(refused) if taken == 0 => return Err(refused),
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    /// Keeps what came as update `id` of `bot` and is none among the dead letters.
    /// False where there are no dead letters, or their file did not take it.
    pub fn dead_letter(&self, bot: &str, id: i64, json: &[u8], reason: &str) -> bool {
        let letters = self.with(|feeder| Ok(feeder.letters.clone())).ok().flatten();
        letters.is_some_and(|letters| {
            let mut line = Vec::new();
            let _writing = self.dead_lettering.during(Step::DeadLetters, Instant::now());
            letters.write_raw(bot, id, json, reason, &mut line);
            letters.commit(&mut line).is_ok()
        })
    }

    fn bot(&self, name: &str) -> Result<BotId, FeedError> {
        self.registry.id_of(name).ok_or(FeedError::UnknownBot)
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&mut Feeder) -> Result<T, FeedError>,
    ) -> Result<T, FeedError> {
        let mut held = self.hold();
        let feeder = held.feeder.as_mut().ok_or(FeedError::Stopped)?;
        if self.end.is_near.load(SeqCst) {
            drop(feeder.take());
        }
        let _feeding = self.feeding.during(Step::Feed, Instant::now());
        let feeder = feeder.as_mut().ok_or(FeedError::Stopped)?;
        call(feeder)
    }
}

/// The feeder as one caller holds it.
struct Held<'a> {
    /// `None` once it is released.
    feeder: Option<MutexGuard<'a, Option<Feeder>>>,
    inlet: &'a Inlet,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        drop(self.feeder.take());
        // A stop may have given up waiting. Then no other thread drops it, and the committer waits
        // for that.
        self.inlet.leave();
    }
}

/// Whether the server stops.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Nothing more is begun.
    is_near: AtomicBool,
    /// What is under way is left.
    has_come: AtomicBool,
}

/// Feeds updates in that do not come over the wire.
pub(super) struct Feeder {
    /// Where what is no update is kept.
    pub(super) letters: Option<Arc<DeadLetters>>,
    pub(super) parser: UpdateParser,
    pub(super) path: FeedPath,
    pub(super) end: Arc<End>,
}

/// How updates reach the workers.
pub(super) enum FeedPath {
    /// Through the journal, like those of a shard.
    Journal {
        batches: Sender<Batch>,
        home: usize,
        journal: Arc<Journal>,
        returned: Receiver<Batch>,
    },
    Memory(Dispatcher),
}

impl Feeder {
    /// Takes some of `updates`, from the first one on, and at least that; returns when they are as
    /// safe as the journal's mode promises. With `again`, their ids may have been seen.
    fn take(
        &mut self,
        bot: BotId,
        updates: &[impl AsRef<[u8]>],
        again: bool,
    ) -> Result<usize, FeedError> {
        match &self.path {
            FeedPath::Journal { .. } => self.write(bot, updates, again),
            FeedPath::Memory(_) => self.queue(bot, updates, again),
        }
    }

    /// Has as many written as one batch holds.
    fn write(
        &mut self,
        bot: BotId,
        updates: &[impl AsRef<[u8]>],
        again: bool,
    ) -> Result<usize, FeedError> {
        let Self {
            parser, path: FeedPath::Journal { batches, home, journal, returned }, end, ..
        } = self
        else {
            return Err(FeedError::Stopped);
        };
        if journal.is_full() {
            return Err(FeedError::Full);
        }
        let (now, key, received_us) = (Instant::now(), journal.key_of(bot), now_us());
        let mut batch = Batch::new(*home);
        let mut taken = 0;
        for update in updates.iter().map(AsRef::as_ref) {
            if taken > 0 && batch.len() + update.len() > BATCH_BYTES {
                break;
            }
            match parse(parser, bot, update, now) {
                Ok(parsed) => {
                    let staged = batch.stage(update);
                    batch.push(&staged, parsed, key, received_us, again, 0);
                    taken += 1;
                }
                Err(refused) if taken == 0 => return Err(refused),
                Err(_) => break,
            }
        }
        batches.send(batch).map_err(|_| FeedError::Stopped)?;
        journal.wake_committer();
        let batch = loop {
            match returned.recv_timeout(END_LOOK) {
                Ok(batch) => break batch,
                // A batch that is returned later has no receiver: the feeder is dropped.
                Err(RecvTimeoutError::Timeout) if end.has_come.load(SeqCst) => {
                    return Err(FeedError::Stopped);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(FeedError::Stopped),
            }
        };
        if batch.is_committed() { Ok(taken) } else { Err(FeedError::Journal) }
    }

    /// Puts as many into the queues as they take.
    fn queue(
        &mut self,
        bot: BotId,
        updates: &[impl AsRef<[u8]>],
        again: bool,
    ) -> Result<usize, FeedError> {
        let Self { parser, path: FeedPath::Memory(dispatcher), .. } = self else {
            return Err(FeedError::Stopped);
        };
        let now = Instant::now();
        let origin = Origin { is_part: false, is_replayed: again, record: None, shard: usize::MAX };
        let mut put = |update: &[u8]| {
            let parsed = parse(parser, bot, update, now)?;
            dispatcher.hand_on(parsed, now, origin).map_err(|_| FeedError::Full)
        };
        let (mut taken, mut refused) = (0, None);
        for update in updates {
            match put(update.as_ref()) {
                Ok(()) => taken += 1,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        dispatcher.wake_workers();
        refused.filter(|_| taken == 0).map_or(Ok(taken), Err)
    }
}

fn parse(
    parser: &mut UpdateParser,
    bot: BotId,
    update: &[u8],
    now: Instant,
) -> Result<Update, FeedError> {
    if update.len() > BODY_MAX as usize {
        return Err(FeedError::TooLarge);
    }
    let mut body = parser.take_body(update.len());
    body.extend(update);
    parser.parse(body, bot, now).map_err(|rejected| FeedError::NotAnUpdate(rejected.error))
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").finish_non_exhaustive()
    }
}

/// Why an update was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FeedError {
    /// A limit is reached: it should be tried again later.
    Full,
    /// The journal's disk did not take it: it should be tried again later.
    Journal,
    /// The bytes are no update.
    NotAnUpdate(ParseError),
    /// The server has stopped. Where that was while an update waited for the journal's disk, it may
    /// have been written all the same.
    Stopped,
    /// The bytes are more than the largest body there is: 64 MiB.
    TooLarge,
    /// No bot has this name.
    UnknownBot,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("too many updates are under way"),
            Self::Journal => f.write_str("the journal's disk takes nothing"),
            Self::NotAnUpdate(error) => error.fmt(f),
            Self::Stopped => f.write_str("the server has stopped"),
            Self::TooLarge => f.write_str("it is longer than 64 MiB"),
            Self::UnknownBot => f.write_str("no bot has this name"),
        }
    }
}

impl std::error::Error for FeedError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use crossbeam_channel::{TryRecvError, bounded};

    use super::*;
    use crate::{
        config::Ack,
        journal::{Directory, Settings},
    };

    /// The call is over, and has checked before the stop gave up waiting.
    #[test]
    fn a_caller_that_lets_go_after_a_stop_leaves_no_feeder() {
        let registry = Arc::new(BotRegistry::default());
        let inlet = Inlet::closed(&Metrics::new(1, 1), &registry);
        let (batches, gathered) = bounded::<Batch>(1);
        let (_back, returned) = bounded(1);
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(Directory::own(dir.path()).unwrap());
        let (journal, _chores) = Journal::new(storage, settings(), registry, Vec::new());
        inlet.open(Feeder {
            end: inlet.end(),
            letters: None,
            parser: UpdateParser::default(),
            path: FeedPath::Journal { batches, home: 0, journal, returned },
        });
        let held = inlet.hold();
        inlet.close(Instant::now());
        assert_eq!(gathered.try_recv().unwrap_err(), TryRecvError::Empty);
        drop(held);
        assert_eq!(gathered.try_recv().unwrap_err(), TryRecvError::Disconnected);
    }

    fn settings() -> Settings {
        Settings {
            ack: Ack::Written,
            max_bytes: 1 << 30,
            segment_bytes: 1 << 20,
            sync_interval: Duration::from_secs(1),
        }
    }

    /// The committer is in a system call that does not return.
    #[test]
    fn who_waits_for_a_disk_that_hangs_does_not_hold_up_a_stop() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Arc::new(BotRegistry::default());
        registry.register(["bot"].into_iter()).unwrap();
        let storage = Arc::new(Directory::own(dir.path()).unwrap());
        let (journal, _chores) =
            Journal::new(storage, settings(), Arc::clone(&registry), Vec::new());
        let ((batches, gathered), (_back, returned)) = (bounded(1), bounded(1));
        let inlet = Inlet::closed(&Metrics::new(1, 1), &registry);
        inlet.open(Feeder {
            end: inlet.end(),
            letters: None,
            parser: UpdateParser::default(),
            path: FeedPath::Journal { batches, home: 0, journal, returned },
        });
        let bringing = thread::spawn({
            let inlet = inlet.clone();
            move || inlet.deliver("bot", &[r#"{"update_id":1}"#])
        });
        // The committer has it, and writes for ever.
        let _batch = gathered.recv().unwrap();
        inlet.close(Instant::now() + Duration::from_millis(20));
        assert_eq!(bringing.join().unwrap(), Err(FeedError::Stopped));
        assert!(gathered.recv().is_err(), "the committer would end");
        assert_eq!(inlet.feed("bot", br#"{"update_id":2}"#), Err(FeedError::Stopped));
    }
}
