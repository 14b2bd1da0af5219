//! What a packet filter does with a new TCP connection from Telegram, as far as that can be told.
//!
//! Each rule is yes, no or maybe for such a connection; what a chain does is the set of what it may
//! do. A rule that depends on more than addresses, ports and the connection's state is a maybe.

use std::{collections::HashMap, net::Ipv4Addr};

/// A chain that calls itself is one that the kernel would refuse; this is for our own safety.
const DEPTH_MAX: usize = 16;

/// The connection that is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    /// First and last address of the network that it comes from.
    pub(super) from: (Ipv4Addr, Ipv4Addr),
    pub(super) port: u16,
}

/// Whether something holds for the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tri {
    Yes,
    No,
    Maybe,
}

impl Tri {
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Maybe,
        }
    }

    pub(super) fn negated_if(self, is_negated: bool) -> Self {
        match self {
            Self::Yes if is_negated => Self::No,
            Self::No if is_negated => Self::Yes,
            as_is => as_is,
        }
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Accept,
    Drop,
    Goto(String),
    Jump(String),
    /// Counts, logs, marks: the next rule is asked.
    Pass,
    Return,
    /// It sends the connection somewhere else.
    Translate,
    /// It may do anything.
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) matches: Tri,
    pub(super) action: Action,
}

pub(super) type Chains = HashMap<String, Vec<Rule>>;

/// What may become of the connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Fate {
    pub(super) accepted: bool,
    pub(super) dropped: bool,
    /// It may be sent somewhere else, where other rules hold.
    pub(super) translated: bool,
    /// The end of the chain may be reached.
    pub(super) falls_through: bool,
}

impl Fate {
    /// True where no way is left on which it is let in.
    pub(super) fn is_lost(self) -> bool {
        self.dropped && !self.accepted && !self.translated && !self.falls_through
    }

    fn add(&mut self, other: Self) {
        self.accepted |= other.accepted;
        self.dropped |= other.dropped;
        self.translated |= other.translated;
    }
}

/// What the chain `name`, and those it calls, do with the connection that the rules were asked about.
pub(super) fn fate(chains: &Chains, name: &str) -> Fate {
    Walk { chains, known: HashMap::new() }.through(name, 0)
}

struct Walk<'a> {
    chains: &'a Chains,
    /// Those of chains that were walked through, or are: one can be called from many places.
    known: HashMap<&'a str, Fate>,
}

impl<'a> Walk<'a> {
    fn through(&mut self, name: &str, depth: usize) -> Fate {
        let anything =
            Fate { accepted: true, dropped: true, falls_through: true, ..Fate::default() };
        if let Some(fate) = self.known.get(name) {
            return *fate;
        }
        let chains = self.chains;
        let Some((name, rules)) = chains.get_key_value(name).filter(|_| depth < DEPTH_MAX) else {
            return anything;
        };
        self.known.insert(name, anything);
        let fate = self.along(rules, depth);
        self.known.insert(name, fate);
        fate
    }

    fn along(&mut self, rules: &'a [Rule], depth: usize) -> Fate {
        let mut fate = Fate::default();
        // Whether the next rule may be reached, and whether the end may be by a `return`.
        let (mut is_reached, mut returns) = (true, false);
        for rule in rules.iter().filter(|rule| rule.matches != Tri::No) {
            let mut goes_on = rule.matches == Tri::Maybe;
            match &rule.action {
                Action::Accept => fate.accepted = true,
                Action::Drop => fate.dropped = true,
                Action::Translate => fate.translated = true,
                Action::Pass => goes_on = true,
                Action::Return => returns = true,
                Action::Unknown => {
                    fate.add(Fate { accepted: true, dropped: true, ..Fate::default() });
                    goes_on = true;
                }
                Action::Jump(target) => {
                    let of_target = self.through(target, depth + 1);
                    fate.add(of_target);
                    goes_on |= of_target.falls_through;
                }
                Action::Goto(target) => {
                    let of_target = self.through(target, depth + 1);
                    fate.add(of_target);
                    returns |= of_target.falls_through;
                }
            }
            if !goes_on {
                is_reached = false;
                break;
            }
        }
        Fate { falls_through: is_reached || returns, ..fate }
    }
}

