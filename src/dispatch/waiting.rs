//! Updates that wait, in as many queues as there are lanes, in memory that all of them share: a
//! queue that has become short gives its slots to the others, and nothing is allocated once there
//! is room for as many updates as wait at a time.

use std::{iter, mem};

use super::Delivery;

/// "No slot".
const NONE: u32 = u32::MAX;

/// The memory of all queues; as large as most updates have waited in it at once.
#[derive(Debug)]
pub(super) struct Store {
    slots: Vec<Slot>,
    /// The first of those that hold nothing.
    free: u32,
}

#[derive(Debug)]
struct Slot {
    delivery: Option<Delivery>,
    /// The slot behind this one in its queue, or among the free ones.
    next: u32,
}

/// One queue. Its updates lie in a store, which has to be the same one each time.
#[derive(Debug)]
pub(super) struct LaneQueue {
    first: u32,
    last: u32,
    len: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { slots: Vec::new(), free: NONE }
    }
}

impl Default for LaneQueue {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

impl LaneQueue {
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Store {
    pub(super) fn push_back(&mut self, queue: &mut LaneQueue, delivery: Delivery) {
        debug_assert_eq!(queue.last == NONE, queue.len == 0);
        let at = self.put(delivery, NONE);
        match self.slot_mut(queue.last) {
            Some(last) => last.next = at,
            None => queue.first = at,
        }
        queue.last = at;
        queue.len += 1;
    }

    pub(super) fn push_front(&mut self, queue: &mut LaneQueue, delivery: Delivery) {
        queue.first = self.put(delivery, queue.first);
        if queue.last == NONE {
            queue.last = queue.first;
        }
        queue.len += 1;
    }

    pub(super) fn pop_front(&mut self, queue: &mut LaneQueue) -> Option<Delivery> {
        let (at, free) = (queue.first, self.free);
        let slot = self.slot_mut(at)?;
        let delivery = slot.delivery.take();
        debug_assert!(delivery.is_some() && queue.len > 0, "a queue of another store");
        queue.first = mem::replace(&mut slot.next, free);
        self.free = at;
        if queue.first == NONE {
            queue.last = NONE;
        }
        queue.len -= 1;
        delivery
    }

    pub(super) fn front(&self, queue: &LaneQueue) -> Option<&Delivery> {
        self.slot(queue.first)?.delivery.as_ref()
    }

    pub(super) fn back(&self, queue: &LaneQueue) -> Option<&Delivery> {
        self.slot(queue.last)?.delivery.as_ref()
    }

    /// All updates of a queue, the first one first.
    pub(super) fn iter(&self, queue: &LaneQueue) -> impl Iterator<Item = &Delivery> {
        iter::successors(self.slot(queue.first), |slot| self.slot(slot.next))
            .filter_map(|slot| slot.delivery.as_ref())
    }

    /// Puts an update into a slot of no queue yet, before the slot `next`.
    fn put(&mut self, delivery: Delivery, next: u32) -> u32 {
        let at = self.free;
        if let Some(slot) = self.slot_mut(at) {
            slot.delivery = Some(delivery);
            self.free = mem::replace(&mut slot.next, next);
            return at;
        }
        self.slots.push(Slot { delivery: Some(delivery), next });
        // The limit on updates under way is far below 2^32.
        (self.slots.len() - 1) as u32
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(at as usize)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use std::{collections::VecDeque, time::Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        bots::BotId,
        proto::update::{UpdateBody, UpdateParser},
    };

    fn delivery(id: i64) -> Delivery {
        let now = Instant::now();
        let body = UpdateBody::from(format!(r#"{{"update_id":{id}}}"#).into_bytes());
        let update = UpdateParser::default().parse(body, BotId::new(0), now).unwrap();
        let rest = Vec::new();
        let record = None;
        let (is_part, is_replayed) = (false, false);
        Delivery {
            update,
            queued_at: now,
            attempts: 0,
            is_part,
            is_replayed,
            record,
            rest,
            shard: 0,
        }
    }

    fn id(delivery: &Delivery) -> i64 {
        delivery.update.id().get()
    }

    proptest! {
        /// Three queues in one store are as three of the standard library's, and the store is no
        /// larger than what they held at once.
        #[test]
        fn queues_in_one_store_do_not_meet(steps in prop::collection::vec((0..3_usize, 0..5), 1..200)) {
            let mut store = Store::default();
            let mut queues: [LaneQueue; 3] = Default::default();
            let mut models: [VecDeque<i64>; 3] = Default::default();
            let mut most = 0;
            for (next, (which, step)) in (0..).zip(steps) {
                let (queue, model) = (&mut queues[which], &mut models[which]);
                match step {
                    0 | 1 => {
                        store.push_back(queue, delivery(next));
                        model.push_back(next);
                    }
                    2 => {
                        store.push_front(queue, delivery(next));
                        model.push_front(next);
                    }
                    _ => {
                        let popped = store.pop_front(queue);
                        prop_assert_eq!(popped.as_ref().map(id), model.pop_front());
                    }
                }
                most = most.max(models.iter().map(VecDeque::len).sum());
                for (queue, model) in queues.iter().zip(&models) {
                    prop_assert_eq!(store.iter(queue).map(id).collect::<Vec<_>>(), Vec::from(model.clone()));
                    prop_assert_eq!(queue.len(), model.len());
                    prop_assert_eq!(store.front(queue).map(id), model.front().copied());
                    prop_assert_eq!(store.back(queue).map(id), model.back().copied());
                }
            }
            prop_assert_eq!(store.slots.len(), most);
        }
    }
}
