//! Whether updates are fetched because Telegram cannot deliver them, and when that ends.

use std::time::Duration;

use super::look::{Action, Event, Look, Place, Terms, Trouble};

/// Checks in a row that must pass before a return.
const PASSES: u32 = 3;
/// The longest time between two checks.
const CHECK_MAX: Duration = Duration::from_secs(30);
/// The longest wait after returns that have failed, unless `fallback_after` is longer.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// A return has failed where deliveries do for so many times `fallback_after` after it.
const STEADY: u32 = 10;

/// The fallback to polling over time.
#[derive(Clone, Debug)]
pub(super) struct Fallback {
    state: State,
    probe: Probe,
    /// Returns in a row that have failed.
    returns_failed: u32,
    returned_at: Option<Duration>,
}

/// How updates come.
#[derive(Clone, Debug, Eq, PartialEq)]
enum State {
    Hooked,
    /// By the webhook, unless a fallback that was begun has deleted it: the next look tells.
    Noted,
    Polling {
        check_at: Duration,
        hold: Hold,
        health: Health,
    },
}

/// Whether a webhook may be set again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hold {
    /// A command has asked for no webhook.
    Asked,
    None,
}

/// What the checks of the public way say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Health {
    /// So many in a row have passed.
    Passed(u32),
    /// The last one has failed, which was reported.
    Failed,
}

/// The check that is made while there is no need for one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Probe {
    Made,
    Pending,
}

impl Fallback {
    /// `is_noted` says that a fallback of an earlier process has deleted the webhook.
    pub(super) fn new(is_noted: bool) -> Self {
        let state = if is_noted { State::Noted } else { State::Hooked };
        Self { state, probe: Probe::Pending, returns_failed: 0, returned_at: None }
    }

    pub(super) fn is_polling(&self) -> bool {
        matches!(self.state, State::Polling { .. })
    }

    /// When the next check is due.
    pub(super) fn check_at(&self) -> Option<Duration> {
        match self.state {
            State::Polling { check_at, .. } => Some(check_at),
            State::Hooked | State::Noted => None,
        }
    }

    /// Goes on by `terms`: a fallback that is no longer asked for ends.
    pub(super) fn set_terms(&mut self, terms: &Terms, now: Duration) {
        self.probe = Probe::Pending;
        if let (State::Polling { check_at, .. }, false) = (&mut self.state, terms.can_fall_back) {
            *check_at = now;
        }
    }

    /// Makes no check before `at`.
    pub(super) fn defer(&mut self, at: Duration) {
        if let State::Polling { check_at, .. } = &mut self.state {
            *check_at = at.max(*check_at);
        }
    }

    /// A check or a return was not made.
    pub(super) fn held(&mut self, now: Duration, terms: &Terms) {
        if let State::Polling { check_at, .. } = &mut self.state {
            *check_at = now + pause(terms);
        }
    }

    /// Polling has ended, and no webhook was set; whether there was any.
    pub(super) fn let_go(&mut self) -> bool {
        let was_polling = self.is_polling();
        self.state = State::Hooked;
        was_polling
    }

    /// What the first look is to lead to after a fallback that was begun.
    pub(super) fn follow_up(&mut self, look: &Look, terms: &Terms) -> Option<Action> {
        if self.state != State::Noted {
            return None;
        }
        self.state = State::Hooked;
        (!look.is_on_purpose).then_some(match (&look.place, terms.can_fall_back) {
            (Place::Gone, true) => Action::FallBack,
            (Place::Gone, false) => Action::GoBack,
            _ => Action::LetGo,
        })
    }

    /// Takes a look while polling: sets no webhook as long as a command has asked for none. What is
    /// to be done.
    pub(super) fn look(
        &mut self,
        now: Duration,
        look: &Look,
        terms: &Terms,
        events: &mut Vec<Event>,
    ) -> Option<Action> {
        let is_gone = look.place == Place::Gone;
        let anew = self.polling(now, terms);
        if let State::Polling { check_at, hold, .. } = &mut self.state {
            match (is_gone && look.is_on_purpose, *hold) {
                (true, _) => {
                    *check_at = Duration::MAX;
                    if std::mem::replace(hold, Hold::Asked) == Hold::None {
                        events.push(Event::Held);
                    }
                }
                (false, Hold::Asked) => self.state = anew,
                (false, Hold::None) => {}
            }
        }
        (!is_gone).then_some(Action::LetGo)
    }

    /// True once where a fallback could come to be needed, to see whether it would end.
    pub(super) fn take_probe(&mut self, terms: &Terms) -> bool {
        terms.can_fall_back && std::mem::replace(&mut self.probe, Probe::Made) == Probe::Pending
    }

    /// Takes whether a fallback was made.
    pub(super) fn fell_back(&mut self, now: Duration, is_done: bool, terms: &Terms) {
        if !is_done {
            // It may have been deleted all the same.
            self.state = State::Noted;
            return;
        }
        let steady = terms.fallback_after.saturating_mul(STEADY);
        match self.returned_at.take() {
            Some(at) if now.saturating_sub(at) < steady => self.returns_failed += 1,
            _ => self.returns_failed = 0,
        }
        self.state = self.polling(now, terms);
    }

    /// Takes what has come of a check; what is to be done.
    pub(super) fn checked(
        &mut self,
        now: Duration,
        outcome: Result<(), String>,
        terms: &Terms,
        events: &mut Vec<Event>,
    ) -> Option<Action> {
        let State::Polling { check_at, health, .. } = &mut self.state else {
            events.extend(outcome.err().map(Event::ProbeFailed));
            return None;
        };
        *check_at = now + pause(terms);
        match (outcome, *health) {
            (Ok(()), Health::Passed(times)) => *health = Health::Passed(times.saturating_add(1)),
            (Ok(()), Health::Failed) => *health = Health::Passed(1),
            (Err(_), Health::Failed) => {}
            (Err(why), Health::Passed(_)) => {
                *health = Health::Failed;
                events.push(Event::CheckFailed(why));
            }
        }
        matches!(health, Health::Passed(times) if *times >= PASSES).then_some(Action::GoBack)
    }

    /// Takes what has come of a return.
    pub(super) fn went_back(
        &mut self,
        now: Duration,
        outcome: &Result<(), Trouble>,
        terms: &Terms,
    ) {
        if outcome.is_ok() {
            self.state = State::Hooked;
            self.returned_at = Some(now);
            return;
        }
        self.returns_failed += 1;
        // Without polling the note stands, and the next look leads here again.
        self.state = if self.is_polling() { self.polling(now, terms) } else { State::Noted };
    }

    /// Polling from `now` on: the first check comes after a wait that doubles with each return that
    /// has failed.
    fn polling(&self, now: Duration, terms: &Terms) -> State {
        let wait = match self.returns_failed {
            0 => pause(terms),
            failed => {
                let after = terms.fallback_after;
                after.saturating_mul(1 << failed.min(12)).min(WAIT_MAX.max(after))
            }
        };
        State::Polling { check_at: now + wait, hold: Hold::None, health: Health::Passed(0) }
    }
}

/// The time between two checks.
fn pause(terms: &Terms) -> Duration {
    terms.interval.min(CHECK_MAX)
}
