//! One target with the updates that wait for it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use ringhook::PendingUpdate;

use super::{
    condition::{Condition, State},
    retry::UpdateKey,
    status::TargetView,
    upstream::Upstream,
};

/// The same change of a target's state is logged once in this time.
const SAID_FOR: Duration = Duration::from_secs(60);

/// An update that is not settled.
pub(super) struct Item {
    pub(super) pending: PendingUpdate,
    pub(super) key: UpdateKey,
    /// Updates of its album that have been delivered.
    pub(super) delivered: usize,
    /// How often a target that was up has answered that it is wrongly set up.
    pub(super) wrongs: u32,
    /// How often the target's process has ended while it had this update.
    pub(super) ends: u32,
}

/// One target: its state, its connections, and what waits for it.
///
/// What waits is kept here for as long as the target is down, and is not postponed in the server.
/// It is in memory in both places, and counts against the server's limits in both. From here it is
/// sent at once when the target is back, and no attempt is counted. A stop can leave it: the engine
/// knows what it holds, and gives all of it back.
pub(super) struct Outlet {
    pub(super) upstream: Arc<Upstream>,
    pub(super) condition: Condition,
    pub(super) waiting: VecDeque<Item>,
    /// The target as it is shown.
    name: Arc<str>,
    /// Requests under way.
    pub(super) in_flight: usize,
    /// Which of them is a probe, and when its update came in.
    pub(super) probe: Option<(u64, Instant)>,
    /// Which update is the next probe. Each gets its turn, so that one which the target never takes
    /// does not hide that it is back.
    cursor: usize,
    /// What has been logged of its state, and when.
    said: Vec<(State, Instant)>,
}

impl Outlet {
    pub(super) fn new(upstream: Arc<Upstream>, condition: Condition) -> Self {
        let name = upstream.target().to_string().into();
        Self {
            upstream,
            name,
            condition,
            waiting: VecDeque::new(),
            in_flight: 0,
            probe: None,
            cursor: 0,
            said: Vec::new(),
        }
    }

    /// True where an update may go to this target, if only to wait for it.
    pub(super) fn takes(&self, move_after: Option<Duration>, now: Instant) -> bool {
        let Some(moved_at) = self.moved_at(move_after) else { return true };
        // Once the others have moved, an update that comes is the next probe.
        let wants_probe =
            self.waiting.is_empty() && self.probe.is_none() && self.condition.probe_at() <= now;
        now < moved_at || wants_probe
    }

    /// From when on its updates go elsewhere; `None` where they do not.
    pub(super) fn moved_at(&self, move_after: Option<Duration>) -> Option<Instant> {
        let (since, _) = self.condition.since();
        move_after.filter(|_| !self.condition.is_up()).and_then(|after| since.checked_add(after))
    }

    /// Whether the next probe is due; `None` where none is wanted.
    pub(super) fn next_probe_at(&self) -> Option<Instant> {
        let is_wanted = !self.condition.is_up() && self.probe.is_none() && !self.waiting.is_empty();
        is_wanted.then(|| self.condition.probe_at())
    }

    /// The next update to send, and whether it is a probe. `connections` requests may be under way.
    pub(super) fn next(&mut self, connections: usize, now: Instant) -> Option<(Item, bool)> {
        if self.condition.is_up() {
            let has_room = self.in_flight < connections;
            return has_room.then(|| self.waiting.pop_front()).flatten().map(|item| (item, false));
        }
        if self.next_probe_at()? > now {
            return None;
        }
        self.cursor %= self.waiting.len().max(1);
        self.waiting.remove(self.cursor).map(|item| (item, true))
    }

    /// Takes an update back that was sent for nothing: a probe to its place, any other to the
    /// front, as the older one.
    pub(super) fn take_back(&mut self, item: Item, was_probe: bool) {
        if was_probe {
            let at = self.cursor.min(self.waiting.len());
            self.waiting.insert(at, item);
            self.cursor = at + 1;
        } else {
            self.waiting.push_front(item);
        }
    }

    /// True where this is worth a line in the log, since none has said it of late.
    pub(super) fn is_news(&mut self, state: State, now: Instant) -> bool {
        self.said.retain(|(_, at)| now.saturating_duration_since(*at) < SAID_FOR);
        let is_news = self.said.iter().all(|(said, _)| *said != state);
        if is_news {
            self.said.push((state, now));
        }
        is_news
    }

    pub(super) fn view(&self) -> TargetView {
        let waiting = self.waiting.front().map(|item| item.pending.received_at());
        let probe = self.probe.map(|(_, received_at)| received_at);
        TargetView {
            name: Arc::clone(&self.name),
            state: self.condition.state(),
            since: self.condition.since(),
            waiting: self.waiting.len(),
            in_flight: self.in_flight,
            oldest: waiting.into_iter().chain(probe).min(),
        }
    }
}
