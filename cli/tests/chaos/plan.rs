//! What happens in a run and when: a pure function of the seed.

use std::{fmt, time::Duration};

use crate::support::chance::Chance;

/// What a run does to its server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// Nothing; the senders rest, and the server is counted through.
    Calm,
    /// Certificate and key are removed, replaced by others or by something else.
    Certs,
    /// The clock is set forward or back.
    Clock,
    /// The config file is removed, or wrong.
    Config,
    /// The file of dead letters is renamed or removed.
    DeadLetters,
    /// The file system of the journal is frozen.
    Freeze,
    /// The file system of the journal has no room.
    Full,
    /// The file system of the output has no room.
    FullSink,
    /// The journal's directory is renamed or removed.
    Journal,
    Kill,
    /// Nothing but what the network does.
    Net,
    Pause,
    /// A reload removes a bot, and another one brings it back.
    Bots,
    /// The output file is renamed, or removed.
    Rotate,
    /// stderr is not read.
    Stderr,
    /// Requests with wrong secrets and paths, and bytes that are no request.
    Unauthorized,
    /// A successor waits for the journal while the server drains.
    TakeOver,
    Term,
    /// The journal's directory is removed, and a successor starts beside the server.
    Usurp,
}

impl Fault {
    /// Each with its name and how often it comes.
    pub(crate) const ALL: [(Self, &'static str, u64); 19] = [
        (Self::Bots, "bots", 4),
        (Self::Calm, "calm", 0),
        (Self::Certs, "certs", 3),
        (Self::Clock, "clock", 3),
        (Self::Config, "config", 3),
        (Self::DeadLetters, "dead-letters", 1),
        (Self::Freeze, "freeze", 4),
        (Self::Full, "full", 5),
        (Self::FullSink, "full-sink", 4),
        (Self::Journal, "journal", 3),
        (Self::Kill, "kill", 7),
        (Self::Net, "net", 4),
        (Self::Pause, "pause", 3),
        (Self::Rotate, "rotate", 5),
        (Self::Stderr, "stderr", 4),
        (Self::Unauthorized, "unauthorized", 3),
        (Self::TakeOver, "take-over", 5),
        (Self::Term, "term", 5),
        (Self::Usurp, "usurp", 3),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, ..)| *fault == self).map_or("?", |(_, name, _)| name)
    }

    /// What may happen to the process in the middle of it. Where the journal's files are gone, what
    /// is in them lasts as long as the process; and a server does not start with a wrong config.
    fn strikes(self) -> &'static [Strike] {
        match self {
            Self::Bots
            | Self::Clock
            | Self::DeadLetters
            | Self::Freeze
            | Self::Full
            | Self::FullSink
            | Self::Net
            | Self::Rotate
            | Self::Stderr
            | Self::Unauthorized => &[Strike::Hangup, Strike::Kill, Strike::Pause, Strike::Term],
            Self::Certs | Self::Config | Self::Journal => &[Strike::Hangup, Strike::Pause],
            Self::Calm | Self::Kill | Self::Pause | Self::TakeOver | Self::Term | Self::Usurp => {
                &[]
            }
        }
    }
}

/// What happens to the process while something else goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Strike {
    Hangup,
    Kill,
    Pause,
    Term,
}

impl Strike {
    fn name(self) -> &'static str {
        match self {
            Self::Hangup => "hangup",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Term => "term",
        }
    }
}

/// What the network does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Net {
    Blackhole,
    Clear,
    Cut,
    Refuse,
    Reset,
    Slow,
    Split,
    Stall,
}

impl Net {
    pub(crate) const ALL: [Self; 8] = [
        Self::Clear,
        Self::Blackhole,
        Self::Cut,
        Self::Refuse,
        Self::Reset,
        Self::Slow,
        Self::Split,
        Self::Stall,
    ];

