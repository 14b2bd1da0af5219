//! The order of a chain: leaf, its issuer, the issuer's issuer. No file, no clock.

use super::facts::Facts;

/// How a file's certificates became a chain.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Where they were out of order: whether that could be put right.
    pub(super) out_of_order: Option<bool>,
    /// How many certificates, from the leaf on, are linked.
    pub path: usize,
    /// The place in the file, from 1, of one that could not be read; then nothing was moved.
    pub(super) unreadable: Option<usize>,
}

/// Puts `chain` in order, `facts` along with it. The leaf is the one with `public_key`, where the
/// key has one. What is linked to nothing comes last, in the order of the file.
pub fn put_in_order<T>(
    chain: Vec<T>,
    facts: Vec<Facts>,
    public_key: Option<&[u8]>,
) -> (Vec<T>, Vec<Facts>, Order) {
    let leaf = public_key
        .and_then(|key| facts.iter().position(|facts| facts.public_key == key))
        .unwrap_or(0);
    let (mut path, mut unambiguous) = (vec![leaf], true);
    while let Some(next) = issuer(&facts, &path) {
        match next {
            NextIssuer::One(place) => path.push(place),
            NextIssuer::Several => {
                unambiguous = false;
                break;
            }
        }
    }
    let is_in_order = path.iter().copied().eq(0..path.len());
    if is_in_order && unambiguous {
        return (chain, facts, Order { path: path.len(), ..Order::default() });
    }
    // Where it is unclear how it goes on, all that is left may belong to it.
    let linked = if unambiguous { path.len() } else { facts.len() };
    let order = Order { out_of_order: Some(unambiguous), path: linked, unreadable: None };
    let place = |from: usize| path.iter().position(|place| *place == from).unwrap_or(usize::MAX);
    let mut both: Vec<_> = chain.into_iter().zip(facts).enumerate().collect();
    // Stable: what is not on the path keeps its order.
    both.sort_by_key(|(from, _)| place(*from));
    let (chain, facts) = both.into_iter().map(|(_, one)| one).unzip();
    (chain, facts, order)
}

enum NextIssuer {
    One(usize),
    Several,
}

/// The issuer of the last of `path`, among those that are not on it; `None` where it is not in the
/// file, or the last one has signed itself.
fn issuer(facts: &[Facts], path: &[usize]) -> Option<NextIssuer> {
    let last = *path.last()?;
    let issued = facts.get(last).filter(|facts| !facts.is_self_signed())?;
    let is_issuer = |place: &usize| {
        !path.contains(place) && facts.get(*place).is_some_and(|other| issued.is_issued_by(other))
    };
    // Where there is a choice, as between a root and the same root signed by another, the file's
    // own order says which is meant.
    if is_issuer(&(last + 1)) {
        return Some(NextIssuer::One(last + 1));
    }
    let mut issuers = (0..facts.len()).filter(is_issuer);
    let first = issuers.next()?;
    // The same one twice is no choice.
    let is_clear = issuers.all(|other| facts.get(other) == facts.get(first));
    Some(if is_clear { NextIssuer::One(first) } else { NextIssuer::Several })
}
