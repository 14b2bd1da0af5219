//! Which updates of one consumer wait, which are handed out, and which are confirmed. It knows no
//! clock and no socket: time is an argument.
//!
//! Over a webhook with several connections ids come out of order across chats. So an offset
//! confirms what was handed out and is below it, and nothing else: an update that comes late, with
//! an id below an offset that was used before, is handed out all the same.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Instant,
};

use super::numbers::Numbers;

/// How often an update below the offset is handed out to a client that can not show that it has got
/// the answer. After that its next request confirms it.
const TIMES_MAX: u32 = 5;
/// The longest answer in bytes, as at Telegram; one update fits in any case.
const ANSWER_BYTES_MAX: usize = 1 << 22;

/// The updates of one consumer, of any type.
pub(super) struct Queue<T> {
    waiting: BTreeMap<Key, Waiting<T>>,
    handed_out: BTreeMap<Key, HandedOut<T>>,
    /// How many updates have come, which tells those of the same id apart.
    arrivals: u64,
    forgotten: Option<Forgotten>,
    /// Where it gives updates numbers of its own.
    numbers: Option<Numbers>,
}

/// An update's number, and how many came before it.
type Key = (i64, u64);

struct Waiting<T> {
    item: T,
    bytes: usize,
}

struct HandedOut<T> {
    update: Waiting<T>,
    /// The id that it came with.
    id: i64,
    /// The poll that it was last given to.
    poll: Poll,
    times: u32,
}

/// What a client has forgotten by a negative offset, or by dropping what is pending: all that came
/// until then, but for the last ones.
struct Forgotten {
    until: Instant,
    keep: usize,
    kept: BTreeSet<Key>,
}

/// One request for updates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Poll {
    /// Confirms what was handed out and is below it, where it is more than 0.
    pub(super) offset: i64,
    /// At most so many updates are wanted.
    pub(super) limit: usize,
    /// The connection that it came by. The next request on it shows that the answer was received.
    pub(super) connection: u64,
}

impl<T> Queue<T> {
    /// An empty queue; with `renumber` it gives updates numbers of its own.
    pub(super) fn new(renumber: bool) -> Self {
        Self {
            waiting: BTreeMap::new(),
            handed_out: BTreeMap::new(),
            arrivals: 0,
            forgotten: None,
            numbers: renumber.then(Numbers::default),
        }
    }

    /// Takes an update that was received at `received_at`; gives those that are settled by that,
    /// because they have been forgotten.
    pub(super) fn push(
        &mut self,
        id: i64,
        item: T,
        bytes: usize,
        received_at: Instant,
    ) -> Option<T> {
        let key = (id, self.arrivals);
        self.arrivals += 1;
        self.waiting.insert(key, Waiting { item, bytes });
        let forgotten = self.forgotten.as_mut().filter(|it| received_at <= it.until)?;
        forgotten.kept.insert(key);
        let oldest =
            if forgotten.kept.len() > forgotten.keep { forgotten.kept.pop_first() } else { None };
        self.waiting.remove(&oldest?).map(|it| it.item)
    }

    /// What `poll` confirms: it was handed out and is below the offset. Where the offset is the
    /// same as that of the poll which it was handed out to, the client may not have got it.
    pub(super) fn confirm(&mut self, poll: &Poll) -> Vec<T> {
        let confirmed = self.take_confirmed(poll);
        let handed_out = self.handed_out.len();
        let first = self.numbers.as_mut().and_then(|it| it.hear(poll.offset, handed_out));
        if let Some(first) = first {
            self.number_anew(first);
        }
        confirmed
    }

    fn take_confirmed(&mut self, poll: &Poll) -> Vec<T> {
        if poll.offset <= 0 {
            return Vec::new();
        }
        let mut above = self.handed_out.split_off(&(poll.offset, 0));
        let (confirmed, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.handed_out)
            .into_iter()
            .partition(|(_, handed_out)| handed_out.is_confirmed_by(poll));
        above.extend(kept);
        self.handed_out = above;
        confirmed.into_iter().map(|(_, handed_out)| handed_out.update.item).collect()
    }

    /// Settles all but the last `keep` updates, those included that were received until `now` and
    /// come later.
    pub(super) fn forget(&mut self, keep: usize, now: Instant) -> Vec<T> {
        self.take_back();
        let settled = self.waiting.len().saturating_sub(keep);
        let kept = match self.waiting.keys().nth(settled).copied() {
            Some(first) => self.waiting.split_off(&first),
            None => BTreeMap::new(),
        };
        let settled = std::mem::replace(&mut self.waiting, kept);
        let kept = self.waiting.keys().copied().collect();
        self.forgotten = Some(Forgotten { until: now, keep, kept });
        settled.into_values().map(|it| it.item).collect()
    }

