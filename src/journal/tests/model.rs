//! Any order of steps of senders, committer, read-back, housekeeper and workers, one at a time, on
//! a disk that fails and over ends of the process, against a list for each chat.
//!
//! A seed decides everything. `RINGHOOK_MODEL_SEEDS` is how many are tried, `RINGHOOK_MODEL_SEED`
//! the only one; a failure prints its seed and all that has happened.

use std::{
    collections::HashMap,
    env,
    fmt::Write as _,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, unbounded};
use fastrand::Rng;

use super::disk::{Crash, Op, SimDisk, Weather};
use crate::{
    bots::{BotId, BotKey, BotRegistry},
    config::{Ack, Dispatch, Limits},
    dispatch::{Budget, Delivery, Dispatcher, FullChats, RecordId, Scheduler, SettledBatch, Task},
    journal::{
        Backlog, Batch, BatchReturn, Committer, Housekeeper, Intake, Journal, Log, MaintenanceTask,
        ReadBack, RecoveryError, SegmentHeader, Settings, housekeeper::SPARE, recover, segment,
        settled, storage::Storage as _,
    },
    observe::metrics::{JournalState as _, ReadBackMetrics},
    proto::update::UpdateParser,
};

/// Longest body.
const BODY_MAX: u64 = 4000;
/// Updates of a chat have ids from here on, times the chat's number.
const IDS: i64 = 1_000_000;

/// What a run is made with.
#[derive(Clone, Debug)]
struct Setup {
    ack: Ack,
    bots: u32,
    chats: u64,
    chat_updates: usize,
    max_bytes: u64,
    /// Longest text of a usual update.
    padding: u64,
    queue_bytes: u64,
    queue_updates: usize,
    segment_bytes: u64,
    shards: usize,
    workers: usize,
}

impl Setup {
    fn random(rng: &mut Rng) -> Self {
        let segment_bytes = rng.u64(400..=3000);
        Self {
            ack: if rng.bool() { Ack::Synced } else { Ack::Written },
            bots: if rng.u64(..4) == 0 { 2 } else { 1 },
            chats: rng.u64(1..=6),
            chat_updates: rng.usize(1..=4),
            max_bytes: segment_bytes * rng.u64(2..=8),
            padding: [10, 100, 400][rng.usize(..3)],
            queue_bytes: BODY_MAX * 2 + rng.u64(..3000),
            queue_updates: rng.usize(1..=12),
            segment_bytes,
            shards: rng.usize(1..=2),
            workers: rng.usize(1..=2),
        }
    }

    fn bot_names(&self) -> Vec<String> {
        (0..self.bots).map(|bot| format!("bot{bot}")).collect()
    }
}

/// An update that its sender has sent at least once.
#[derive(Debug)]
struct Sent {
    text: String,
    /// Whether its sender got 200.
    is_acked: bool,
    /// Whether a power cut cannot take it back.
    is_synced: bool,
    /// Whether a sync of it has failed, so that no later one counts.
    cannot_sync: bool,
    /// Whether its record may be in a file that has been removed.
    is_exposed: bool,
    /// Whether nothing is promised of it any more.
    is_void: bool,
    /// Whether its sender may send it again although it was acknowledged.
    may_repeat: bool,
    /// Whether a worker has it.
    is_held: bool,
    /// Whether it has been handled.
    is_done: bool,
    /// Whether that was noted, so that a `kill -9` does not bring it back.
    is_settled: bool,
    /// The segment of the record that was handled.
    segment: Option<u32>,
}

/// What a sender waits for: true where its update is committed.
type CommitFuture = Pin<Box<dyn Future<Output = bool>>>;

/// A chat, its sender, and what was sent: the update of each number.
struct Chat {
    bot: u32,
    sent: Vec<Sent>,
    /// The number that is under way, and what is waited for.
    under_way: Option<(usize, CommitFuture)>,
    /// The last number that this process has begun to handle.
    last: Option<usize>,
}

struct SimWorker {
    held: Vec<Task>,
    /// Records of duplicates that have been dropped.
    dropped: Vec<RecordId>,
    settled_batch: SettledBatch,
}

/// One process.
struct Life {
    batches: Receiver<Batch>,
    maintenance: Receiver<MaintenanceTask>,
    committer: Committer,
    housekeeper: Housekeeper,
    intakes: Vec<Rc<Intake>>,
    is_sync_due: bool,
    journal: Arc<Journal>,
    /// Settled updates that their segment's file has no note of.
    owed: HashMap<u32, Vec<(usize, usize)>>,
    read_back: ReadBack,
    read_metrics: Arc<ReadBackMetrics>,
    registry: Arc<BotRegistry>,
    scheduler: Arc<Scheduler>,
    workers: Vec<SimWorker>,
}

struct World {
    rng: Rng,
    setup: Setup,
    now: Instant,
    disk: SimDisk,
    chats: Vec<Chat>,
    life: Option<Life>,
    /// Segments whose ids could not be kept.
    without_ids: Vec<u32>,
    /// What is in files that are not of the journal.
    planted: Vec<Vec<u8>>,
    had_power_cut: bool,
    lives: usize,
    trace: Trace,
}

/// What has happened, printed where the run fails.
struct Trace(String);

