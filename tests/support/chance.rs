//! Random numbers that can be had again.

/// Random numbers from a seed, which is printed: `RINGHOOK_TEST_SEED` repeats a run.
pub(crate) struct Chance(fastrand::Rng);

impl Chance {
    pub(crate) fn new() -> Self {
        let seed = match std::env::var("RINGHOOK_TEST_SEED") {
            Ok(seed) => seed.parse().expect("RINGHOOK_TEST_SEED"),
            Err(_) => fastrand::u64(..),
        };
        eprintln!("RINGHOOK_TEST_SEED={seed}");
        Self::from_seed(seed)
    }

    /// Those of a seed that is told elsewhere.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number from `low` to `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high)
    }
}
