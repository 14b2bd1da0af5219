//! Whether a target can be sent to, and when one that can not is tried again. It knows no clock:
//! time is an argument.

use std::time::{Duration, Instant, SystemTime};

use super::retry::UpdateKey;

/// Failures in a row after which a target counts as down.
const FAILURES_MAX: u32 = 5;

/// The longest wait that a target's `Retry-After` puts between two probes. It may ask for more for
/// one update, but a target that is back is noticed after a minute.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest pause between two probes of a target where nothing listens. Such a probe costs next
/// to nothing, and what waits is to be delivered within two seconds once the target is back.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is known of a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Up,
    /// It takes no connection, or it failed several times in a row.
    Down,
    /// It answers with this status, which says that the target itself is wrongly set up.
    Misconfigured(u16),
}

/// What a request tells of its target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Evidence {
    /// An answer that a target gives which works, whatever it says of the update.
    Answer,
    /// It is wrongly set up.
    Wrong(u16),
    /// Nothing listens there.
    Refused,
    /// No connection came about.
    Unconnected,
    /// The request was sent, and there was no answer or one that tells of a failure.
    Failure,
}

/// First and longest pause between two probes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacing {
    pub(super) first: Duration,
    pub(super) max: Duration,
}

/// The state of one target with what leads to the next one.
#[derive(Debug)]
pub(super) struct Condition {
    state: State,
    since: Instant,
    since_wall: SystemTime,
    /// Failures in a row.
    failures: u32,
    /// The update of the last of them.
    last_failed: Option<UpdateKey>,
    /// Whether nothing listened there at the last look.
    is_refusing: bool,
    pacing: Pacing,
    /// The pause before the next probe, unless it has been made longer.
    pause: Duration,
    probe_at: Instant,
}