impl Drop for Trace {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

macro_rules! log {
    ($world:expr, $($format:tt)*) => {{
        let done = $world.disk.take_trace();
        $world.trace.0.push_str(&done);
        let _ = writeln!($world.trace.0, $($format)*);
    }};
}

impl World {
    fn new(seed: u64, setup: impl FnOnce(&mut Rng) -> Setup) -> Self {
        let mut rng = Rng::with_seed(seed);
        let setup = setup(&mut rng);
        let chat =
            |_| Chat { bot: rng.u32(..setup.bots), sent: Vec::new(), under_way: None, last: None };
        let chats = (0..setup.chats).map(chat).collect();
        let mut world = Self {
            disk: SimDisk::new(rng.u64(..)),
            rng,
            now: Instant::now(),
            chats,
            life: None,
            without_ids: Vec::new(),
            planted: Vec::new(),
            had_power_cut: false,
            lives: 0,
            trace: Trace(format!("seed {seed}: {setup:?}\n")),
            setup,
        };
        world.start();
        world
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().unwrap()
    }

    /// Starts a process on what the last one has left.
    fn start(&mut self) {
        while self.life.is_none() {
            self.lives += 1;
            log!(self, "start {}", self.lives);
            self.try_start();
            self.after();
            if self.life.is_none() && self.disk.is_crashed() {
                self.end_as_told();
            }
        }
    }

    fn try_start(&mut self) {
        let setup = &self.setup;
        let limits = Limits {
            queue_updates: setup.queue_updates,
            chat_updates: setup.chat_updates,
            ..Limits::default()
        };
        let full = Arc::new(FullChats::new());
        let budget = Budget::new(setup.queue_updates as u64, setup.queue_bytes)
            .shared_by(2 + setup.workers, BODY_MAX);
        let budget = Arc::new(budget);
        let mut bots = setup.bot_names();
        if self.rng.u64(..3) == 0 && bots.len() > 1 {
            // A reload brings it.
            bots.pop();
        }
        let (scheduler, inboxes) = Scheduler::new(
            setup.workers,
            bots.len(),
            &limits,
            Dispatch::default(),
            &full,
            self.now,
        );
        let scheduler = Arc::new(scheduler);
        let remember = |bot, id| scheduler.remember(bot, id);
        let failed_syncs = self.disk.failed_syncs();
        let recovered = recover(&self.disk, &bots, remember, |_| {});
        if self.disk.failed_syncs() > failed_syncs {
            // The kernel takes what it could not write for written, and a later sync reports
            // success. The start has logged it; a power cut may take what was not synced before.
            for sent in self.chats.iter_mut().flat_map(|chat| &mut chat.sent) {
                sent.cannot_sync |= !sent.is_synced;
            }
        }
        let mut recovered = match recovered {
            Ok(recovered) => recovered,
            Err(error) => {
                log!(self, "  does not start: {error:?}");
                self.disk.set_weather(Weather::default());
                return;
            }
        };
        log!(
            self,
            "  recovered {} from {:?}, last {}, previous {:?}",
            recovered.records,
            recovered.from,
            recovered.last,
            recovered.previous
        );
        if !self.had_power_cut {
            assert_eq!(recovered.damages, [], "nothing has damaged it");
        }
        let setup = &self.setup;
        let settings = Settings {
            ack: setup.ack,
            max_bytes: setup.max_bytes,
            segment_bytes: setup.segment_bytes,
            sync_interval: Duration::from_millis(100),
        };
        let segments = std::mem::take(&mut recovered.segments);
        let storage = Arc::new(self.disk.clone());
        let registry = super::registry(&bots);
        let (journal, maintenance) =
            Journal::new(storage, settings, Arc::clone(&registry), segments);
        let (to_committer, batches) = unbounded();
        let (mut returns, mut intakes) = (Vec::new(), Vec::new());
        for shard in 0..setup.shards {
            let (back, returned) = unbounded();
            let waker = Arc::new(AtomicWaker::new());
            returns.push(BatchReturn { batches: back, recycled: None, waker: Arc::clone(&waker) });
            let (journal, to_committer) = (Arc::clone(&journal), to_committer.clone());
            intakes.push(Rc::new(Intake::new(journal, shard, to_committer, returned, waker)));
        }
        let dispatcher =
            || Dispatcher::new(&scheduler, inboxes.clone(), &full, &budget, usize::MAX);
        let backlog = Backlog::new(recovered.from, recovered.previous.unwrap_or_default());
        let backlog = Arc::new(backlog.with(recovered.orphaned));
        let mut log = Log::new(Arc::clone(&journal), recovered.last, recovered.previous);
        log.open(self.now);
        let read_metrics = Arc::<ReadBackMetrics>::default();
        let worker = |_| SimWorker {
            held: Vec::new(),
            dropped: Vec::new(),
            settled_batch: SettledBatch::new(Arc::clone(&budget)),
        };
        self.life = Some(Life {
            batches,
            maintenance,
            committer: Committer {
                backlog: Arc::clone(&backlog),
                batches: None,
                committed: Vec::new(),
                dispatcher: dispatcher(),
                gathered: Vec::new(),
                returns,
                journal: Arc::clone(&journal),
                log,
                metrics: Arc::default(),
            },
            housekeeper: Housekeeper::new(Arc::clone(&journal), recovered.ids),
            intakes,
            is_sync_due: false,
            owed: HashMap::new(),
            read_back: ReadBack::new(
                Arc::clone(&journal),
                backlog,
                dispatcher(),
                Arc::clone(&read_metrics),
            ),
            read_metrics,
            registry,
            journal,
            workers: (0..setup.workers).map(worker).collect(),
            scheduler,
        });
    }

