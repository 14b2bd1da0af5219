//! Gives requests to connections.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    os::fd::RawFd,
    task::{Context, Poll, Waker},
};

use crate::{
    clock::Nanos,
    feed::{Feed, Job, Offer},
    socket::interrupt,
    timer::Timer,
};

/// The connections of a run as the feed sees them.
///
/// A free connection takes the next request if it is due already. Otherwise it joins the end of a
/// queue, from whose front requests are served as they fall due. First in, first out keeps every
/// connection busy, as Telegram's many chats do; last in, first out would leave most of them idle.
pub(crate) struct Pool {
    pub(crate) feed: RefCell<Feed>,
    /// The connections', then those of the other threads that pause and are watched.
    slots: Box<[Slot]>,
    connections: usize,
    idle: RefCell<VecDeque<usize>>,
    /// How many connections have not ended.
    active: Cell<usize>,
    timer: Timer,
}

/// A request given to a connection.
#[derive(Clone, Copy)]
pub(crate) struct Assignment {
    pub(crate) job: Job,
    /// When the connection was free to send it: from then on a delay is the generator's fault.
    pub(crate) free: Nanos,
    /// Whether the connection was idle before.
    pub(crate) waited: bool,
}

/// One connection.
#[derive(Default)]
struct Slot {
    assignment: Cell<Option<Assignment>>,
    waker: RefCell<Option<Waker>>,
    queued: Cell<bool>,
    idle_since: Cell<Nanos>,
    watch: Cell<Option<Watch>>,
    timed_out: Cell<bool>,
    /// When a pause ends.
    resume: Cell<Option<Nanos>>,
}

/// A socket that is shut down at a time.
#[derive(Clone, Copy)]
struct Watch {
    descriptor: RawFd,
    deadline: Nanos,
}

impl Pool {
    /// For so many connections that are given requests, and `others` that are not.
    pub(crate) fn new(feed: Feed, connections: usize, others: usize, timer: Timer) -> Self {
        Self {
            feed: RefCell::new(feed),
            slots: (0..connections + others).map(|_| Slot::default()).collect(),
            connections,
            idle: RefCell::new(VecDeque::with_capacity(connections)),
            active: Cell::new(connections),
            timer,
        }
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Whether every connection waits for a request.
    pub(crate) fn all_idle(&self) -> bool {
        self.idle.borrow().len() == self.connections
    }

    /// How many connections have not ended.
    pub(crate) fn active(&self) -> usize {
        self.active.get()
    }

    /// Notes that a connection has ended.
    pub(crate) fn leave(&self) {
        self.active.set(self.active.get() - 1);
        if self.active.get() == 0 {
            // The pacer of the run may sleep for a while yet.
            self.timer.set(0);
        }
    }

    /// The next request for a connection that is free since `now`; none once there is nothing more.
    pub(crate) fn poll_next(
        &self,
        slot: usize,
        now: Nanos,
        context: &mut Context<'_>,
    ) -> Poll<Option<Assignment>> {
        let this = self.slot(slot);
        if let Some(assignment) = this.assignment.take() {
            return Poll::Ready(Some(assignment));
        }
        let mut idle = self.idle.borrow_mut();
        let mut feed = self.feed.borrow_mut();
        // Others that are idle come first.
        let offer = match idle.is_empty() {
            true => feed.take(slot, now),
            false => feed.next(now).map_or(Offer::End, Offer::Wait),
        };
        match offer {
            Offer::End => return Poll::Ready(None),
            Offer::Job(job) => {
                return Poll::Ready(Some(Assignment { job, free: now, waited: false }));
            }
            Offer::Wait(due) => self.timer.set_earlier(due),
        }
        if !this.queued.replace(true) {
            this.idle_since.set(now);
            idle.push_back(slot);
        }
        this.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    /// Gives what is due at `now` to idle connections. The time of the next request if some are
    /// still idle then.
    pub(crate) fn hand_out(&self, now: Nanos) -> Option<Nanos> {
        let mut idle = self.idle.borrow_mut();
        let mut feed = self.feed.borrow_mut();
        while let Some(&first) = idle.front() {
            let (mut position, mut slot) = (0, first);
            let mut offer = feed.take(slot, now);
            // A copy keeps off one connection, so if the first in the queue must not have it, the
            // second may.
            if let (Offer::Wait(_), Some(&second)) = (&offer, idle.get(1))
                && feed.has_ready()
            {
                (position, slot) = (1, second);
                offer = feed.take(slot, now);
            }
            let this = self.slot(slot);
            match offer {
                Offer::Wait(due) => return Some(due),
                Offer::End => {}
                Offer::Job(job) => {
                    let free = job.ready.max(this.idle_since.get());
                    this.assignment.set(Some(Assignment { job, free, waited: true }));
                }
            }
            idle.remove(position);
            this.queued.set(false);
            if let Some(waker) = this.waker.take() {
                waker.wake();
            }
        }
        None
    }

    /// Takes note of whether a connection's request was acknowledged.
    pub(crate) fn settle(&self, slot: usize, job: &Job, acknowledged: bool, now: Nanos) {
        let again = self.feed.borrow_mut().settle(slot, job, acknowledged, now);
        if again && !self.idle.borrow().is_empty() {
            self.timer.set_earlier(now);
        }
    }

    /// Shuts a connection's socket down at `deadline`.
    pub(crate) fn watch(&self, slot: usize, descriptor: RawFd, deadline: Nanos) {
        self.slot(slot).timed_out.set(false);
        self.slot(slot).watch.set(Some(Watch { descriptor, deadline }));
    }

    /// Stops watching; must come before the socket is closed. Whether it was shut down.
    pub(crate) fn unwatch(&self, slot: usize) -> bool {
        self.slot(slot).watch.set(None);
        self.slot(slot).timed_out.take()
    }

    /// Shuts down every watched socket whose time is over, and ends pauses.
    pub(crate) fn tick(&self, now: Nanos) {
        for slot in &self.slots {
            if let Some(watch) = slot.watch.get()
                && watch.deadline <= now
            {
                slot.watch.set(None);
                slot.timed_out.set(true);
                interrupt(watch.descriptor);
            }
            if slot.resume.get().is_some_and(|time| time <= now) {
                slot.resume.set(None);
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Ends every pause, and whatever watched sockets wait for.
    pub(crate) fn release(&self) {
        self.tick(Nanos::MAX);
    }

    /// Keeps a connection from going on before the first tick after `until`.
    pub(crate) async fn pause(&self, slot: usize, until: Nanos) {
        let this = self.slot(slot);
        this.resume.set(Some(until));
        std::future::poll_fn(|context| {
            if this.resume.get().is_none() {
                return Poll::Ready(());
            }
            this.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn slot(&self, slot: usize) -> &Slot {
        // Tasks are numbered as the slots are.
        #[allow(clippy::indexing_slicing)]
        &self.slots[slot]
    }
}
