//! Which update ids of a bot have been accepted lately.

use std::mem;

/// Ids that a window remembers: the last ones accepted, whatever their values.
pub(crate) const WINDOW_IDS: usize = 1 << 17;
/// Ids that the first table of a window has room for.
const FIRST_IDS: usize = 64;
/// Consecutive ids that stay together in the table: eight of them fill one cache line, and
/// consecutive ids are what Telegram sends.
const BLOCK_BITS: u32 = 3;
/// Slots of the table before that are moved with each id until the larger table has all: otherwise
/// the last step of growth would take a worker some milliseconds.
const MOVED: usize = 16;
/// What a slot without an id holds: 0, so that a new table costs nothing before it is touched. The
/// id of the same key has a flag of its own.
const EMPTY: u64 = 0;

/// The last [`WINDOW_IDS`] ids accepted for one bot. Its memory grows with them, from 2 KiB to 3
/// MiB.
///
/// It is a set with first in, first out: it knows no order among ids, so an id that is lower than
/// the newest is as new as any, and a restart of the numbers at random changes nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// The keys in the order of their acceptance; a ring from [`WINDOW_IDS`] on.
    keys: Vec<u64>,
    /// Where the oldest key of a full ring is.
    oldest: usize,
    slots: Slots,
    /// The table before the last growth as long as keys are in it alone, and how many of its slots
    /// have been moved.
    outgrown: Option<(Slots, usize)>,
    /// Whether the id of the key [`EMPTY`] has been accepted; it is remembered for good.
    seen_empty: bool,
}

/// A table of keys: open addressing with linear probing. Half of it is empty at least.
#[derive(Clone, Debug, Default)]
struct Slots(Box<[u64]>);

impl Window {
    /// A window without ids, which takes no memory.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Records `id`; false where it is remembered already.
    pub(crate) fn accept(&mut self, id: i64) -> bool {
        let key = key(id);
        if key == EMPTY {
            return !mem::replace(&mut self.seen_empty, true);
        }
        let (mut slot, is_known) = self.slots.find(key);
        if is_known || self.outgrown.as_ref().is_some_and(|(before, _)| before.find(key).1) {
            return false;
        }
        if self.keys.len() < WINDOW_IDS {
            if self.keys.len() == self.slots.room() {
                self.grow();
                slot = self.slots.find(key).0;
            }
            self.keys.push(key);
            self.slots.set(slot, key);
            self.move_some();
        } else if let Some(place) = self.keys.get_mut(self.oldest) {
            let forgotten = mem::replace(place, key);
            self.oldest = (self.oldest + 1) % WINDOW_IDS;
            // The removal moves other keys, so the slot has to be found again.
            self.slots.remove(forgotten);
            self.slots.set(self.slots.find(key).0, key);
        }
        true
    }

    /// Begins a table of twice the size.
    fn grow(&mut self) {
        // It has been moved long before this one is full.
        while self.outgrown.is_some() {
            self.move_some();
        }
        let larger = Slots::with_room((2 * self.slots.room()).max(FIRST_IDS));
        self.outgrown = Some((mem::replace(&mut self.slots, larger), 0));
    }

    /// Moves a few keys of the table before, which is freed when it has been read to its end.
    fn move_some(&mut self) {
        let Some((before, moved)) = &mut self.outgrown else { return };
        for key in before.0.iter().skip(*moved).take(MOVED).filter(|key| **key != EMPTY) {
            self.slots.set(self.slots.find(*key).0, *key);
        }
        *moved += MOVED;
        if *moved >= before.0.len() {
            self.outgrown = None;
        }
    }
}

impl Slots {
    /// A table for `ids` keys, which is a power of two.
    fn with_room(ids: usize) -> Self {
        Self(vec![EMPTY; 2 * ids].into())
    }

    /// How many keys it has room for.
    fn room(&self) -> usize {
        self.0.len() / 2
    }

    /// Takes out `key`.
    fn remove(&mut self, key: u64) {
        let (mut hole, is_known) = self.find(key);
        if !is_known {
            return;
        }
        // Backward shift: a key behind the hole moves into it unless that would put it before its
        // first slot, so that every search still ends at the first empty slot.
        let mut slot = hole;
        loop {
            slot = self.within(slot + 1);
            let key = self.at(slot);
            if key == EMPTY {
                break;
            }
            let first = self.first_slot(key);
            let distance_to = |to: usize| self.within(to.wrapping_sub(first));
            if distance_to(hole) < distance_to(slot) {
                self.set(hole, key);
                hole = slot;
            }
        }
        self.set(hole, EMPTY);
    }

    /// The slot of `key`, or the empty one where it belongs.
    fn find(&self, key: u64) -> (usize, bool) {
        let mut slot = self.first_slot(key);
        // Half of the slots are empty, so this ends.
        loop {
            match self.at(slot) {
                EMPTY => return (slot, false),
                other if other == key => return (slot, true),
                _ => slot = self.within(slot + 1),
            }
        }
    }

    /// The slot where the search for `key` begins: blocks of ids are spread by the hash, an id
    /// keeps its position in its block.
    fn first_slot(&self, key: u64) -> usize {
        let block = (key >> BLOCK_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        let place = key & ((1 << BLOCK_BITS) - 1);
        self.within(((block << BLOCK_BITS) | place) as usize)
    }

    /// An index into the table, whose length is a power of two.
    fn within(&self, place: usize) -> usize {
        place & self.0.len().wrapping_sub(1)
    }

    fn at(&self, slot: usize) -> u64 {
        self.0.get(slot).copied().unwrap_or(EMPTY)
    }

    fn set(&mut self, slot: usize, key: u64) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = key;
        }
    }
}

/// What stands for `id` in a table.
fn key(id: i64) -> u64 {
    (id ^ i64::MIN).cast_unsigned()
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

    /// Bytes that a window takes.
    fn bytes(window: &Window) -> usize {
        let outgrown = window.outgrown.as_ref().map_or(0, |(before, _)| before.0.len());
        size_of::<u64>() * (window.keys.capacity() + window.slots.0.len() + outgrown)
    }

    #[test]
    fn memory_grows_with_the_ids() {
        let mut window = Window::new();
        assert_eq!(bytes(&window), 0);
        for (ids, most) in [(1, 2 << 10), (1000, 64 << 10), (WINDOW_IDS as i64, 3 << 20)] {
            for id in 0..ids {
                window.accept(7 * id);
            }
            assert!(bytes(&window) <= most, "{} bytes for {ids} ids", bytes(&window));
        }
        for id in 0..WINDOW_IDS as i64 {
            window.accept(-id);
        }
        assert_eq!(bytes(&window), 3 << 20, "that is its end");
    }

    #[test]
    fn nothing_is_forgotten_while_a_table_is_moved() {
        let mut window = Window::new();
        let mut grown = 0;
        for id in 0..5000 {
            let room = window.slots.room();
            assert!(window.accept(id));
            grown += u32::from(window.slots.room() > room);
            if window.outgrown.is_some() {
                assert!((0..=id).all(|id| !window.accept(id)), "at {id}");
            }
        }
        assert_eq!(grown, 8, "from nothing to 64 and on to 8,192");
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
