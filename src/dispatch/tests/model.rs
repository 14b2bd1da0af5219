//! Any order of steps of shards and workers, one step at a time, against a list for each chat.
//!
//! The threads are simulated: a worker is a state that one step moves on, a clock moves when the
//! test moves it, and a worker that sleeps is skipped until its parker is lowered. So a worker that
//! would sleep through work is seen at once, not after a minute, and proptest finds the fewest
//! steps to it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::message;
use crate::{
    bots::BotId,
    config::{Dispatch, Limits, Order},
    dispatch::{
        Budget, Dispatcher, FullChats, Idle, Scheduler, SettledBatch, Task,
        budget::Measure,
        full::PLACES,
        lanes::LaneKey,
        scheduler::{IDLE_SLEEP, STEAL_EVERY},
    },
    outcome::Refusal,
    proto::update::UpdateId,
};

const BOTS: u32 = 2;
const CHATS: i64 = 4;
/// Ids of a chat, few enough that they repeat.
const IDS: i64 = 24;
const PADDING_MAX: usize = 1500;
/// Longer than the longest body.
const BODY_MAX: u64 = 1600;

#[derive(Clone, Debug)]
struct Setup {
    shards: usize,
    workers: usize,
    queue_updates: usize,
    queue_bytes: u64,
    chat_updates: usize,
    order: Order,
    /// Updates of a chat that are given before the first of them is settled.
    run: usize,
    /// Of eight updates that could come, how many do: at a low load workers sleep most of the time.
    load: u8,
}

#[derive(Clone, Debug)]
enum Action {
    /// An update comes in; of the same bot, chat and id it is the same update. Mostly it ends its
    /// shard's round.
    Arrive {
        chance: u8,
        shard: usize,
        bot: u32,
        chat: i64,
        id: i64,
        padding: usize,
    },
    /// A shard ends its round.
    EndRound {
        shard: usize,
    },
    /// A worker goes on for some steps, unless it handles something.
    Work {
        worker: usize,
        steps: usize,
        helps: u32,
        limit: usize,
    },
    /// A worker's handler returns, asking for a retry after so many milliseconds if any.
    Settle {
        worker: usize,
        retry_ms: Option<u64>,
    },
    Pass {
        ms: u64,
    },
}

fn setups() -> impl Strategy<Value = Setup> {
    let order = prop_oneof![4 => Just(Order::Chat), 1 => Just(Order::None)];
    let threads = (1..4_usize, 1..5_usize);
    let limits = (1..60_usize, BODY_MAX..20_000, 1..8_usize);
    let run = prop_oneof![2 => Just(1_usize), 1 => 2..6_usize];
    let setup = |((shards, workers), limits, order, run, load)| {
        let (queue_updates, queue_bytes, chat_updates) = limits;
        Setup { shards, workers, queue_updates, queue_bytes, chat_updates, order, run, load }
    };
    (threads, limits, order, run, 1..9_u8).prop_map(setup)
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let padding = prop_oneof![3 => 0..40_usize, 1 => 0..PADDING_MAX];
    let arrive = (0..8_u8, 0..3_usize, 0..BOTS, 0..CHATS, 0..IDS, padding);
    let retry = prop_oneof![2 => Just(None), 1 => (0..100_u64).prop_map(Some)];
    let limit = prop_oneof![3 => Just(1_usize), 1 => 2..6_usize];
    let action = prop_oneof![
        6 => arrive.prop_map(|(chance, shard, bot, chat, id, padding)| {
            Action::Arrive { chance, shard, bot, chat, id, padding }
        }),
        2 => (0..3_usize).prop_map(|shard| Action::EndRound { shard }),
        10 => (0..4_usize, 1..6_usize, 0..4_u32, limit).prop_map(|(worker, steps, helps, limit)| {
            Action::Work { worker, steps, helps, limit }
        }),
        4 => (0..4_usize, retry).prop_map(|(worker, retry_ms)| Action::Settle { worker, retry_ms }),
        1 => (0..60_u64).prop_map(|ms| Action::Pass { ms }),
    ];
    prop::collection::vec(action, 1..250)
}

/// What a simulated worker is doing.
#[derive(Debug)]
enum WorkerState {
    Awake,
    /// It found nothing and is about to park.
    Drowsy,
    Parked(Instant),
    Handling(Vec<Task>),
    Gone,
}

/// The updates of one chat, as they should be.
#[derive(Debug, Default)]
struct Chat {
    waiting: VecDeque<i64>,
    /// Each with how many were taken before it.
    held: Vec<(usize, i64)>,
    /// The same of those that come again once no other is held.
    returned: Vec<(usize, i64)>,
    /// How many have been taken.
    taken: usize,
    due: Option<Instant>,
}

