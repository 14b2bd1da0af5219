//! Rates that change while a run goes on.

use std::time::Duration;

use crate::clock::{Nanos, nanos};

/// A part of a run with a rate of its own, which may rise or fall evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// How long it lasts; more than nothing.
    pub duration: Duration,
    /// Requests per second at its beginning, from 0 to [`Phase::RATE_MAX`].
    pub from: f64,
    /// Requests per second at its end, within the same bounds.
    pub to: f64,
}

impl Phase {
    /// The highest rate, in requests per second.
    pub const RATE_MAX: f64 = 10_000_000.0;

    /// A phase with one rate.
    #[must_use]
    pub fn steady(rate: f64, duration: Duration) -> Self {
        Self { duration, from: rate, to: rate }
    }

    /// How many requests it has, with a fraction.
    pub(crate) fn count(&self) -> f64 {
        self.duration.as_secs_f64() * (self.from + self.to) / 2.0
    }

    /// Whether its values are within their bounds.
    pub(crate) fn is_valid(&self) -> bool {
        let valid = |rate: f64| (0.0..=Self::RATE_MAX).contains(&rate);
        !self.duration.is_zero() && valid(self.from) && valid(self.to)
    }

    /// After how many nanoseconds `count` requests were due. `count` is not above its own.
    fn time_of(&self, count: f64) -> f64 {
        let seconds = self.duration.as_secs_f64();
        let slope = (self.to - self.from) / (2.0 * seconds);
        // The root that is exact for a rate that does not change, too.
        let root = (self.from * self.from + 4.0 * slope * count).max(0.0).sqrt();
        let time = if count <= 0.0 { 0.0 } else { 2.0 * count / (self.from + root) };
        time.min(seconds) * 1e9
    }

    /// How many requests were due after so many nanoseconds.
    fn count_at(&self, time: f64) -> f64 {
        let time = time / 1e9;
        let slope = (self.to - self.from) / (2.0 * self.duration.as_secs_f64());
        self.from * time + slope * time * time
    }
}

/// Phases one after the other; after the last the first begins again.
#[derive(Clone)]
pub(crate) struct Phases {
    list: Box<[Phase]>,
    at: Place,
}

/// The beginning of a phase.
#[derive(Clone, Copy, Default)]
struct Place {
    phase: usize,
    /// In nanoseconds since the start.
    time: f64,
    /// Requests due before.
    count: f64,
}

impl Phases {
    /// `phases` must be valid and have at least one request in all.
    pub(crate) fn new(phases: &[Phase]) -> Self {
        Self { list: phases.into(), at: Place::default() }
    }

    /// When a request is due, counted from the start, which must not lie before what
    /// [`Phases::advance`] was last told.
    pub(crate) fn due(&self, index: u64) -> Nanos {
        let place = self.find(self.at, index);
        let count = index as f64 - place.count;
        self.phase(place).map_or(0, |phase| (place.time + phase.time_of(count)) as Nanos)
    }

    /// As [`Phases::due`], of any request.
    pub(crate) fn due_of_any(&self, index: u64) -> Nanos {
        Self::new(&self.list).due(index)
    }

    /// Notes that no request before `index` will be asked for.
    pub(crate) fn advance(&mut self, index: u64) {
        self.at = self.find(self.at, index);
    }

    /// How many requests are due before a time counted from the start.
    pub(crate) fn count_before(&self, time: Nanos) -> u64 {
        let round: f64 = self.list.iter().map(|phase| nanos(phase.duration) as f64).sum();
        let rounds = (time as f64 / round).floor();
        let mut count = rounds * self.list.iter().map(Phase::count).sum::<f64>();
        let mut left = time as f64 - rounds * round;
        for phase in &self.list {
            let part = left.min(nanos(phase.duration) as f64);
            count += phase.count_at(part);
            left -= part;
        }
        // The request with the number that is reached just then is due, not before.
        (count - COUNT_SLACK).ceil().max(0.0) as u64
    }

    /// The phase in which a request is due.
    fn find(&self, mut place: Place, index: u64) -> Place {
        // A phase ends before the request that is due with the next one's beginning.
        while let Some(phase) = self.phase(place)
            && index as f64 + COUNT_SLACK >= place.count + phase.count()
        {
            place = Place {
                phase: (place.phase + 1) % self.list.len(),
                time: place.time + nanos(phase.duration) as f64,
                count: place.count + phase.count(),
            };
        }
        place
    }

    fn phase(&self, place: Place) -> Option<&Phase> {
        self.list.get(place.phase)
    }
}

/// What sums of fractions may be off by, in requests.
const COUNT_SLACK: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ramp_rises_evenly() {
        let ramp = Phase { duration: Duration::from_secs(10), from: 0.0, to: 100.0 };
        let phases = Phases::new(&[ramp]);
        assert_eq!(phases.count_before(10_000_000_000), 500);
        assert_eq!(phases.count_before(5_000_000_000), 125);
        assert_eq!(phases.due(125), 5_000_000_000);
        // It begins again where it ended.
        assert_eq!(phases.due(500), 10_000_000_000);
        assert_eq!(phases.due(625), 15_000_000_000);
    }

    #[test]
    fn a_pause_has_no_requests() {
        let second = Duration::from_secs(1);
        let phases = Phases::new(&[Phase::steady(0.0, second), Phase::steady(2.0, second)]);
        let due: Vec<Nanos> = (0..5).map(|index| phases.due(index) / 1_000_000).collect();
        assert_eq!(due, [1000, 1500, 3000, 3500, 5000]);
    }

    proptest! {
        #[test]
        fn due_times_never_fall_and_agree_with_the_counts(
            list in prop::collection::vec((1_u64..5000, 0_u32..300, 0_u32..300), 1..5),
        ) {
            let list: Vec<Phase> = list
                .into_iter()
                .map(|(ms, from, to)| Phase {
                    duration: Duration::from_millis(ms),
                    from: f64::from(from),
                    to: f64::from(to),
                })
                .collect();
            prop_assume!(list.iter().map(Phase::count).sum::<f64>() >= 1.0);
            let mut phases = Phases::new(&list);
            let mut last = 0;
            for index in 0..500 {
                let due = phases.due(index);
                prop_assert!(due >= last);
                prop_assert_eq!(due, phases.due_of_any(index));
                // Off by one request at most, where it falls due in the very nanosecond.
                let before = phases.count_before(due);
                prop_assert!(before.abs_diff(index) <= 1, "{} before no. {}", before, index);
                last = due;
                phases.advance(index + 1);
            }
        }
    }
}
