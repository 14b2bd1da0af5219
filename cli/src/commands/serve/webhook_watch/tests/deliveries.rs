//! What is reported of deliveries that fail.

use super::*;

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
    run.see([Look { is_active: true, ..failing(9) }]);
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
    run.see([healthy()]).see(vec![failing(5); 9]);
    assert_eq!(run.events.last(), Some(&Event::Delivers));
}
