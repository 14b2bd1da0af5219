//! What a run draws that is not told where to begin, so that no server takes its updates for copies
//! of an earlier run's.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{SystemTime, UNIX_EPOCH},
};

/// Seeds are below this: short enough to be typed.
const SEEDS: u64 = 1_000_000_000;
/// First ids are not above this, so that those of a long run are below 2^31 as well.
const FIRST_IDS: u64 = 1_000_000_000;

/// Another seed at each call.
pub(crate) fn seed() -> u64 {
    random() % SEEDS
}

/// Another id at each call.
pub(crate) fn first_update_id() -> u64 {
    1 + random() % FIRST_IDS
}

/// The date of updates, where none is typed.
pub(crate) fn seconds_since_1970() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