    /// Checks what has failed, and whether the process has ended.
    fn after(&mut self) {
        let done = self.disk.take_trace();
        self.trace.0.push_str(&done);
        for name in self.disk.take_failed() {
            if name.contains(".ids") {
                self.without_ids.push(name[..10].parse().unwrap());
            }
        }
        if !self.had_power_cut
            && let Some(life) = &self.life
        {
            assert_eq!(life.read_metrics.corrupt.get(), 0, "nothing has damaged it");
        }
    }

    /// The process ends.
    fn crash(&mut self, crash: Crash) {
        log!(self, "{crash:?}");
        self.life = None;
        let power_cut = crash == Crash::PowerCut;
        self.had_power_cut |= power_cut;
        for chat in &mut self.chats {
            chat.under_way = None;
            chat.last = None;
            for sent in &mut chat.sent {
                sent.is_held = false;
                let is_lost = sent.is_exposed
                    || power_cut && self.setup.ack == Ack::Written && !sent.is_synced;
                if is_lost && sent.is_acked {
                    sent.is_void = true;
                }
                if power_cut || sent.is_void {
                    sent.may_repeat &= !sent.is_void && !sent.is_settled;
                    sent.is_settled = false;
                }
                // The outcome of an answer that was not given is not known, and the sender comes
                // again.
                sent.is_exposed = false;
            }
        }
        self.disk.restart(crash);
    }

    /// A chat's sender sends its next update, or the one before once more.
    fn send(&mut self, index: usize, repeats: bool, long: bool) {
        let is_served = self.chats[index].bot < self.life().registry.len() as u32;
        let chat = &mut self.chats[index];
        if chat.under_way.is_some() || !is_served {
            return;
        }
        let repeat = chat.sent.iter().rposition(|sent| sent.may_repeat && sent.is_acked);
        let number = match repeat {
            Some(last) if repeats => {
                let back = self.rng.usize(..4);
                let number = last.saturating_sub(back);
                if chat.sent[number].may_repeat { number } else { last }
            }
            _ => match chat.sent.last() {
                Some(last) if !last.is_acked => chat.sent.len() - 1,
                _ => chat.sent.len(),
            },
        };
        if number == chat.sent.len() {
            let len = match long {
                true => self.rng.u64(..BODY_MAX - 200),
                false => self.rng.u64(..self.setup.padding),
            };
            let text = (0..len).map(|_| self.rng.lowercase()).collect();
            chat.sent.push(Sent {
                text,
                is_acked: false,
                is_synced: false,
                cannot_sync: false,
                is_exposed: false,
                is_void: false,
                may_repeat: false,
                is_held: false,
                is_done: false,
                is_settled: false,
                segment: None,
            });
        }
        let body = format!(
            r#"{{"update_id":{},"message":{{"chat":{{"id":{index}}},"text":"{}"}}}}"#,
            index as i64 * IDS + number as i64,
            chat.sent[number].text
        );
        let bot = BotId::new(chat.bot);
        let shard = index % self.setup.shards;
        let intake = Rc::clone(&self.life().intakes[shard]);
        let outcome = match intake.stage(body.as_bytes()) {
            Ok(staged) => {
                let body = body.into_bytes().into();
                let update = UpdateParser::default().parse(body, bot, self.now).ok().unwrap();
                let ticket = intake.submit(&staged, update);
                let answer = async move { intake.committed(ticket).await };
                self.chats[index].under_way = Some((number, Box::pin(answer)));
                "sent"
            }
            Err(_) => "refused",
        };
        log!(self, "chat {index}: {number} {outcome}");
    }

    /// A round of a shard: sends what has gathered, answers the connections that waited.
    fn shard(&mut self, shard: usize) {
        let intake = Rc::clone(&self.life().intakes[shard]);
        intake.work(drop);
        let mut context = Context::from_waker(Waker::noop());
        for index in 0..self.chats.len() {
            let chat = &mut self.chats[index];
            let Some((number, answer)) = &mut chat.under_way else { continue };
            let Poll::Ready(is_committed) = answer.as_mut().poll(&mut context) else { continue };
            let number = *number;
            chat.under_way = None;
            if is_committed {
                let sent = &mut chat.sent[number];
                sent.is_acked = true;
                sent.may_repeat = true;
            }
            log!(self, "chat {index}: {number} answered {is_committed}");
        }
    }

    /// A chat's next update is sent, and committed if that can be.
    fn deliver(&mut self, index: usize, long: bool) {
        self.send(index, false, long);
        for shard in 0..self.setup.shards {
            self.shard(shard);
            self.commit(1);
            self.shard(shard);
        }
    }

    /// The committer's turn.
    fn commit(&mut self, at_most: usize) {
        self.take_turn(at_most, |now, committer, _| {
            match committer.gathered.is_empty() {
                true => committer.log.make_room(),
                false => committer.commit_gathered(now, None),
            }
            assert!(committer.gathered.is_empty());
        });
    }

    /// The turn of a worker that has been asked to commit. What it leaves is the committer's.
    fn help(&mut self, at_most: usize) {
        self.take_turn(at_most, |now, committer, workers| {
            let segments = committer.journal.size().0;
            let is_done = committer.help_with_gathered(now, workers);
            assert_eq!(is_done, committer.gathered.is_empty());
            assert_eq!(committer.journal.size().0, segments, "a worker has begun a segment");
        });
    }

    fn take_turn(
        &mut self,
        at_most: usize,
        turn: impl FnOnce(Instant, &mut Committer, &Scheduler),
    ) {
        let (now, is_taken) = (self.now, self.disk.is_taken());
        let Life { batches, committer, scheduler, .. } = self.life();
        committer.gathered.extend(batches.try_iter().take(at_most));
        let count = committer.gathered.len();
        let before = committer.backlog.lock().committed;
        turn(now, committer, scheduler);
        assert!(committer.committed.is_empty());
        let left = committer.gathered.len();
        let end = committer.backlog.lock().committed;
        assert!(!is_taken || end == before, "committed in the directory of another");
        if count > 0 {
            log!(self, "commit {count}, {left} left, end {end:?}");
        }
    }

