//! A shard's end of the journal: bodies are gathered into a batch, and connections wait for it
//! without holding up each other.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use slab::Slab;

use super::{Batch, Journal, Staged, now_us};
use crate::{
    outcome::Refusal,
    proto::update::{Recycled, Update},
    sync::{AtomicWaker, Receiver, Sender, TryRecvError},
};

/// Bytes that may gather while the disk is slow; beyond it senders have to come again.
const GATHERED_MAX: usize = 256 * 1024 * 1024;

/// A shard's end of the journal. Never leaves its thread.
///
/// A batch is with the committer while the next one gathers, so records are written in lots as
/// large as the disk is slow.
pub(crate) struct Intake {
    /// `None` once it is closed.
    batches: RefCell<Option<Sender<Batch>>>,
    gathering: RefCell<Batch>,
    /// Whether a batch is with the committer.
    is_out: Cell<bool>,
    /// Whether the task is about to run.
    is_scheduled: Cell<bool>,
    journal: Arc<Journal>,
    /// When the first update of the batch came, in microseconds since 1970.
    received_us: Cell<i64>,
    returned: Receiver<Batch>,
    /// When a batch came back last.
    returned_at: Cell<Instant>,
    /// The memory of the batch before, for the next one.
    spare: RefCell<Option<Batch>>,
    /// The task that calls [`poll`](Self::poll).
    task: RefCell<Option<Waker>>,
    tickets: RefCell<Slab<RecordState>>,
    /// Wakes that task from the committer's thread.
    waker: Arc<AtomicWaker>,
}

/// What becomes of one record.
#[derive(Debug)]
enum RecordState {
    Waiting(Option<Waker>),
    Known(bool),
}

/// A record that is being committed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket(usize);

impl Intake {
    /// The intake whose batches are returned to `batch_return`.
    pub(crate) fn new(
        journal: Arc<Journal>,
        batch_return: usize,
        batches: Sender<Batch>,
        returned: Receiver<Batch>,
        waker: Arc<AtomicWaker>,
    ) -> Self {
        Self {
            batches: RefCell::new(Some(batches)),
            gathering: RefCell::new(Batch::new(batch_return)),
            is_out: Cell::new(false),
            is_scheduled: Cell::new(false),
            journal,
            received_us: Cell::new(0),
            returned,
            returned_at: Cell::new(Instant::now()),
            spare: RefCell::new(None),
            task: RefCell::new(None),
            tickets: RefCell::default(),
            waker,
        }
    }

    /// Copies `body`.
    ///
    /// # Errors
    /// Why no update is taken now.
    pub(crate) fn stage(&self, body: &[u8]) -> Result<Staged, Refusal> {
        if self.journal.is_full() {
            return Err(Refusal::Journal);
        }
        let mut gathering = self.gathering.borrow_mut();
        if gathering.len() + body.len() > GATHERED_MAX {
            return Err(Refusal::Bytes);
        }
        Ok(gathering.stage(body))
    }

    /// Forgets what was staged last: it is no update.
    pub(crate) fn discard(&self, staged: &Staged) {
        self.gathering.borrow_mut().discard(staged);
    }

    /// Has what was staged last written as the record of `update`, with the other ones of this
    /// round.
    pub(crate) fn submit(&self, staged: &Staged, update: Update) -> Ticket {
        let ticket = self.tickets.borrow_mut().insert(RecordState::Waiting(None));
        let bot = self.journal.key_of(update.bot());
        let mut gathering = self.gathering.borrow_mut();
        if gathering.is_empty() {
            // One look at the clock for a batch: its records came within a round.
            self.received_us.set(now_us());
        }
        gathering.push(staged, update, bot, self.received_us.get(), false, ticket);
        drop(gathering);
        if !self.is_out.get()
            && !self.is_scheduled.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
        Ticket(ticket)
    }