struct World {
    setup: Setup,
    now: Instant,
    scheduler: Arc<Scheduler>,
    full: Arc<FullChats>,
    budget: Arc<Budget>,
    shards: Vec<Dispatcher>,
    /// Shards that have not ended their round since they accepted something.
    unfinished: HashSet<usize>,
    workers: Vec<(WorkerState, SettledBatch)>,
    is_closed: bool,
    chats: HashMap<LaneKey, Chat>,
    accepted: HashSet<(BotId, i64)>,
    handled: HashSet<(BotId, i64)>,
    /// Copies of accepted updates that were accepted and are not dropped yet.
    copies: HashMap<(BotId, i64), usize>,
    updates: u64,
    bytes: u64,
}

impl World {
    fn new(setup: Setup) -> Self {
        let limits = Limits {
            queue_updates: setup.queue_updates,
            chat_updates: setup.chat_updates,
            ..Limits::default()
        };
        let now = Instant::now();
        let full = Arc::new(FullChats::new());
        let budget = Budget::new(setup.queue_updates as u64, setup.queue_bytes)
            .shared_by(setup.shards + setup.workers, BODY_MAX);
        let budget = Arc::new(budget);
        let settings = Dispatch { order: setup.order, ..Dispatch::default() };
        let (scheduler, inboxes) =
            Scheduler::new(setup.workers, BOTS as usize, &limits, settings, &full, now);
        let scheduler = Arc::new(scheduler);
        scheduler.set_run(setup.run);
        let shard = |index| Dispatcher::new(&scheduler, inboxes.clone(), &full, &budget, index);
        let worker = |_| (WorkerState::Awake, SettledBatch::new(Arc::clone(&budget)));
        Self {
            now,
            shards: (0..setup.shards).map(shard).collect(),
            unfinished: HashSet::new(),
            workers: (0..setup.workers).map(worker).collect(),
            is_closed: false,
            chats: HashMap::new(),
            accepted: HashSet::new(),
            handled: HashSet::new(),
            copies: HashMap::new(),
            updates: 0,
            bytes: 0,
            setup,
            scheduler,
            full,
            budget,
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Arrive { chance, shard, bot, chat, id, padding } => {
                if chance < self.setup.load {
                    self.arrive(shard % self.setup.shards, bot, chat, chat * IDS + id, padding);
                    if chance % 4 > 0 {
                        self.end_round(shard % self.setup.shards);
                    }
                }
            }
            Action::EndRound { shard } => self.end_round(shard % self.setup.shards),
            Action::Work { worker, steps, helps, limit } => {
                for _ in 0..steps {
                    self.work(worker % self.setup.workers, helps, limit);
                    self.check();
                }
            }
            Action::Settle { worker, retry_ms } => {
                self.settle(worker % self.setup.workers, retry_ms.map(Duration::from_millis));
            }
            Action::Pass { ms } => self.now += Duration::from_millis(ms),
        }
        self.check();
    }

    fn arrive(&mut self, shard: usize, bot: u32, chat: i64, id: i64, padding: usize) {
        let update = message(bot, chat, id, padding);
        let key = LaneKey::from_update(&update, self.setup.order);
        let bytes = update.byte_len() as u64;
        match self.shards[shard].dispatch(update, self.now) {
            Ok(()) => {
                self.unfinished.insert(shard);
                self.updates += 1;
                self.bytes += bytes;
                if self.accepted.insert((key.bot, id)) {
                    self.chats.entry(key).or_default().waiting.push_back(id);
                } else {
                    *self.copies.entry((key.bot, id)).or_default() += 1;
                }
            }
            Err((refusal, update)) => {
                assert_eq!(update.id().get(), id, "the update comes back");
                self.check_refusal(refusal, key, bytes);
            }
        }
    }

    /// A refusal has its reason in what is under way; at most a sixteenth of a limit is lent out.
    fn check_refusal(&self, refusal: Refusal, key: LaneKey, bytes: u64) {
        let lane = |key: &LaneKey| key.hash64() % PLACES as u64;
        let (updates_max, bytes_max) = (self.setup.queue_updates as u64, self.setup.queue_bytes);
        match refusal {
            Refusal::Chat => assert!(
                self.chats.iter().any(|(other, chat)| {
                    let length = chat.waiting.len() + chat.held.len() + chat.returned.len();
                    lane(other) == lane(&key) && length > self.setup.chat_updates / 2
                }),
                "{key:?} is not full"
            ),
            Refusal::Updates => assert!(self.updates >= updates_max - updates_max / 16),
            Refusal::Bytes => {
                assert!(self.bytes > 0, "alone, every update fits");
                assert!(self.bytes + bytes > bytes_max - bytes_max / 16);
            }
            Refusal::Journal => panic!("there is no journal"),
            Refusal::Inbox => panic!("each inbox has room for all updates of a small limit"),
        }
    }

