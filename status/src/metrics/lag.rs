//! How long the oldest update has waited that is not settled, as far as counts tell: how long ago
//! the server had accepted as many updates as it has settled by now.
//!
//! Of n settled updates and one that is not, the oldest that is not is among the first n + 1. So it
//! is never younger than what this tells, but for the time between two looks. Both are the same
//! where updates are settled in the order in which they came.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ringhook::Report;
use ringhook_outputs::forward::ForwardStatus;

/// Looks that are remembered: nearly six hours at one in five seconds.
const LOOKS_MAX: usize = 4096;

/// The number of accepted updates at some moments.
#[derive(Debug, Default)]
pub(super) struct Lag(VecDeque<(Instant, u64)>);

/// How many updates were accepted, those that a start has found in the journal included, and how
/// many of these need no further call.
///
/// A journal counts an update once, and as settled when all outputs have settled it. What it keeps
/// for bots that are not configured waits for nothing here.
pub(crate) fn accepted_and_settled(report: &Report) -> (u64, u64) {
    if let Some(journal) = &report.journal {
        let accepted = journal.recovered_records + journal.appended_records;
        let waiting = journal.lag_records.saturating_sub(journal.orphaned_records);
        return (accepted, accepted.saturating_sub(waiting));
    }
    let refused: u64 = report.updates_refused.values().sum();
    let came = report.updates_received + report.updates_delivered + report.updates_fed;
    let accepted = (came + report.updates_multiplied).saturating_sub(refused);
    let expired: u64 = report.updates_expired.values().sum();
    let handled = report.updates_handled + report.updates_failed;
    (accepted, handled + report.updates_duplicate + report.updates_dropped + expired)
}

impl Lag {
    pub(super) fn look(&mut self, now: Instant, report: &Report) {
        self.note(now, accepted_and_settled(report).0);
    }

    fn note(&mut self, now: Instant, accepted: u64) {
        if self.0.len() == LOOKS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, accepted));
    }

    /// The lag at `now`, as of `report`. What waits for a target is known by itself.
    pub(super) fn of(
        &self,
        now: Instant,
        report: &Report,
        forwards: &[(String, ForwardStatus)],
    ) -> Duration {
        let (accepted, settled) = accepted_and_settled(report);
        let targets = forwards.iter().flat_map(|(_, status)| &status.targets);
        let oldest = targets.filter_map(|target| target.oldest_waiting).max();
        self.at(now, accepted, settled).max(oldest.unwrap_or_default())
    }

    /// The lag at `now`, at most by the time between two looks too long.
    fn at(&self, now: Instant, accepted: u64, settled: u64) -> Duration {
        if accepted <= settled {
            return Duration::ZERO;
        }
        // The next one came after this look, or before all of them.
        let before = self.0.partition_point(|(_, accepted)| *accepted <= settled);
        let look = before.checked_sub(1).and_then(|at| self.0.get(at)).or(self.0.front());
        look.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_age_of_what_is_settled_next() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lag = Lag::default();
        assert_eq!(lag.at(at(0), 3, 0), Duration::ZERO, "nothing is known yet");
        for (seconds, accepted) in [(0, 0), (5, 10), (10, 10), (15, 30)] {
            lag.note(at(seconds), accepted);
        }
        let seconds = |accepted, settled| lag.at(at(20), accepted, settled).as_secs();
        assert_eq!(seconds(40, 40), 0);
        assert_eq!(seconds(40, 0), 20);
        assert_eq!(seconds(40, 9), 20);
        assert_eq!(seconds(40, 10), 10, "the eleventh came after the look at 10 s");
        assert_eq!(seconds(40, 30), 5);
        for second in 0..2 * LOOKS_MAX as u64 {
            lag.note(at(20 + second), 100);
        }
        assert_eq!(lag.0.len(), LOOKS_MAX);
    }
}
