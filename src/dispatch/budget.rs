//! How much may be under way between shards and workers: so many updates, so many bytes.
//!
//! One count for all would be written by every thread for every update. So threads move quota in
//! lots: a shard draws a lot into its [`QuotaLease`] and acquires from it, and a worker gathers the
//! quota of the updates that it has settled in a [`SettledBatch`]. The shared counts are exact
//! bounds all the same, because they include what is in leases and settled batches.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crossbeam_utils::CachePadded;

/// Updates and bytes that are moved at once, at the most.
const LOT: [u64; 2] = [64, 256 * 1024];
/// All lots together are at most this part of a limit, so that a small limit is not used up by
/// leases and settled batches of idle threads.
const LOT_SHARE: u64 = 16;

/// What a limit counts, as an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Measure {
    Updates = 0,
    Bytes = 1,
}

/// The limits and how much of them is taken.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: [u64; 2],
    lots: [u64; 2],
    /// Bytes that one update counts as at the most: what is free whenever nothing is under way,
    /// however much leases and settled batches hold. A longer one, fed in or from a journal that
    /// was written under other limits, must be accepted as well, or all behind it wait for ever.
    most: u64,
    used: CachePadded<[AtomicU64; 2]>,
}

impl Budget {
    pub(crate) fn new(updates: u64, bytes: u64) -> Self {
        let limits = [updates, bytes];
        let used = CachePadded::default();
        let budget = Self { limits, lots: LOT, most: u64::MAX, used }.shared_by(1, 0);
        Self { most: u64::MAX, ..budget }
    }

    /// The same with lots for `threads` leases and settled batches: however much the others hold,
    /// each shard can always have an update of `largest` bytes when nothing is under way. A longer
    /// one counts in full as well, since a reload may allow it, but for the small part of the limit
    /// that leases and settled batches hold.
    pub(crate) fn shared_by(self, threads: usize, largest: u64) -> Self {
        let [updates, bytes] = self.limits;
        let threads = threads.max(1) as u64;
        let share = |limit: u64| limit / LOT_SHARE / threads;
        let room = bytes.saturating_sub(largest) / threads;
        // A lot of one update, or of no bytes, is what is needed and nothing on top of it.
        let lots = [LOT[0].min(share(updates)).max(1), LOT[1].min(share(bytes)).min(room)];
        let most = bytes.saturating_sub(threads.saturating_mul(lots[1]));
        Self { lots, most, ..self }
    }

    /// What is taken of a limit, with what leases and settled batches hold.
    pub(crate) fn used(&self, measure: Measure) -> u64 {
        self.used.get(measure as usize).map_or(0, |used| used.load(Relaxed))
    }

    fn lot(&self, index: usize) -> u64 {
        self.lots.get(index).copied().unwrap_or(0)
    }

    /// Takes at least `needed` and at most a lot on top of it; 0 where that is too much.
    fn draw(&self, index: usize, needed: u64) -> u64 {
        let (Some(limit), Some(used)) = (self.limits.get(index), self.used.get(index)) else {
            return 0;
        };
        let wanted = needed.max(self.lot(index));
        let mut granted = 0;
        let drawn = used.fetch_update(Relaxed, Relaxed, |used| {
            let free = limit.saturating_sub(used);
            // Towards the limit no more than is needed, so that no lease hoards the rest.
            granted = if free >= wanted.saturating_mul(LOT_SHARE) { wanted } else { needed };
            (free >= granted).then_some(used + granted)
        });
        debug_assert!(granted >= needed && needed > 0, "{granted} are granted for {needed}");
        if drawn.is_ok() { granted } else { 0 }
    }

    fn give_back(&self, amounts: [u64; 2]) {
        for (used, amount) in self.used.iter().zip(amounts) {
            if amount > 0 {
                let before = used.fetch_sub(amount, Relaxed);
                debug_assert!(before >= amount, "{amount} of {before} are given back");
            }
        }
    }
}

/// A part of the budget that one shard holds, so that it writes the shared counts once for many
/// updates.
#[derive(Debug)]
pub(crate) struct QuotaLease {
    budget: Arc<Budget>,
    left: [Cell<u64>; 2],
}