    fn end_round(&mut self, shard: usize) {
        self.unfinished.remove(&shard);
        if let Some(dispatcher) = self.shards.get(shard) {
            dispatcher.wake_workers();
        }
    }

    fn work(&mut self, worker: usize, helps: u32, limit: usize) {
        let is_woken = self.is_woken(worker);
        let (state, settled) = &mut self.workers[worker];
        match state {
            WorkerState::Awake => {}
            WorkerState::Drowsy => {
                settled.empty();
                let timeout = self.scheduler.prepare_park(worker, self.now, IDLE_SLEEP, || false);
                *state = match timeout {
                    Some(timeout) => WorkerState::Parked(self.now + timeout),
                    None => {
                        self.scheduler.cancel_park(worker);
                        WorkerState::Awake
                    }
                };
                return;
            }
            WorkerState::Parked(_) => {
                if is_woken {
                    self.scheduler.cancel_park(worker);
                    *state = WorkerState::Awake;
                }
                return;
            }
            WorkerState::Handling(_) | WorkerState::Gone => return,
        }
        // Turns at which a worker looks elsewhere first are as likely as others.
        let round = helps * STEAL_EVERY + u32::from(helps == 0);
        let (mut batch, mut dropped) = (Vec::new(), Vec::new());
        let idle = self.scheduler.next(worker, round, self.now, limit, &mut batch, |copy| {
            settled.take(copy.update.byte_len() as u64);
            dropped.push(copy);
        });
        assert!(batch.len() <= limit);
        assert_eq!(idle.is_none(), !batch.is_empty());
        self.drop_copies(&dropped);
        self.take(&batch);
        self.workers[worker].0 = match idle {
            None => WorkerState::Handling(batch),
            Some(Idle::Finished) => {
                assert!(self.is_closed, "finished while updates may come");
                assert_eq!(self.unsettled(), [], "finished too early");
                WorkerState::Gone
            }
            Some(Idle::Sleep) => {
                for (key, chat) in &self.chats {
                    if chat.gives(self.setup.run) {
                        let due = chat.due.unwrap_or(self.now);
                        assert!(due > self.now, "{key:?} could be handled");
                    }
                }
                WorkerState::Drowsy
            }
        };
    }

    /// Checks that `batch` is what the lists say: whole runs of heads, of chats that no worker
    /// holds, or of which one more may be taken.
    fn take(&mut self, batch: &[Task]) {
        let mut before = None;
        for task in batch {
            let update = &task.delivery.update;
            let (key, id) = (LaneKey::from_update(update, self.setup.order), update.id().get());
            let chat = self.chats.get_mut(&key).expect("a chat with updates");
            let is_next = chat.gives(self.setup.run) || before == Some(key);
            assert!(is_next, "{key:?} is handled by another");
            assert_eq!(chat.waiting.pop_front(), Some(id), "order in {key:?}");
            assert!(chat.due.take().is_none_or(|due| due <= self.now), "{key:?} comes too early");
            assert!(!self.handled.contains(&(key.bot, id)), "{id} comes twice");
            chat.held.push((chat.taken, id));
            chat.taken += 1;
            before = Some(key);
        }
    }

    fn settle(&mut self, worker: usize, retry: Option<Duration>) {
        let (state, settled) = &mut self.workers[worker];
        let WorkerState::Handling(batch) = state else { return };
        let mut batch = std::mem::take(batch);
        *state = WorkerState::Awake;
        let key = |task: &Task| LaneKey::from_update(&task.delivery.update, self.setup.order);
        if let (Some(after), [task]) = (retry, batch.as_slice()) {
            let due = self.now + after;
            let chat = self.chats.get_mut(&key(task)).unwrap();
            let id = task.delivery.update.id().get();
            let held = chat.held.extract_if(.., |(_, held)| *held == id);
            chat.returned.extend(held);
            chat.due = chat.due.max(Some(due));
            chat.release();
            let Task { delivery, lane } = batch.remove(0);
            self.scheduler.retry(lane, delivery, due);
            return;
        }
        let mut copies = Vec::new();
        while !batch.is_empty() {
            let task = batch.remove(0);
            let (lane, id) = (key(&task), task.delivery.update.id().get());
            assert!(self.handled.insert((lane.bot, id)));
            let bytes = task.delivery.update.byte_len() as u64;
            settled.take(bytes);
            self.updates -= 1;
            self.bytes -= bytes;
            let chat = self.chats.get_mut(&lane).unwrap();
            chat.held.retain(|(_, held)| *held != id);
            chat.release();
            self.scheduler.finish(task.lane, |copy| {
                settled.take(copy.update.byte_len() as u64);
                copies.push(copy);
            });
        }
        self.drop_copies(&copies);
    }

