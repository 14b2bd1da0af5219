//! What to do about one bot's webhook: looks and times in, actions and events out. It knows no
//! socket and no clock; times are counted from any one moment.
//!
//! It says when to look, and brings three machines together: whether Telegram delivers
//! ([`Deliveries`]), whether the webhook is set again ([`Repairs`]) and whether updates are fetched
//! instead ([`Fallback`]).

use std::time::Duration;

use fastrand::Rng;

use super::{
    deliveries::Deliveries,
    fallback::Fallback,
    look::{Action, Event, Look, Outcome, Terms, Trouble},
    repairs::{Repairs, Verdict},
};

/// The longest that the Bot API is waited for where it asks for that.
const DEFER_MAX: Duration = Duration::from_secs(600);

/// One bot's webhook over time.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    terms: Terms,
    /// Differs between several machines of one config, which must not all call at the same moment.
    /// They need no other randomness.
    jitter: Rng,
    api: Api,
    look_at: Duration,
    queued: Option<Action>,
    deliveries: Deliveries,
    fallback: Fallback,
    repairs: Repairs,
}

/// Whether the Bot API can be had.
#[derive(Clone, Copy, Debug)]
enum Api {
    Up,
    /// Since the first look in a row that did not succeed.
    Out {
        since: Duration,
    },
}

impl Machine {
    /// The first look is due within an interval from `now`. `is_noted` says that a fallback of an
    /// earlier process has deleted the webhook.
    pub(super) fn new(terms: Terms, now: Duration, seed: u64, is_noted: bool) -> Self {
        Self {
            terms,
            jitter: Rng::with_seed(seed),
            api: Api::Up,
            look_at: now,
            queued: None,
            deliveries: Deliveries::default(),
            fallback: Fallback::new(is_noted),
            repairs: Repairs::default(),
        }
    }

    /// Goes on by `terms`. Where `is_replaced`, the config has another webhook than before, which
    /// has not been seen yet.
    pub(super) fn set_terms(&mut self, terms: Terms, is_replaced: bool, now: Duration) {
        self.terms = terms;
        self.look_at = now;
        self.repairs.set_terms();
        self.fallback.set_terms(&terms, now);
        if is_replaced {
            self.repairs.replace();
            self.deliveries.replace();
        }
    }

    /// When the next action is due.
    pub(super) fn next(&self) -> Duration {
        match (self.queued, self.fallback.check_at()) {
            (Some(_), _) => Duration::ZERO,
            (None, Some(check_at)) => self.look_at.min(check_at),
            (None, None) => self.look_at,
        }
    }

    /// What is to be done at `now`; its outcome is given to [`done`](Self::done) before this is
    /// asked again.
    pub(super) fn due(&mut self, now: Duration) -> Option<Action> {
        if let Some(action) = self.queued.take() {
            return Some(action);
        }
        if self.fallback.check_at().is_some_and(|at| at <= now) {
            return Some(if self.terms.can_fall_back { Action::Check } else { Action::GoBack });
        }
        (self.look_at <= now).then_some(Action::Look)
    }

    /// Since when Telegram cannot deliver.
    pub(super) fn failing_since(&self) -> Option<Duration> {
        self.deliveries.failing_since()
    }

    pub(super) fn is_polling(&self) -> bool {
        self.fallback.is_polling()
    }

    /// Takes what has come of an action at `now`; what is to be reported of it.
    pub(super) fn done(&mut self, now: Duration, outcome: Outcome) -> Vec<Event> {
        let retry_after = outcome.trouble().and_then(|trouble| trouble.retry_after);
        let mut events = Vec::new();
        self.take(now, outcome, &mut events);
        if let Some(after) = retry_after {
            let at = now + after.min(DEFER_MAX);
            self.look_at = self.look_at.max(at);
            self.fallback.defer(at);
        }
        events
    }

    fn take(&mut self, now: Duration, outcome: Outcome, events: &mut Vec<Event>) {
        match outcome {
            Outcome::Checked(outcome) => {
                let action = self.fallback.checked(now, outcome, &self.terms, events);
                self.queued = action.or(self.queued);
            }
            Outcome::FellBack(outcome) => {
                self.fallback.fell_back(now, outcome.is_ok(), &self.terms);
                if outcome.is_ok() {
                    self.begin_anew();
                }
                events.push(reported(outcome, Event::FellBack, Event::FallBackFailed));
            }
            Outcome::Held => {
                self.fallback.held(now, &self.terms);
                self.look_at = now;
            }
            Outcome::LetGo => {
                let was_polling = self.fallback.let_go();
                self.begin_anew();
                events.extend(was_polling.then_some(Event::LetGo));
            }
            Outcome::Looked(outcome) => {
                let tenth = self.terms.interval / 10;
                let jitter = tenth.mul_f64(2.0 * self.jitter.f64());
                self.look_at = now + self.terms.interval - tenth + jitter;
                self.looked(now, outcome, events);
            }
            Outcome::Repaired(outcome) => {
                self.repairs.repaired(now, &outcome);
                if outcome.is_ok() {
                    self.begin_anew();
                }
                events.push(reported(outcome, Event::Repaired, Event::RepairFailed));
            }
            Outcome::WentBack(outcome) => {
                self.fallback.went_back(now, &outcome, &self.terms);
                if outcome.is_ok() {
                    self.repairs.own();
                    self.begin_anew();
                }
                events.push(reported(outcome, Event::WentBack, Event::ReturnFailed));
            }
        }
    }

    fn looked(&mut self, now: Duration, outcome: Result<Look, Trouble>, events: &mut Vec<Event>) {
        let look = match outcome {
            Ok(look) => look,
            Err(trouble) => {
                let since = match self.api {
                    Api::Out { since } => since,
                    Api::Up => {
                        events.push(Event::Outage(trouble.text));
                        now
                    }
                };
                self.api = Api::Out { since };
                self.deliveries.outage(now.saturating_sub(since), &self.terms);
                return;
            }
        };
        if let Api::Out { since } = std::mem::replace(&mut self.api, Api::Up) {
            self.deliveries.outage_over(now.saturating_sub(since), &self.terms);
            events.push(Event::OutageOver);
        }
        if let Some(action) = self.fallback.follow_up(&look, &self.terms) {
            self.queued = Some(action);
        } else if self.fallback.is_polling() {
            let action = self.fallback.look(now, &look, &self.terms, events);
            self.queued = action.or(self.queued);
        } else {
            self.judge(now, &look, events);
        }
    }

    /// Takes a look while the webhook is what updates come by.
    fn judge(&mut self, now: Duration, look: &Look, events: &mut Vec<Event>) {
        match self.repairs.look(now, look, &self.terms, events) {
            Verdict::AsConfigured if self.fallback.take_probe(&self.terms) => {
                self.queued = Some(Action::Check);
            }
            Verdict::Repair => self.queued = Some(Action::Repair),
            Verdict::AsConfigured | Verdict::Changed => {}
        }
        let is_long = self.deliveries.look(now, look, &self.terms, events);
        if is_long && self.terms.can_fall_back {
            self.queued = Some(Action::FallBack);
        }
    }

    /// The webhook was set or deleted.
    fn begin_anew(&mut self) {
        self.deliveries.begin_anew();
        self.queued = None;
    }
}

/// What is to be reported of an outcome.
fn reported(outcome: Result<(), Trouble>, done: Event, failed: impl Fn(String) -> Event) -> Event {
    outcome.map_or_else(|trouble| failed(trouble.text), |()| done)
}
