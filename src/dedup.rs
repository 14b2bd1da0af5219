//! Which update ids of a bot have been accepted lately.

/// Ids that a window remembers: the last ones accepted, whatever their values.
pub(crate) const WINDOW_IDS: usize = 1 << 17;
/// Slots of the table; twice the ids, so that a search ends after a few slots.
const SLOTS: usize = 2 * WINDOW_IDS;
/// Consecutive ids that stay together in the table: eight of them fill one cache line, and
/// consecutive ids are what Telegram sends.
const BLOCK_BITS: u32 = 3;
/// What a slot without an id holds. The id of the same value has a flag of its own.
const EMPTY: i64 = i64::MIN;

/// The last [`WINDOW_IDS`] ids accepted for one bot, in constant memory (3 MiB).
///
/// It is a set with first in, first out: it knows no order among ids, so an id that is lower than
/// the newest is as new as any, and a restart of the numbers at random changes nothing.
#[derive(Debug)]
pub(crate) struct Window {
    /// The ids in the order of their acceptance, as a ring; empty until the first id.
    ring: Box<[i64]>,
    /// Open addressing with linear probing.
    slots: Box<[i64]>,
    /// Where the next id goes in the ring.
    next: usize,
    /// Ids remembered.
    len: usize,
    /// Whether the id [`EMPTY`] has been accepted; it is remembered for good.
    seen_empty: bool,
}

impl Window {
    /// A window without ids; its memory is taken with the first one.
    pub(crate) fn new() -> Self {
        Self { ring: Box::default(), slots: Box::default(), next: 0, len: 0, seen_empty: false }
    }

    /// Takes note of `id`; false where it is remembered already.
    pub(crate) fn accept(&mut self, id: i64) -> bool {
        if id == EMPTY {
            return !std::mem::replace(&mut self.seen_empty, true);
        }
        if self.ring.is_empty() {
            self.ring = vec![EMPTY; WINDOW_IDS].into_boxed_slice();
            self.slots = vec![EMPTY; SLOTS].into_boxed_slice();
        }
        let (slot, found) = self.find(id);
        if found {
            return false;
        }
        // Forgetting moves other ids, so the slot has to be found again then.
        let slot = if self.forget_oldest() { self.find(id).0 } else { slot };
        self.set(slot, id);
        if let Some(place) = self.ring.get_mut(self.next) {
            *place = id;
        }
        self.next = (self.next + 1) % WINDOW_IDS;
        self.len = (self.len + 1).min(WINDOW_IDS);
        true
    }

    /// Makes room where the window is full.
    fn forget_oldest(&mut self) -> bool {
        if self.len < WINDOW_IDS {
            return false;
        }
        let oldest = self.ring.get(self.next).copied().unwrap_or(EMPTY);
        let (mut hole, found) = self.find(oldest);
        if !found {
            return false;
        }
        // Backward shift: an id behind the hole moves into it unless that would put it before its
        // home, so that every search still ends at the first empty slot.
        let mut slot = hole;
        loop {
            slot = (slot + 1) % SLOTS;
            let id = self.at(slot);
            if id == EMPTY {
                break;
            }
            let distance_to = |to: usize| (to + SLOTS - home(id)) % SLOTS;
            if distance_to(hole) < distance_to(slot) {
                self.set(hole, id);
                hole = slot;
            }
        }
        self.set(hole, EMPTY);
        true
    }

    /// The slot of `id`, or the empty one where it belongs.
    fn find(&self, id: i64) -> (usize, bool) {
        let mut slot = home(id);
        // Half of the slots are empty, so this ends.
        loop {
            match self.at(slot) {
                EMPTY => return (slot, false),
                other if other == id => return (slot, true),
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }

    fn at(&self, slot: usize) -> i64 {
        self.slots.get(slot).copied().unwrap_or(EMPTY)
    }

    fn set(&mut self, slot: usize, id: i64) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = id;
        }
    }
}

/// The slot where the search for `id` begins: blocks of ids go anywhere, an id keeps its place in
/// its block.
fn home(id: i64) -> usize {
    let id = id.cast_unsigned();
    let block = (id >> BLOCK_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    let place = id & ((1 << BLOCK_BITS) - 1);
    (((block << BLOCK_BITS) | place) % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    /// The same promise, kept by the standard library.
    #[derive(Default)]
    struct Model {
        order: VecDeque<i64>,
        ids: HashSet<i64>,
    }

    impl Model {
        fn accept(&mut self, id: i64) -> bool {
            if !self.ids.insert(id) {
                return false;
            }
            self.order.push_back(id);
            if self.order.len() > WINDOW_IDS
                && let Some(oldest) = self.order.pop_front()
            {
                self.ids.remove(&oldest);
            }
            true
        }
    }

    #[test]
    fn remembers_the_last_hundred_thousand_over_a_jump() {
        let mut window = Window::new();
        let ids = (5_000_000..5_060_000).chain(17..40_017);
        for id in ids.clone() {
            assert!(window.accept(id));
        }
        for id in ids {
            assert!(!window.accept(id), "{id} is forgotten");
        }
    }

    #[test]
    fn a_lower_id_is_new() {
        let mut window = Window::new();
        for id in [100, 50, 99, -1, 0, i64::MAX, i64::MIN] {
            assert!(window.accept(id));
            assert!(!window.accept(id));
        }
    }

    #[test]
    fn the_oldest_is_forgotten_when_full() {
        let mut window = Window::new();
        for id in 0..=WINDOW_IDS as i64 {
            assert!(window.accept(id));
        }
        assert!(!window.accept(1));
        assert!(window.accept(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Ranges with jumps and repeats that overlap each other, several times the window's size.
        #[test]
        fn is_a_first_in_first_out_set(
            ranges in prop::collection::vec((any::<i32>(), 1..60_000_i64, any::<bool>()), 1..12)
        ) {
            let (mut window, mut model) = (Window::new(), Model::default());
            for (start, count, near) in ranges {
                let start = i64::from(if near { start % 100_000 } else { start });
                for id in start..start + count {
                    prop_assert_eq!(window.accept(id), model.accept(id), "{}", id);
                }
            }
        }

        /// Ids anywhere, few enough values that they repeat and collide.
        #[test]
        fn knows_ids_of_any_size(ids in prop::collection::vec(
            prop_oneof![any::<i64>(), -20..20_i64], 1..2000)) {
            let (mut window, mut model) = (Window::new(), Model::default());
            for id in ids {
                prop_assert_eq!(window.accept(id), model.accept(id), "{}", id);
            }
        }
    }
}