    /// Records copies that were not handled again.
    fn drop_copies(&mut self, copies: &[crate::dispatch::Delivery]) {
        for copy in copies {
            self.updates -= 1;
            self.bytes -= copy.update.byte_len() as u64;
            let (bot, id) = (copy.update.bot(), copy.update.id().get());
            let left = self.copies.get_mut(&(bot, id)).expect("a copy of an accepted one");
            *left = left.checked_sub(1).expect("no more copies than were accepted");
        }
    }

    /// What has to be true between any two steps.
    fn check(&self) {
        assert!(self.updates <= self.setup.queue_updates as u64);
        assert!(self.bytes <= self.setup.queue_bytes);
        let used = [Measure::Updates, Measure::Bytes].map(|measure| self.budget.used(measure));
        assert!(self.updates <= used[0] && used[0] <= self.setup.queue_updates as u64);
        assert!(self.bytes <= used[1] && used[1] <= self.setup.queue_bytes);
        let is_lane_of = |key: &LaneKey| self.chats.get(key).is_some_and(|chat| !chat.is_idle());
        assert!(self.full.count() <= self.chats.keys().filter(|key| is_lane_of(key)).count());
        self.check_no_worker_sleeps_through_work();
    }

    /// Where a worker sleeps and there is something to do, a worker is about to look for it.
    fn check_no_worker_sleeps_through_work(&self) {
        let Some(latest) = self.parked().min() else { return };
        let about_to_look = (0..self.workers.len()).any(|worker| match self.workers[worker].0 {
            WorkerState::Awake | WorkerState::Drowsy => true,
            WorkerState::Parked(_) => self.is_woken(worker),
            WorkerState::Handling(_) | WorkerState::Gone => false,
        });
        if about_to_look || !self.unfinished.is_empty() {
            return;
        }
        assert!(self.copies.values().all(|copies| *copies == 0), "copies lie in an inbox");
        for (key, chat) in &self.chats {
            if chat.gives(self.setup.run) {
                let due = chat.due.expect("workers sleep, and a chat could be handled");
                assert!(latest <= due, "all who are free sleep past the time of {key:?}");
            }
        }
    }

    /// When the parked workers wake up by themselves.
    fn parked(&self) -> impl Iterator<Item = Instant> {
        self.workers.iter().filter_map(|(state, _)| match state {
            WorkerState::Parked(until) => Some(*until),
            _ => None,
        })
    }

    /// True where a worker that sleeps is to wake up.
    fn is_woken(&self, worker: usize) -> bool {
        let WorkerState::Parked(until) = self.workers[worker].0 else { return false };
        until <= self.now || !self.scheduler.parker(worker).is_some_and(|parker| parker.is_asleep())
    }

    /// What has been accepted and is not settled.
    fn unsettled(&self) -> Vec<(BotId, UpdateId)> {
        let name = |bot: BotId, id: i64| (bot, message(0, 0, id, 0).id());
        let mut all = Vec::new();
        for (key, chat) in &self.chats {
            let taken = chat.held.iter().chain(&chat.returned).map(|(_, id)| id);
            all.extend(chat.waiting.iter().chain(taken).map(|id| name(key.bot, *id)));
        }
        for ((bot, id), copies) in &self.copies {
            all.extend((0..*copies).map(|_| name(*bot, *id)));
        }
        all
    }

    /// Does all work, with no more stealing than the workers need.
    fn work_off(&mut self) {
        for shard in 0..self.shards.len() {
            self.end_round(shard);
        }
        loop {
            for worker in 0..self.workers.len() {
                self.settle(worker, None);
                self.work(worker, 0, 1);
                self.check();
            }
            let is_quiet = (0..self.workers.len()).all(|worker| {
                matches!(self.workers[worker].0, WorkerState::Parked(_)) && !self.is_woken(worker)
            });
            if !is_quiet {
                continue;
            }
            if self.unsettled().is_empty() {
                return;
            }
            // Only times can be left; a worker wakes up for the first of them, or even earlier.
            let due = self.chats.values().filter_map(|chat| chat.due).min();
            let first = self.parked().min().expect("all are parked");
            assert!(first <= due.expect("no worker handles what is left"));
            self.now = first;
        }
    }

