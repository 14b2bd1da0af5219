//! Whether Telegram delivers to a webhook, look by look.

use std::time::Duration;

use super::look::{Event, Look, Terms};

/// The longest time between two tries of Telegram's; an error that has not moved for longer, and an
/// interval, is over.
const RETRY_MAX: Duration = Duration::from_secs(125);
/// For how long an error of the same text is not reported again.
const REPORTED_FOR: Duration = Duration::from_secs(3600);
/// Looks in a row that must fail for an outage that begins the count of failing deliveries anew.
const OUTAGE_LOOKS: u32 = 3;

/// Deliveries over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Deliveries {
    state: State,
    error: LastError,
    /// The last error that was reported, and when.
    reported: Option<(Duration, String)>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Working,
    /// That was reported. `since` leaves out outages, and is `None` after a long one.
    Failing { since: Option<Duration> },
}

#[derive(Clone, Copy, Debug, Default)]
enum LastError {
    #[default]
    Unseen,
    /// `date` is that of the last look. `moved_at` is when it was last seen to change, where
    /// nothing came since.
    Seen { date: Option<i64>, moved_at: Option<Duration> },
}

impl Deliveries {
    /// Since when Telegram cannot deliver.
    pub(super) fn failing_since(&self) -> Option<Duration> {
        match self.state {
            State::Working => None,
            State::Failing { since } => since,
        }
    }

    /// The webhook was set or deleted. Setting what is set already leaves the last error.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// The config has another webhook than before.
    pub(super) fn replace(&mut self) {
        self.state = State::Working;
    }

    /// The Bot API could not be had for `lasted`. A short outage is a pause; after a long one the
    /// count begins anew: who cannot reach the Bot API is not reached by it either, as a rule.
    pub(super) fn outage(&mut self, lasted: Duration, terms: &Terms) {
        let long = terms.interval.saturating_mul(OUTAGE_LOOKS);
        if lasted >= long.max(terms.fallback_after / 2)
            && let State::Failing { since } = &mut self.state
        {
            *since = None;
        }
    }

    /// The Bot API can be had again. What was not seen counts for nothing.
    pub(super) fn outage_over(&mut self, lasted: Duration, terms: &Terms) {
        self.outage(lasted, terms);
        if let State::Failing { since: Some(since) } = &mut self.state {
            *since += lasted;
        }
        if let LastError::Seen { moved_at: Some(moved_at), .. } = &mut self.error {
            *moved_at += lasted;
        }
    }

    /// Takes a look at `now`. True where deliveries have failed for long enough to fall back.
    pub(super) fn look(
        &mut self,
        now: Duration,
        look: &Look,
        terms: &Terms,
        events: &mut Vec<Event>,
    ) -> bool {
        let text = || look.error.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
        let date = look.error.as_ref().map(|(date, _)| *date);
        let (has_moved, moved_at) = match self.error {
            // The first look may find an error of last year.
            LastError::Unseen => (false, None),
            LastError::Seen { date: known, .. } if date.is_some() && known != date => {
                (true, Some(now))
            }
            LastError::Seen { moved_at, .. } => (false, moved_at),
        };
        if has_moved {
            let is_reported = |(at, reported): &(Duration, String)| {
                *reported == text() && now.saturating_sub(*at) < REPORTED_FOR
            };
            if !self.reported.as_ref().is_some_and(is_reported) {
                self.reported = Some((now, text()));
                events.push(Event::Error(text()));
            }
        }
        let moved_at = moved_at.filter(|_| !look.is_active);
        self.error = LastError::Seen { date, moved_at };
        let fresh = RETRY_MAX + terms.interval.mul_f64(1.1);
        let is_fresh = moved_at.is_some_and(|at| now.saturating_sub(at) <= fresh);
        if !(look.is_ours() && look.pending > 0 && is_fresh) {
            if let State::Failing { .. } = std::mem::take(&mut self.state) {
                self.reported = None;
                events.push(Event::Delivers);
            }
            return false;
        }
        if matches!(self.state, State::Working) {
            events.push(Event::Fails(look.pending, text()));
        }
        let since = self.failing_since().unwrap_or(now);
        self.state = State::Failing { since: Some(since) };
        now.saturating_sub(since) >= terms.fallback_after
    }
}
