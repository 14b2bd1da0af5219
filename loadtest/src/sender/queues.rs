//! What waits, by the queue in which it must keep its order.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Update;
use crate::{ChatKey, UpdateKind, clock::Nanos};

/// What updates are kept in order by: those of one kind and chat.
pub(crate) type QueueId = (UpdateKind, ChatKey);

/// Updates in the order in which they came, and those queues of them that are loaded.
///
/// Only loaded queues can be sent from. One whose head fails stays loaded, so enough of them stall
/// the whole bot.
pub(super) struct Queues {
    /// Not loaded yet.
    log: VecDeque<Update>,
    loaded: HashMap<QueueId, VecDeque<Update>>,
    loaded_max: usize,
    /// Loaded queues of which nothing is on its way, by when their head may be sent, and then by
    /// who came first.
    ready: BTreeSet<(Nanos, u64, QueueId)>,
    /// How many queues became ready so far.
    turn: u64,
    waiting: usize,
}

impl Queues {
    pub(super) fn new(loaded_max: usize) -> Self {
        Self {
            log: VecDeque::new(),
            loaded: HashMap::new(),
            loaded_max,
            ready: BTreeSet::new(),
            turn: 0,
            waiting: 0,
        }
    }

    /// How many updates there are, those on their way included.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many queues are loaded.
    pub(super) fn loaded(&self) -> usize {
        self.loaded.len()
    }

    pub(super) fn push(&mut self, update: Update) {
        self.log.push_back(update);
        self.waiting += 1;
    }

    /// Loads what there is room for, in order.
    pub(super) fn load(&mut self, now: Nanos) {
        while let Some(next) = self.log.front() {
            let queue = next.queue;
            if !self.loaded.contains_key(&queue) {
                if self.loaded.len() >= self.loaded_max {
                    return;
                }
                self.make_ready(queue, now);
            }
            if let Some(update) = self.log.pop_front() {
                self.loaded.entry(queue).or_default().push_back(update);
            }
        }
    }

    /// When the first head may be sent; none if none is ready.
    pub(super) fn ready_at(&self) -> Option<Nanos> {
        self.ready.first().map(|(at, ..)| *at)
    }

    /// Takes the first head that may be sent at `now`; it stays the head of its queue.
    pub(super) fn take(&mut self, now: Nanos) -> Option<Update> {
        let (at, ..) = self.ready.first()?;
        if *at > now {
            return None;
        }
        let (_, _, queue) = self.ready.pop_first()?;
        self.loaded.get(&queue)?.front().copied()
    }

    /// The head of a queue, which is on its way.
    pub(super) fn head(&mut self, queue: QueueId) -> Option<&mut Update> {
        self.loaded.get_mut(&queue)?.front_mut()
    }

    /// Lets a head that was on its way be sent at `at`.
    pub(super) fn again(&mut self, queue: QueueId, at: Nanos) {
        self.make_ready(queue, at);
    }

    /// Forgets a head that was on its way: it arrived, or is given up.
    pub(super) fn done(&mut self, queue: QueueId, now: Nanos) {
        let Some(list) = self.loaded.get_mut(&queue) else { return };
        if list.pop_front().is_some() {
            self.waiting -= 1;
        }
        if list.is_empty() {
            self.loaded.remove(&queue);
        } else {
            self.make_ready(queue, now);
        }
    }

    fn make_ready(&mut self, queue: QueueId, at: Nanos) {
        self.turn += 1;
        self.ready.insert((at, self.turn, queue));
    }
}
