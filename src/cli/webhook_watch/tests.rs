//! The machine in virtual time.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;

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

fn well() -> Look {
    Look {
        differences: Vec::new(),
        error: None,
        is_heard: false,
        is_on_purpose: false,
        pending: 0,
        place: Place::Ours,
    }
}

fn at(place: Place) -> Look {
    Look { place, ..well() }
}

fn other(url: &str) -> Look {
    at(Place::Other(url.to_owned()))
}

fn failing(date: i64) -> Look {
    Look { error: Some((date, "Connection refused".to_owned())), pending: 3, ..well() }
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

/// The outcome of `action` where it succeeds; a look is that at a webhook that is well.
fn good(action: Action) -> Outcome {
    match action {
        Action::Check => Outcome::Checked(Ok(())),
        Action::FallBack => Outcome::FellBack(Ok(())),
        Action::GoBack => Outcome::WentBack(Ok(())),
        Action::LetGo => Outcome::LetGo,
        Action::Look => Outcome::Looked(Ok(well())),
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
fn a_change_is_told_once_and_only_mended_where_that_is_asked_for() {
    let mut run = Run::new(terms());
    run.see([well(), other("https://a"), other("https://a"), other("https://a"), well()]);
    let change = Change::Other("https://a".to_owned());
    assert_eq!(run.take_events(), [Event::Changed(change, Fix::Off), Event::AsConfigured]);
    assert_eq!(run.count(Action::Repair), 0);
}

#[test]
fn what_was_the_configs_is_set_again_at_the_second_look() {
    for look in [other("https://a"), at(Place::Gone), at(Place::Moved)] {
        let mut run = Run::new(repairing());
        run.see([well(), look.clone()]);
        assert_eq!(run.count(Action::Repair), 0, "it may be in the middle of a replacement");
        run.see([look]);
        assert_eq!(run.count(Action::Repair), 1);
        run.see([well()]);
        assert_eq!(run.events[1..], [Event::Repaired, Event::AsConfigured]);
    }
}

#[test]
fn what_was_never_seen_as_the_configs_is_left_alone() {
    for look in [other("https://a"), at(Place::Gone)] {
        let mut run = Run::new(repairing());
        run.see(vec![look; 5]);
        assert_eq!(run.count(Action::Repair), 0);
        assert!(matches!(run.events[..], [Event::Changed(_, Fix::NotOurs)]), "{:?}", run.events);
    }
    // Its host and path are enough.
    let mut run = Run::new(repairing());
    run.see(vec![at(Place::Moved); 2]);
    assert_eq!(run.count(Action::Repair), 1);
}

#[test]
fn what_was_done_on_purpose_is_left_alone() {
    let mut run = Run::new(repairing());
    let deleted = Look { is_on_purpose: true, ..at(Place::Gone) };
    run.see([well(), deleted.clone(), deleted.clone(), deleted.clone()]);
    assert_eq!(run.events, [Event::Changed(Change::Gone, Fix::OnPurpose)]);
    assert_eq!(run.count(Action::Repair), 0);
}

#[test]
fn whoever_sets_another_url_again_does_so_on_purpose() {
    let mut run = Run::new(repairing());
    let theirs = || vec![other("https://a"); 5];
    run.see([well()]).see(theirs()).see([well()]).see(theirs());
    assert_eq!(run.count(Action::Repair), 1);
    let last = Event::Changed(Change::Other("https://a".to_owned()), Fix::Useless);
    assert_eq!(run.events.last(), Some(&last));
    run.see([well()]).see(vec![other("https://b"); 2]);
    assert_eq!(run.count(Action::Repair), 2, "another one may be by mistake");
}

#[test]
fn settings_that_cannot_be_changed_are_not_set_again_and_again() {
    let mut run = Run::new(repairing());
    let look = Look { differences: vec!["max_connections".to_owned()], ..well() };
    run.see(vec![look.clone(); 9]);
    assert_eq!(run.count(Action::Repair), 1);
    run.see([well(), look.clone(), look]);
    assert_eq!(run.count(Action::Repair), 2, "it did help, and was changed later");
}

#[test]
fn an_hour_has_three_repairs() {
    let mut run = Run::new(repairing());
    run.see([well()]);
    run.until(HOUR, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        action => good(action),
    });
    assert_eq!(run.count(Action::Repair), 3);
    let told = run.events.iter().filter(|event| **event == Event::RepairsUsedUp).count();
    assert_eq!(told, 1);
    let last = run.events.iter().rfind(|event| matches!(event, Event::Changed(..)));
    assert_eq!(last, Some(&Event::Changed(Change::Gone, Fix::UsedUp)));
    run.until(2 * HOUR, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        action => good(action),
    });
    assert_eq!(run.count(Action::Repair), 6);
}

#[test]
fn a_repair_that_did_not_reach_the_bot_api_is_no_repair() {
    let mut run = Run::new(repairing());
    run.see([well()]);
    run.until(10 * MINUTE, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        _ => Outcome::Repaired(Err(outage())),
    });
    assert!(run.count(Action::Repair) > 3);
}

