//! The updates that wait for one bot, and when each may be sent to its webhook.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

/// An update that is not confirmed.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// As it is sent.
    pub(super) body: String,
    /// Updates of the same lane go one after the other.
    pub(super) lane: String,
    pub(super) expires: Instant,
}

/// By id.
pub(super) type Waiting = BTreeMap<i64, Pending>;

/// When what waits may go to a webhook. Made anew with each webhook, so that every one starts
/// without a history of failures.
#[derive(Default)]
pub(super) struct Schedule {
    lanes: BTreeMap<String, VecDeque<i64>>,
    /// The heads of the lanes that are not under way.
    heads: BTreeSet<(Instant, i64)>,
    failed: BTreeMap<i64, Failed>,
}

/// What is known of an update that was not taken.
#[derive(Clone, Copy)]
pub(super) struct Failed {
    pub(super) times: u32,
    /// The delay used last, in seconds of the sender.
    pub(super) delay: u64,
}

impl Schedule {
    pub(super) fn new(waiting: &Waiting) -> Self {
        let mut schedule = Self::default();
        let now = Instant::now();
        for (id, pending) in waiting {
            schedule.add(*id, &pending.lane, now);
        }
        schedule
    }

    pub(super) fn add(&mut self, id: i64, lane: &str, now: Instant) {
        let ids = self.lanes.entry(lane.to_owned()).or_default();
        if ids.is_empty() {
            self.heads.insert((now, id));
        }
        ids.push_back(id);
    }

    /// Takes the update that may go first, if that is already the case; otherwise when to ask
    /// again.
    pub(super) fn take(&mut self, now: Instant) -> Result<i64, Option<Instant>> {
        match self.heads.first().copied() {
            Some((at, id)) if at <= now => {
                self.heads.pop_first();
                Ok(id)
            }
            later => Err(later.map(|(at, _)| at)),
        }
    }

    pub(super) fn failed(&self, id: i64) -> Failed {
        self.failed.get(&id).copied().unwrap_or(Failed { times: 0, delay: 1 })
    }

    /// The update that was taken may be tried again at `at`.
    pub(super) fn retry(&mut self, id: i64, at: Instant, delay: u64) {
        let times = self.failed(id).times + 1;
        self.failed.insert(id, Failed { times, delay });
        self.heads.insert((at, id));
    }

    /// The update that was taken is done with.
    pub(super) fn done(&mut self, id: i64, lane: &str, now: Instant) {
        self.failed.remove(&id);
        let Some(ids) = self.lanes.get_mut(lane) else { return };
        assert_eq!(ids.pop_front(), Some(id), "only the head of a lane is ever under way");
        match ids.front() {
            Some(next) => {
                self.heads.insert((now, *next));
            }
            None => {
                self.lanes.remove(lane);
            }
        }
    }
}