    /// Waits until the record is committed; false where it could not be.
    pub(crate) async fn committed(&self, ticket: Ticket) -> bool {
        poll_fn(|context| {
            let mut tickets = self.tickets.borrow_mut();
            match tickets.get_mut(ticket.0) {
                Some(RecordState::Waiting(waker)) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Some(RecordState::Known(is_committed)) => {
                    let is_committed = *is_committed;
                    tickets.try_remove(ticket.0);
                    Poll::Ready(is_committed)
                }
                None => Poll::Ready(false),
            }
        })
        .await
    }

    /// Takes batches back and sends the next one; to be called by a task of the shard, which is
    /// woken for it. Memory of updates that did not go on is given to `keep`.
    pub(crate) fn poll(&self, context: &mut Context<'_>, keep: impl FnMut(Recycled)) {
        let mut task = self.task.borrow_mut();
        match &mut *task {
            Some(task) => task.clone_from(context.waker()),
            None => *task = Some(context.waker().clone()),
        }
        drop(task);
        self.waker.register(context.waker());
        self.work(keep);
    }

    /// The same, without a task.
    pub(super) fn work(&self, mut keep: impl FnMut(Recycled)) {
        self.is_scheduled.set(false);
        loop {
            match self.returned.try_recv() {
                Ok(batch) => self.take_back(batch, &mut keep),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return self.give_up(&mut keep),
            }
        }
        if self.is_out.get() || self.gathering.borrow().is_empty() {
            return;
        }
        let batch_return = self.gathering.borrow().batch_return;
        let next = self.spare.take().unwrap_or_else(|| Batch::new(batch_return));
        let mut batch = self.gathering.replace(next);
        let now = Instant::now();
        batch.submitted_at = now;
        self.is_out.set(true);
        let refused = match &*self.batches.borrow() {
            Some(batches) => batches.send(batch).err().map(|refused| refused.0),
            None => Some(batch),
        };
        if let Some(refused) = refused {
            // The committer has ended, which is the end of the server.
            self.take_back(refused, &mut keep);
        }
        self.journal.ask_for_commit(now);
    }

    /// Drops the sender. The committer, which ends with the last sender, then does not wait for
    /// other owners of this. To be called on the shard's thread, whose tasks must not be woken from
    /// another any more.
    pub(crate) fn close(&self) {
        // After a panic it may be borrowed for good: then the shard's end drops it.
        if let Ok(mut batches) = self.batches.try_borrow_mut() {
            drop(batches.take());
        }
        drop(self.waker.take());
        self.journal.wake_committer();
    }

    /// When the last batch was returned.
    pub(crate) fn returned_at(&self) -> Instant {
        self.returned_at.get()
    }

    /// Without a committer nothing more is committed, whether it is gathering or out.
    #[cold]
    fn give_up(&self, keep: &mut impl FnMut(Recycled)) {
        let batch_return = self.gathering.borrow().batch_return;
        let batch = self.gathering.replace(Batch::new(batch_return));
        self.take_back(batch, keep);
        let mut wakers = Vec::new();
        for (_, state) in &mut *self.tickets.borrow_mut() {
            if let RecordState::Waiting(waker) = state {
                wakers.extend(waker.take());
                *state = RecordState::Known(false);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn take_back(&self, mut batch: Batch, keep: &mut impl FnMut(Recycled)) {
        self.is_out.set(false);
        self.returned_at.set(Instant::now());
        let is_committed = batch.is_committed;
        for entry in &mut batch.entries {
            entry.update.take().map(Update::recycle).into_iter().for_each(&mut *keep);
            let mut tickets = self.tickets.borrow_mut();
            if let Some(state) = tickets.get_mut(entry.ticket)
                && let RecordState::Waiting(Some(waker)) =
                    mem::replace(state, RecordState::Known(is_committed))
            {
                drop(tickets);
                waker.wake();
            }
        }
        batch.clear();
        self.spare.replace(Some(batch));
    }
}