impl Condition {
    pub(super) fn new(pacing: Pacing, now: Instant) -> Self {
        Self {
            state: State::Up,
            since: now,
            since_wall: SystemTime::now(),
            failures: 0,
            last_failed: None,
            is_refusing: false,
            pacing,
            pause: pacing.first,
            probe_at: now,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(super) fn since(&self) -> (Instant, SystemTime) {
        (self.since, self.since_wall)
    }

    /// When the next probe may be sent; it says nothing where the target is up.
    pub(super) fn probe_at(&self) -> Instant {
        self.probe_at
    }

    /// True where `key` was the last update that failed, with no other one since.
    pub(super) fn has_failed_last(&self, key: UpdateKey) -> bool {
        self.last_failed == Some(key)
    }

    /// Takes what a request for `key`, begun at `started_at`, tells; gives the new state where it
    /// is another one. A request that was begun before the present state tells nothing: the last
    /// answers of a process that ends do not say that there is a new one.
    ///
    /// An update that fails again and again counts once in a row: it may be the update's fault,
    /// and the others would wait for it.
    pub(super) fn learn(
        &mut self,
        evidence: Evidence,
        key: UpdateKey,
        started_at: Instant,
        now: Instant,
    ) -> Option<State> {
        if started_at < self.since {
            return None;
        }
        let is_other = !self.has_failed_last(key);
        let next = match evidence {
            Evidence::Answer => {
                (self.failures, self.last_failed) = (0, None);
                State::Up
            }
            Evidence::Wrong(status) => State::Misconfigured(status),
            Evidence::Refused => State::Down,
            Evidence::Unconnected | Evidence::Failure => {
                let counts = is_other || evidence == Evidence::Unconnected;
                self.failures = self.failures.saturating_add(u32::from(counts));
                match self.state {
                    State::Up if self.failures >= FAILURES_MAX => State::Down,
                    state => state,
                }
            }
        };
        self.is_refusing = evidence == Evidence::Refused;
        if evidence != Evidence::Answer {
            self.last_failed = Some(key);
        }
        if next == self.state {
            return None;
        }
        if self.is_up() {
            self.pause = self.pacing.first;
            self.probe_at = now + self.pause;
        }
        (self.state, self.since, self.since_wall) = (next, now, SystemTime::now());
        Some(next)
    }

    /// Puts the next probe off after one that has failed, by as long as the target has asked for.
    pub(super) fn put_off_probe(&mut self, asked: Option<Duration>, now: Instant) {
        let max = if self.is_refusing { REFUSED_PAUSE_MAX } else { Duration::MAX };
        self.pause = (self.pause * 2).min(self.pacing.max).min(max);
        let asked = asked.unwrap_or_default().min(PROBE_WAIT_MAX);
        self.probe_at = now + self.pause.max(asked);
    }

    /// Makes the next probe due, because what the target may have objected to has changed.
    pub(super) fn probe_now(&mut self, now: Instant) {
        self.probe_at = now;
    }
}

#[cfg(test)]
mod tests {
    use ringhook::update::{BotId, UpdateId};

    use super::*;

    const PACING: Pacing =
        Pacing { first: Duration::from_millis(500), max: Duration::from_secs(5) };

    fn key(id: i64) -> UpdateKey {
        (BotId::new(0), UpdateId::new(id))
    }

    #[test]
    fn a_refused_connection_is_enough_and_five_failures_of_different_updates_are() {
        let now = Instant::now();
        let mut condition = Condition::new(PACING, now);
        assert_eq!(condition.learn(Evidence::Refused, key(1), now, now), Some(State::Down));
        assert_eq!(condition.learn(Evidence::Answer, key(1), now, now), Some(State::Up));
        for id in 1..5 {
            assert_eq!(condition.learn(Evidence::Failure, key(id), now, now), None);
        }
        assert_eq!(condition.learn(Evidence::Answer, key(5), now, now), None);
        for id in 1..5 {
            assert_eq!(condition.learn(Evidence::Failure, key(id), now, now), None);
        }
        assert_eq!(condition.learn(Evidence::Failure, key(5), now, now), Some(State::Down));
    }

    #[test]
    fn one_update_alone_brings_no_target_down_unless_there_is_no_connection() {
        let now = Instant::now();
        let mut condition = Condition::new(PACING, now);
        for _ in 0..20 {
            assert_eq!(condition.learn(Evidence::Failure, key(1), now, now), None);
        }
        let changes = [(); 4].map(|()| condition.learn(Evidence::Unconnected, key(1), now, now));
        assert_eq!(changes, [None, None, None, Some(State::Down)]);
    }

    #[test]
    fn what_began_before_the_present_state_says_nothing_of_it() {
        let before = Instant::now();
        let now = before + Duration::from_secs(1);
        let mut condition = Condition::new(PACING, before);
        assert_eq!(condition.learn(Evidence::Refused, key(1), before, now), Some(State::Down));
        assert_eq!(condition.learn(Evidence::Answer, key(2), before, now), None);
        assert_eq!(condition.state(), State::Down);
        assert_eq!(condition.learn(Evidence::Answer, key(1), now, now), Some(State::Up));
        for id in 0..20 {
            assert_eq!(condition.learn(Evidence::Failure, key(id), before, now), None);
        }
        assert!(condition.is_up());
    }

    #[test]
    fn a_wrong_target_that_is_gone_is_down() {
        let now = Instant::now();
        let mut condition = Condition::new(PACING, now);
        let learn =
            |condition: &mut Condition, evidence| condition.learn(evidence, key(1), now, now);
        let wrong = State::Misconfigured(401);
        assert_eq!(learn(&mut condition, Evidence::Wrong(401)), Some(wrong));
        assert_eq!(learn(&mut condition, Evidence::Wrong(401)), None);
        assert_eq!(learn(&mut condition, Evidence::Failure), None);
        assert_eq!(learn(&mut condition, Evidence::Refused), Some(State::Down));
        assert_eq!(learn(&mut condition, Evidence::Wrong(401)), Some(wrong));
        assert_eq!(learn(&mut condition, Evidence::Answer), Some(State::Up));
    }

    #[test]
    fn a_target_where_nothing_listens_is_looked_at_every_second() {
        let now = Instant::now();
        let mut condition = Condition::new(PACING, now);
        let waits = [(); 4].map(|()| {
            condition.learn(Evidence::Refused, key(1), now, now);
            condition.put_off_probe(None, now);
            (condition.probe_at() - now).as_millis()
        });
        assert_eq!(waits, [1000; 4]);
    }

    #[test]
    fn probes_become_rare_and_rarer_where_that_is_asked_for() {
        let now = Instant::now();
        let mut condition = Condition::new(PACING, now);
        condition.learn(Evidence::Wrong(401), key(1), now, now);
        let mut waits = vec![(condition.probe_at() - now).as_millis()];
        for asked in [None, None, None, None, Some(7), Some(3600), None] {
            condition.put_off_probe(asked.map(Duration::from_secs), now);
            waits.push((condition.probe_at() - now).as_millis());
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 5000, 7000, 60_000, 5000]);
    }
}