    fn read_back(&mut self) {
        let now = self.now;
        let step = self.life().read_back.step(now);
        log!(self, "read back: {step:?}");
    }

    /// The housekeeper does a task, if there is one.
    fn task(&mut self) -> bool {
        let life = self.life();
        let Ok(task) = life.maintenance.try_recv() else { return false };
        let name = format!("{task:?}");
        match task {
            MaintenanceTask::Sync => life.is_sync_due = true,
            task => life.housekeeper.handle(task),
        }
        log!(self, "task {}", &name[..name.len().min(60)]);
        true
    }

    /// The sync interval is over.
    fn sync(&mut self) {
        let life = self.life();
        if !std::mem::take(&mut life.is_sync_due) {
            return;
        }
        self.after();
        self.life().housekeeper.handle(MaintenanceTask::Sync);
        let failed = self.disk.take_failed();
        let is_synced = !self.disk.is_crashed() && failed.is_empty();
        for sent in self.chats.iter_mut().flat_map(|chat| &mut chat.sent) {
            if is_synced {
                sent.is_synced |= sent.is_acked && !sent.cannot_sync;
            } else {
                // It may be committed, and not known to be.
                sent.cannot_sync |= !sent.is_synced;
            }
        }
        log!(self, "sync: {is_synced}");
    }

    fn take(&mut self, worker: usize, limit: usize) {
        let (now, turn) = (self.now, self.rng.u32(..200));
        let life = self.life();
        let Life { scheduler, workers, .. } = life;
        let SimWorker { held, dropped, settled_batch } = &mut workers[worker];
        if !held.is_empty() {
            return;
        }
        let drop_one = |delivery: Delivery| {
            settled_batch.take(delivery.update.byte_len() as u64);
            dropped.extend(delivery.record);
        };
        scheduler.next(worker, turn, now, limit, held, drop_one);
        if held.is_empty() {
            settled_batch.empty();
        }
        self.settle(worker, Vec::new());
        let mut tasks = std::mem::take(&mut self.life().workers[worker].held);
        for task in &mut tasks {
            let index = self.check_taken(&task.delivery);
            task.delivery.attempts += 1;
            log!(self, "worker {worker} takes {index:?} from {:?}", task.delivery.record);
        }
        self.life().workers[worker].held = tasks;
    }

    fn number_of(delivery: &Delivery) -> (usize, usize) {
        let id = delivery.update.id().get();
        ((id / IDS) as usize, (id % IDS) as usize)
    }

    fn check_taken(&mut self, delivery: &Delivery) -> (usize, usize) {
        let (index, number) = Self::number_of(delivery);
        let chat = self.chats.get_mut(index).expect("a chat that there is");
        let update = &delivery.update;
        assert_eq!(update.bot(), BotId::new(chat.bot), "of another bot");
        assert!(number < chat.sent.len(), "{index} {number} was never sent");
        let text = update.payload().and_then(|message| message.get("text")).unwrap();
        assert_eq!(text.as_str(), Some(chat.sent[number].text.as_str()), "it has changed");
        if delivery.attempts > 0 {
            return (index, number);
        }
        let is_ordered = |sent: &Sent| sent.is_done || sent.is_held || sent.is_void;
        let before = chat.sent[..number].iter().position(|sent| !is_ordered(sent));
        let sent = &mut chat.sent[number];
        // It may come again where its id could not be kept.
        let is_excused = sent.segment.is_some_and(|segment| self.without_ids.contains(&segment));
        if !sent.is_void && !is_excused {
            assert!(!sent.is_settled, "{index} {number} comes again, it was settled");
            assert_eq!(before, None, "{index} {number} comes before it");
            assert!(chat.last < Some(number), "{index} {number} comes after {:?}", chat.last);
            chat.last = Some(number);
        }
        sent.is_held = true;
        (index, number)
    }

    /// A worker's updates have been handled.
    fn finish(&mut self, worker: usize, retry: Option<u64>) {
        let mut tasks = std::mem::take(&mut self.life().workers[worker].held);
        if let (Some(ms), 1) = (retry, tasks.len()) {
            let Task { delivery, lane } = tasks.remove(0);
            log!(self, "worker {worker} wants a retry in {ms} ms");
            let due = self.now + Duration::from_millis(ms);
            self.life().scheduler.retry(lane, delivery, due);
            return;
        }
        let (mut lanes, mut handled) = (Vec::new(), Vec::new());
        for Task { delivery, lane } in tasks {
            let (index, number) = Self::number_of(&delivery);
            let sent = &mut self.chats[index].sent[number];
            sent.is_held = false;
            sent.is_done = true;
            log!(self, "worker {worker} has handled {index} {number}");
            self.life().workers[worker].settled_batch.take(delivery.update.byte_len() as u64);
            handled.push(((index, number), delivery.record.unwrap()));
            lanes.push(lane);
        }
        self.settle(worker, handled);
        for lane in lanes {
            let Life { scheduler, workers, .. } = self.life();
            let SimWorker { dropped, settled_batch, .. } = &mut workers[worker];
            scheduler.finish(lane, |delivery| {
                settled_batch.take(delivery.update.byte_len() as u64);
                dropped.extend(delivery.record);
            });
        }
    }