#[test]
fn errors_are_told_when_they_move_and_failing_ends_with_the_first_update() {
    let mut run = Run::new(terms());
    run.see([failing(5), failing(5)]);
    assert_eq!(run.take_events(), [], "it may be of last year");
    run.see([failing(6)]);
    let text = "Connection refused".to_owned();
    let expected = [Event::Error(text.clone()), Event::Fails(3, text)];
    assert_eq!(run.take_events(), expected);
    assert!(run.machine.failing_since().is_some());
    run.see([failing(7), failing(8)]);
    assert_eq!(run.take_events(), []);
    run.see([Look { is_heard: true, ..failing(9) }]);
    assert_eq!(run.take_events(), [Event::Delivers]);
    run.see([failing(9), failing(9)]);
    assert_eq!(run.take_events(), [], "no error came since");
    run.see([Look { pending: 0, ..failing(10) }]);
    assert!(run.machine.failing_since().is_none(), "nothing waits");
}

#[test]
fn the_same_error_is_told_once_an_hour() {
    let mut run = Run::new(terms());
    let mut date = 0;
    run.until(4 * HOUR, &mut |action, _| match action {
        Action::Look => {
            date += 1;
            Outcome::Looked(Ok(Look { pending: 0, ..failing(date) }))
        }
        action => good(action),
    });
    assert!(run.events.iter().all(|event| matches!(event, Event::Error(_))));
    assert_eq!(run.events.len(), 4);
}

#[test]
fn an_error_that_does_not_move_is_over_in_the_end() {
    let mut run = Run::new(terms());
    run.see([well()]).see(vec![failing(5); 9]);
    assert_eq!(run.events.last(), Some(&Event::Delivers));
}

/// Telegram cannot deliver to `run` from now on until it polls.
fn fail(run: &mut Run) {
    let (mut date, before) = (run.now.as_secs() as i64, run.count(Action::FallBack));
    while run.count(Action::FallBack) == before {
        run.step(&mut |action, _| match action {
            Action::Look => {
                date += 1;
                Outcome::Looked(Ok(failing(date)))
            }
            action => good(action),
        });
    }
}

fn back(run: &mut Run) {
    let before = run.count(Action::GoBack);
    while run.count(Action::GoBack) == before {
        run.step(&mut |action, _| match action {
            Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
            action => good(action),
        });
    }
}

#[test]
fn it_polls_when_deliveries_have_failed_for_long_and_goes_back_after_good_checks() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
    let failed_at = run.now;
    fail(&mut run);
    let after = run.now - failed_at;
    assert!(after >= 5 * MINUTE && after <= 8 * MINUTE, "{after:?}");
    assert!(run.machine.is_polling());
    run.take_events();
    // The way is still shut.
    run.until(run.now + HOUR, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        Action::Check => Outcome::Checked(Err("connection refused".to_owned())),
        action => panic!("{action:?}"),
    });
    assert_eq!(run.take_events(), [Event::CheckFailed("connection refused".to_owned())]);
    let checks = run.count(Action::Check);
    back(&mut run);
    assert_eq!(run.count(Action::Check), checks + 3);
    assert_eq!(run.take_events(), [Event::WentBack]);
    assert!(!run.machine.is_polling());
}

