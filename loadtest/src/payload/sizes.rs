//! How long bodies are.

use crate::rng::Rng;

/// A log-normal distribution of sizes by two of its points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Half of the bodies are no longer, in bytes.
    pub p50: usize,
    /// One in a thousand would be longer, if it were not cut here, in bytes.
    pub max: usize,
}

impl Sizes {
    /// The longest body: what Telegram sends at most, in bytes.
    pub const BYTES_MAX: usize = 524_288;
    /// The shortest that can be asked for, in bytes.
    pub const BYTES_MIN: usize = 300;

    /// Reads `p50=1200,max=65536`; each may be missing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut sizes = Self { p50: 1200, max: 8192 };
        for part in text.split(',') {
            match part.trim().split_once('=')? {
                ("p50", bytes) => sizes.p50 = bytes.parse().ok()?,
                ("max", bytes) => sizes.max = bytes.parse().ok()?,
                _ => return None,
            }
        }
        let sound =
            Self::BYTES_MIN <= sizes.p50 && sizes.p50 <= sizes.max && sizes.max <= Self::BYTES_MAX;
        sound.then_some(sizes)
    }

    /// One of the sizes.
    pub(super) fn pick(&self, rng: &mut Rng) -> usize {
        // The sum of twelve even draws is normal enough, and the same on every machine.
        const STEPS: u64 = 1 << 20;
        let sum: u64 = (0..12).map(|_| rng.below(STEPS)).sum();
        let normal = sum as f64 / STEPS as f64 - 6.0;
        // The point that one in a thousand exceeds.
        const RARE: f64 = 3.09;
        let spread = (self.max as f64 / self.p50 as f64).ln() / RARE;
        // In steps, because the last digit of an exponential may differ from machine to machine.
        let bytes = (self.p50 as f64 * (normal * spread).exp() / 8.0).round() as usize * 8;
        bytes.clamp(Self::BYTES_MIN, self.max)
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50={},max={}", self.p50, self.max)
    }
}
