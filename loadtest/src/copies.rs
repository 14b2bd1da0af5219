//! Which updates are sent twice.

use crate::rng::Rng;

/// Chooses updates by chance that depends on seed and id alone.
pub(crate) struct Copies {
    seed: u64,
    /// From 0 to 1.
    share: f64,
}

/// When the copy of an update is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Once the update was acknowledged, as if the answer had been lost.
    After,
    /// Together with the update, as if a request that was given up were still under way.
    Along,
}

impl Copies {
    pub(crate) fn new(seed: u64, share: f64) -> Self {
        Self { seed, share }
    }

    /// When this update is sent again; none if it is not.
    pub(crate) fn of(&self, update_id: u64) -> Option<When> {
        // As many numbers as a float holds without loss.
        const STEPS: u64 = 1 << 53;
        // The seed turned over, so that the choice has nothing to do with what the update says.
        let mut rng = Rng::new(!self.seed ^ Rng::new(update_id).next());
        if (rng.below(STEPS) as f64) >= self.share * STEPS as f64 {
            return None;
        }
        Some(if rng.chance(50) { When::Along } else { When::After })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_met_and_halved() {
        for share in [0.0, 0.02, 0.5, 1.0] {
            let copies = Copies::new(3, share);
            let chosen: Vec<When> = (0..100_000).filter_map(|id| copies.of(id)).collect();
            let along = chosen.iter().filter(|when| **when == When::Along).count() as f64;
            let expected = share * 100_000.0;
            assert!((chosen.len() as f64 - expected).abs() <= expected * 0.1, "{share}");
            assert!((along - expected / 2.0).abs() <= expected * 0.1, "{share}");
        }
    }
}