    /// Hands out what there is for `poll`, in the order of the numbers that come with it: what was
    /// handed out before and is not confirmed, and what waits.
    pub(super) fn hand_out(&mut self, poll: &Poll) -> Vec<(i64, &T)> {
        let room = poll.limit.saturating_sub(match self.numbers {
            // Their numbers are below all that are given from now on.
            Some(_) => self.handed_out.len(),
            None => 0,
        });
        let first: Vec<Key> = self.waiting.keys().take(room).copied().collect();
        let mut bytes = 0;
        let mut chosen = BTreeSet::new();
        let known = self.handed_out.iter().map(|(key, it)| (*key, it.update.bytes, true));
        let new = first.iter().filter_map(|key| Some((*key, self.waiting.get(key)?.bytes, false)));
        let mut candidates: Vec<_> = known.take(poll.limit).chain(new).collect();
        if self.numbers.is_none() {
            candidates.sort_unstable();
        }
        for (key, length, is_known) in candidates.into_iter().take(poll.limit) {
            bytes += length;
            if bytes > ANSWER_BYTES_MAX && !chosen.is_empty() {
                break;
            }
            let key = if is_known { Some(key) } else { self.give(key, poll) };
            chosen.extend(key);
        }
        let handed_out = self.handed_out.iter_mut().filter(|(key, _)| chosen.contains(*key));
        let give = |(key, it): (&Key, &'_ mut HandedOut<T>)| {
            it.times += 1;
            it.poll = *poll;
            key.0
        };
        let numbers: Vec<i64> = handed_out.map(give).collect();
        let items = chosen.iter().filter_map(|key| Some(&self.handed_out.get(key)?.update.item));
        numbers.into_iter().zip(items).collect()
    }

    /// Moves an update from those that wait to those that are handed out.
    fn give(&mut self, key: Key, poll: &Poll) -> Option<Key> {
        let update = self.waiting.remove(&key)?;
        if let Some(forgotten) = &mut self.forgotten
            && forgotten.kept.remove(&key)
        {
            forgotten.keep -= 1;
        }
        let number = self.numbers.as_mut().map_or(key.0, Numbers::next);
        let handed_out = HandedOut { update, id: key.0, poll: *poll, times: 0 };
        self.handed_out.insert((number, key.1), handed_out);
        Some((number, key.1))
    }

    /// Gives what is handed out numbers from `first` on, in the same order.
    fn number_anew(&mut self, first: i64) {
        let handed_out = std::mem::take(&mut self.handed_out);
        let again =
            (first..).zip(handed_out).map(|(number, ((_, arrival), it))| ((number, arrival), it));
        self.handed_out = again.collect();
    }

    /// The client is gone: what it was given is handed out again, whatever offset comes.
    pub(super) fn take_back(&mut self) {
        for ((_, arrival), handed_out) in std::mem::take(&mut self.handed_out) {
            match self.waiting.entry((handed_out.id, arrival)) {
                Entry::Vacant(place) => place.insert(handed_out.update),
                // Arrivals differ.
                Entry::Occupied(_) => continue,
            };
        }
    }

    /// Whether there is something for a poll.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.handed_out.is_empty()
    }

    /// How many updates wait, those left out that are handed out.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many updates are handed out and not confirmed.
    pub(super) fn handed_out(&self) -> usize {
        self.handed_out.len()
    }

    /// The update with the lowest number.
    pub(super) fn first(&self) -> Option<&T> {
        let waiting = self.waiting.first_key_value().map(|(key, it)| (key, &it.item));
        let handed_out = self.handed_out.first_key_value();
        let handed_out = handed_out.map(|(key, it)| (key, &it.update.item));
        waiting.into_iter().chain(handed_out).min_by_key(|(key, _)| **key).map(|(_, item)| item)
    }

    /// Gives all of it back.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.take_back();
        std::mem::take(&mut self.waiting).into_values().map(|it| it.item)
    }
}

impl<T> HandedOut<T> {
    /// Whether `poll`, whose offset is above it, confirms it.
    fn is_confirmed_by(&self, poll: &Poll) -> bool {
        // Only one who got the answer asks with another offset than before. Who asks with the same
        // one by the same connection has read the answer. Some libraries ask for one update when
        // they stop, and do not look at the answer.
        let has_read = self.poll.connection == poll.connection && self.poll.limit > 1;
        self.poll.offset != poll.offset || has_read || self.times >= TIMES_MAX
    }
}

#[cfg(test)]
mod tests;
