//! A worker whose work the program does, on the thread that polls its stream. The worker's own
//! thread keeps the time meanwhile.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use super::{Consumer, Worker};
use crate::{
    delivery::stream::{Direct, Direction, PendingUpdate},
    dispatch::{IDLE_SLEEP, Idle, Scheduler, StandIn, Task},
};

/// A worker that is lent to the program.
struct Lent {
    /// Whether nothing will come any more.
    is_finished: AtomicBool,
    /// `None` once its own thread goes on.
    work: Mutex<Option<Work>>,
    /// When the worker's own thread wakes up.
    keeper_until: Mutex<Instant>,
}

/// A worker, and where it is.
struct Work {
    worker: Worker,
    batch: Vec<Task>,
    round: u32,
    /// Whether the last look has found nothing, so that the next to bring something has to tell.
    is_parked: bool,
}

impl Worker {
    /// Lets the program do the work if it wants to, and gives it back where it is to be ended: the
    /// server abandons what is left, everything is settled, or the program has let go of the
    /// stream. `None` where this worker is one too many.
    pub(super) fn lend(self) -> Option<Self> {
        let Consumer::Stream(stream, ..) = &self.consumer else { return Some(self) };
        if !stream.is_direct() {
            return Some(self);
        }
        if self.index > 0 {
            return None;
        }
        let (stream, scheduler, index) = (stream.clone(), Arc::clone(&self.scheduler), self.index);
        let control = Arc::clone(&self.context.control);
        let (orders, output_state) =
            (Arc::clone(&self.context.orders), self.context.output_state.clone());
        let parker = scheduler.parker(index)?;
        parker.attach();
        parker.begin_stand_in(StandIn(Box::new(stream.waker())));
        let work = Work { worker: self, batch: Vec::new(), round: 0, is_parked: false };
        let lent = Arc::new(Lent {
            is_finished: AtomicBool::new(false),
            work: Mutex::new(Some(work)),
            keeper_until: Mutex::new(Instant::now()),
        });
        scheduler.set_run(stream.run());
        stream.lend(Arc::<Lent>::clone(&lent));
        let is_over = || {
            control.is_abandoned()
                || orders.is_given()
                || output_state.as_ref().is_some_and(|state| state.is_left())
                || stream.is_gone()
                || lent.is_finished.load(Relaxed)
        };
        while !is_over() {
            lent.keep_time(&scheduler, index);
        }
        scheduler.set_run(1);
        let work = lent.work().take()?;
        if work.is_parked {
            scheduler.cancel_park(index);
        }
        parker.end_stand_in();
        Some(work.worker)
    }
}

impl Lent {
    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeper_until(&self) -> MutexGuard<'_, Instant> {
        self.keeper_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until a lane is due, then has the program look. Both sides publish what is due before
    /// they take the lock, so that one of them sees the other's.
    fn keep_time(&self, scheduler: &Scheduler, index: usize) {
        let mut until = self.keeper_until();
        let now = Instant::now();
        let due = scheduler.next_due();
        *until = due.filter(|due| *due > now).unwrap_or(now + IDLE_SLEEP).min(now + IDLE_SLEEP);
        let wait = *until - now;
        drop(until);
        if due.is_some_and(|due| due <= now) {
            // One that does not sleep looks by itself.
            scheduler.wake(index);
        }
        thread::park_timeout(wait);
    }
}

fn wake_keeper(worker: &Worker) {
    if let Some(parker) = worker.scheduler.parker(worker.index) {
        parker.wake_thread();
    }
}

impl Direct for Lent {
    fn poll_next(&self, register: &dyn Fn()) -> Direction {
        let mut lent = self.work();
        let Some(Work { worker, batch, round, is_parked }) = &mut *lent else {
            return Direction::Queue;
        };
        if mem::take(is_parked) {
            worker.scheduler.cancel_park(worker.index);
        }
        let mut is_registered = false;
        loop {
            *round = round.wrapping_add(1);
            if worker.context.is_left()
                || worker.context.orders.is_given()
                || worker.take_settlements().is_err()
            {
                // The worker's thread knows of it, too.
                register();
                return Direction::Wait;
            }
            worker.commit_if_asked();
            match worker.take(batch, *round) {
                Ok(update) => return Direction::Next(update),
                Err(Idle::Sleep) => {}
                Err(Idle::Finished) => {
                    // The end of the worker's thread wakes the program once more.
                    register();
                    self.is_finished.store(true, Relaxed);
                    wake_keeper(worker);
                    return Direction::Wait;
                }
            }
            if !mem::replace(&mut is_registered, true) {
                register();
            }
            worker.context.operation.end();
            worker.context.settled_batch.empty();
            let now = Instant::now();
            let Consumer::Stream(_, _, settlements) = &worker.consumer else {
                return Direction::Queue;
            };
            let journal = worker.context.journal.as_ref();
            let stop =
                || !settlements.is_empty() || journal.is_some_and(|it| it.helpers().are_asked());
            let wait = worker.scheduler.prepare_park(worker.index, now, IDLE_SLEEP, stop);
            match wait.filter(|wait| !wait.is_zero()) {
                Some(wait) => {
                    *is_parked = true;
                    if now + wait < *self.keeper_until() {
                        wake_keeper(worker);
                    }
                    return Direction::Wait;
                }
                None => worker.scheduler.cancel_park(worker.index),
            }
        }
    }
}

impl Worker {
    /// The next update that is due.
    ///
    /// # Errors
    /// Why there is none.
    fn take(&mut self, batch: &mut Vec<Task>, round: u32) -> Result<PendingUpdate, Idle> {
        let Self { index, scheduler, context, consumer, .. } = self;
        let Consumer::Stream(_, settlements, _) = consumer else { return Err(Idle::Sleep) };
        loop {
            let looked_at = context.settled_at.take().unwrap_or_else(Instant::now);
            let duplicate = |duplicate| context.drop_duplicate(duplicate);
            let idle = scheduler.next(*index, round, looked_at, 1, batch, duplicate);
            context.note_copies(looked_at);
            context.log_duplicates();
            if let Some(idle) = idle {
                return Err(idle);
            }
            let now = Instant::now();
            if scheduler.settings().drop_expired {
                context.drop_expired(scheduler, batch, now);
            }
            context.time_taking(batch, looked_at, now);
            if let Some(mut task) = batch.pop() {
                task.delivery.attempts += 1;
                // From now on the time counts as the program's.
                task.delivery.queued_at = now;
                return Ok(PendingUpdate::new(task, settlements.clone()));
            }
        }
    }
}