    /// Whether requests get through, although late.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::Clear | Self::Slow | Self::Split)
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Time since the one before is over.
    pub(crate) after: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
    /// Which of the fault's forms it takes.
    pub(crate) form: u64,
    /// In the middle of it.
    pub(crate) strike: Option<Strike>,
    pub(crate) net: Net,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, fault, lasts, form, strike, net } = self;
        write!(f, "after {after:?} {} (form {form}) for {lasts:?}", fault.name())?;
        if let Some(strike) = strike {
            write!(f, ", {} in the middle of it", strike.name())?;
        }
        if *net != Net::Clear { write!(f, ", network: {net:?}") } else { Ok(()) }
    }
}

/// How the servers of a run are started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    pub(crate) ack: &'static str,
    pub(crate) driver: &'static str,
    pub(crate) log_level: &'static str,
    pub(crate) shards: u64,
    pub(crate) workers: u64,
    /// Queues so small that most updates are read back from the journal.
    pub(crate) tight: bool,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) events: Vec<Event>,
    pub(crate) seed: u64,
    pub(crate) terms: Terms,
}

/// Events between two counts, at the most.
const BETWEEN_CALMS: usize = 5;

impl Plan {
    /// What happens in about `length`, with the faults in `only` alone.
    ///
    /// The others are left out after all is drawn: what stays is as it was.
    pub(crate) fn draw(seed: u64, length: Duration, only: &[Fault]) -> Self {
        let mut chance = Chance::from_seed(seed);
        let pick = |chance: &mut Chance, choice: &[&'static str]| {
            choice[chance.between(0, choice.len() as u64 - 1) as usize]
        };
        let terms = Terms {
            ack: pick(&mut chance, &["written", "synced"]),
            driver: pick(&mut chance, &["auto", "epoll"]),
            log_level: pick(&mut chance, &["info", "debug"]),
            shards: chance.between(1, 2),
            workers: chance.between(1, 3),
            tight: chance.between(0, 2) == 0,
        };
        let mut events = vec![calm()];
        let mut time = Duration::ZERO;
        while time < length {
            let event = Event::draw(&mut chance, length);
            time += event.after + event.lasts;
            events.push(event);
            if events.len() % (BETWEEN_CALMS + 1) == 0 {
                events.push(calm());
            }
        }
        events.push(calm());
        events.retain_mut(|event| event.restrict(only));
        events.dedup_by_key(|event| (event.fault == Fault::Calm).then_some(()).ok_or(event.after));
        Self { events, seed, terms }
    }
}

fn calm() -> Event {
    Event {
        after: Duration::ZERO,
        fault: Fault::Calm,
        lasts: Duration::ZERO,
        form: 0,
        strike: None,
        net: Net::Clear,
    }
}

impl Event {
    fn draw(chance: &mut Chance, length: Duration) -> Self {
        let millis =
            |chance: &mut Chance, low, high| Duration::from_millis(chance.between(low, high));
        let fault = draw_fault(chance);
        let after = millis(chance, 200, 1500);
        // Long ones are for runs that are long themselves.
        let is_long = chance.between(0, 9) == 0 && length >= Duration::from_secs(60);
        let lasts = match is_long {
            true => millis(chance, 3000, 12_000),
            false => millis(chance, 100, 2500),
        };
        let form = chance.between(0, 11);
        let strikes = fault.strikes();
        let which = chance.between(0, 11) as usize;
        let (net, is_bad) = (chance.between(0, 7) as usize, chance.between(0, 3) == 0);
        let net = match fault {
            Fault::Net => Net::ALL[net.max(1)],
            // Whether updates are taken is to be seen.
            Fault::Certs | Fault::Config | Fault::Stderr | Fault::Unauthorized => Net::Clear,
            _ if is_bad => Net::ALL[net],
            _ => Net::Clear,
        };
        Self { after, fault, lasts, form, strike: strikes.get(which).copied(), net }
    }

