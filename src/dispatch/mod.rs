//! From a shard to the workers: bounded, without a lock on the shard's side, one wake for a batch.
//!
//! | file | question |
//! |---|---|
//! | `mod` | what a shard does with an update |
//! | `budget` | how many updates and bytes may be under way |
//! | `full` | which chats have too many waiting |
//! | `scheduler` | what a worker does next |
//! | `lanes`, `waiting` | in which order |
//! | `parker` | where an idle worker sleeps |
//! | `dedup` | which ids have been accepted before |
//! | `record_id` | which record of the journal an update is |
//! | `outputs` | which outputs there are, and which of them get an update |

mod budget;
pub(crate) mod dedup;
mod full;
mod lanes;
mod outputs;
mod parker;
mod record_id;
mod scheduler;
#[cfg(test)]
mod tests;
mod waiting;

use std::{
    cell::{Cell, RefCell},
    iter, ptr,
    sync::Arc,
    task::Waker,
    time::Instant,
};

use crossbeam_channel::{Sender, TrySendError};

use self::budget::{Measure, QuotaLease};
pub(crate) use self::{
    budget::{Budget, SettledBatch},
    full::FullChats,
    lanes::LaneKey,
    outputs::{OutputKey, OutputQueue, Outputs},
    parker::WorkerParker,
    scheduler::{IDLE_SLEEP, Idle, LaneRef, Scheduler, Task},
};
pub use self::{
    outputs::{OutputRouter, OutputSet},
    record_id::RecordId,
};
use crate::{
    config::Order, observe::metrics::OutputCounts, outcome::Refusal, proto::update::Update,
};

/// An update between its acceptance and its settling.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) update: Update,
    /// When it was handed off.
    pub(crate) queued_at: Instant,
    /// Calls of the handler so far.
    pub(crate) attempts: u32,
    /// Whether other outputs have the same record, which is settled when all have settled it.
    pub(crate) is_part: bool,
    /// Whether it was fed in again on purpose, so that its id may have been seen.
    pub(crate) is_replayed: bool,
    /// Where it is in the journal, if there is one.
    pub(crate) record: Option<RecordId>,
    /// The further updates of an album, which are handled together with this one.
    pub(crate) rest: Vec<Self>,
    /// Index of the shard that gets the memory back.
    pub(crate) shard: usize,
}

impl Delivery {
    /// The updates that are handled together, mostly one.
    pub(crate) fn updates(&self) -> impl Iterator<Item = &Update> + Clone {
        iter::once(&self.update).chain(self.rest.iter().map(|delivery| &delivery.update))
    }

    /// The album that the update is a part of: `media_group_id` of Bot API's `Message`.
    fn album(&self) -> Option<&str> {
        self.update.payload()?.get("media_group_id")?.as_str()
    }
}

/// Where an update comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// Whether other outputs get the same record.
    pub(crate) is_part: bool,
    /// Whether its id may have been seen although it has not been handled.
    pub(crate) is_replayed: bool,
    /// Where it is in the journal, if there is one.
    pub(crate) record: Option<RecordId>,
    /// Index of the shard that gets the memory back; any other number where none does.
    pub(crate) shard: usize,
}

/// Hands updates to the workers of outputs; each shard has its own.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    is_replay: bool,
    outputs: Outputs,
    /// By output.
    queues: Box<[Queue]>,
    shard: usize,
    wakes: Wakes,
}

/// A shard's way to the workers of one output.
#[derive(Debug)]
struct Queue {
    /// The partitions that have got updates since their workers were woken.
    due: Box<[Cell<bool>]>,
    full: Arc<FullChats>,
    inboxes: Box<[Sender<Delivery>]>,
    lease: QuotaLease,
    scheduler: Arc<Scheduler>,
}

