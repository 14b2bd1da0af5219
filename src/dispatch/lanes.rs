//! Lanes: one for each chat that has updates waiting. A lane is worked on by one worker at a time,
//! an update at a time, so a chat keeps its order while all workers are open to all chats.
//!
//! Plain data: no clock, no thread, no lock. Time is an argument.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Delivery,
    full::FullChats,
    waiting::{LaneQueue, Store},
};
use crate::{
    bots::BotId,
    config::Order,
    proto::update::{ChatKey, Update, UpdateId},
};

/// Most messages of an album (Bot API, sendMediaGroup). A full one is not waited for.
const ALBUM_MAX: usize = 10;

/// Which lane an update belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LaneKey {
    pub(crate) bot: BotId,
    pub(crate) chat: ChatKey,
}

impl LaneKey {
    /// The lane of `update`: its chat's, or one of its own where no order is asked for.
    pub(crate) fn from_update(update: &Update, order: Order) -> Self {
        let chat = match order {
            Order::Chat => update.chat_key(),
            Order::None => ChatKey::Update(update.id().get()),
        };
        Self { bot: update.bot(), chat }
    }

    /// A hash for choosing partitions and slots; all its bits are good.
    pub(crate) fn hash64(self) -> u64 {
        let bot = u64::from(self.bot.index()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.chat.hash64() ^ bot
    }
}

impl Hash for LaneKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

/// Takes a [`LaneKey`]'s hash as it is: it is mixed already.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A lane by its index; valid while the lane is not empty or one of its updates is being handled.
pub(crate) type LaneId = usize;

/// The waiting updates of some chats, in order.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// How long the next message of an album is waited for; `None` where albums are not gathered.
    album_wait: Option<Duration>,
    /// Whether nothing more can come, so that no album is waited for.
    is_closed: bool,
    /// Updates that may wait in one lane before its chat counts as full.
    chat_updates: usize,
    full: Arc<FullChats>,
    by_key: HashMap<LaneKey, LaneId, BuildHasherDefault<Mixed>>,
    /// Never more than there were updates under way at once.
    lanes: Vec<Lane>,
    spare: Vec<LaneId>,
    /// Lanes whose first update may be handled now, first come, first served.
    ready: VecDeque<LaneId>,
    /// Lanes that have just been served and have more updates: they are served after those of the
    /// updates that have arrived meanwhile.
    again: VecDeque<LaneId>,
    /// Whether some of those updates have not been put into lanes yet.
    is_behind: bool,
    /// Lanes that wait for a time, the earliest first. An entry whose lane has gone on meanwhile is
    /// out of date and skipped.
    due: BinaryHeap<Reverse<(Instant, LaneId)>>,
    /// The memory of the waiting updates of all lanes.
    store: Store,
}

#[derive(Debug)]
struct Lane {
    /// Whether the chat counts as full. It does until half of its updates are gone.
    full: bool,
    /// The updates being handled.
    held: Vec<UpdateId>,
    key: LaneKey,
    state: LaneState,
    updates: LaneQueue,
}

/// The state of a lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LaneState {
    /// It is empty and belongs to no chat.
    Spare,
    /// Its first update may be handled: it is in the queue of ready lanes.
    Ready,
    /// One of its updates is being handled.
    Running,
    /// Its first update is of an album that may get more until a time.
    Gathering(Instant),
    /// Its first update waits for a time.
    Waiting(Instant),
}

impl Lanes {
    /// No lanes. Chats that become full are counted in `full`.
    pub(crate) fn new(
        chat_updates: usize,
        album_wait: Option<Duration>,
        full: Arc<FullChats>,
    ) -> Self {
        Self {
            album_wait,
            is_closed: false,
            chat_updates,
            full,
            by_key: HashMap::default(),
            lanes: Vec::new(),
            spare: Vec::new(),
            ready: VecDeque::new(),
            again: VecDeque::new(),
            is_behind: false,
            due: BinaryHeap::new(),
            store: Store::default(),
        }
    }

    /// Lets up to `chat_updates` updates of a chat wait. A chat with more counts as full when its
    /// next update comes.
    pub(crate) fn set_chat_updates(&mut self, chat_updates: usize) {
        self.chat_updates = chat_updates;
    }

