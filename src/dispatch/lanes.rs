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
type LaneId = usize;

/// An update that is being handled: its lane, and its place among those that were taken from there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    lane: LaneId,
    place: u32,
}

/// The waiting updates of some chats, in order.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// How long the next message of an album is waited for; `None` where albums are not gathered.
    album_wait: Option<Duration>,
    /// Whether nothing more can come, so that no album is waited for.
    is_closed: bool,
    /// Updates that may wait in one lane before its chat counts as full.
    chat_updates: usize,
    /// Updates of one lane that [`take`](Self::take) gives before the first of them is settled.
    run: usize,
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
    /// The updates being handled, each with its place in the order in which they were taken.
    held: Vec<(u32, UpdateId)>,
    /// Whether it is in one of the queues of ready lanes.
    is_queued: bool,
    key: LaneKey,
    next_place: u32,
    /// Updates that come again, each with its place and its time, while later ones are being
    /// handled.
    returned: Vec<(u32, Instant, Delivery)>,
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
            run: 1,
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

    /// Lets [`take`](Self::take) give up to `run` updates of a chat before the first of them is
    /// settled; 1 at first.
    pub(crate) fn set_run(&mut self, run: usize) {
        self.run = run;
        for id in 0..self.lanes.len() {
            self.go_on(id);
        }
    }

    /// Puts `delivery` at the end of its chat's lane.
    pub(crate) fn push(&mut self, key: LaneKey, delivery: Delivery) {
        let id = match self.by_key.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => *place.insert(open(&mut self.lanes, &mut self.spare, key)),
        };
        let Some(lane) = self.lanes.get_mut(id) else { return self.push_anew(key, delivery) };
        debug_assert!(lane.key == key && lane.state != LaneState::Spare, "{key:?} in {lane:?}");
        self.store.push_back(&mut lane.updates, delivery);
        if matches!(lane.state, LaneState::Gathering(_)) {
            // Whether the album is complete is decided when the lane is taken.
            lane.state = LaneState::Ready;
        }
        if lane.state == LaneState::Ready || lane.lends(self.run) {
            lane.queue(id, &mut self.ready);
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
        if let Some(lane) = self.lanes.last_mut() {
            lane.queue(id, &mut self.ready);
            self.store.push_back(&mut lane.updates, delivery);
        }
    }

    /// The first update of the next ready lane, to be handled now. The lane is held until
    /// [`finish`](Self::finish) or [`retry`](Self::retry), but may give as many more as make a
    /// [run](Self::set_run).
    pub(crate) fn take(&mut self, now: Instant) -> Option<(Held, Delivery)> {
        self.promote(now);
        if !self.is_behind || self.ready.is_empty() {
            self.ready.append(&mut self.again);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            debug_assert!(lane.is_queued, "{lane:?}");
            lane.is_queued = false;
            let is_ready = lane.state == LaneState::Ready;
            if !is_ready && !lane.lends(self.run) {
                // It was queued for its next update, which comes later or was taken with others.
                continue;
            }
            debug_assert!(lane.updates.len() > 0 && is_ready == lane.held.is_empty(), "{lane:?}");
            if let Some(wait) = self.album_wait.filter(|_| !self.is_closed)
                && let Some(until) = lane.gathers_until(&self.store, wait)
                && until > now
            {
                // One that is held is looked at again when it is released, or gets more.
                if is_ready {
                    lane.state = LaneState::Gathering(until);
                    self.due.push(Reverse((until, id)));
                }
                continue;
            }
            // A lane that is ready has an update: it was opened for one, or kept for the next.
            if let Some((place, delivery)) = lane.pop(&mut self.store, self.album_wait.is_some()) {
                lane.state = LaneState::Running;
                self.go_on(id);
                return Some((Held { lane: id, place }, delivery));
            }
        }
        None
    }

    /// Queues a lane that may give its next update although it is held.
    fn go_on(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(id)
            && lane.lends(self.run)
        {
            lane.queue(id, &mut self.again);
        }
    }

    /// Nothing more comes in: albums are handled as they are.
    pub(crate) fn close_intake(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        for (id, lane) in self.lanes.iter_mut().enumerate() {
            if matches!(lane.state, LaneState::Gathering(_)) {
                lane.state = LaneState::Ready;
                lane.queue(id, &mut self.ready);
            }
        }
    }

    /// The next update of a lane that is held already, for a worker that handles several at once.
    pub(crate) fn take_next_of(&mut self, held: Held) -> Option<(Held, Delivery)> {
        let lane = self.lanes.get_mut(held.lane)?;
        debug_assert_eq!(lane.state, LaneState::Running);
        if let Some(wait) = self.album_wait.filter(|_| !self.is_closed)
            && lane.gathers_until(&self.store, wait).is_some()
        {
            // An album that may get more waits until its lane is taken again.
            return None;
        }
        let (place, delivery) = lane.pop(&mut self.store, self.album_wait.is_some())?;
        Some((Held { place, ..held }, delivery))
    }

    /// An update has been handled. Its lane is released where it was the last one that was taken.
    pub(crate) fn finish(&mut self, held: Held) {
        let id = held.lane;
        let Some(lane) = self.lanes.get_mut(id) else { return };
        lane.let_go(held.place);
        if lane.full && lane.updates.len() <= self.chat_updates / 2 {
            lane.full = false;
            self.full.lower(lane.key.hash64());
        }
        self.release(id);
    }

    /// Puts an update back at the head of its lane, which waits until `due` once it is released.
    /// Others that were taken before and come again are before it.
    ///
    /// # Errors
    /// The update, where there is no such lane.
    pub(crate) fn retry(
        &mut self,
        held: Held,
        delivery: Delivery,
        due: Instant,
    ) -> Result<(), Delivery> {
        let Some(lane) = self.lanes.get_mut(held.lane) else { return Err(delivery) };
        lane.let_go(held.place);
        lane.returned.push((held.place, due, delivery));
        self.release(held.lane);
        Ok(())
    }

    /// Lets a lane go on of which an update is not being handled any more.
    fn release(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        if !lane.held.is_empty() {
            return self.go_on(id);
        }
        if let Some(due) = lane.returned.iter().map(|(_, due, _)| *due).max() {
            let next = lane.next_place;
            // Places are reused after four billion updates, so their distance counts.
            lane.returned.sort_by_key(|(place, ..)| next.wrapping_sub(*place));
            for (_, _, delivery) in lane.returned.drain(..) {
                self.store.push_front(&mut lane.updates, delivery);
            }
            lane.state = LaneState::Waiting(due);
            self.due.push(Reverse((due, id)));
        } else if lane.updates.len() > 0 {
            lane.state = LaneState::Ready;
            lane.queue(id, &mut self.again);
        } else {
            self.close(id);
        }
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
                lane.queue(id, &mut self.ready);
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
        let count = |lane: &Lane| lane.held.len() + lane.returned.len() + lane.updates.len();
        self.lanes.iter().map(count).sum()
    }

    /// All updates that wait or are being handled, for a list of what is left behind.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (BotId, UpdateId)> {
        self.lanes.iter().flat_map(|lane| {
            let returned = lane.returned.iter().map(|(_, _, delivery)| delivery);
            let waiting = self.store.iter(&lane.updates).chain(returned);
            let waiting = waiting.flat_map(Delivery::updates).map(Update::id);
            let held = lane.held.iter().map(|(_, id)| *id);
            held.chain(waiting).map(|id| (lane.key.bot, id))
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
            is_queued: false,
            key,
            next_place: 0,
            returned: Vec::new(),
            state: LaneState::Ready,
            updates: LaneQueue::default(),
        }
    }

    /// Puts it into a queue of ready lanes, where it is in none.
    fn queue(&mut self, id: LaneId, queue: &mut VecDeque<LaneId>) {
        if !std::mem::replace(&mut self.is_queued, true) {
            queue.push_back(id);
        }
    }

    /// True where it is held, and its next update may be taken all the same.
    fn lends(&self, run: usize) -> bool {
        let is_running = self.state == LaneState::Running && self.returned.is_empty();
        is_running && self.held.len() < run && self.updates.len() > 0
    }

    /// The update of `place` is not being handled any more.
    fn let_go(&mut self, place: u32) {
        debug_assert_eq!(self.state, LaneState::Running);
        let before = self.held.len();
        self.held.retain(|(held, _)| *held != place);
        debug_assert!(self.held.len() < before, "it was not handled");
    }

    /// Takes the first update; with `albums`, those of its album that follow it as well. It comes
    /// with its place.
    fn pop(&mut self, store: &mut Store, albums: bool) -> Option<(u32, Delivery)> {
        let mut first = store.pop_front(&mut self.updates)?;
        if albums && first.rest.is_empty() && first.album().is_some() {
            let length = store.iter(&self.updates).take_while(|next| next.album() == first.album());
            let length = length.count().min(ALBUM_MAX - 1);
            let rest = (0..length).map_while(|_| store.pop_front(&mut self.updates));
            first.rest = rest.collect();
        }
        let place = self.next_place;
        self.next_place = place.wrapping_add(1);
        self.held.extend(first.updates().map(|update| (place, update.id())));
        Some((place, first))
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
