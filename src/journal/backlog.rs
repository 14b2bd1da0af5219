//! In which order updates go from the journal to the workers.
//!
//! Mostly an update goes on as soon as its record is committed. Where the queues are full, none
//! does any more: all are left in the journal, and read back from there in the order of their
//! records until the end is reached. Where only one chat has too many waiting, the updates of that
//! chat alone are left, and the places of their records kept.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, Thread},
    time::Instant,
};

use super::{Journal, Parts};
use crate::{
    bots::{BotId, BotKey},
    dispatch::{Dispatcher, LaneKey, Origin, RecordId, dedup::Window},
    outcome::Refusal,
    proto::update::Update,
};

/// Records of full chats whose positions are kept, 8 bytes each. Beyond it, everything waits.
const DEFERRED_MAX: usize = 4 << 20;

/// What the committer and the thread that reads back agree on.
#[derive(Debug)]
pub(crate) struct Backlog {
    state: Mutex<BacklogState>,
    reader: OnceLock<Thread>,
}

#[derive(Debug)]
pub(super) struct BacklogState {
    /// Segment and offset at which the committed records end.
    pub(super) committed: (u32, u64),
    /// Whether updates reach the workers by being read back.
    pub(super) is_behind: bool,
    /// Where reading back begins; taken by the reader.
    pub(super) from: Option<RecordId>,
    /// Bots that were configured since the start and have updates that an earlier run has left:
    /// these go to the workers before anything else does.
    pub(super) adopted: Vec<BotKey>,
    /// Bots that were not configured at the start and may have such updates, and the ids that were
    /// seen.
    orphaned: HashMap<BotKey, Window>,
    deferred: HashMap<DeferredKey, VecDeque<RecordId>>,
    deferred_records: usize,
    /// Records of updates that go to no output, and the bytes of these, until they are settled.
    unrouted: Vec<(RecordId, u64)>,
}

/// The updates of a chat that an output is to get later.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct DeferredKey {
    pub(super) output: usize,
    pub(super) lane: LaneKey,
}

impl Backlog {
    /// Records from `from` on are to be read back, up to `committed` and what comes behind it.
    pub(crate) fn new(from: Option<RecordId>, committed: (u32, u64)) -> Self {
        let state = BacklogState {
            committed,
            is_behind: from.is_some(),
            from,
            adopted: Vec::new(),
            orphaned: HashMap::new(),
            deferred: HashMap::new(),
            deferred_records: 0,
            unrouted: Vec::new(),
        };
        Self { state: Mutex::new(state), reader: OnceLock::new() }
    }

    /// The bots of which an earlier run has left something, and which are not configured.
    pub(crate) fn with(mut self, orphaned: HashMap<BotKey, Window>) -> Self {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.orphaned = orphaned;
        self
    }

    /// Has the updates of `bots` delivered that an earlier run has left, before any that come from
    /// now on. To be called where bots are configured anew, before updates of them are taken; the
    /// ids that were seen of them go to `install`.
    pub(crate) fn adopt(
        &self,
        bots: impl Iterator<Item = (BotId, BotKey)>,
        mut install: impl FnMut(BotId, Window),
    ) {
        let mut state = self.lock();
        let BacklogState { adopted, orphaned, .. } = &mut *state;
        let before = adopted.len();
        for (bot, key) in bots {
            if let Some(window) = orphaned.remove(&key) {
                install(bot, window);
                adopted.push(key);
            }
        }
        if adopted.len() == before {
            return;
        }
        if !state.is_behind {
            let (segment, end) = state.committed;
            // A segment is smaller than 4 GiB.
            state.fall_behind(RecordId { segment, offset: end as u32 });
        }
        drop(state);
        self.wake();
    }