    /// Takes what is not among the faults in `only` out of it; whether anything is left.
    fn restrict(&mut self, only: &[Fault]) -> bool {
        if only.is_empty() || self.fault == Fault::Calm {
            return true;
        }
        let has = |fault| only.contains(&fault);
        self.strike = self.strike.filter(|strike| {
            has(match strike {
                Strike::Hangup => Fault::Config,
                Strike::Kill => Fault::Kill,
                Strike::Pause => Fault::Pause,
                Strike::Term => Fault::Term,
            })
        });
        if !has(Fault::Net) {
            self.net = Net::Clear;
        }
        has(self.fault)
    }
}

fn draw_fault(chance: &mut Chance) -> Fault {
    let sum = Fault::ALL.iter().map(|(.., weight)| weight).sum::<u64>();
    let mut left = chance.between(0, sum - 1);
    for (fault, _, weight) in Fault::ALL {
        match left.checked_sub(weight) {
            Some(rest) => left = rest,
            None => return fault,
        }
    }
    Fault::Calm
}

/// The faults that `names` names, with commas in between.
pub(crate) fn parse(names: &str) -> Result<Vec<Fault>, String> {
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let known = Fault::ALL.iter().find(|(_, known, _)| *known == name);
            known.map(|(fault, ..)| *fault).ok_or_else(|| {
                let all: Vec<_> = Fault::ALL.iter().map(|(_, name, _)| *name).collect();
                format!("no fault is called {name:?}; there are {}", all.join(", "))
            })
        })
        .collect()
}

mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_gives_the_same_plan_each_time_and_another_one_another() {
        let plan = Plan::draw(7, MINUTE, &[]);
        assert_eq!(plan, Plan::draw(7, MINUTE, &[]));
        assert_ne!(plan.events, Plan::draw(8, MINUTE, &[]).events);
        let time: Duration = plan.events.iter().map(|event| event.after + event.lasts).sum();
        assert!(time >= MINUTE && time < 2 * MINUTE, "{time:?}");
        assert_eq!(plan.events.first().map(|event| event.fault), Some(Fault::Calm));
        assert_eq!(plan.events.last().map(|event| event.fault), Some(Fault::Calm));
    }

    #[test]
    fn every_fault_strike_and_network_comes_in_an_hour() {
        let plan = Plan::draw(1, 60 * MINUTE, &[]);
        let faults: BTreeSet<_> = plan.events.iter().map(|event| event.fault).collect();
        assert_eq!(faults.len(), Fault::ALL.len());
        for strike in [Strike::Hangup, Strike::Kill, Strike::Pause, Strike::Term] {
            assert!(plan.events.iter().any(|event| event.strike == Some(strike)), "{strike:?}");
        }
        for net in Net::ALL {
            assert!(plan.events.iter().any(|event| event.net == net), "{net:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_plan_is_as_it_was() {
        let whole = Plan::draw(3, 10 * MINUTE, &[]);
        let only = parse("kill, full").unwrap();
        let part = Plan::draw(3, 10 * MINUTE, &only);
        assert_eq!(part.terms, whole.terms);
        let mut of_the_whole = whole.events.iter();
        for event in &part.events {
            assert!(matches!(event.fault, Fault::Calm | Fault::Full | Fault::Kill), "{event}");
            assert!(matches!(event.strike, None | Some(Strike::Kill)) && event.net == Net::Clear);
            let same = |it: &&Event| {
                (it.after, it.fault, it.lasts, it.form)
                    == (event.after, event.fault, event.lasts, event.form)
            };
            assert!(of_the_whole.any(|it| same(&it)), "{event} is new");
        }
        assert!(part.events.iter().any(|event| event.fault == Fault::Full));
    }

    #[test]
    fn a_fault_that_is_not_known_is_told_with_those_that_are() {
        assert_eq!(parse("term,take-over"), Ok(vec![Fault::Term, Fault::TakeOver]));
        assert_eq!(parse(""), Ok(Vec::new()));
        let error = parse("kil").unwrap_err();
        assert!(error.contains("\"kil\"") && error.contains("take-over"), "{error}");
    }
}
