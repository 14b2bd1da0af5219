//! Random numbers that can be had again.

use std::hash::{BuildHasher as _, RandomState};

/// Random numbers from a seed, which is printed: `RINGHOOK_TEST_SEED` repeats a run.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new() -> Self {
        let seed = match std::env::var("RINGHOOK_TEST_SEED") {
            Ok(seed) => seed.parse().expect("RINGHOOK_TEST_SEED"),
            Err(_) => RandomState::new().hash_one(0),
        };
        eprintln!("RINGHOOK_TEST_SEED={seed}");
        Self(seed)
    }

    /// Those of a seed that is told elsewhere.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from `low` to `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
