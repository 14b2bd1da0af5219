//! One route, ready to be evaluated.

use ringhook::update::BotId;

use super::{KindSet, OutputSet, RouteLabel, condition::Condition, facts::Facts};

/// A route of the configuration.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) label: RouteLabel,
    pub(super) bots: Bots,
    /// The kinds that are asked for by name; without any all.
    pub(super) kinds_typed: KindSet,
    /// Those of them for which all conditions may hold.
    pub(super) kinds: KindSet,
    /// In the order of their cost.
    pub(super) conditions: Box<[Condition]>,
    pub(super) outputs: OutputSet,
}

/// The bots whose updates a route takes.
#[derive(Debug)]
pub(super) enum Bots {
    All,
    /// In order.
    Some(Box<[BotId]>),
}

impl Bots {
    pub(super) fn contains(&self, bot: BotId) -> bool {
        match self {
            Self::All => true,
            Self::Some(bots) => bots.binary_search(&bot).is_ok(),
        }
    }

    /// Whether it has all of `others`.
    pub(super) fn cover(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::All, _) => true,
            (Self::Some(_), Self::All) => false,
            (Self::Some(_), Self::Some(others)) => others.iter().all(|bot| self.contains(*bot)),
        }
    }
}

impl Route {
    /// Whether it takes every update of its bots and kinds.
    pub(super) fn takes_all(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether the conditions beside bot and kind hold.
    pub(super) fn conditions_hold(&self, facts: &Facts<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(facts))
    }
}
