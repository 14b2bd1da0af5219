//! The workers' side: inboxes that shards fill, lanes that workers share.
//!
//! There is a partition for each worker: a bounded inbox, filled without a lock by the shards, and
//! the lanes of the chats that belong to it. A worker empties its partition's inbox into the lanes
//! and handles one lane after the other; one that has nothing to do there steals from the others.
//! So a chat whose handler takes long holds up one worker, and no chat but itself.
//!
//! The locks are between workers alone. They are held for the moves of a few dozen updates at most,
//! never while a handler runs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_utils::CachePadded;

use super::{
    Delivery, WorkerParker,
    full::FullChats,
    lanes::{Held, LaneKey, Lanes},
    parker::published,
};
use crate::{
    bots::BotId,
    config::{Dispatch, Limits},
    dispatch::dedup::Window,
    proto::update::UpdateId,
};

/// Updates moved from an inbox into lanes under one lock.
const INTAKE: usize = 64;
/// Every so many rounds a worker looks into the other partitions before its own, so that one whose
/// own worker is held up is not forgotten while all others are busy.
pub(super) const STEAL_EVERY: u32 = 61;
/// Smallest and largest inbox, in updates. What the limits allow beyond it waits in the lanes.
const INBOX: (usize, usize) = (1024, 32 * 1024);
/// Longest sleep of an idle worker.
pub(crate) const IDLE_SLEEP: Duration = Duration::from_secs(60);
/// "No lane waits for a time" as [`Partition::next_due_ns`].
const NEVER: u64 = u64::MAX;

/// All partitions of one server, and what they share.
#[derive(Debug)]
pub(crate) struct Scheduler {
    partitions: Box<[CachePadded<Partition>]>,
    parkers: Box<[WorkerParker]>,
    /// Whether all shards have ended, so that nothing can come any more.
    closed: AtomicBool,
    /// How many workers sleep; a hint that saves looking at all parkers.
    sleepers: CachePadded<AtomicUsize>,
    /// By bot: which ids have been accepted. Workers of different bots do not meet here.
    windows: boxcar::Vec<CachePadded<Mutex<Window>>>,
    settings: Dispatch,
    /// What the hints of due times count from.
    started_at: Instant,
}

#[derive(Debug)]
struct Partition {
    inbox: Receiver<Delivery>,
    lanes: Mutex<Lanes>,
    /// Hints written under the lock, so that no thread takes it in vain.
    ready: AtomicUsize,
    next_due_ns: AtomicU64,
}

/// An update that a worker has to handle, and its lane.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) delivery: Delivery,
    pub(crate) lane: LaneRef,
}

/// A held lane, and which of its updates holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LaneRef {
    partition: usize,
    held: Held,
}

/// Why there is no task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Idle {
    /// The shards are gone and everything is settled.
    Finished,
    /// Something may come, or be due at a time.
    Sleep,
}

