//! Logs what hangs, once, and once more when it is over.
//!
//! A thread of its own looks now and then. It does nothing that could hang itself: no I/O but a
//! line of the log.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    control::operation::Step,
    observe::{
        incidents::{IncidentKind, IncidentWriter},
        metrics::HangCounts,
    },
    server::health::{Hanging, Health},
};

/// Time between two looks. Rarely enough that an idle server stays idle.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

/// The state of each step at the last look.
#[derive(Debug)]
pub(crate) struct Hangs {
    counts: Arc<HangCounts>,
    health: Arc<Health>,
    incidents: IncidentWriter,
    /// The outputs that took nothing at the last look, by their numbers.
    outputs_down: Vec<bool>,
    seen: [HangStatus; Step::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum HangStatus {
    /// It does not hang.
    #[default]
    No,
    /// It did at the last look for the first time. Where the whole process was stopped for a while,
    /// it does not at the next one.
    Once,
    /// That has been reported; it began then.
    Reported(Instant),
}

impl Hangs {
    pub(crate) fn new(
        health: Arc<Health>,
        incidents: IncidentWriter,
        counts: Arc<HangCounts>,
    ) -> Self {
        let seen = [HangStatus::No; Step::ALL.len()];
        Self { counts, health, incidents, outputs_down: Vec::new(), seen }
    }

    /// To be called every now and then.
    pub(crate) fn look(&mut self, now: Instant) {
        self.look_at_outputs();
        self.health.release_commits();
        let hanging = self.health.hanging(now);
        for (step, seen) in Step::ALL.into_iter().zip(&mut self.seen) {
            let hangs = hanging.iter().find(|it| it.step == step);
            let before = mem::take(seen);
            *seen = match (before, hangs) {
                (HangStatus::No, Some(_)) => HangStatus::Once,
                (HangStatus::Once, Some(hanging)) => {
                    self.counts.count(step);
                    let text = hanging.to_string();
                    self.incidents.note_text(IncidentKind::Hang, None, step.as_str(), &text);
                    HangStatus::Reported(now.checked_sub(hanging.longest).unwrap_or(now))
                }
                (HangStatus::Reported(since), Some(_)) => HangStatus::Reported(since),
                (HangStatus::Reported(since), None) => {
                    let seconds = now.saturating_duration_since(since).as_secs();
                    let what = step.words();
                    tracing::info!(step = step.as_str(), "{what} goes on again after {seconds} s");
                    HangStatus::No
                }
                (HangStatus::No | HangStatus::Once, None) => HangStatus::No,
            };
        }
    }
}

impl Hangs {
    /// Tells which outputs take nothing since the last look, and which do again.
    fn look_at_outputs(&mut self) {
        let Self { health, incidents, outputs_down, .. } = self;
        for (number, output) in health.outputs().enumerate() {
            let is_down = output.down().is_some();
            if outputs_down.len() <= number {
                outputs_down.push(false);
            }
            let Some(was_down) = outputs_down.get_mut(number) else { continue };
            if mem::replace(was_down, is_down) != is_down {
                let detail = if is_down { "down" } else { "up" };
                incidents.note_text(IncidentKind::Output, None, detail, &output.to_string());
            }
        }
    }
}

impl std::fmt::Display for Hanging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, seconds) = (self.step.words(), self.longest.as_secs());
        write!(f, "{what} has not returned for {seconds} s")?;
        if self.count > 1 { write!(f, " ({} threads)", self.count) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{Control, operation::Operation},
        observe::incidents::Incidents,
    };

    #[test]
    fn a_hang_is_told_once_for_all_who_wait_and_not_for_a_process_that_was_stopped() {
        let health = Arc::new(Health::new(Arc::new(Control::new(None))));
        let incidents = Incidents::new(10);
        let counts = Arc::<HangCounts>::default();
        let mut hangs = Hangs::new(Arc::clone(&health), incidents.writer(), Arc::clone(&counts));
        let [one, two] = [(); 2].map(|()| Arc::<Operation>::default());
        health.watch(&one);
        health.watch(&two);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let reported = || incidents.latest(10).0.iter().map(|it| it.detail).collect::<Vec<_>>();

        one.begin(Step::Sink, at(0));
        hangs.look(at(4));
        assert_eq!(health.hanging(at(4)), []);
        hangs.look(at(6));
        one.end();
        hangs.look(at(8));
        assert_eq!(
            (reported(), counts.get(Step::Sink)),
            (vec![], 0),
            "it went on at the second look"
        );

        one.begin(Step::Sink, at(10));
        two.begin(Step::Sink, at(11));
        for second in 16..30 {
            hangs.look(at(second));
        }
        let texts = health.hanging(at(30)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts, ["output: a write has not returned for 20 s (2 threads)"]);
        assert_eq!((reported(), counts.get(Step::Sink)), (vec!["sink"], 1));
        one.end();
        two.begin(Step::Commit, at(20));
        for second in 31..40 {
            hangs.look(at(second));
        }
        assert_eq!((counts.get(Step::Sink), counts.get(Step::Commit)), (1, 1));
        assert_eq!(reported().len(), 2);
    }
}
