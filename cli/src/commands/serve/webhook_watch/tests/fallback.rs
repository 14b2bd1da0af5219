//! Polling where Telegram cannot deliver, and the way back.

use super::*;

/// Telegram cannot deliver to `run` from now on until it polls.
pub(super) fn fail(run: &mut Run) {
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
    run.see([healthy()]);
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
    run.see([healthy()]);
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
    run.see([healthy()]);
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
        run.see([healthy(), at(Place::Gone)]);
        run.step(&mut |_, _| Outcome::Looked(Ok(at(Place::Gone))));
        run.step(&mut |_, _| Outcome::Repaired(Err(trouble())));
        assert_eq!(run.machine.next(), run.now + waited * MINUTE);
    }
}

#[test]
fn who_deletes_the_webhook_during_a_fallback_means_it() {
    let mut run = Run::new(falling_back());
    run.see([healthy()]);
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
    run.see([Look { is_on_purpose: true, ..healthy() }]);
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
    run.see([healthy()]);
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
    run.see([healthy()]);
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
    run.see([healthy()]);
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
fn a_webhook_that_another_client_sets_ends_the_fallback() {
    for look in [healthy(), other("https://a"), at(Place::Moved)] {
        let mut run = Run::new(falling_back());
        run.see([healthy()]);
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
    // And another client may have set it meanwhile.
    for look in [healthy(), other("https://a")] {
        let mut run = Run::with(falling_back(), true);
        run.see([look]);
        assert_eq!(run.count(Action::LetGo), 1);
        assert!(!run.machine.is_polling() && run.events.is_empty());
    }
}

#[test]
fn a_fallback_that_fails_half_way_is_found_by_the_next_look() {
    let mut run = Run::new(falling_back());
    run.see([healthy()]);
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