impl Scheduler {
    /// A scheduler for `workers` workers and `bots` bots, and the inboxes' ends for the shards.
    pub(crate) fn new(
        workers: usize,
        bots: usize,
        limits: &Limits,
        settings: Dispatch,
        full: &Arc<FullChats>,
        now: Instant,
    ) -> (Self, Vec<Sender<Delivery>>) {
        let all = limits.queue_updates;
        let inbox = all.div_ceil(workers).clamp(INBOX.0, INBOX.1).min(all);
        let (senders, partitions): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (sender, inbox) = bounded(inbox);
                let lanes =
                    Lanes::new(limits.chat_updates, settings.media_groups, Arc::clone(full));
                let partition = Partition {
                    inbox,
                    lanes: Mutex::new(lanes),
                    ready: AtomicUsize::new(0),
                    next_due_ns: AtomicU64::new(NEVER),
                };
                (sender, CachePadded::new(partition))
            })
            .unzip();
        let scheduler = Self {
            partitions: partitions.into(),
            parkers: (0..workers).map(|_| WorkerParker::default()).collect(),
            closed: AtomicBool::new(false),
            sleepers: CachePadded::default(),
            windows: (0..bots).map(|_| CachePadded::new(Mutex::new(Window::new()))).collect(),
            settings,
            started_at: now,
        };
        (scheduler, senders)
    }

    /// Keeps windows for `bots` bots at least, before the first update of a new one can come. To be
    /// called by one thread at a time.
    pub(crate) fn cover(&self, bots: usize) {
        while self.windows.count() < bots {
            self.windows.push(CachePadded::new(Mutex::new(Window::new())));
        }
    }

    /// Lets up to `chat_updates` updates of each chat wait.
    pub(crate) fn set_chat_updates(&self, chat_updates: usize) {
        for partition in &self.partitions {
            partition.lock().set_chat_updates(chat_updates);
        }
    }

    /// Gives up to `run` updates of a chat before the first of them is settled; 1 at first. With
    /// more than one worker that would not keep their order.
    pub(crate) fn set_run(&self, run: usize) {
        for partition in &self.partitions {
            let mut lanes = partition.lock();
            lanes.set_run(run);
            self.publish(partition, &lanes);
        }
    }

    pub(crate) fn settings(&self) -> &Dispatch {
        &self.settings
    }

    pub(crate) fn parker(&self, worker: usize) -> Option<&WorkerParker> {
        self.parkers.get(worker)
    }

    /// Wakes the worker of `partition`, or one that can steal from it if that one is awake and so
    /// may be held up in a handler. For shards, after they have filled the partition's inbox.
    pub(crate) fn wake_for(&self, partition: usize) {
        published();
        if !self.parkers.get(partition).is_some_and(WorkerParker::wake) {
            self.wake_helper();
        }
    }

    /// Wakes `worker` if it sleeps, for work that no other worker can do. One that is awake looks
    /// again before it sleeps.
    pub(crate) fn wake(&self, worker: usize) {
        published();
        if let Some(parker) = self.parkers.get(worker) {
            parker.wake();
        }
    }

    /// True where a worker may sleep: a hint.
    pub(crate) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Relaxed) > 0
    }

    /// Wakes one worker that sleeps; false where none does.
    pub(crate) fn wake_helper(&self) -> bool {
        published();
        self.sleepers.load(Relaxed) > 0 && self.parkers.iter().any(WorkerParker::wake)
    }

    /// Wakes a sleeping worker where there is more to do than the caller has just taken. For
    /// workers, before they call a handler: what they leave, in any partition, would wait for it. A
    /// time at which a lane is due counts as well, unless a sleeping worker wakes up for it.
    fn wake_for_rest(&self) {
        published();
        if self.sleepers.load(Relaxed) == 0 {
            return;
        }
        let due_ns = self.next_due_ns();
        let is_watched =
            || due_ns == NEVER || self.parkers.iter().any(|parker| parker.is_up_by(due_ns));
        if self.has_work_now() || !is_watched() {
            self.parkers.iter().any(WorkerParker::wake);
        }
    }

    /// To be called when all shards have ended: workers end once everything is settled.
    pub(crate) fn close(&self) {
        self.closed.store(true, Release);
        for partition in &self.partitions {
            let mut lanes = partition.lock();
            lanes.close_intake();
            self.publish(partition, &lanes);
        }
    }

    /// Wakes all workers, to look at the flags.
    pub(crate) fn wake_all(&self) {
        for parker in &self.parkers {
            parker.wake_now();
            parker.wake_thread();
        }
    }

    /// Updates for `worker` in its round `round`: up to `limit` of them into `batch`, lane by lane.
    /// Updates that have been accepted before are given to `duplicate` instead.
    pub(crate) fn next(
        &self,
        worker: usize,
        round: u32,
        now: Instant,
        limit: usize,
        batch: &mut Vec<Task>,
        mut duplicate: impl FnMut(Delivery),
    ) -> Option<Idle> {
        let count = self.partitions.len();
        let first = if round.is_multiple_of(STEAL_EVERY) { steal_from(round) } else { worker };
        let mut finished = self.closed.load(Acquire);
        for index in (0..count).map(|step| (first + step) % count) {
            let Some(partition) = self.partitions.get(index) else { continue };
            if !partition.has_work(self.elapsed_ns(now)) {
                finished = finished && partition.is_idle();
                continue;
            }
            finished = false;
            let mut lanes = partition.lock();
            self.take_in(partition, &mut lanes, &mut duplicate);
            while batch.len() < limit
                && let Some((held, delivery)) = lanes.take(now)
            {
                batch.push(Task { delivery, lane: LaneRef { partition: index, held } });
                while batch.len() < limit
                    && let Some((held, delivery)) = lanes.take_next_of(held)
                {
                    batch.push(Task { delivery, lane: LaneRef { partition: index, held } });
                }
            }
            self.publish(partition, &lanes);
            drop(lanes);
            if !batch.is_empty() {
                self.wake_for_rest();
                return None;
            }
        }
        if finished {
            return Some(Idle::Finished);
        }
        Some(Idle::Sleep)
    }

    /// Moves updates from the inbox into their lanes, duplicates left out.
    fn take_in(
        &self,
        partition: &Partition,
        lanes: &mut Lanes,
        duplicate: &mut impl FnMut(Delivery),
    ) {
        for delivery in partition.inbox.try_iter().take(INTAKE) {
            if delivery.is_replayed || self.is_new(delivery.update.bot(), delivery.update.id()) {
                lanes.push(LaneKey::from_update(&delivery.update, self.settings.order), delivery);
            } else {
                duplicate(delivery);
            }
        }
        lanes.set_behind(!partition.inbox.is_empty());
    }

    /// Records an accepted id. All copies of an update come through the same inbox, and copies of
    /// different content meet here; so of any number exactly one is new.
    fn is_new(&self, bot: BotId, id: UpdateId) -> bool {
        self.windows.get(bot.index() as usize).is_none_or(|window| {
            window.lock().unwrap_or_else(PoisonError::into_inner).accept(id.get())
        })
    }

    /// Records an id that was accepted by an earlier run; false where it is known.
    pub(crate) fn remember(&self, bot: BotId, id: UpdateId) -> bool {
        self.is_new(bot, id)
    }

    /// What an earlier run has seen of a bot that was not configured at the start.
    pub(crate) fn install(&self, bot: BotId, seen: Window) {
        debug_assert!((bot.index() as usize) < self.windows.count(), "not covered");
        if let Some(window) = self.windows.get(bot.index() as usize) {
            *window.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
    }

    /// An update has been handled: releases its lane where it was the last of it. What has arrived
    /// meanwhile is put into lanes before, as by [`next`](Self::next), so that the lane is served
    /// behind theirs.
    pub(crate) fn finish(&self, lane: LaneRef, mut duplicate: impl FnMut(Delivery)) {
        self.change(lane, |partition, lanes| {
            self.take_in(partition, lanes, &mut duplicate);
            lanes.finish(lane.held);
        });
    }

    /// The same for the updates of whole batches, those of a partition under one lock.
    pub(crate) fn finish_all(&self, places: &[LaneRef], mut duplicate: impl FnMut(Delivery)) {
        for run in places.chunk_by(|a, b| a.partition == b.partition) {
            let Some(first) = run.first() else { continue };
            self.change(*first, |partition, lanes| {
                self.take_in(partition, lanes, &mut duplicate);
                run.iter().for_each(|lane| lanes.finish(lane.held));
            });
        }
    }

    /// Puts an update back to the head of its lane, which waits until `due` once it is released.
    pub(crate) fn retry(&self, lane: LaneRef, delivery: Delivery, due: Instant) {
        let mut delivery = Some(delivery);
        self.change(lane, |_, lanes| {
            delivery = delivery.take().and_then(|it| lanes.retry(lane.held, it, due).err());
        });
        if let Some(delivery) = delivery {
            self.push_without_lane(delivery);
        }
    }

    /// Has an update handled whose lane is gone. It is acknowledged, so it must not be lost,
    /// although it may come out of order.
    #[cold]
    fn push_without_lane(&self, delivery: Delivery) {
        let (bot, id) = (delivery.update.bot(), delivery.update.id());
        tracing::error!(%bot, update_id = %id, "an update has lost its lane");
        if let Some(partition) = self.partitions.first() {
            let mut lanes = partition.lock();
            lanes.push(LaneKey::from_update(&delivery.update, self.settings.order), delivery);
            self.publish(partition, &lanes);
        }
    }

    /// Puts updates that were taken together back to the heads of their lanes.
    pub(crate) fn put_back(&self, batch: &mut Vec<Task>, now: Instant) {
        for Task { delivery, lane } in batch.drain(..) {
            self.retry(lane, delivery, now);
        }
    }

    /// How many updates wait or are being handled.
    pub(crate) fn updates(&self) -> usize {
        let count = |it: &CachePadded<Partition>| it.inbox.len() + it.lock().updates();
        self.partitions.iter().map(count).sum()
    }

    fn change(&self, lane: LaneRef, change: impl FnOnce(&Partition, &mut Lanes)) {
        if let Some(partition) = self.partitions.get(lane.partition) {
            let mut lanes = partition.lock();
            change(partition, &mut lanes);
            self.publish(partition, &lanes);
        }
    }

    fn publish(&self, partition: &Partition, lanes: &Lanes) {
        partition.ready.store(lanes.ready(), Relaxed);
        let due = lanes.next_due().map_or(NEVER, |due| self.elapsed_ns(due));
        partition.next_due_ns.store(due, Relaxed);
    }

    /// Sleeps until there may be work for `worker`.
    pub(crate) fn sleep(&self, worker: usize, timeout: Duration, stop: impl FnOnce() -> bool) {
        if let Some(timeout) = self.prepare_park(worker, Instant::now(), timeout, stop) {
            thread::park_timeout(timeout);
        }
        self.cancel_park(worker);
    }

    /// Makes `worker` one that can be woken, and returns how long it may sleep; `None` where there
    /// is work already. To be followed by [`cancel_park`](Self::cancel_park) in any case.
    pub(crate) fn prepare_park(
        &self,
        worker: usize,
        now: Instant,
        longest: Duration,
        stop: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let parker = self.parkers.get(worker)?;
        let now_ns = self.elapsed_ns(now);
        let latest_ns = now_ns.saturating_add(crate::duration::nanos(longest));
        let until_ns = latest_ns.min(self.next_due_ns());
        self.sleepers.fetch_add(1, Relaxed);
        parker.prepare_park(until_ns);
        let is_needed = stop() || self.has_work_now() || self.next_due_ns() < until_ns;
        (!is_needed).then(|| Duration::from_nanos(until_ns.saturating_sub(now_ns)))
    }

    /// Ends what [`prepare_park`](Self::prepare_park) began.
    pub(crate) fn cancel_park(&self, worker: usize) {
        if let Some(parker) = self.parkers.get(worker) {
            parker.cancel_park();
            let before = self.sleepers.fetch_sub(1, Relaxed);
            debug_assert!(before > 0, "more workers wake than sleep");
        }
    }

    /// True where something waits that needs no time to pass.
    fn has_work_now(&self) -> bool {
        self.partitions.iter().any(|partition| partition.has_work_now())
    }

    /// When the next lane of all partitions is due, if one waits for a time.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due_ns = Some(self.next_due_ns()).filter(|due_ns| *due_ns != NEVER)?;
        self.started_at.checked_add(Duration::from_nanos(due_ns))
    }

    /// When the next lane of all partitions is due, or [`NEVER`].
    fn next_due_ns(&self) -> u64 {
        let due = |partition: &CachePadded<Partition>| partition.next_due_ns.load(Relaxed);
        self.partitions.iter().map(due).min().unwrap_or(NEVER)
    }

    /// The updates that are not settled, for a list of what is left behind. To be called when the
    /// workers have ended or been given up: it empties the inboxes.
    pub(crate) fn left_behind(&self) -> Vec<(BotId, UpdateId)> {
        let name = |delivery: Delivery| (delivery.update.bot(), delivery.update.id());
        let mut left = Vec::new();
        for partition in &self.partitions {
            left.extend(partition.lock().ids());
            left.extend(partition.inbox.try_iter().map(name));
        }
        left
    }

    fn elapsed_ns(&self, at: Instant) -> u64 {
        crate::duration::nanos(at.saturating_duration_since(self.started_at))
    }
}

/// The partition to look into first in a `round` of stealing: another one each time, so that none
/// has to rely on the worker beside its own, which may be held up as well.
fn steal_from(round: u32) -> usize {
    (round / STEAL_EVERY) as usize
}

impl Partition {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Nothing under the lock calls foreign code, so a poisoned one is as good.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_work(&self, now_ns: u64) -> bool {
        self.has_work_now() || self.next_due_ns.load(Relaxed) <= now_ns
    }

    fn has_work_now(&self) -> bool {
        !self.inbox.is_empty() || self.ready.load(Relaxed) > 0
    }

    /// True where nothing waits and nothing is being handled.
    fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.lock().is_idle()
    }
}