    fn close(&mut self) {
        self.shards.clear();
        self.unfinished.clear();
        self.scheduler.close();
        self.is_closed = true;
        // A stop wakes all workers again and again.
        while !self.workers.iter().all(|(state, _)| matches!(state, WorkerState::Gone)) {
            for worker in 0..self.workers.len() {
                if let WorkerState::Parked(until) = self.workers[worker].0 {
                    self.now = self.now.max(until.min(self.now + Duration::from_millis(5)));
                    self.scheduler.cancel_park(worker);
                    self.workers[worker].0 = WorkerState::Awake;
                }
                self.settle(worker, None);
                self.work(worker, 1, 1);
            }
        }
    }

    fn check_end(self) {
        assert_eq!(self.handled, self.accepted, "each accepted update is handled once");
        assert_eq!((self.updates, self.bytes), (0, 0));
        assert_eq!(self.scheduler.left_behind(), []);
        assert_eq!(self.full.count(), 0);
        drop((self.shards, self.workers));
        for measure in [Measure::Updates, Measure::Bytes] {
            assert_eq!(self.budget.used(measure), 0, "{measure:?}");
        }
    }
}

impl Chat {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty() && self.returned.is_empty()
    }

    /// True where its next update may be taken, once it is due.
    fn gives(&self, run: usize) -> bool {
        let is_lent = self.held.len() < run && self.returned.is_empty();
        (self.held.is_empty() || is_lent) && !self.waiting.is_empty()
    }

    /// Lets those that come again wait, where no other is held.
    fn release(&mut self) {
        if self.held.is_empty() {
            self.returned.sort_unstable();
            let returned = self.returned.drain(..).rev();
            returned.for_each(|(_, id)| self.waiting.push_front(id));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn keeps_its_promises_in_any_order_of_steps(
        setup in setups(), actions in actions(), closes_at_once in any::<bool>(),
    ) {
        let mut world = World::new(setup);
        for action in &actions {
            world.act(action);
        }
        if !closes_at_once {
            world.work_off();
        }
        world.close();
        world.check_end();
    }

    #[test]
    fn what_is_left_behind_is_listed(setup in setups(), actions in actions()) {
        let mut world = World::new(setup);
        for action in &actions {
            world.act(action);
        }
        let mut expected = world.unsettled();
        let mut left = world.scheduler.left_behind();
        expected.sort_unstable();
        left.sort_unstable();
        prop_assert_eq!(left, expected);
    }
}

/// A worker has stolen a chat of the other one's partition, which is due again later; then it gets
/// an update of its own. Now the other has to wake up for that time, though it parked before.
#[test]
fn the_time_of_a_retry_passes_to_another_sleeper() {
    let mut world = World::new(Setup {
        shards: 1,
        workers: 2,
        queue_updates: 10,
        queue_bytes: 20_000,
        chat_updates: 4,
        order: Order::Chat,
        run: 1,
        load: 8,
    });
    let key = |chat| LaneKey::from_update(&message(0, chat, 0, 0), Order::Chat);
    let [own, other]: [Vec<i64>; 2] =
        [0, 1].map(|half| (0..100).filter(|chat| key(*chat).hash64() >> 63 == half).collect());
    let arrive = |chat| Action::Arrive { chance: 1, shard: 0, bot: 0, chat, id: 0, padding: 0 };
    let work = |worker| Action::Work { worker, steps: 3, helps: 0, limit: 1 };
    let settle = |worker, retry_ms| Action::Settle { worker, retry_ms };
    world.act(&arrive(other[0]));
    world.act(&work(1));
    world.act(&arrive(other[1]));
    world.act(&work(0));
    world.act(&settle(1, None));
    world.act(&work(1));
    assert!(matches!(world.workers[1].0, WorkerState::Parked(_)), "it sleeps, for a minute");
    world.act(&settle(0, Some(50)));
    world.act(&work(0));
    assert!(matches!(world.workers[0].0, WorkerState::Parked(_)), "it sleeps until the retry");
    world.act(&arrive(own[0]));
    world.act(&work(0));
    assert!(matches!(world.workers[0].0, WorkerState::Handling(_)));
    world.act(&work(1));
    world.act(&Action::Pass { ms: 50 });
    world.act(&work(1));
    assert!(matches!(world.workers[1].0, WorkerState::Handling(_)), "the retry is in time");
    world.work_off();
    world.close();
    world.check_end();
}
