//! Which chats have too many updates waiting: written by workers, read by shards.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Slots for chats, by hash: 32 KiB, read by all and hardly ever written.
pub(super) const PLACES: usize = 1 << 14;

/// Counts the full chats of each slot.
///
/// Two chats may share a slot, one in 16,384; then the other one's sender is asked to come again
/// while the full one drains. This has no other effect.
#[derive(Debug)]
pub(crate) struct FullChats {
    places: Box<[AtomicU16]>,
}

impl FullChats {
    pub(crate) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU16::new(0)).collect() }
    }

    /// True where the chat of this hash is full, or another chat of its slot.
    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.place(hash).is_some_and(|place| place.load(Relaxed) > 0)
    }

    /// A chat has become full. Each call is followed by one of [`lower`](Self::lower).
    pub(crate) fn raise(&self, hash: u64) {
        if let Some(place) = self.place(hash) {
            let before = place.fetch_add(1, Relaxed);
            debug_assert!(before < u16::MAX, "more chats than updates may wait");
        }
    }

    /// A chat is not full any more.
    pub(crate) fn lower(&self, hash: u64) {
        if let Some(place) = self.place(hash) {
            let before = place.fetch_sub(1, Relaxed);
            debug_assert!(before > 0, "a chat that did not count as full");
        }
    }

    /// How many chats count as full.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.places.iter().map(|place| usize::from(place.load(Relaxed))).sum()
    }

    fn place(&self, hash: u64) -> Option<&AtomicU16> {
        // The low bits: partitions are chosen by the high ones.
        self.places.get(hash as usize % PLACES)
    }
}