impl Dispatcher {
    /// A dispatcher to one output.
    pub(crate) fn new(
        scheduler: &Arc<Scheduler>,
        inboxes: Vec<Sender<Delivery>>,
        full: &Arc<FullChats>,
        budget: &Arc<Budget>,
        shard: usize,
    ) -> Self {
        let (budget, full) = (Arc::clone(budget), Arc::clone(full));
        let queue = OutputQueue { budget, full, inboxes, scheduler: Arc::clone(scheduler) };
        Self::to_outputs(
            Outputs { counts: Arc::default(), keys: Vec::new(), queues: vec![queue], router: None },
            shard,
        )
    }

    /// The dispatcher of `shard` to all of `outputs`.
    pub(crate) fn to_outputs(outputs: Outputs, shard: usize) -> Self {
        let queues = outputs.queues.iter().map(|output| Queue {
            due: output.inboxes.iter().map(|_| Cell::new(false)).collect(),
            full: Arc::clone(&output.full),
            inboxes: output.inboxes.clone().into(),
            lease: QuotaLease::new(Arc::clone(&output.budget)),
            scheduler: Arc::clone(&output.scheduler),
        });
        Self { is_replay: false, queues: queues.collect(), outputs, shard, wakes: Wakes::default() }
    }

    /// A dispatcher of updates that are fed in again: their ids are not compared with earlier ones.
    pub(crate) fn for_replay(self) -> Self {
        Self { is_replay: true, shard: usize::MAX, ..self }
    }

    /// Another one for the same inboxes, for benches.
    pub(crate) fn another(&self) -> Self {
        let another = Self::to_outputs(self.outputs.clone(), self.shard);
        Self { is_replay: self.is_replay, ..another }
    }

    /// Puts `update` into the inbox of its chat's partition, without waiting and without waking a
    /// worker yet.
    ///
    /// # Errors
    /// The reason, and the update itself: nothing has been promised, the sender has to come again.
    pub(crate) fn dispatch(
        &self,
        update: Update,
        queued_at: Instant,
    ) -> Result<(), (Refusal, Update)> {
        let (is_replayed, shard) = (self.is_replay, self.shard);
        let origin = Origin { is_part: false, is_replayed, record: None, shard };
        self.hand_on(update, queued_at, origin)
    }

    /// What is kept in order; the same for all outputs.
    pub(crate) fn order(&self) -> Order {
        self.queues.first().map_or(Order::Chat, |queue| queue.scheduler.settings().order)
    }

    /// How many outputs there are.
    pub(crate) fn outputs(&self) -> usize {
        self.queues.len()
    }

    /// Whether not all updates go to the first output.
    pub(crate) fn is_routed(&self) -> bool {
        self.outputs.router.as_ref().is_some_and(|router| !router.is_trivial())
    }

    /// What is counted of updates that do not go to exactly one output.
    pub(crate) fn counts(&self) -> &OutputCounts {
        &self.outputs.counts
    }

    /// The outputs that `update` is to go to. One that goes to none is counted.
    pub(crate) fn route(&self, update: &Update) -> OutputSet {
        let router = self.outputs.router.as_ref().filter(|router| !router.is_trivial());
        let Some(router) = router else { return OutputSet::only(0) };
        let outputs = router.outputs(update);
        if outputs.is_empty() {
            self.outputs.counts.drop_one();
        }
        outputs
    }

    /// True where `output` may take an update of `lane`.
    pub(crate) fn has_room(&self, output: usize, lane: LaneKey) -> bool {
        self.queues.get(output).is_some_and(|queue| !queue.full.contains(lane.hash64()))
    }

    /// The same as [`dispatch`](Self::dispatch) for an update that comes from `origin` and is in
    /// no journal. Where it goes to several outputs and some refuse it, the others have it: they
    /// drop the copy that comes again.
    ///
    /// # Errors
    /// As for [`dispatch`](Self::dispatch).
    pub(crate) fn hand_on(
        &self,
        update: Update,
        queued_at: Instant,
        origin: Origin,
    ) -> Result<(), (Refusal, Update)> {
        if !self.is_routed() {
            return self.hand_to(0, update, queued_at, origin);
        }
        let outputs = self.route(&update);
        let mut given = 0_usize;
        let mut refused = None;
        for output in outputs.iter() {
            match self.hand_to(output, update.share(), queued_at, origin) {
                Ok(()) => given += 1,
                Err((refusal, _)) => refused = Some(refusal),
            }
        }
        match refused {
            None => {
                self.counts().deliver_further(given.saturating_sub(1));
                Ok(())
            }
            Some(refusal) => {
                self.counts().deliver_further(given);
                Err((refusal, update))
            }
        }
    }

