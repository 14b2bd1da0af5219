//! Tests of the journal as a whole, on a disk that fails, loses data and stops where a test says
//! so.
//!
//! | file | question |
//! |---|---|
//! | `intake` | what becomes of records without a committer |
//! | `disk` | what may be left of files after a fault, a `kill -9`, a power cut |
//! | `model` | do the promises hold in any order of steps, whatever happens to disk and process |
//! | `reader` | what is read from a damaged segment |

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod disk;
mod intake;
mod model;
mod reader;

use std::sync::Arc;

use crate::bots::BotRegistry;

/// The bots of these names.
pub(super) fn registry(names: &[String]) -> Arc<BotRegistry> {
    let registry = Arc::new(BotRegistry::default());
    registry.register(names.iter().map(String::as_str)).unwrap();
    registry
}

/// Random numbers that a seed gives again: splitmix64.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number from `low` to `high`, both included.
    fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True with a chance of `part` in `of`.
    fn is_one(&mut self, part: u64, of: u64) -> bool {
        self.below(of) < part
    }
}