impl QuotaLease {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, left: Default::default() }
    }

    /// Acquires quota for one update of `bytes` bytes.
    ///
    /// # Errors
    /// The limit that does not allow it; nothing is acquired then.
    pub(crate) fn acquire(&self, bytes: u64) -> Result<(), Measure> {
        let bytes = bytes.min(self.budget.most);
        let [updates_left, bytes_left] = &self.left;
        let provided = self
            .provide(Measure::Updates, updates_left, 1)
            .and_then(|()| self.provide(Measure::Bytes, bytes_left, bytes));
        if provided.is_err() {
            // Quota that is short must not stay with a shard that cannot use it.
            self.empty();
            return provided;
        }
        debug_assert!(updates_left.get() >= 1 && bytes_left.get() >= bytes);
        updates_left.set(updates_left.get() - 1);
        bytes_left.set(bytes_left.get() - bytes);
        Ok(())
    }

    /// Gives back the quota of an update that was not dispatched, with what is left in the lease: a
    /// long body's bytes would be missing elsewhere for as long as this shard has no use for them.
    pub(crate) fn refund(&self, bytes: u64) {
        self.empty();
        self.budget.give_back([1, bytes.min(self.budget.most)]);
    }

    fn empty(&self) {
        let [updates_left, bytes_left] = &self.left;
        self.budget.give_back([updates_left.take(), bytes_left.take()]);
    }

    fn provide(&self, measure: Measure, left: &Cell<u64>, needed: u64) -> Result<(), Measure> {
        let missing = needed.saturating_sub(left.get());
        if missing == 0 {
            return Ok(());
        }
        match self.budget.draw(measure as usize, missing) {
            0 => Err(measure),
            drawn => {
                left.set(left.get() + drawn);
                Ok(())
            }
        }
    }
}

impl Drop for QuotaLease {
    fn drop(&mut self) {
        self.empty();
    }
}

/// The quota of updates that one worker has settled and not yet given back.
#[derive(Debug)]
pub(crate) struct SettledBatch {
    budget: Arc<Budget>,
    settled: [u64; 2],
}

impl SettledBatch {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, settled: [0; 2] }
    }

    /// Takes one settled update of `bytes` bytes.
    pub(crate) fn take(&mut self, bytes: u64) {
        let [updates, settled_bytes] = &mut self.settled;
        *updates += 1;
        *settled_bytes += bytes.min(self.budget.most);
        if *updates >= self.budget.lot(0) || *settled_bytes >= self.budget.lot(1) {
            self.empty();
        }
    }

    /// Gives everything back; to be called before the worker waits.
    pub(crate) fn empty(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.settled));
    }
}