    /// Puts `update` into the inbox of its chat's partition of `output`.
    ///
    /// # Errors
    /// As for [`dispatch`](Self::dispatch).
    pub(crate) fn hand_to(
        &self,
        output: usize,
        update: Update,
        queued_at: Instant,
        origin: Origin,
    ) -> Result<(), (Refusal, Update)> {
        // Where there is no such output, nothing may be promised.
        let Some(queue) = self.queues.get(output) else {
            debug_assert!(false, "there is no output {output}");
            return Err((Refusal::Inbox, update));
        };
        let hash = LaneKey::from_update(&update, queue.scheduler.settings().order).hash64();
        if queue.full.contains(hash) {
            return Err((Refusal::Chat, update));
        }
        // Multiply and shift spreads a hash over n without the division of `%`.
        let index = ((u128::from(hash) * queue.inboxes.len() as u128) >> 64) as usize;
        // Where there is no inbox at all, nothing may be promised.
        let Some(inbox) = queue.inboxes.get(index) else {
            return Err((Refusal::Inbox, update));
        };
        let bytes = update.byte_len() as u64;
        match queue.lease.acquire(bytes) {
            Ok(()) => {}
            Err(Measure::Updates) => return Err((Refusal::Updates, update)),
            Err(Measure::Bytes) => return Err((Refusal::Bytes, update)),
        }
        let Origin { is_part, is_replayed, record, shard } = origin;
        let rest = Vec::new();
        let delivery =
            Delivery { update, queued_at, attempts: 0, is_part, is_replayed, record, rest, shard };
        let refused = match inbox.try_send(delivery) {
            Ok(()) => {
                queue.request_wake(index);
                self.wakes.schedule();
                return Ok(());
            }
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => refused,
        };
        queue.lease.refund(bytes);
        Err((Refusal::Inbox, refused.update))
    }

    /// Wakes a worker for every partition that got something since the last call.
    pub(crate) fn wake_workers(&self) {
        self.wake_workers_but(None);
    }

    /// The same without workers of `own`: the caller is one of them and calls
    /// [`Scheduler::next`], which wakes others for what it leaves.
    pub(crate) fn wake_workers_but(&self, own: Option<&Scheduler>) {
        self.wakes.scheduled.set(false);
        for queue in &self.queues {
            let is_own = own.is_some_and(|own| ptr::eq(own, &*queue.scheduler));
            for (index, due) in queue.due.iter().enumerate() {
                if due.replace(false) && !is_own {
                    queue.scheduler.wake_for(index);
                }
            }
        }
    }

    /// True where a partition has got something since the last call of
    /// [`wake_workers`](Self::wake_workers).
    pub(crate) fn has_news(&self) -> bool {
        self.wakes.scheduled.get()
    }

    /// Makes `waker` the task that calls [`wake_workers`](Self::wake_workers).
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut slot = self.wakes.task.borrow_mut();
        match &mut *slot {
            Some(current) => current.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}

impl Queue {
    fn request_wake(&self, partition: usize) {
        debug_assert!(partition < self.due.len(), "a partition that is never woken for");
        if let Some(due) = self.due.get(partition) {
            due.set(true);
        }
    }
}

/// The task of this shard that wakes workers.
///
/// The loop runs ready tasks first in, first out: a task that is scheduled by the first dispatch of
/// a round runs behind all connections that were ready in that round.
#[derive(Debug, Default)]
struct Wakes {
    scheduled: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Wakes {
    fn schedule(&self) {
        if !self.scheduled.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}
