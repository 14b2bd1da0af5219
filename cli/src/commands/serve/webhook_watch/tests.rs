//! The machine in virtual time.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod deliveries;
mod fallback;
mod repairs;

use std::time::Duration;

use proptest::prelude::*;

use self::fallback::fail;
use super::{
    look::{Action, Change, Event, Fix, Look, Outcome, Place, Terms, Trouble},
    machine::Machine,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn terms() -> Terms {
    Terms { can_fall_back: false, can_repair: false, fallback_after: 5 * MINUTE, interval: MINUTE }
}

fn repairing() -> Terms {
    Terms { can_repair: true, ..terms() }
}

fn falling_back() -> Terms {
    Terms { can_fall_back: true, ..terms() }
}

fn healthy() -> Look {
    Look {
        differences: Vec::new(),
        error: None,
        is_active: false,
        is_on_purpose: false,
        pending: 0,
        place: Place::Ours,
    }
}

fn at(place: Place) -> Look {
    Look { place, ..healthy() }
}

fn other(url: &str) -> Look {
    at(Place::Other(url.to_owned()))
}

fn failing(date: i64) -> Look {
    Look { error: Some((date, "Connection refused".to_owned())), pending: 3, ..healthy() }
}

fn outage() -> Trouble {
    Trouble { is_outage: true, retry_after: None, text: "no connection".to_owned() }
}

/// A machine and the time.
struct Run {
    machine: Machine,
    now: Duration,
    /// What was done, and when.
    done: Vec<(Duration, Action)>,
    events: Vec<Event>,
}

impl Run {
    fn new(terms: Terms) -> Self {
        Self::with(terms, false)
    }

    fn with(terms: Terms, is_noted: bool) -> Self {
        let machine = Machine::new(terms, Duration::ZERO, 7, is_noted);
        Self { machine, now: Duration::ZERO, done: Vec::new(), events: Vec::new() }
    }

    /// Goes to when something is due, and does it with the outcome that `world` gives.
    fn step(&mut self, world: &mut impl FnMut(Action, Duration) -> Outcome) -> Action {
        self.now = self.now.max(self.machine.next());
        let action = self.machine.due(self.now).unwrap();
        self.done.push((self.now, action));
        let outcome = world(action, self.now);
        let events = self.machine.done(self.now, outcome);
        self.events.extend(events);
        action
    }

    /// Looks that find `looks` one after the other; everything else succeeds.
    fn see(&mut self, looks: impl IntoIterator<Item = Look>) -> &mut Self {
        let mut looks = looks.into_iter().peekable();
        while looks.peek().is_some() {
            self.step(&mut |action, _| match action {
                Action::Look => Outcome::Looked(Ok(looks.next().unwrap())),
                action => good(action),
            });
        }
        // What the last one leads to at once.
        while self.machine.next() == Duration::ZERO {
            self.step(&mut |action, _| good(action));
        }
        self
    }

    fn until(&mut self, end: Duration, world: &mut impl FnMut(Action, Duration) -> Outcome) {
        while self.machine.next() <= end {
            self.step(world);
        }
        self.now = end;
    }

    fn count(&self, action: Action) -> usize {
        self.done.iter().filter(|(_, done)| *done == action).count()
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// The outcome of `action` where it succeeds; a look is that at a healthy webhook.
fn good(action: Action) -> Outcome {
    match action {
        Action::Check => Outcome::Checked(Ok(())),
        Action::FallBack => Outcome::FellBack(Ok(())),
        Action::GoBack => Outcome::WentBack(Ok(())),
        Action::LetGo => Outcome::LetGo,
        Action::Look => Outcome::Looked(Ok(healthy())),
        Action::Repair => Outcome::Repaired(Ok(())),
    }
}

#[test]
fn looks_come_at_intervals_give_or_take_a_tenth() {
    let mut run = Run::new(terms());
    run.until(HOUR, &mut |action, _| good(action));
    let gaps: Vec<_> = run.done.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(gaps.iter().all(|gap| (54..=66).contains(&gap.as_secs())), "{gaps:?}");
    assert!(gaps.iter().max().unwrap().as_secs() >= 62, "{gaps:?}");
    assert!(gaps.iter().min().unwrap().as_secs() < 58, "{gaps:?}");
    assert_eq!(run.events, []);
}

#[test]
fn new_terms_are_followed() {
    let mut run = Run::new(falling_back());
    run.see([healthy()]);
    fail(&mut run);
    run.machine.set_terms(terms(), false, run.now);
    assert_eq!(run.machine.due(run.now), Some(Action::GoBack), "no fallback any more");
    run.machine.done(run.now, good(Action::GoBack));
    run.machine.set_terms(repairing(), true, run.now);
    run.see(vec![other("https://old"); 4]);
    assert_eq!(run.count(Action::Repair), 0, "what the config was before is not put right");
}

#[derive(Clone, Debug)]
enum World {
    Bad(usize),
    Good,
    Looks(Look),
}

fn worlds() -> impl Strategy<Value = Vec<World>> {
    let place = prop_oneof![
        4 => Just(Place::Ours),
        2 => Just(Place::Gone),
        1 => Just(Place::Moved),
        1 => (0..3).prop_map(|n| Place::Other(format!("https://{n}"))),
    ];
    let differences = prop_oneof![3 => Just(0_usize), 1 => 1..3_usize];
    let look = (place, differences, prop::option::of(0..50_i64), any::<bool>(), 0..3_u64);
    let look = look.prop_map(|(place, differences, error, is_active, pending)| Look {
        differences: (0..differences).map(|n| n.to_string()).collect(),
        error: error.map(|date| (date, "x".to_owned())),
        is_active,
        is_on_purpose: false,
        pending,
        place,
    });
    let one = prop_oneof![
        1 => (0..2_usize).prop_map(World::Bad),
        3 => Just(World::Good),
        6 => look.prop_map(World::Looks),
    ];
    // Runs of the same, so that things last.
    let run = (one, 1..12_usize).prop_map(|(world, times)| vec![world; times]);
    prop::collection::vec(run, 1..60).prop_map(|runs| runs.concat())
}

proptest! {
    /// Whatever is seen and whatever fails, the bounds hold.
    #[test]
    fn bounds_hold(worlds in worlds(), can_repair: bool, can_fall_back: bool, is_noted: bool) {
        let terms = Terms { can_fall_back, can_repair, ..terms() };
        let mut run = Run::with(terms, is_noted);
        let mut is_owned = false;
        let mut wells = 0;
        let mut last = None;
        let mut failing_since = None;
        let mut ended = None;
        for world in worlds {
            let was_polling = run.machine.is_polling();
            let mut outcome = None;
            let action = run.step(&mut |action, _| {
                let trouble = || Trouble { is_outage: matches!(world, World::Bad(1)), ..outage() };
                let given = match (action, &world) {
                    (Action::Look, World::Looks(look)) => Outcome::Looked(Ok(look.clone())),
                    (Action::Look, World::Bad(_)) => Outcome::Looked(Err(trouble())),
                    (Action::Check, World::Bad(_)) => Outcome::Checked(Err(String::new())),
                    (Action::FallBack, World::Bad(_)) => Outcome::FellBack(Err(trouble())),
                    (Action::GoBack, World::Bad(_)) => Outcome::WentBack(Err(trouble())),
                    (Action::Repair, World::Bad(_)) => Outcome::Repaired(Err(trouble())),
                    (action, _) => good(action),
                };
                outcome = Some(given.clone());
                given
            });
            match (action, outcome.unwrap()) {
                (Action::Look, Outcome::Looked(Ok(look))) => {
                    is_owned |= !was_polling && look.place == Place::Ours && look.differences.is_empty();
                    if failing_since.is_none() && run.machine.failing_since().is_some() {
                        failing_since = Some(run.now);
                    } else if run.machine.failing_since().is_none() {
                        failing_since = None;
                    }
                    prop_assert!(run.machine.failing_since().is_none() || (look.pending > 0 && !look.is_active));
                    last = Some(look);
                }
                (Action::Look, _) if run.machine.failing_since().is_none() => failing_since = None,
                (Action::Check, Outcome::Checked(outcome)) => {
                    wells = if was_polling && outcome.is_ok() { wells + 1 } else { 0 };
                }
                (Action::Repair, _) => {
                    prop_assert!(can_repair && !was_polling);
                    let look = last.clone().unwrap();
                    let is_ours = matches!(look.place, Place::Ours | Place::Moved);
                    prop_assert!(is_owned || is_ours, "{:?}", look);
                }
                (Action::FallBack, _) => {
                    prop_assert!(can_fall_back && !was_polling);
                    let is_long = failing_since.is_some_and(|since| run.now - since >= terms.fallback_after);
                    let is_gone = last.as_ref().is_some_and(|look| look.place == Place::Gone);
                    prop_assert!(is_long || is_gone);
                    failing_since = None;
                    wells = 0;
                    if let (Some(ended), true) = (ended, is_long) {
                        prop_assert!(run.now - ended >= terms.fallback_after);
                    }
                }
                (Action::GoBack, outcome) => {
                    prop_assert!(!can_fall_back || wells >= 3);
                    wells = 0;
                    if matches!(outcome, Outcome::WentBack(Ok(()))) {
                        is_owned = true;
                        ended = Some(run.now);
                    }
                }
                _ => {}
            }
            if !can_fall_back {
                prop_assert!(!run.machine.is_polling());
            }
        }
    }

    /// However the webhook changes, an hour has no more than three repairs.
    #[test]
    fn repairs_are_few(worlds in worlds()) {
        let mut run = Run::new(repairing());
        let mut counted = Vec::new();
        for world in worlds {
            run.step(&mut |action, now| match (action, &world) {
                (Action::Look, World::Looks(look)) => Outcome::Looked(Ok(look.clone())),
                (Action::Repair, World::Bad(1)) => Outcome::Repaired(Err(outage())),
                (Action::Repair, _) => {
                    counted.push(now);
                    Outcome::Repaired(Ok(()))
                }
                (action, _) => good(action),
            });
        }
        for four in counted.windows(4) {
            prop_assert!(four[3] - four[0] >= HOUR, "{:?}", counted);
        }
    }
}
