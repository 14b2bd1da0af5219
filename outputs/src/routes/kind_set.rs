//! A set of kinds of updates.

use std::fmt;

use ringhook::update::UpdateKind;
use serde::{Serialize, Serializer};

/// Each kind has a bit.
const _: () = assert!(UpdateKind::ALL.len() < 32);

/// A set of [kinds](UpdateKind), one bit for each. It serialises as a list of their names.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct KindSet(u32);

impl KindSet {
    /// Every kind there is, [`UpdateKind::Unknown`] among them.
    pub const ANY: Self = Self::KNOWN.union(Self::new(&[UpdateKind::Unknown]));
    /// No kind.
    pub const EMPTY: Self = Self(0);
    /// Every kind that the Bot API names, so all but [`UpdateKind::Unknown`].
    pub const KNOWN: Self = Self::new(UpdateKind::ALL);

    /// The set of `kinds`.
    #[must_use]
    pub const fn new(kinds: &[UpdateKind]) -> Self {
        let (mut bits, mut rest) = (0, kinds);
        while let [kind, others @ ..] = rest {
            bits |= bit(*kind);
            rest = others;
        }
        Self(bits)
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: UpdateKind) -> bool {
        self.0 & bit(kind) != 0
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub const fn is_superset(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// How many kinds are in the set.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// True for a set without any kind.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds in the Bot API's order, [`UpdateKind::Unknown`] last.
    pub fn iter(self) -> impl Iterator<Item = UpdateKind> {
        let all = UpdateKind::ALL.iter().copied().chain([UpdateKind::Unknown]);
        all.filter(move |kind| self.contains(*kind))
    }
}

const fn bit(kind: UpdateKind) -> u32 {
    1 << kind as u32
}

impl FromIterator<UpdateKind> for KindSet {
    fn from_iter<I: IntoIterator<Item = UpdateKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::EMPTY, |set, kind| set.union(Self::new(&[kind])))
    }
}

impl fmt::Debug for KindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(UpdateKind::as_str)).finish()
    }
}

impl Serialize for KindSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(UpdateKind::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_bit_of_its_own() {
        assert_eq!(KindSet::KNOWN.len(), UpdateKind::ALL.len());
        assert_eq!(KindSet::ANY.len(), UpdateKind::ALL.len() + 1);
        for kind in KindSet::ANY.iter() {
            let one = KindSet::new(&[kind]);
            assert_eq!((one.len(), one.iter().next()), (1, Some(kind)));
            assert!(KindSet::ANY.is_superset(one));
        }
        assert!(!KindSet::KNOWN.contains(UpdateKind::Unknown));
        assert!(KindSet::EMPTY.is_empty() && KindSet::EMPTY.iter().next().is_none());
    }
}