#[test]
fn without_the_bot_api_nothing_is_changed() {
    let mut run = Run::new(Terms { can_repair: true, ..falling_back() });
    run.see([well()]);
    let mut date = 0;
    run.until(HOUR, &mut |action, _| match action {
        Action::Look => {
            date += 1;
            if date % 8 >= 4 {
                return Outcome::Looked(Err(outage()));
            }
            Outcome::Looked(Ok(failing(date)))
        }
        action => panic!("{action:?}"),
    });
    let outages = run.events.iter().filter(|event| matches!(event, Event::Outage(_))).count();
    assert!(outages > 5);
    let fails = run.events.iter().filter(|event| matches!(event, Event::Fails(..))).count();
    assert_eq!(fails, 1);
}

#[test]
fn a_look_that_fails_now_and_then_is_a_pause() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
    let (start, mut date) = (run.now, 0);
    while !run.machine.is_polling() {
        run.step(&mut |action, _| match action {
            Action::Look => {
                date += 1;
                if date % 3 == 0 {
                    return Outcome::Looked(Err(outage()));
                }
                Outcome::Looked(Ok(failing(date)))
            }
            action => good(action),
        });
        assert!(run.now < start + HOUR, "never");
    }
    let after = run.now - start;
    assert!(after > 6 * MINUTE && after < 12 * MINUTE, "{after:?}: outages do not count");
    let fails = run.events.iter().filter(|event| matches!(event, Event::Fails(..))).count();
    assert_eq!(fails, 1);
}

#[test]
fn the_bot_api_is_left_alone_for_as_long_as_it_asks() {
    for (asked, waited) in [(5, 5), (600, 10)] {
        let mut run = Run::new(repairing());
        let trouble = || Trouble { retry_after: Some(asked * MINUTE), ..outage() };
        run.step(&mut |_, _| Outcome::Looked(Err(trouble())));
        assert_eq!(run.machine.next(), run.now + waited * MINUTE);
        run.see([well(), at(Place::Gone)]);
        run.step(&mut |_, _| Outcome::Looked(Ok(at(Place::Gone))));
        run.step(&mut |_, _| Outcome::Repaired(Err(trouble())));
        assert_eq!(run.machine.next(), run.now + waited * MINUTE);
    }
}

#[test]
fn who_deletes_the_webhook_during_a_fallback_means_it() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
    fail(&mut run);
    run.take_events();
    let deleted = || Look { is_on_purpose: true, ..at(Place::Gone) };
    run.until(run.now + HOUR, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(deleted())),
        Action::Check => Outcome::Held,
        action => panic!("{action:?}"),
    });
    assert_eq!(run.take_events(), [Event::Held]);
    assert!(run.machine.is_polling());
    // Until it is set.
    run.see([Look { is_on_purpose: true, ..well() }]);
    assert_eq!(run.take_events(), [Event::LetGo]);
    assert!(!run.machine.is_polling());
}

#[test]
fn a_deletion_on_purpose_is_no_fallback_of_an_earlier_process() {
    let mut run = Run::with(falling_back(), true);
    run.see(vec![Look { is_on_purpose: true, ..at(Place::Gone) }; 3]);
    assert_eq!(run.events, [Event::Changed(Change::Gone, Fix::OnPurpose)]);
    assert!(!run.machine.is_polling());
}

#[test]
fn a_way_that_cannot_be_checked_is_told_before_it_matters() {
    let mut run = Run::new(falling_back());
    let mut probes = 0;
    run.until(HOUR, &mut |action, _| match action {
        Action::Check => {
            probes += 1;
            Outcome::Checked(Err("refused".to_owned()))
        }
        action => good(action),
    });
    assert_eq!((probes, &run.events[..]), (1, &[Event::ProbeFailed("refused".to_owned())][..]));
    let mut run = Run::new(terms());
    run.until(HOUR, &mut |action, _| good(action));
    assert_eq!(run.count(Action::Check), 0);
}

