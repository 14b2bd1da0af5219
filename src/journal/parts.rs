//! Records whose updates go to several outputs: each settles its part.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::dispatch::{OutputKey, OutputSet, RecordId};

/// The records that several outputs have or are to get. The lock is taken for these alone.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The keys of the outputs, by their numbers.
    keys: boxcar::Vec<OutputKey>,
    records: Mutex<HashMap<RecordId, Part>>,
    /// What earlier runs have settled of records that are delivered now. Set at the start.
    settled: OnceLock<HashMap<RecordId, Vec<OutputKey>>>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    /// Outputs that have not got the update, and for which it is not deferred either.
    waiting: OutputSet,
    /// Outputs that have not settled it.
    unsettled: OutputSet,
}

impl Parts {
    /// Which outputs have settled a record in an earlier run.
    pub(crate) fn set_settled(&self, settled: HashMap<RecordId, Vec<OutputKey>>) {
        let _ = self.settled.set(settled);
    }

    /// An output more of the server. To be called in the order of their numbers.
    pub(crate) fn add_output(&self, key: OutputKey) {
        self.keys.push(key);
    }

    /// The key of `output`.
    pub(super) fn key_of(&self, output: usize) -> Option<OutputKey> {
        self.keys.get(output).copied()
    }

    /// The outputs that have settled `record` in an earlier run. One that the server has not, or
    /// not yet, has nothing to get.
    pub(super) fn settled_before(&self, record: RecordId) -> OutputSet {
        let Some(settled) = self.settled.get().and_then(|settled| settled.get(&record)) else {
            return OutputSet::NONE;
        };
        let numbers = self.keys.iter().filter(|(_, key)| settled.contains(key));
        numbers.map(|(number, _)| number).collect()
    }

    /// True where `output` has not settled some record that it has or is to get.
    pub(super) fn is_awaited(&self, output: usize) -> bool {
        self.lock().values().any(|part| part.unsettled.contains(output))
    }

    /// `record` goes to `outputs`, unless it is known already.
    pub(super) fn begin(&self, record: RecordId, outputs: OutputSet) {
        self.lock().entry(record).or_insert(Part { waiting: outputs, unsettled: outputs });
    }

    /// The outputs that are still to get `record`; `None` where it has no parts.
    pub(super) fn waiting(&self, record: RecordId) -> Option<OutputSet> {
        self.lock().get(&record).map(|part| part.waiting)
    }

    /// True where several outputs have or get `record`.
    pub(super) fn is_part(&self, record: RecordId) -> bool {
        self.lock().contains_key(&record)
    }

    /// `output` is about to get `record`, or it is deferred there.
    pub(super) fn give(&self, record: RecordId, output: usize) {
        if let Some(part) = self.lock().get_mut(&record) {
            part.waiting = part.waiting.without(output);
        }
    }

    /// `output` has not got `record` after all.
    pub(super) fn take_back(&self, record: RecordId, output: usize) {
        if let Some(part) = self.lock().get_mut(&record) {
            debug_assert!(part.unsettled.contains(output), "settled by an output without it");
            part.waiting = part.waiting.with(output);
        }
    }

    /// `output` has settled `record`; true where it was the last one to do so.
    pub(crate) fn settle(&self, record: RecordId, output: usize) -> bool {
        match self.lock().entry(record) {
            Entry::Occupied(mut part) => {
                let Part { waiting, unsettled } = part.get_mut();
                debug_assert!(!waiting.contains(output), "settled by an output without it");
                debug_assert!(unsettled.contains(output), "settled twice by an output");
                *unsettled = unsettled.without(output);
                let is_last = unsettled.is_empty();
                if is_last {
                    part.remove();
                }
                is_last
            }
            Entry::Vacant(_) => {
                debug_assert!(false, "{record:?} has no parts");
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, Part>> {
        // Nothing under the lock can panic.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: RecordId = RecordId { segment: 1, offset: 40 };

    #[test]
    fn a_record_is_settled_when_its_last_output_has_settled_it() {
        let parts = Parts::default();
        assert_eq!(parts.waiting(RECORD), None);
        parts.begin(RECORD, OutputSet::only(0).with(2).with(5));
        parts.give(RECORD, 0);
        parts.give(RECORD, 5);
        // Read once more because it has fallen behind: what was given stays so.
        parts.begin(RECORD, OutputSet::only(1));
        assert_eq!(parts.waiting(RECORD), Some(OutputSet::only(2)));
        assert!(!parts.settle(RECORD, 5));
        parts.give(RECORD, 2);
        parts.take_back(RECORD, 2);
        assert!(!parts.settle(RECORD, 0));
        assert_eq!(parts.waiting(RECORD), Some(OutputSet::only(2)));
        assert!(parts.is_part(RECORD));
        parts.give(RECORD, 2);
        assert!(parts.settle(RECORD, 2));
        assert!(!parts.is_part(RECORD));
    }
}
