//! The journal without a server around it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::{
    bots::{BotId, BotKey, BotRegistry},
    config::{Ack, Dispatch, Limits},
    dispatch::{Budget, Dispatcher, FullChats, Scheduler, SettledBatch},
    journal::{
        Backlog, Batch, BatchReturn, Commits, Committer, Directory, Housekeeper, Journal, Log,
        Settings, now_us,
    },
    proto::update::{Recycled, UpdateParser},
};

/// A journal with its committer and housekeeper, and a worker that settles what comes out.
#[derive(Debug)]
pub struct TestJournal {
    batches: Option<Sender<Batch>>,
    journal: Arc<Journal>,
    parser: Parser,
    recycled: Receiver<Recycled>,
    returned: Receiver<Batch>,
    spare: Option<Batch>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    waker: Arc<AtomicWaker>,
}

/// Wakes the bench's thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Parser(UpdateParser);

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parser")
    }
}

impl TestJournal {
    /// A journal in `dir`.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[allow(clippy::expect_used)]
    #[must_use]
    pub fn open(dir: &Path, ack: Ack) -> Self {
        let registry = Arc::new(BotRegistry::default());
        registry.register(["bench"].into_iter()).expect("one bot");
        let storage = Arc::new(Directory::own(dir).expect("a directory"));
        let settings = Settings {
            ack,
            max_bytes: 4 << 30,
            segment_bytes: 64 << 20,
            sync_interval: Duration::from_millis(100),
        };
        let (journal, maintenance) = Journal::new(storage, settings, registry, Vec::new());
        let limits = Limits::default();
        let budget = Arc::new(Budget::new(1 << 20, 1 << 32));
        let full = Arc::new(FullChats::new());
        let (scheduler, inboxes) =
            Scheduler::new(1, 1, &limits, Dispatch::default(), &full, Instant::now());
        let scheduler = Arc::new(scheduler);
        let (batches, gathered) = unbounded();
        let (back, returned) = unbounded();
        let (give, recycled) = bounded(4096);
        let waker = Arc::new(AtomicWaker::new());
        let batch_return =
            BatchReturn { batches: back, recycled: Some(give.clone()), waker: Arc::clone(&waker) };
        let mut log = Log::new(Arc::clone(&journal), 0, None);
        log.open(Instant::now());
        let committer = Committer {
            backlog: Arc::new(Backlog::new(None, (0, 0))),
            batches: Some(gathered),
            committed: Vec::new(),
            dispatcher: Dispatcher::new(&scheduler, inboxes, &full, &budget, 0),
            gathered: Vec::new(),
            returns: vec![batch_return],
            journal: Arc::clone(&journal),
            log,
            metrics: Arc::default(),
        };
        let commits = Commits::new(committer);
        let housekeeper = Housekeeper::new(Arc::clone(&journal), Vec::new());
        let stop = Arc::<AtomicBool>::default();
        let settler = Settler {
            journal: Arc::clone(&journal),
            recycled: give,
            scheduler,
            stop: Arc::clone(&stop),
            settled: SettledBatch::new(budget),
        };
        let threads = vec![
            thread::spawn(move || commits.run()),
            thread::spawn(move || housekeeper.run(&maintenance)),
            thread::spawn(move || settler.run()),
        ];
        let (parser, spare) = (Parser(UpdateParser::default()), None);
        let batches = Some(batches);
        Self { batches, journal, parser, recycled, returned, spare, stop, threads, waker }
    }

    /// Gathers one record of each of `bodies`, as a shard does.
    ///
    /// # Panics
    /// Where one is no update.
    #[allow(clippy::expect_used)]
    pub fn gather<'a>(&mut self, bodies: impl Iterator<Item = &'a [u8]>) {
        let mut batch = self.spare.take().unwrap_or_else(|| Batch::new(0));
        for recycled in self.recycled.try_iter() {
            self.parser.0.keep(recycled);
        }
        let (now, received_us) = (Instant::now(), now_us());
        for received in bodies {
            let staged = batch.stage(received);
            let mut body = self.parser.0.take_body(received.len());
            body.extend(received);
            let update = self.parser.0.parse(body, BotId::new(0), now).expect("an update");
            batch.push(&staged, update, BotKey::from_name("bench"), received_us, true, 0);
        }
        self.spare = Some(batch);
    }

    /// Has what was gathered committed; how long that took.
    ///
    /// # Panics
    /// Where the disk does not take it.
    #[allow(clippy::expect_used, clippy::missing_panics_doc)]
    pub fn commit(&mut self) -> Duration {
        let batch = self.spare.take().expect("records");
        let start = Instant::now();
        self.batches.as_ref().expect("a committer").send(batch).expect("a committer");
        self.journal.wake_committer();
        let unpark = Arc::new(Unpark(thread::current())).into();
        let mut batch = loop {
            self.waker.register(&unpark);
            match self.returned.try_recv() {
                Ok(batch) => break batch,
                // The channel's own wait would yield first, which costs a tick on a busy machine.
                Err(_) => thread::park(),
            }
        };
        let spent = start.elapsed();
        assert!(batch.is_committed(), "the disk does not take it");
        batch.clear();
        self.spare = Some(batch);
        spent
    }
}

impl Drop for TestJournal {
    fn drop(&mut self) {
        self.batches = None;
        self.journal.wake_committer();
        self.stop.store(true, Ordering::Release);
        self.journal.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A worker that does nothing but settle.
struct Settler {
    journal: Arc<Journal>,
    recycled: Sender<Recycled>,
    scheduler: Arc<Scheduler>,
    stop: Arc<AtomicBool>,
    settled: SettledBatch,
}

impl Settler {
    fn run(mut self) {
        if let Some(parker) = self.scheduler.parker(0) {
            parker.attach();
        }
        let (mut tasks, mut settled, mut round) = (Vec::new(), Vec::new(), 0);
        while !self.stop.load(Ordering::Acquire) {
            round += 1;
            let idle = self.scheduler.next(0, round, Instant::now(), 128, &mut tasks, |_| {});
            if idle.is_some() {
                self.settled.empty();
                self.scheduler.sleep(0, Duration::from_millis(10), || false);
            }
            let mut lanes = Vec::new();
            for task in tasks.drain(..) {
                settled.extend(task.delivery.record);
                self.settled.take(task.delivery.update.byte_len() as u64);
                let _ = self.recycled.try_send(task.delivery.update.recycle());
                lanes.push(task.lane);
            }
            self.journal.settle(&mut settled);
            lanes.into_iter().for_each(|lane| self.scheduler.finish(lane, |_| {}));
        }
    }
}
