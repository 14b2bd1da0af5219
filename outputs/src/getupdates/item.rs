//! One update on its way to a client. The messages of an album are settled together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use ringhook::{PendingUpdate, Update};

/// An update, which is settled with the others that came with it.
pub(super) struct Item {
    group: Arc<Group>,
    index: usize,
}

struct Group {
    pending: PendingUpdate,
    /// Whether one of them is to come again.
    is_released: AtomicBool,
}

impl Item {
    /// All updates of `pending`.
    pub(super) fn all_of(pending: PendingUpdate) -> impl Iterator<Item = Self> {
        let count = pending.updates().count();
        let group = Arc::new(Group { pending, is_released: AtomicBool::new(false) });
        (0..count).map(move |index| Self { group: Arc::clone(&group), index })
    }

    pub(super) fn update(&self) -> &Update {
        let mut updates = self.group.pending.updates();
        updates.nth(self.index).unwrap_or(&self.group.pending)
    }

    /// It has been confirmed.
    pub(super) fn settle(self) {
        if let Some(Group { pending, is_released }) = Arc::into_inner(self.group) {
            if is_released.into_inner() {
                pending.postpone(Duration::ZERO);
            } else {
                pending.done();
            }
        }
    }

    /// It is given back; no attempt is counted.
    pub(super) fn release(self) {
        self.group.is_released.store(true, Relaxed);
        if let Some(group) = Arc::into_inner(self.group) {
            group.pending.postpone(Duration::ZERO);
        }
    }
}