    /// How many updates are left for `output`, of which `with_workers` says how many its workers
    /// have. The last one is settled where this is 0, and none comes any more where it is named by
    /// no route that is in force.
    pub(crate) fn left_for(
        &self,
        output: usize,
        parts: &Parts,
        with_workers: impl FnOnce() -> usize,
    ) -> usize {
        // Updates are handed on under this lock.
        let state = self.lock();
        let deferred = state.deferred.iter().filter(|(key, _)| key.output == output);
        let deferred: usize = deferred.map(|(_, records)| records.len()).sum();
        match deferred + with_workers() {
            // It was refused where there was no room for it, and comes again.
            0 => usize::from(parts.is_awaited(output)),
            left => left,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BacklogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called by the thread that reads back.
    pub(super) fn attach(&self) {
        let _ = self.reader.set(thread::current());
    }

    /// Wakes the thread that reads back: there is work, or it is to end.
    pub(crate) fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

impl BacklogState {
    /// From now on everything from `record` on is read back.
    pub(super) fn fall_behind(&mut self, record: RecordId) {
        debug_assert!(self.from.is_none(), "{record:?} would hide {:?}", self.from);
        self.is_behind = true;
        self.from = Some(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_behind && self.deferred.is_empty()
    }

    /// Hands an update to the outputs that it goes to. Where its chat has too many waiting in an
    /// output, or was left behind before, it is deferred there; so it is where the output has no
    /// room at all, if there are others, which must not wait for that one.
    ///
    /// # Errors
    /// The update. [`Refusal::Chat`] means that it is deferred; after any other refusal the caller
    /// has to hand it on before anything behind it.
    pub(super) fn hand_on(
        &mut self,
        dispatcher: &Dispatcher,
        journal: &Journal,
        update: Update,
        now: Instant,
        origin: Origin,
    ) -> Result<(), (Refusal, Update)> {
        let lane = LaneKey::from_update(&update, dispatcher.order());
        let Some(record) = origin.record else { return dispatcher.hand_on(update, now, origin) };
        if dispatcher.outputs() == 1 && !dispatcher.is_routed() {
            return self.hand_to(dispatcher, DeferredKey { output: 0, lane }, update, now, origin);
        }
        let begun = journal.parts().waiting(record);
        let outputs = begun.unwrap_or_else(|| {
            let before = journal.parts().settled_before(record);
            dispatcher.route(&update).minus(before)
        });
        if begun.is_none() && outputs.is_empty() {
            self.unrouted.push((record, update.byte_len() as u64));
            return Ok(());
        }
        let is_part = begun.is_some() || outputs.len() > 1;
        if is_part && begun.is_none() {
            journal.parts().begin(record, outputs);
            dispatcher.counts().deliver_further(outputs.len() - 1);
        }
        let origin = Origin { is_part, ..origin };
        let (mut is_deferred, mut refused) = (false, None);
        for output in outputs.iter() {
            if is_part {
                // Before: the output may have settled it when the call returns.
                journal.parts().give(record, output);
            }
            let key = DeferredKey { output, lane };
            let Err((refusal, _)) = self.hand_to(dispatcher, key, update.share(), now, origin)
            else {
                continue;
            };
            if refusal == Refusal::Chat || dispatcher.outputs() > 1 && self.defer(key, record) {
                is_deferred = true;
            } else {
                refused = Some(refusal);
                if is_part {
                    journal.parts().take_back(record, output);
                }
            }
        }
        match refused {
            Some(refusal) => Err((refusal, update)),
            None if is_deferred => Err((Refusal::Chat, update)),
            None => Ok(()),
        }
    }

    /// Hands an update to one output.
    ///
    /// # Errors
    /// As for [`hand_on`](Self::hand_on).
    fn hand_to(
        &mut self,
        dispatcher: &Dispatcher,
        key: DeferredKey,
        update: Update,
        now: Instant,
        origin: Origin,
    ) -> Result<(), (Refusal, Update)> {
        let is_deferred = !self.deferred.is_empty() && self.deferred.contains_key(&key);
        let outcome = match is_deferred {
            true => Err((Refusal::Chat, update)),
            false => dispatcher.hand_to(key.output, update, now, origin),
        };
        match (outcome, origin.record) {
            (Err((Refusal::Chat, update)), Some(record)) if !self.defer(key, record) => {
                Err((Refusal::Updates, update))
            }
            (outcome, _) => outcome,
        }
    }

    /// Takes the records of updates that go to no output; they are to be settled.
    pub(super) fn take_unrouted(&mut self) -> Vec<(RecordId, u64)> {
        std::mem::take(&mut self.unrouted)
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Leaves the update of a full chat in the journal; false where too many are.
    fn defer(&mut self, key: DeferredKey, record: RecordId) -> bool {
        if self.deferred_records >= DEFERRED_MAX {
            return false;
        }
        self.deferred_records += 1;
        self.deferred.entry(key).or_default().push_back(record);
        true
    }

    /// The first records, up to `limit`, of each chat of which `has_room` is true.
    pub(super) fn deferred_with_room(
        &self,
        limit: usize,
        has_room: impl Fn(DeferredKey) -> bool,
    ) -> Vec<(DeferredKey, Vec<RecordId>)> {
        let with_room = self.deferred.iter().filter(|(key, _)| has_room(**key));
        with_room
            .map(|(key, records)| (*key, records.iter().take(limit).copied().collect()))
            .collect()
    }

    /// Forgets the first `count` records of a chat: they have gone to the workers.
    pub(super) fn resume(&mut self, key: DeferredKey, count: usize) {
        if let Some(records) = self.deferred.get_mut(&key) {
            debug_assert!(count <= records.len() && records.len() <= self.deferred_records);
            self.deferred_records -= count.min(records.len());
            records.drain(..count.min(records.len()));
            if records.is_empty() {
                self.deferred.remove(&key);
            }
        }
    }
}
