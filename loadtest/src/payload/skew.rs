//! How much more often some chats write than others.

use crate::rng::Rng;

/// Zipf's law in steps: a chat's share falls with its rank to the power of an exponent, and all
/// ranks between two powers of two are as likely as each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skew {
    exponent: f64,
    /// The summed weights of all octaves of ranks up to each.
    sums: [u64; OCTAVES],
}

/// Octaves of ranks: as many as it takes for the most chats.
const OCTAVES: usize = 20;

impl Skew {
    /// The highest exponent.
    pub const EXPONENT_MAX: f64 = 5.0;

    /// For an exponent from 0, where all are alike, to [`Skew::EXPONENT_MAX`]; others are brought
    /// into that range.
    #[must_use]
    pub fn new(exponent: f64) -> Self {
        let exponent = exponent.clamp(0.0, Self::EXPONENT_MAX);
        let mut sums = [0; OCTAVES];
        let mut sum = 0;
        for (octave, place) in sums.iter_mut().enumerate() {
            let first = (1_u64 << octave) as f64;
            // As many ranks as the first one's number, each with the weight of one in the middle.
            // 2^40 keeps the rarest above zero and the sum of all within 64 bits.
            let middle = (3.0 * first - 1.0) / 2.0;
            let weight = first * middle.powf(-exponent) * (1_u64 << 40) as f64;
            sum += (weight as u64).max(1);
            *place = sum;
        }
        Self { exponent, sums }
    }

    /// The exponent.
    #[must_use]
    pub fn exponent(&self) -> f64 {
        self.exponent
    }

    /// A rank below `chats`, from 0.
    pub(super) fn pick(&self, chats: u32, rng: &mut Rng) -> u64 {
        let octaves = (u32::BITS - chats.leading_zeros()) as usize;
        let all = self.sums.get(..octaves.clamp(1, OCTAVES)).unwrap_or(&self.sums);
        let drawn = rng.below(all.last().copied().unwrap_or(1));
        let octave = all.partition_point(|sum| *sum <= drawn);
        let first = 1_u64 << octave;
        let last = (2 * first - 1).min(u64::from(chats).max(1));
        rng.between(first.min(last), last) - 1
    }
}