    /// Notes in the journal what a worker has settled.
    fn settle(&mut self, worker: usize, handled: Vec<((usize, usize), RecordId)>) {
        self.after();
        let life = self.life.as_mut().unwrap();
        life.journal.settle_copies(&mut life.workers[worker].dropped);
        let mut records = Vec::new();
        for (update, record) in handled {
            records.push(record);
            self.chats[update.0].sent[update.1].segment = Some(record.segment);
            life.owed.entry(record.segment).or_default().push(update);
        }
        if records.is_empty() {
            return;
        }
        let mut segments: Vec<_> = records.iter().map(|record| record.segment).collect();
        segments.dedup();
        life.journal.settle(&mut records);
        if self.disk.is_crashed() {
            return;
        }
        let failed = self.disk.take_failed();
        for segment in segments {
            if !failed.contains(&settled::file_name(segment)) {
                for (index, number) in life.owed.remove(&segment).unwrap_or_default() {
                    let sent = &mut self.chats[index].sent[number];
                    sent.is_settled = !sent.is_exposed;
                }
            }
        }
        log!(self, "worker {worker} has settled");
    }

    /// A reload brings all bots.
    fn reload(&mut self) {
        let names = self.setup.bot_names();
        let Life { committer, registry, scheduler, .. } = self.life();
        let ids = registry.register(names.iter().map(String::as_str)).unwrap();
        scheduler.cover(registry.len());
        let keys = ids.into_iter().zip(names.iter().map(|name| BotKey::from_name(name)));
        committer.backlog.adopt(keys, |bot, window| scheduler.install(bot, window));
        log!(self, "reloaded");
    }

    fn remove_directory(&mut self, is_taken: bool) {
        log!(self, "the directory is removed, and another's is there: {is_taken}");
        match is_taken {
            true => self.disk.take_directory(),
            false => self.disk.remove_directory(),
        }
        for sent in self.chats.iter_mut().flat_map(|chat| &mut chat.sent) {
            sent.is_exposed = true;
            sent.is_settled = false;
        }
    }

    /// One step that any of the threads could take next.
    fn act(&mut self) {
        let rng = &mut self.rng;
        match rng.u64(..41) {
            0..=12 => {
                let (repeats, long) = (rng.u64(..6) == 0, rng.u64(..40) == 0);
                let count = rng.u64(1..=4);
                for _ in 0..count {
                    let index = self.rng.u64(..self.setup.chats) as usize;
                    self.send(index, repeats, long);
                }
            }
            13..=18 => {
                let shard = rng.usize(..self.setup.shards);
                self.shard(shard);
            }
            19..=23 => {
                let (at_most, by_worker) = (rng.usize(1..=3), rng.bool());
                match by_worker {
                    true => self.help(at_most),
                    false => self.commit(at_most),
                }
            }
            24..=26 => self.read_back(),
            27..=29 => drop(self.task()),
            30 => self.sync(),
            31..=34 => {
                let limit = if rng.u64(..4) == 0 { rng.u64(2..=6) } else { 1 };
                let worker = rng.usize(..self.setup.workers);
                self.take(worker, limit as usize);
            }
            35..=38 => {
                let retry = if rng.u64(..8) == 0 { Some(rng.u64(..200)) } else { None };
                let worker = rng.usize(..self.setup.workers);
                self.finish(worker, retry);
            }
            39 => self.now += Duration::from_millis(rng.u64(..150)),
            _ => self.reload(),
        }
        self.after();
    }

    /// Sends what is not acknowledged, and works until everything is handled, on a good disk.
    fn work_off(&mut self) {
        log!(self, "work off");
        self.disk.set_weather(Weather::default());
        self.disk.crash_never();
        if self.disk.is_taken() {
            self.crash(Crash::Kill);
            self.start();
        }
        self.reload();
        for _ in 0..2000 {
            self.now += Duration::from_millis(200);
            let is_acked = |sent: &Sent| sent.is_acked;
            for index in 0..self.chats.len() {
                if !self.chats[index].sent.iter().all(is_acked) {
                    self.send(index, false, false);
                }
            }
            for shard in 0..self.setup.shards {
                self.shard(shard);
            }
            if self.rng.bool() {
                self.help(usize::MAX);
            }
            self.commit(usize::MAX);
            for shard in 0..self.setup.shards {
                self.shard(shard);
            }
            self.read_back();
            for worker in 0..self.setup.workers {
                self.finish(worker, None);
                self.take(worker, 3);
            }
            self.sync();
            while self.task() {}
            // The housekeeper looks again after a second.
            self.life().housekeeper.clean_up();
            self.after();
            let is_idle = self.life().workers.iter().all(|worker| worker.held.is_empty())
                && self.life().committer.backlog.lock().is_empty()
                && self.chats.iter().all(|chat| {
                    chat.under_way.is_none()
                        && chat
                            .sent
                            .iter()
                            .all(|sent| sent.is_acked && (sent.is_done || sent.is_void))
                });
            let is_over = is_idle && {
                let segments = self.life().journal.segments();
                segments.values().all(|it| it.unsettled.load(SeqCst) == 0)
            };
            if is_over {
                return;
            }
        }
        for (index, chat) in self.chats.iter().enumerate() {
            for (number, sent) in chat.sent.iter().enumerate() {
                assert!(sent.is_acked, "{index} {number} is not taken though the disk is good");
                assert!(sent.is_done || sent.is_void, "{index} {number} is lost: {sent:?}");
            }
        }
        panic!("it comes to no end");
    }

