//! A set of outputs.

use std::{fmt, iter};

/// A set of outputs by their numbers in the configuration, counted from zero; one bit for each.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct OutputSet(u64);

impl OutputSet {
    /// No output: what is routed there is dropped.
    pub const EMPTY: Self = Self(0);
    /// How many outputs there may be.
    pub const OUTPUTS_MAX: usize = 64;

    /// The set of the output `index` alone; empty where it is not below
    /// [`OUTPUTS_MAX`](Self::OUTPUTS_MAX).
    #[must_use]
    pub const fn single(index: usize) -> Self {
        if index < Self::OUTPUTS_MAX { Self(1 << index) } else { Self::EMPTY }
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the output `index` is in the set.
    #[must_use]
    pub const fn contains(self, index: usize) -> bool {
        self.0 & Self::single(index).0 != 0
    }

    /// True for a set without any output.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many outputs are in the set.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The outputs' numbers, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut bits = self.0;
        iter::from_fn(move || {
            let lowest = bits.trailing_zeros();
            bits &= bits.checked_sub(1)?;
            Some(lowest as usize)
        })
    }

    /// The bit of each output.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl FromIterator<usize> for OutputSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        indices.into_iter().fold(Self::EMPTY, |set, index| set.union(Self::single(index)))
    }
}

impl fmt::Debug for OutputSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_what_was_put_in() {
        let set: OutputSet = [63, 0, 5, 5].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 5, 63]);
        assert_eq!((set.len(), set.is_empty()), (3, false));
        assert!(set.contains(63) && !set.contains(1) && !set.contains(64));
        assert!(OutputSet::single(64).is_empty() && OutputSet::EMPTY.iter().next().is_none());
    }
}
