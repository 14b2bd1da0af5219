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

mod budget;
pub(crate) mod dedup;
mod full;
mod lanes;
mod parker;
mod record_id;
mod scheduler;
#[cfg(test)]
mod tests;
mod waiting;

use std::{
    cell::{Cell, RefCell},
    iter,
    sync::Arc,
    task::Waker,
    time::Instant,
};

use crossbeam_channel::{Sender, TrySendError};

use self::budget::{Measure, QuotaLease};
pub use self::record_id::RecordId;
pub(crate) use self::{
    budget::{Budget, SettledBatch},
    full::FullChats,
    lanes::LaneKey,
    parker::WorkerParker,
    scheduler::{IDLE_SLEEP, Idle, LaneRef, Scheduler, Task},
};
use crate::{config::Order, outcome::Refusal, proto::update::Update};

/// An update between its acceptance and its settling.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) update: Update,
    /// When it was handed off.
    pub(crate) queued_at: Instant,
    /// Calls of the handler so far.
    pub(crate) attempts: u32,
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
    /// Whether its id may have been seen although it has not been handled.
    pub(crate) is_replayed: bool,
    /// Where it is in the journal, if there is one.
    pub(crate) record: Option<RecordId>,
    /// Index of the shard that gets the memory back; any other number where none does.
    pub(crate) shard: usize,
}

/// Hands updates to the workers; each shard has its own.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    full: Arc<FullChats>,
    inboxes: Vec<Sender<Delivery>>,
    is_replay: bool,
    lease: QuotaLease,
    scheduler: Arc<Scheduler>,
    shard: usize,
    wakes: Wakes,
}

impl Dispatcher {
    pub(crate) fn new(
        scheduler: &Arc<Scheduler>,
        inboxes: Vec<Sender<Delivery>>,
        full: &Arc<FullChats>,
        budget: &Arc<Budget>,
        shard: usize,
    ) -> Self {
        let due = (0..inboxes.len()).map(|_| Cell::new(false)).collect();
        Self {
            full: Arc::clone(full),
            inboxes,
            is_replay: false,
            lease: QuotaLease::new(Arc::clone(budget)),
            scheduler: Arc::clone(scheduler),
            shard,
            wakes: Wakes { due, ..Wakes::default() },
        }
    }

    /// A dispatcher of updates that are fed in again: their ids are not compared with earlier ones.
    pub(crate) fn for_replay(self) -> Self {
        Self { is_replay: true, shard: usize::MAX, ..self }
    }

    /// Another one for the same inboxes, for benches.
    pub(crate) fn another(&self) -> Self {
        Self {
            full: Arc::clone(&self.full),
            inboxes: self.inboxes.clone(),
            is_replay: self.is_replay,
            lease: self.lease.another(),
            scheduler: Arc::clone(&self.scheduler),
            shard: self.shard,
            wakes: Wakes {
                due: self.wakes.due.iter().map(|_| Cell::new(false)).collect(),
                ..Wakes::default()
            },
        }
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
        self.hand_on(update, queued_at, Origin { is_replayed, record: None, shard })
    }

    /// What is kept in order.
    pub(crate) fn order(&self) -> Order {
        self.scheduler.settings().order
    }

    /// The same for an update that comes from `origin`.
    ///
    /// # Errors
    /// As for [`dispatch`](Self::dispatch).
    pub(crate) fn hand_on(
        &self,
        update: Update,
        queued_at: Instant,
        origin: Origin,
    ) -> Result<(), (Refusal, Update)> {
        let hash = LaneKey::from_update(&update, self.order()).hash64();
        if self.full.contains(hash) {
            return Err((Refusal::Chat, update));
        }
        // Multiply and shift spreads a hash over n without the division of `%`.
        let index = ((u128::from(hash) * self.inboxes.len() as u128) >> 64) as usize;
        // Where there is no inbox at all, nothing may be promised.
        let Some(inbox) = self.inboxes.get(index) else {
            return Err((Refusal::Inbox, update));
        };
        let bytes = update.byte_len() as u64;
        match self.lease.acquire(bytes) {
            Ok(()) => {}
            Err(Measure::Updates) => return Err((Refusal::Updates, update)),
            Err(Measure::Bytes) => return Err((Refusal::Bytes, update)),
        }
        let Origin { is_replayed, record, shard } = origin;
        let rest = Vec::new();
        let delivery =
            Delivery { update, queued_at, attempts: 0, is_replayed, record, rest, shard };
        let refused = match inbox.try_send(delivery) {
            Ok(()) => {
                self.wakes.request(index);
                return Ok(());
            }
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => refused,
        };
        self.lease.refund(bytes);
        Err((Refusal::Inbox, refused.update))
    }

    /// Wakes a worker for every partition that got something since the last call.
    pub(crate) fn wake_workers(&self) {
        self.wakes.scheduled.set(false);
        for (index, due) in self.wakes.due.iter().enumerate() {
            if due.replace(false) {
                self.scheduler.wake_for(index);
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

/// Which partitions have got updates since their workers were woken, and the task of this shard
/// that wakes them.
///
/// The loop runs ready tasks first in, first out: a task that is scheduled by the first dispatch of
/// a round runs behind all connections that were ready in that round.
#[derive(Debug, Default)]
struct Wakes {
    due: Vec<Cell<bool>>,
    scheduled: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Wakes {
    fn request(&self, partition: usize) {
        debug_assert!(partition < self.due.len(), "a partition that is never woken for");
        if let Some(due) = self.due.get(partition) {
            due.set(true);
        }
        if !self.scheduled.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}