    /// All is settled: nothing is left of it, neither in memory nor on the disk.
    fn check_end(&mut self) {
        let files = self.disk.files();
        let (mut live, mut used) = (Vec::new(), 0);
        for segment in self.life().journal.segments().values() {
            live.push(segment.number);
            used += segment.end.load(SeqCst);
        }
        assert!(live.len() <= 1, "segments are left: {live:?}");
        assert_eq!(self.life().journal.size(), (live.len(), used));
        assert!(!self.life().journal.is_full());
        for name in files.keys() {
            let is_known = live.iter().any(|number| {
                *name == segment::file_name(*number) || *name == settled::file_name(*number)
            });
            let is_kept = name == SPARE || name.ends_with(".ids") || name.contains(".damaged");
            let is_kept = is_kept || self.planted.contains(&files[name]);
            // What a power cut has brought back without its content may be anything.
            let is_kept = is_kept || self.has_broken_notes(name);
            assert!(is_known || is_kept, "{name} is left over");
        }
        for planted in &self.planted {
            let is_there = files.values().any(|bytes| bytes == planted);
            assert!(is_there, "{} has gone", String::from_utf8_lossy(planted));
        }
    }

    /// True for a file of notes in which there is something, and no note.
    fn has_broken_notes(&self, name: &str) -> bool {
        let number = name.strip_suffix(".settled").and_then(|number| number.parse().ok());
        let file = self.disk.open(name);
        number.zip(file.ok()).is_some_and(|(number, file)| {
            let notes = settled::read(number, &*file).unwrap();
            file.len().unwrap() > 0 && notes == settled::Notes::default()
        })
    }

    /// The end of every run: what was promised has been kept, and still is after another start.
    fn end(mut self) {
        self.work_off();
        self.crash(Crash::Kill);
        self.start();
        self.work_off();
        self.check_end();
    }

    /// Something happens to the disk or the process.
    fn misfortune(&mut self) {
        let rng = &mut self.rng;
        match rng.u64(..12) {
            0 | 1 => self.crash(Crash::Kill),
            2 | 3 => self.crash(Crash::PowerCut),
            4 | 5 => {
                let points = rng.u64(..12);
                log!(self, "crash in {points}");
                self.disk.crash_in(points);
            }
            6 => {
                if rng.u64(..3) == 0 {
                    let is_taken = rng.bool();
                    self.planted.clear();
                    self.remove_directory(is_taken);
                }
            }
            7..=9 => {
                let mut weather = Weather::default();
                for chance in &mut weather.chances {
                    if rng.u64(..3) == 0 {
                        *chance = [20, 80, 200][rng.usize(..3)];
                    }
                }
                weather.is_read_only = rng.u64(..10) == 0;
                log!(self, "{weather:?}");
                self.disk.set_weather(weather);
            }
            _ => {
                log!(self, "the weather is good");
                self.disk.set_weather(Weather::default());
            }
        }
        if self.life.is_none() {
            self.start_again();
        }
    }

    /// Starts after an end, mostly on a good disk.
    fn start_again(&mut self) {
        let mut weather = Weather::default();
        if self.rng.u64(..4) == 0 {
            // A sync that fails here takes back what was promised, and nothing could prevent it.
            for op in [Op::Create, Op::Read, Op::Remove, Op::Rename, Op::Truncate, Op::Write] {
                weather.chances[op as usize] = self.rng.u64(..60);
            }
        }
        self.disk.set_weather(weather);
        if self.rng.u64(..6) == 0 {
            self.disk.crash_in(self.rng.clone().u64(..10));
        }
        if self.rng.u64(..4) == 0 {
            self.plant();
        }
        self.start();
        self.ends_if_crashed();
    }

    /// Puts a file into the directory that is not of this journal.
    fn plant(&mut self) {
        let number = |name: &String| name.get(..10)?.parse().ok();
        let last: u32 = self
            .disk
            .files()
            .keys()
            .filter_map(number)
            .filter(|it| *it < 1 << 30)
            .max()
            .unwrap_or(0);
        let number = match self.rng.u64(..4) {
            0 => u32::MAX,
            more => last + 3 * more as u32,
        };
        let kind = ["journal", "ids", "settled"][self.rng.usize(..3)];
        let name = format!("{number:010}.{kind}");
        let content = format!("not of this journal {}", self.planted.len()).into_bytes();
        log!(self, "{name} is planted");
        if !self.disk.files().contains_key(&name) {
            self.disk.plant(&name, &content);
            self.planted.push(content);
        }
    }

    /// Ends the process where the disk says that it has ended, and starts another.
    fn ends_if_crashed(&mut self) {
        while self.disk.is_crashed() {
            self.end_as_told();
            self.start();
        }
    }

