//! From a shard to the workers: bounded queues, chosen by chat, and one wake for a batch.
//!
//! Updates of one chat go to one worker, so they stay in order. A worker that waits is not woken
//! for each update, since that costs 6 to 12 us of the shard's CPU, but once for all that one round
//! of the shard's loop has brought ([`Wakes`]).

use std::{
    cell::{Cell, RefCell},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::Waker,
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError};
use crossbeam_utils::CachePadded;

use crate::update::Update;

/// An update on its way to a worker.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) update: Update,
    /// When it was handed off.
    pub(crate) queued_at: Instant,
    /// Index of the shard that gets the memory back.
    pub(crate) shard: usize,
}

/// A worker's queue as a shard sees it.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) sender: Sender<Delivery>,
    pub(crate) gate: std::sync::Arc<Gate>,
}

/// Where a worker sleeps while its queue is empty.
///
/// The flag and the queue are a Dekker pair: the worker raises the flag and then looks into the
/// queue again, a shard fills the queue and then looks at the flag; with a full fence between the
/// two steps on each side, at least one of them sees the other.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    asleep: CachePadded<AtomicBool>,
    thread: OnceLock<Thread>,
}

impl Gate {
    /// To be called once by the worker's thread before it first sleeps.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// Sleeps until [`wake`](Self::wake), unless `ready` says that there is work already. `timeout`
    /// bounds the sleep, for flags that are raised without a wake.
    pub(crate) fn sleep_unless(&self, ready: impl FnOnce() -> bool, timeout: Duration) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !ready() {
            thread::park_timeout(timeout);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the worker if it sleeps or is about to. What it should see must have been written
    /// before.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        // The plain load first: at saturation nobody sleeps and the line stays shared.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake_now();
        }
    }

    /// Wakes the worker whatever it does.
    pub(crate) fn wake_now(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Hands updates to the workers; each shard has its own.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    queues: Vec<Queue>,
    shard: usize,
    wakes: Wakes,
}

impl Dispatcher {
    pub(crate) fn new(queues: Vec<Queue>, shard: usize) -> Self {
        let wakes = Wakes {
            due: (0..queues.len()).map(|_| Cell::new(false)).collect(),
            ..Wakes::default()
        };
        Self { queues, shard, wakes }
    }

    /// Puts `update` into the queue of its chat's worker, without waiting and without waking
    /// anybody yet.
    ///
    /// # Errors
    /// The update itself, where that queue is full or the worker is gone: nothing has been
    /// promised, and the sender has to come again.
    pub(crate) fn dispatch(&self, update: Update, queued_at: Instant) -> Result<(), Update> {
        let index = self.worker_of(&update);
        let Some(queue) = self.queues.get(index) else { return Err(update) };
        match queue.sender.try_send(Delivery { update, queued_at, shard: self.shard }) {
            Ok(()) => {
                self.wakes.request(index);
                Ok(())
            }
            Err(TrySendError::Full(delivery) | TrySendError::Disconnected(delivery)) => {
                Err(delivery.update)
            }
        }
    }

    fn worker_of(&self, update: &Update) -> usize {
        // Multiply and shift spreads a 64-bit hash over n without the division of `%`.
        let hash = u128::from(update.chat_key().hash64());
        ((hash * self.queues.len() as u128) >> 64) as usize
    }

    /// Wakes every worker that got something since the last call.
    pub(crate) fn wake_workers(&self) {
        self.wakes.scheduled.set(false);
        for (due, queue) in self.wakes.due.iter().zip(&self.queues) {
            if due.replace(false) {
                queue.gate.wake();
            }
        }
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

/// Which workers have to be woken, and the task of this shard that does it.
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
    fn request(&self, worker: usize) {
        if let Some(due) = self.due.get(worker) {
            due.set(true);
        }
        if !self.scheduled.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::{
        collections::BTreeSet,
        sync::{Arc, atomic::AtomicU64},
    };

    use crossbeam_channel::{Receiver, bounded};

    use super::*;
    use crate::update::{BotId, UpdateBody, UpdateParser};

    fn update(id: u64, chat: u64) -> Update {
        let json = format!(r#"{{"update_id":{id},"message":{{"chat":{{"id":{chat}}}}}}}"#);
        UpdateParser::default()
            .parse(UpdateBody::from(json.into_bytes()), BotId::new(0), Instant::now())
            .unwrap()
    }

    fn dispatcher(workers: usize, capacity: usize) -> (Dispatcher, Vec<Receiver<Delivery>>) {
        let (queues, receivers) = (0..workers)
            .map(|_| {
                let (sender, receiver) = bounded(capacity);
                (Queue { sender, gate: Arc::default() }, receiver)
            })
            .unzip();
        (Dispatcher::new(queues, 0), receivers)
    }

    #[test]
    fn a_chat_has_one_worker_and_chats_spread() {
        let (dispatcher, receivers) = dispatcher(4, 1000);
        for id in 0..400 {
            dispatcher.dispatch(update(id, id % 100), Instant::now()).unwrap();
        }
        let mut chats = BTreeSet::new();
        for receiver in receivers {
            let ids: Vec<i64> = receiver.try_iter().map(|d| d.update.id().get()).collect();
            assert!(ids.len() > 40, "an uneven spread: {}", ids.len());
            let here: BTreeSet<i64> = ids.iter().map(|id| id % 100).collect();
            for chat in here {
                assert!(chats.insert(chat), "chat {chat} has two workers");
                let of_chat: Vec<i64> = ids.iter().copied().filter(|id| id % 100 == chat).collect();
                assert!(of_chat.is_sorted());
            }
        }
        assert_eq!(chats.len(), 100);
    }

    #[test]
    fn a_full_queue_gives_the_update_back() {
        let (dispatcher, receivers) = dispatcher(1, 2);
        for id in 0..2 {
            dispatcher.dispatch(update(id, 1), Instant::now()).unwrap();
        }
        let refused = dispatcher.dispatch(update(7, 1), Instant::now()).unwrap_err();
        assert_eq!(refused.id().get(), 7);
        receivers[0].recv().unwrap();
        dispatcher.dispatch(refused, Instant::now()).unwrap();
    }

    /// No update is left lying while its worker sleeps. A lost wake would make the worker sleep
    /// out its minute, which ends the test by its count of long sleeps.
    #[test]
    fn no_wake_is_lost() {
        const UPDATES: u64 = 20_000;
        let (dispatcher, receivers) = dispatcher(1, 16);
        let gate = Arc::clone(&dispatcher.queues[0].gate);
        let received = Arc::new(AtomicU64::new(0));
        let worker = {
            let received = Arc::clone(&received);
            let receiver = receivers[0].clone();
            thread::spawn(move || {
                gate.attach();
                let mut slept_out = 0;
                while received.load(Ordering::Relaxed) < UPDATES {
                    if receiver.try_recv().is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let before = Instant::now();
                    gate.sleep_unless(|| !receiver.is_empty(), Duration::from_secs(60));
                    slept_out += u32::from(before.elapsed() > Duration::from_secs(50));
                }
                slept_out
            })
        };
        let template = br#"{"update_id":1,"message":{"chat":{"id":1}}}"#;
        let mut parser = UpdateParser::default();
        for _ in 0..UPDATES {
            let body = UpdateBody::from(template.to_vec());
            let mut next = parser.parse(body, BotId::new(0), Instant::now()).unwrap();
            while let Err(refused) = dispatcher.dispatch(next, Instant::now()) {
                next = refused;
                thread::yield_now();
            }
            dispatcher.wake_workers();
        }
        assert_eq!(worker.join().unwrap(), 0);
    }
}
