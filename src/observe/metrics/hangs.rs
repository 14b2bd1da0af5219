//! How often each step was found to hang.

use std::{collections::BTreeMap, iter::zip};

use super::Counter;
use crate::control::operation::Step;

/// How often each [`Step`] was found to hang; written by the thread that looks.
#[derive(Debug, Default)]
pub(crate) struct HangCounts([Counter; Step::ALL.len()]);

impl HangCounts {
    pub(crate) fn count(&self, step: Step) {
        if let Some(counter) = self.0.get(step as usize) {
            counter.increment();
        }
    }

    #[cfg(test)]
    pub(crate) fn get(&self, step: Step) -> u64 {
        self.0.get(step as usize).map_or(0, Counter::get)
    }

    /// Those that are not 0.
    pub(super) fn report(&self) -> BTreeMap<Step, u64> {
        let counts = zip(Step::ALL, &self.0).map(|(step, count)| (step, count.get()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}