#[test]
fn one_check_that_is_not_well_begins_the_count_anew() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
    fail(&mut run);
    let mut checks = 0;
    run.until(run.now + HOUR, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        Action::Check => {
            checks += 1;
            Outcome::Checked(if checks % 3 == 0 { Err("x".to_owned()) } else { Ok(()) })
        }
        action => panic!("{action:?}"),
    });
    assert!(checks > 100);
}

#[test]
fn returns_that_fail_come_ever_later() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
    let mut waits = Vec::new();
    for _ in 0..7 {
        fail(&mut run);
        let since = run.now;
        back(&mut run);
        waits.push((run.now - since).as_secs() / 60);
    }
    assert!(waits[0] < 3, "{waits:?}");
    assert!(waits[1..].iter().zip([10, 20, 40, 60, 60, 60]).all(|(is, wait)| is - wait <= 2));
    // After a good time it is as at first.
    run.until(run.now + HOUR, &mut |action, _| good(action));
    fail(&mut run);
    let since = run.now;
    back(&mut run);
    assert!(run.now - since < 3 * MINUTE);
}

#[test]
fn a_return_that_is_refused_polls_on() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
    fail(&mut run);
    let start = run.now;
    run.until(start + 24 * HOUR, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        Action::GoBack => Outcome::WentBack(Err(outage())),
        action => good(action),
    });
    assert!(run.machine.is_polling());
    let tries = run.count(Action::GoBack);
    assert!((20..30).contains(&tries), "{tries}");
}

#[test]
fn a_webhook_that_somebody_sets_meanwhile_ends_the_fallback() {
    for look in [well(), other("https://a"), at(Place::Moved)] {
        let mut run = Run::new(falling_back());
        run.see([well()]);
        fail(&mut run);
        run.see([look]);
        assert_eq!(run.done.last().map(|(_, action)| *action), Some(Action::LetGo));
        assert!(!run.machine.is_polling());
    }
}

#[test]
fn a_fallback_outlives_the_process() {
    let mut run = Run::with(falling_back(), true);
    run.see([at(Place::Gone)]);
    assert!(run.machine.is_polling());
    back(&mut run);
    assert!(!run.machine.is_polling());
    // Where it is not wanted any more, what it has deleted is set again.
    let mut run = Run::with(terms(), true);
    run.see([at(Place::Gone)]);
    assert_eq!(run.count(Action::GoBack), 1);
    assert_eq!(run.events, [Event::WentBack]);
    // And somebody may have set it meanwhile.
    for look in [well(), other("https://a")] {
        let mut run = Run::with(falling_back(), true);
        run.see([look]);
        assert_eq!(run.count(Action::LetGo), 1);
        assert!(!run.machine.is_polling() && run.events.is_empty());
    }
}

#[test]
fn a_fallback_that_fails_half_way_is_found_by_the_next_look() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
    let mut date = 0;
    while run.count(Action::FallBack) == 0 {
        run.step(&mut |action, _| match action {
            Action::Look => {
                date += 1;
                Outcome::Looked(Ok(failing(date)))
            }
            _ => Outcome::FellBack(Err(outage())),
        });
    }
    assert!(!run.machine.is_polling());
    run.see([at(Place::Gone)]);
    assert!(run.machine.is_polling(), "it was deleted all the same");
}

#[test]
fn new_terms_are_followed() {
    let mut run = Run::new(falling_back());
    run.see([well()]);
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
    let look = look.prop_map(|(place, differences, error, is_heard, pending)| Look {
        differences: (0..differences).map(|n| n.to_string()).collect(),
        error: error.map(|date| (date, "x".to_owned())),
        is_heard,
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
                    prop_assert!(run.machine.failing_since().is_none() || (look.pending > 0 && !look.is_heard));
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
