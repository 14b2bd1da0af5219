//! For each kind of update the routes that may take it.

use ringhook::update::{BotId, UpdateKind};

use super::{
    KindSet,
    route::{Bots, Route},
};

/// The routes by kind, so that a route costs nothing for updates of other kinds.
///
/// A list by bot as well would be of use with hundreds of bots that have routes of their own; such
/// a route costs a comparison here.
#[derive(Debug)]
pub(super) struct Index {
    /// Indexed by the kind's bit.
    by_kind: Box<[Box<[Candidate]>]>,
}

/// A route that may take updates of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its index among the routes.
    pub(super) route: usize,
    bots: CandidateBots,
}

/// For which bots it is, with the usual cases at hand.
#[derive(Clone, Copy, Debug)]
enum CandidateBots {
    All,
    One(BotId),
    /// The route knows.
    Several,
}

impl Index {
    pub(super) fn new(routes: &[Route]) -> Self {
        let by_kind = KindSet::ANY.iter().map(|kind| {
            let mut list = Vec::new();
            for (index, route) in routes.iter().enumerate() {
                if !route.kinds.contains(kind) {
                    continue;
                }
                let bots = match &route.bots {
                    Bots::All => CandidateBots::All,
                    Bots::Some(bots) => match **bots {
                        [bot] => CandidateBots::One(bot),
                        _ => CandidateBots::Several,
                    },
                };
                list.push(Candidate { route: index, bots });
                // Nothing gets past it.
                if route.takes_all() && matches!(route.bots, Bots::All) {
                    break;
                }
            }
            list.into_boxed_slice()
        });
        Self { by_kind: by_kind.collect() }
    }

    /// The routes that may take an update of `kind` for `bot`, in order.
    pub(super) fn candidates<'a>(
        &'a self,
        routes: &'a [Route],
        kind: UpdateKind,
        bot: BotId,
    ) -> impl Iterator<Item = (usize, &'a Route)> {
        let list = self.by_kind.get(kind as usize).map_or(&[][..], |list| list);
        list.iter().filter_map(move |candidate| {
            let Candidate { route: index, bots } = *candidate;
            if matches!(bots, CandidateBots::One(only) if only != bot) {
                return None;
            }
            let route = routes.get(index)?;
            (!matches!(bots, CandidateBots::Several) || route.bots.contains(bot))
                .then_some((index, route))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_as_the_lists_are() {
        for (index, kind) in KindSet::ANY.iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