    fn end_as_told(&mut self) {
        let crash = if self.rng.bool() { Crash::Kill } else { Crash::PowerCut };
        self.crash(crash);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, Setup::random);
    let steps = world.rng.u64(30..=250);
    let (calm, misfortunes) = (world.rng.u64(..10) == 0, world.rng.u64(5..=60));
    for _ in 0..steps {
        if !calm && world.rng.u64(..misfortunes) == 0 {
            world.misfortune();
        } else {
            world.act();
        }
        world.ends_if_crashed();
    }
    world.end();
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn keeps_its_promises_whatever_happens() {
    if let Some(seed) = number("RINGHOOK_MODEL_SEED") {
        return run(seed);
    }
    let start = number("RINGHOOK_MODEL_START").unwrap_or(0);
    for seed in start..start + number("RINGHOOK_MODEL_SEEDS").unwrap_or(3000) {
        run(seed);
    }
}

/// Steps of a script that is tried with an end at every point.
const STEPS: usize = 90;

/// The end of the process at every point of a script: before each change on the disk, and in the
/// middle of each write.
fn crash_everywhere(script: u64, ack: Ack) {
    let world = || {
        World::new(script, |rng| Setup {
            ack,
            // Small, so that few steps fill segments, retire them and use them again.
            chats: 2,
            padding: 60,
            queue_updates: 2,
            segment_bytes: 420,
            ..Setup::random(rng)
        })
    };
    let mut counted = world();
    for _ in 0..STEPS {
        counted.act();
    }
    let points = counted.disk.points();
    drop(counted);
    for point in 0..points {
        for crash in [Crash::Kill, Crash::PowerCut] {
            let mut world = world();
            let begun = world.disk.points();
            if point < begun {
                continue;
            }
            log!(world, "{crash:?} at {point}");
            world.disk.crash_in(point - begun);
            for _ in 0..STEPS {
                world.act();
                if world.disk.is_crashed() {
                    world.crash(crash);
                    world.start();
                }
            }
            world.end();
        }
    }
}

#[test]
fn keeps_its_promises_wherever_the_process_ends() {
    for script in 0..number("RINGHOOK_MODEL_SCRIPTS").unwrap_or(4) {
        crash_everywhere(script, Ack::Synced);
        crash_everywhere(script, Ack::Written);
    }
}

/// Two chats, two workers, and nothing that interferes.
fn plain(ack: Ack) -> impl FnOnce(&mut Rng) -> Setup {
    move |rng| Setup {
        ack,
        bots: 1,
        chats: 2,
        chat_updates: 4,
        max_bytes: 40_000,
        padding: 10,
        queue_updates: 4,
        segment_bytes: 2000,
        shards: 1,
        workers: 2,
        ..Setup::random(rng)
    }
}

/// Weather in which nothing succeeds that `ops` are.
fn without(ops: &[Op]) -> Weather {
    let mut weather = Weather::default();
    ops.iter().for_each(|op| weather.chances[*op as usize] = 256);
    weather
}

/// The disk takes a record, reports an error, and does not cut it off either; then only the head of
/// the next segment has the end. That segment stays as long as nothing else has it.
#[test]
fn what_was_refused_does_not_come_again() {
    for is_next_done in [false, true] {
        let mut world = World::new(1, plain(Ack::Synced));
        // The segment stays: its first update is being handled.
        world.deliver(0, false);
        world.take(0, 1);
        world.disk.set_weather(without(&[Op::Sync, Op::Truncate]));
        world.deliver(1, false);
        assert!(!world.chats[1].sent[0].is_acked);
        world.after();
        // Its ids, which would give the end as well, cannot be kept.
        world.disk.set_weather(without(&[Op::Create, Op::Truncate]));
        while is_next_done && world.task() {}
        world.after();
        world.disk.set_weather(without(&[Op::Truncate]));
        let first = world.life().journal.segments().keys().copied().next();
        while world.life().journal.segment(3).is_none() {
            world.deliver(1, false);
            world.take(1, 1);
            world.finish(1, None);
            assert!(world.chats[1].sent[0].is_settled);
            if !is_next_done {
                break;
            }
        }
        while is_next_done && world.task() {}
        assert_eq!(world.life().journal.segments().keys().copied().next(), first);
        world.crash(Crash::Kill);
        world.disk.set_weather(Weather::default());
        world.start();
        world.end();
    }
}

/// A power cut takes records, and leaves the file with their ids. When their senders come again,
/// they must not be taken for known.
#[test]
fn an_id_without_its_record_is_none() {
    for seed in 0..60 {
        let mut world = World::new(seed, plain(Ack::Written));
        world.send(0, false, false);
        world.shard(0);
        world.commit(1);
        // The process ends before the answer, but its segment is sealed and its ids are kept.
        while world.life().journal.segment(2).is_none() {
            let at = Rc::clone(&world.life().intakes[0]);
            world.send(1, false, true);
            at.work(drop);
            world.commit(1);
            world.chats[1].under_way = None;
        }
        while world.task() {}
        world.crash(Crash::PowerCut);
        world.start();
        while world.task() {}
        world.deliver(0, false);
        while world.task() {}
        world.crash(Crash::Kill);
        world.start();
        world.end();
    }
}

/// Segments that are not what their names say: nothing of them is lost.
#[test]
fn a_segment_under_another_name_is_kept_and_delivered_when_it_is_put_back() {
    let mut world = World::new(3, plain(Ack::Written));
    for _ in 0..5 {
        world.deliver(0, false);
    }
    let before = world.disk.files()["0000000001.journal"].clone();
    world.crash(Crash::Kill);
    world.disk.rename("0000000001.journal", "0000000007.journal").unwrap();
    let found = |disk: &SimDisk| {
        let registry = world.setup.bot_names();
        recover(disk, &registry, |_, _| true, |_| {}).unwrap()
    };
    let recovered = found(&world.disk);
    assert_eq!((recovered.records, recovered.last), (0, 7));
    let [aside] = &*recovered.aside else { panic!("{recovered:?}") };
    assert_eq!((&*aside.file, &*aside.kept_as), ("0000000007.journal", "0000000007.damaged"));
    assert_eq!(aside.is_segment, Some(1));
    assert_eq!(world.disk.files()["0000000007.damaged"], before);
    // It is reported once; put back, it is what it was.
    assert!(found(&world.disk).aside.is_empty());
    world.disk.rename("0000000007.damaged", "0000000001.journal").unwrap();
    world.start();
    world.end();
}

/// As before, with a file of other origin under the segment's own name.
#[test]
fn what_is_settled_stays_noted_while_a_segment_has_another_name() {
    let mut world = World::new(3, plain(Ack::Written));
    for _ in 0..3 {
        world.deliver(0, false);
    }
    world.take(0, 1);
    world.finish(0, None);
    world.crash(Crash::Kill);
    world.disk.rename("0000000001.journal", "0000000007.journal").unwrap();
    let notes = world.disk.files()["0000000001.settled"].clone();
    for foreign in [&b"not of this journal"[..], b""] {
        world.disk.plant("0000000001.journal", foreign);
        recover(&world.disk, &world.setup.bot_names(), |_, _| true, |_| {}).unwrap();
        assert_eq!(world.disk.files().get("0000000001.settled"), Some(&notes));
        if !foreign.is_empty() {
            world.disk.rename("0000000007.damaged", "0000000007.journal").unwrap();
        }
    }
    world.disk.rename("0000000007.damaged", "0000000001.journal").unwrap();
    world.start();
    world.end();
}

/// The directory is removed with an update that is not acknowledged, and its copy in the next one
/// is dropped: the copy is not settled before the update is.
#[test]
fn a_copy_stands_in_for_an_update_whose_file_was_removed() {
    for is_handled in [false, true] {
        let mut world = World::new(8, plain(Ack::Written));
        // It is committed, and the sender does not learn that.
        world.send(0, false, false);
        let intake = Rc::clone(&world.life().intakes[0]);
        intake.work(drop);
        world.commit(1);
        world.chats[0].under_way = None;
        world.take(0, 1);
        world.remove_directory(false);
        // What comes now is refused, and what comes then is in a new directory.
        world.deliver(1, false);
        world.deliver(0, false);
        world.chats[0].sent[0].is_acked = false;
        world.chats[0].sent[0].may_repeat = false;
        world.take(1, 1);
        let unsettled = |world: &mut World| {
            while world.task() {}
            let segments = world.life().journal.segments();
            segments.values().map(|it| it.unsettled.load(SeqCst)).sum::<u64>()
        };
        let before = unsettled(&mut world);
        if is_handled {
            world.finish(0, None);
            world.finish(1, None);
            assert_eq!(unsettled(&mut world), 0, "of {before}");
        } else {
            world.crash(Crash::Kill);
            world.chats[0].sent[0].is_done = false;
            world.start();
        }
        world.end();
    }
}

#[test]
fn a_number_that_no_segment_can_follow_is_refused_by_name() {
    let disk = SimDisk::new(1);
    let head = SegmentHeader::new(u32::MAX, None, 0, &[]).to_bytes();
    disk.plant("4294967295.journal", &head);
    let refused = recover(&disk, &[], |_, _| true, |_| {}).unwrap_err();
    assert!(
        matches!(&refused, RecoveryError::Number(name) if name == "4294967295.journal"),
        "{refused:?}"
    );
    assert_eq!(disk.files()["4294967295.journal"], head);
}

#[test]
fn the_file_that_cannot_be_read_is_the_one_that_is_named() {
    for kind in ["journal", "settled", "ids"] {
        let mut world = World::new(4, plain(Ack::Written));
        world.deliver(0, false);
        world.crash(Crash::Kill);
        // After one good read, so that there are ids.
        recover(&world.disk, &world.setup.bot_names(), |_, _| true, |_| {}).unwrap();
        let name = format!("0000000001.{kind}");
        world.disk.break_file(&name);
        let error = recover(&world.disk, &world.setup.bot_names(), |_, _| true, |_| {});
        match error.unwrap_err() {
            RecoveryError::Io(Some(named), _) => assert_eq!(named, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// The journal is as large as it may be, everything is settled, and the rest is of a bot that is
/// not configured: the active segment gives its room back.
#[test]
fn a_full_journal_takes_updates_again_when_they_are_settled() {
    let mut world = World::new(5, |rng| Setup { max_bytes: 1000, ..plain(Ack::Written)(rng) });
    while !world.life().journal.is_full() {
        world.deliver(0, false);
        world.take(0, 1);
        world.finish(0, None);
    }
    // Everything is settled, and the segment is not full.
    let segments = world.life().journal.size().0;
    assert_eq!(segments, 1);
    world.commit(1);
    while world.task() {}
    assert!(!world.life().journal.is_full(), "{:?}", world.life().journal.size());
    world.end();
}

/// What a sealed segment has not used of its file is given back, as long as it stays.
#[test]
fn a_segment_that_is_sealed_early_gives_its_room_back() {
    let mut world = World::new(6, plain(Ack::Written));
    world.deliver(0, false);
    world.life().registry.register(["late0", "late1", "late2"].into_iter()).unwrap();
    world.deliver(1, false);
    while world.task() {}
    let segment = world.life().journal.segment(1).unwrap();
    assert_eq!(segment.file.len().unwrap(), segment.end.load(SeqCst));
    drop(segment);
    world.end();
}

/// On a disk that takes no ids, none are left that would look like damage.
#[test]
fn ids_that_could_not_be_written_leave_no_file() {
    let mut world = World::new(7, plain(Ack::Written));
    world.deliver(0, false);
    world.life().registry.register(["late"].into_iter()).unwrap();
    world.deliver(1, false);
    world.disk.set_weather(without(&[Op::Write]));
    while world.task() {}
    let files = world.disk.files();
    assert!(!files.keys().any(|name| name.contains(".ids")), "{:?}", files.keys());
    world.after();
    world.end();
}