impl Drop for SettledBatch {
    fn drop(&mut self) {
        self.empty();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_limit_is_used_to_its_end() {
        let budget = Arc::new(Budget::new(2, 1000));
        let lease = QuotaLease::new(Arc::clone(&budget));
        assert_eq!(lease.acquire(400), Ok(()));
        assert_eq!(lease.acquire(500), Ok(()));
        assert_eq!(lease.acquire(1), Err(Measure::Updates));
        let mut settled = SettledBatch::new(Arc::clone(&budget));
        settled.take(400);
        settled.empty();
        assert_eq!(lease.acquire(501), Err(Measure::Bytes));
        assert_eq!(lease.acquire(500), Ok(()));
        drop((lease, settled));
        assert_eq!(budget.used(Measure::Updates), 2);
        assert_eq!(budget.used(Measure::Bytes), 1000);
    }

    #[test]
    fn a_shard_that_is_refused_keeps_nothing_from_the_others() {
        let budget = Arc::new(Budget::new(2, 1000));
        let [lease, other] = [(); 2].map(|()| QuotaLease::new(Arc::clone(&budget)));
        assert_eq!(lease.acquire(900), Ok(()));
        assert_eq!(other.acquire(200), Err(Measure::Bytes));
        assert_eq!(budget.used(Measure::Updates), 1);
        lease.refund(900);
        assert_eq!(other.acquire(1000), Ok(()));
        assert_eq!(budget.used(Measure::Updates), 1);
    }

    /// Where a limit is as small as one body may be, lots of idle threads must not make it smaller.
    #[test]
    fn the_largest_update_fits_whatever_lies_with_idle_threads() {
        const LARGEST: u64 = 1 << 20;
        for (limit, threads) in [(LARGEST, 2), (LARGEST + 100, 7), (4 * LARGEST, 64), (1 << 27, 8)]
        {
            let budget = Arc::new(Budget::new(100, limit).shared_by(threads, LARGEST));
            let leases: Vec<_> =
                (1..threads).map(|_| QuotaLease::new(Arc::clone(&budget))).collect();
            for lease in &leases {
                assert_eq!(lease.acquire(1), Ok(()));
            }
            SettledBatch::new(Arc::clone(&budget)).take(leases.len() as u64);
            assert_eq!(QuotaLease::new(Arc::clone(&budget)).acquire(LARGEST), Ok(()), "{limit}");
        }
    }

    /// A reload may allow longer bodies than the start did.
    #[test]
    fn an_update_that_is_longer_than_any_of_the_start_counts_in_full() {
        const LIMIT: u64 = 8 << 20;
        let budget = Arc::new(Budget::new(1000, LIMIT).shared_by(6, 16 << 10));
        let lease = QuotaLease::new(Arc::clone(&budget));
        let taken = (0..150).take_while(|_| lease.acquire(1_900_000).is_ok()).count();
        assert_eq!(taken, 4, "7.6 of 8.4 MB");
        let mut settled = SettledBatch::new(Arc::clone(&budget));
        (0..taken).for_each(|_| settled.take(1_900_000));
        // Half of the limit, which is the longest body that a config may ask for, fits twice.
        assert_eq!((lease.acquire(LIMIT / 2), lease.acquire(LIMIT / 2)), (Ok(()), Ok(())));
        (0..2).for_each(|_| settled.take(LIMIT / 2));
        drop((lease, settled));
        assert_eq!(budget.used(Measure::Bytes), 0);
        // An update that is longer than any limit is accepted alone.
        let [fed, other] = [(); 2].map(|()| QuotaLease::new(Arc::clone(&budget)));
        assert_eq!(fed.acquire(64 << 20), Ok(()));
        assert_eq!(other.acquire(LIMIT / 15), Err(Measure::Bytes));
    }

    /// One count for all would be a cache line that every thread writes for every update.
    #[test]
    fn the_shared_counts_are_written_once_for_many_updates() {
        const UPDATES: u64 = 10_000;
        // As a server with 64 shards and as many workers has it by default, with updates as long as
        // Telegram's are on the mean.
        let limits = crate::config::Limits::default();
        let budget = Budget::new(limits.queue_updates as u64, limits.queue_bytes as u64);
        let budget = Arc::new(budget.shared_by(64 + 2 + 64, limits.body_bytes as u64));
        let (lease, mut settled) =
            (QuotaLease::new(Arc::clone(&budget)), SettledBatch::new(Arc::clone(&budget)));
        let (mut writes, mut seen) = (0_u64, [0, 0]);
        let mut look = |budget: &Budget| {
            let now = [budget.used(Measure::Updates), budget.used(Measure::Bytes)];
            writes += now.iter().zip(seen).filter(|(now, seen)| **now != *seen).count() as u64;
            seen = now;
        };
        for _ in 0..UPDATES {
            assert_eq!(lease.acquire(1300), Ok(()));
            look(&budget);
            settled.take(1300);
            look(&budget);
        }
        // Both counts, taken and given back.
        assert!(writes * 8 <= UPDATES, "{writes} writes for {UPDATES} updates");
    }

    proptest! {
        /// In any order of steps, no more is under way than the limits say, and nothing is
        /// gone when all is settled.
        #[test]
        fn bounds_hold_and_nothing_is_lost(
            limits in (1..200_u64, 1..400_000_u64),
            steps in prop::collection::vec((0..3_usize, any::<bool>(), 1..3000_u64), 1..800),
        ) {
            let budget = Arc::new(Budget::new(limits.0, limits.1));
            let leases: Vec<QuotaLease> = (0..3).map(|_| QuotaLease::new(Arc::clone(&budget))).collect();
            let mut settled: Vec<SettledBatch> = (0..3).map(|_| SettledBatch::new(Arc::clone(&budget))).collect();
            let mut under_way = Vec::new();
            for (who, arrives, bytes) in steps {
                if arrives {
                    if leases[who].acquire(bytes).is_ok() {
                        under_way.push(bytes);
                    }
                } else if let Some(bytes) = under_way.pop() {
                    settled[who].take(bytes);
                }
                prop_assert!(under_way.len() as u64 <= limits.0);
                prop_assert!(under_way.iter().sum::<u64>() <= limits.1);
                prop_assert!(budget.used(Measure::Updates) <= limits.0);
                prop_assert!(budget.used(Measure::Bytes) <= limits.1);
            }
            for bytes in under_way {
                settled[0].take(bytes);
            }
            drop((leases, settled));
            prop_assert_eq!(budget.used(Measure::Updates), 0);
            prop_assert_eq!(budget.used(Measure::Bytes), 0);
        }
    }
}