    /// Puts `delivery` at the end of its chat's lane.
    pub(crate) fn push(&mut self, key: LaneKey, delivery: Delivery) {
        let id = match self.by_key.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let id = open(&mut self.lanes, &mut self.spare, key);
                self.ready.push_back(id);
                *place.insert(id)
            }
        };
        let Some(lane) = self.lanes.get_mut(id) else { return self.push_anew(key, delivery) };
        debug_assert!(lane.key == key && lane.state != LaneState::Spare, "{key:?} in {lane:?}");
        self.store.push_back(&mut lane.updates, delivery);
        if matches!(lane.state, LaneState::Gathering(_)) {
            // Whether the album is complete is decided when the lane is taken.
            lane.state = LaneState::Ready;
            self.ready.push_back(id);
        }
        if !lane.full && lane.updates.len() >= self.chat_updates {
            lane.full = true;
            self.full.raise(key.hash64());
        }
    }

    /// Makes a lane for an update whose lane is none: it is delivered, whatever has gone wrong.
    #[cold]
    fn push_anew(&mut self, key: LaneKey, delivery: Delivery) {
        self.lanes.push(Lane::new(key));
        let id = self.lanes.len() - 1;
        self.by_key.insert(key, id);
        self.ready.push_back(id);
        if let Some(lane) = self.lanes.last_mut() {
            self.store.push_back(&mut lane.updates, delivery);
        }
    }

    /// The first update of the next ready lane, to be handled now. The lane is held until
    /// [`finish`](Self::finish) or [`retry`](Self::retry).
    pub(crate) fn take(&mut self, now: Instant) -> Option<(LaneId, Delivery)> {
        self.promote(now);
        if !self.is_behind || self.ready.is_empty() {
            self.ready.append(&mut self.again);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            debug_assert_eq!(
                lane.state,
                LaneState::Ready,
                "held by another worker, or out of turn"
            );
            debug_assert!(lane.held.is_empty() && lane.updates.len() > 0, "{lane:?}");
            if let Some(wait) = self.album_wait.filter(|_| !self.is_closed)
                && let Some(until) = lane.gathers_until(&self.store, wait)
                && until > now
            {
                lane.state = LaneState::Gathering(until);
                self.due.push(Reverse((until, id)));
                continue;
            }
            // A lane that is ready has an update: it was opened for one, or kept for the next.
            if let Some(delivery) = lane.pop(&mut self.store, self.album_wait.is_some()) {
                lane.state = LaneState::Running;
                return Some((id, delivery));
            }
        }
        None
    }

    /// Nothing more comes in: albums are handled as they are.
    pub(crate) fn close_intake(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        for (id, lane) in self.lanes.iter_mut().enumerate() {
            if matches!(lane.state, LaneState::Gathering(_)) {
                lane.state = LaneState::Ready;
                self.ready.push_back(id);
            }
        }
    }

    /// The next update of a lane that is held already, for a worker that handles several at once.
    pub(crate) fn take_next_of(&mut self, id: LaneId) -> Option<Delivery> {
        let lane = self.lanes.get_mut(id)?;
        debug_assert_eq!(lane.state, LaneState::Running);
        if let Some(wait) = self.album_wait.filter(|_| !self.is_closed)
            && lane.gathers_until(&self.store, wait).is_some()
        {
            // An album that may get more waits until its lane is taken again.
            return None;
        }
        lane.pop(&mut self.store, self.album_wait.is_some())
    }

    /// Releases a lane whose update has been handled.
    pub(crate) fn finish(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        debug_assert_eq!(lane.state, LaneState::Running);
        debug_assert!(!lane.held.is_empty(), "nothing of it was handled");
        lane.held.clear();
        let length = lane.updates.len();
        if lane.full && length <= self.chat_updates / 2 {
            lane.full = false;
            self.full.lower(lane.key.hash64());
        }
        if length > 0 {
            lane.state = LaneState::Ready;
            self.again.push_back(id);
        } else {
            self.close(id);
        }
    }

    /// Puts an update back at the head of its lane, which is let go and waits until `due`.
    ///
    /// # Errors
    /// The update, where there is no such lane.
    pub(crate) fn retry(
        &mut self,
        id: LaneId,
        delivery: Delivery,
        due: Instant,
    ) -> Result<(), Delivery> {
        let Some(lane) = self.lanes.get_mut(id) else { return Err(delivery) };
        debug_assert_eq!(lane.state, LaneState::Running);
        lane.held.clear();
        self.store.push_front(&mut lane.updates, delivery);
        lane.state = LaneState::Waiting(due);
        self.due.push(Reverse((due, id)));
        Ok(())
    }

    /// Puts an update back at the head of its lane, which stays held: an earlier one follows.
    ///
    /// # Errors
    /// The update, where there is no such lane.
    pub(crate) fn put_back(&mut self, id: LaneId, delivery: Delivery) -> Result<(), Delivery> {
        let Some(lane) = self.lanes.get_mut(id) else { return Err(delivery) };
        debug_assert_eq!(lane.state, LaneState::Running);
        self.store.push_front(&mut lane.updates, delivery);
        Ok(())
    }

    fn close(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        debug_assert!(!lane.full && lane.held.is_empty() && lane.updates.len() == 0, "{lane:?}");
        lane.state = LaneState::Spare;
        let known = self.by_key.remove(&lane.key);
        debug_assert_eq!(known, Some(id), "another lane has its chat");
        self.spare.push(id);
    }

    /// Makes the lanes ready whose time has come.
    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((due, id))) = self.due.peek().copied() {
            if due > now {
                return;
            }
            self.due.pop();
            if let Some(lane) = self.lanes.get_mut(id)
                && matches!(lane.state, LaneState::Gathering(at) | LaneState::Waiting(at) if at == due)
            {
                lane.state = LaneState::Ready;
                self.ready.push_back(id);
            }
        }
    }

    /// How many lanes have an update that may be handled now.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len() + self.again.len()
    }

    /// Sets whether updates have arrived that are still to be pushed. While there are, no lane is
    /// served twice before a lane that is ready, so one that takes long holds up the others for one
    /// update only.
    pub(crate) fn set_behind(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    /// When the next waiting lane is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// True where no update waits and none is being handled.
    pub(crate) fn is_idle(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many updates wait or are being handled.
    pub(crate) fn updates(&self) -> usize {
        self.lanes.iter().map(|lane| lane.held.len() + lane.updates.len()).sum()
    }

    /// All updates that wait or are being handled, for a list of what is left behind.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (BotId, UpdateId)> {
        self.lanes.iter().flat_map(|lane| {
            let waiting =
                self.store.iter(&lane.updates).flat_map(Delivery::updates).map(Update::id);
            lane.held.iter().copied().chain(waiting).map(|id| (lane.key.bot, id))
        })
    }
}

