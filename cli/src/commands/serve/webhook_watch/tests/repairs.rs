//! What is set again.

use super::*;

#[test]
fn a_change_is_told_once_and_only_mended_where_that_is_asked_for() {
    let mut run = Run::new(terms());
    run.see([healthy(), other("https://a"), other("https://a"), other("https://a"), healthy()]);
    let change = Change::Other("https://a".to_owned());
    assert_eq!(run.take_events(), [Event::Changed(change, Fix::Off), Event::AsConfigured]);
    assert_eq!(run.count(Action::Repair), 0);
}

#[test]
fn what_was_the_configs_is_set_again_at_the_second_look() {
    for look in [other("https://a"), at(Place::Gone), at(Place::Moved)] {
        let mut run = Run::new(repairing());
        run.see([healthy(), look.clone()]);
        assert_eq!(run.count(Action::Repair), 0, "it may be in the middle of a replacement");
        run.see([look]);
        assert_eq!(run.count(Action::Repair), 1);
        run.see([healthy()]);
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
    run.see([healthy(), deleted.clone(), deleted.clone(), deleted.clone()]);
    assert_eq!(run.events, [Event::Changed(Change::Gone, Fix::OnPurpose)]);
    assert_eq!(run.count(Action::Repair), 0);
}

#[test]
fn a_url_that_is_set_again_is_set_on_purpose() {
    let mut run = Run::new(repairing());
    let theirs = || vec![other("https://a"); 5];
    run.see([healthy()]).see(theirs()).see([healthy()]).see(theirs());
    assert_eq!(run.count(Action::Repair), 1);
    let last = Event::Changed(Change::Other("https://a".to_owned()), Fix::Useless);
    assert_eq!(run.events.last(), Some(&last));
    run.see([healthy()]).see(vec![other("https://b"); 2]);
    assert_eq!(run.count(Action::Repair), 2, "another one may be by mistake");
}

#[test]
fn settings_that_cannot_be_changed_are_not_set_again_and_again() {
    let mut run = Run::new(repairing());
    let look = Look { differences: vec!["max_connections".to_owned()], ..healthy() };
    run.see(vec![look.clone(); 9]);
    assert_eq!(run.count(Action::Repair), 1);
    run.see([healthy(), look.clone(), look]);
    assert_eq!(run.count(Action::Repair), 2, "it did help, and was changed later");
}

#[test]
fn an_hour_has_three_repairs() {
    let mut run = Run::new(repairing());
    run.see([healthy()]);
    run.until(HOUR, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        action => good(action),
    });
    assert_eq!(run.count(Action::Repair), 3);
    let reported = run.events.iter().filter(|event| **event == Event::RepairsUsedUp).count();
    assert_eq!(reported, 1);
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
    run.see([healthy()]);
    run.until(10 * MINUTE, &mut |action, _| match action {
        Action::Look => Outcome::Looked(Ok(at(Place::Gone))),
        _ => Outcome::Repaired(Err(outage())),
    });
    assert!(run.count(Action::Repair) > 3);
}