/// Whether a network of the rule holds all, none or some of those that the connection comes from.
pub(super) fn is_from(packet: Packet, base: Ipv4Addr, prefix: u32) -> Tri {
    let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix)).unwrap_or(0);
    let first = base.to_bits() & mask;
    is_between(packet, Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first | !mask))
}

/// As [`is_from`], for a range.
pub(super) fn is_between(packet: Packet, first: Ipv4Addr, last: Ipv4Addr) -> Tri {
    let (from, to) = packet.from;
    if first <= from && to <= last {
        Tri::Yes
    } else if to < first || last < from {
        Tri::No
    } else {
        Tri::Maybe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(matches: Tri, action: Action) -> Rule {
        Rule { matches, action }
    }

    fn of(rules: Vec<Rule>) -> Fate {
        let called = vec![rule(Tri::Maybe, Action::Drop), rule(Tri::Yes, Action::Return)];
        fate(&Chains::from([("in".to_owned(), rules), ("called".to_owned(), called)]), "in")
    }

    #[test]
    fn the_first_sure_rule_ends_the_walk() {
        let both = of(vec![rule(Tri::Yes, Action::Drop), rule(Tri::Yes, Action::Accept)]);
        assert!(both.is_lost());
        let maybe = of(vec![rule(Tri::Maybe, Action::Drop), rule(Tri::Yes, Action::Accept)]);
        assert!(maybe.dropped && maybe.accepted && !maybe.is_lost());
        assert!(of(vec![rule(Tri::No, Action::Drop)]).falls_through);
        assert!(of(vec![rule(Tri::Yes, Action::Pass), rule(Tri::Yes, Action::Drop)]).is_lost());
    }

    #[test]
    fn calls_come_back_and_leaves_do_not() {
        let jump = of(vec![
            rule(Tri::Yes, Action::Jump("called".to_owned())),
            rule(Tri::Yes, Action::Drop),
        ]);
        assert!(jump.is_lost());
        let goto = of(vec![
            rule(Tri::Yes, Action::Goto("called".to_owned())),
            rule(Tri::Yes, Action::Drop),
        ]);
        assert!(goto.falls_through && !goto.is_lost());
        let unknown = of(vec![rule(Tri::Yes, Action::Jump("nowhere".to_owned()))]);
        assert!(!unknown.is_lost() && unknown.falls_through);
        let circle =
            Chains::from([("a".to_owned(), vec![rule(Tri::Yes, Action::Jump("a".to_owned()))])]);
        assert!(!fate(&circle, "a").is_lost());
    }

    #[test]
    fn a_chain_that_is_called_from_many_places_is_walked_through_once() {
        let jumps = |level: usize| {
            let target = Action::Jump(format!("{}", level + 1));
            vec![rule(Tri::Maybe, target); 50]
        };
        let mut chains: Chains = (0..12).map(|level| (level.to_string(), jumps(level))).collect();
        chains.insert("12".to_owned(), vec![rule(Tri::Yes, Action::Drop)]);
        let fate = fate(&chains, "0");
        assert!(fate.dropped && fate.falls_through && !fate.accepted);
    }

    #[test]
    fn networks_hold_all_some_or_none() {
        let packet = Packet {
            from: (Ipv4Addr::new(149, 154, 160, 0), Ipv4Addr::new(149, 154, 175, 255)),
            port: 443,
        };
        assert_eq!(is_from(packet, Ipv4Addr::new(149, 154, 160, 0), 20), Tri::Yes);
        assert_eq!(is_from(packet, Ipv4Addr::UNSPECIFIED, 0), Tri::Yes);
        assert_eq!(is_from(packet, Ipv4Addr::new(149, 154, 167, 0), 24), Tri::Maybe);
        assert_eq!(is_from(packet, Ipv4Addr::new(10, 0, 0, 0), 8), Tri::No);
    }
}