/// A lane for `key`, which has none; it counts as ready, for it is about to get an update.
fn open(lanes: &mut Vec<Lane>, spare: &mut Vec<LaneId>, key: LaneKey) -> LaneId {
    if let Some(id) = spare.pop()
        && let Some(lane) = lanes.get_mut(id)
    {
        debug_assert_eq!(lane.state, LaneState::Spare);
        lane.key = key;
        lane.state = LaneState::Ready;
        return id;
    }
    lanes.push(Lane::new(key));
    lanes.len() - 1
}

impl Lane {
    /// An empty lane that counts as ready.
    fn new(key: LaneKey) -> Self {
        Self {
            full: false,
            held: Vec::with_capacity(1),
            key,
            state: LaneState::Ready,
            updates: LaneQueue::default(),
        }
    }

    /// Takes the first update; with `albums`, those of its album that follow it as well.
    fn pop(&mut self, store: &mut Store, albums: bool) -> Option<Delivery> {
        let mut first = store.pop_front(&mut self.updates)?;
        if albums && first.rest.is_empty() && first.album().is_some() {
            let length = store.iter(&self.updates).take_while(|next| next.album() == first.album());
            let length = length.count().min(ALBUM_MAX - 1);
            let rest = (0..length).map_while(|_| store.pop_front(&mut self.updates));
            first.rest = rest.collect();
        }
        self.held.extend(first.updates().map(Update::id));
        Some(first)
    }

    /// Until when the album at the head of the lane may get more; `None` where it cannot, or there
    /// is none.
    fn gathers_until(&self, store: &Store, wait: Duration) -> Option<Instant> {
        let first = store.front(&self.updates).filter(|first| first.rest.is_empty())?;
        let album = first.album()?;
        let is_open = self.updates.len() < ALBUM_MAX
            && store.iter(&self.updates).all(|update| update.album() == Some(album));
        let last = store.back(&self.updates).filter(|_| is_open)?;
        Some(last.queued_at + wait)
    }
}
