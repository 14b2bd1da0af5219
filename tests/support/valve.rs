//! What tests use to hold a handler back and to write down what it did.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
};

use ringhook::{Update, update::ChatKey};

/// Holds threads up until it has been opened for them.
#[derive(Clone, Default)]
pub(crate) struct Valve(Arc<(Mutex<usize>, Condvar)>);

impl Valve {
    /// Lets all callers pass from now on.
    pub(crate) fn open(&self) {
        self.admit(usize::MAX / 2);
    }

    /// Lets so many more pass.
    pub(crate) fn admit(&self, count: usize) {
        *self.0.0.lock().unwrap() += count;
        self.0.1.notify_all();
    }

    /// Passes if it is open for one more.
    pub(crate) fn try_pass(&self) -> bool {
        let mut left = self.0.0.lock().unwrap();
        let is_open = *left > 0;
        *left -= usize::from(is_open);
        is_open
    }

    /// Waits until it is open for one more.
    pub(crate) fn pass(&self) {
        let (left, change) = &*self.0;
        let mut left = change.wait_while(left.lock().unwrap(), |left| *left == 0).unwrap();
        *left -= 1;
    }
}

/// The chat and the id of each call of a handler, in the order of the calls' beginnings, and how
/// many calls there were at once.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    begun: Vec<(i64, i64)>,
    running: BTreeMap<i64, usize>,
    at_once: usize,
    at_once_in_a_chat: usize,
}

impl Calls {
    /// Writes a call down; it is over when the result is dropped.
    pub(crate) fn begin(&self, update: &Update) -> Call {
        let chat = chat(update);
        let mut inner = self.0.lock().unwrap();
        inner.begun.push((chat, update.id().get()));
        let running = inner.running.entry(chat).or_default();
        *running += 1;
        let (in_chat, in_all) = (*running, inner.running.values().sum());
        inner.at_once = inner.at_once.max(in_all);
        inner.at_once_in_a_chat = inner.at_once_in_a_chat.max(in_chat);
        Call { calls: self.clone(), chat }
    }

    /// All calls so far, as chat and id.
    pub(crate) fn all(&self) -> Vec<(i64, i64)> {
        self.0.lock().unwrap().begun.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().begun.len()
    }

    /// The ids of one chat's calls.
    pub(crate) fn of(&self, chat: i64) -> Vec<i64> {
        let begun = self.all().into_iter();
        begun.filter(|(of, _)| *of == chat).map(|(_, id)| id).collect()
    }

    /// All ids, sorted.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.all().into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// The most calls there were at once.
    pub(crate) fn at_once(&self) -> usize {
        self.0.lock().unwrap().at_once
    }

    /// The most calls there were at once for one chat.
    pub(crate) fn at_once_in_a_chat(&self) -> usize {
        self.0.lock().unwrap().at_once_in_a_chat
    }
}

/// A call that is not over.
pub(crate) struct Call {
    calls: Calls,
    chat: i64,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(running) = self.calls.0.lock().unwrap().running.get_mut(&self.chat) {
            *running -= 1;
        }
    }
}

/// The chat of an update that has one.
pub(crate) fn chat(update: &Update) -> i64 {
    match update.chat_key() {
        ChatKey::Chat(chat) => chat,
        other => panic!("update {} is of {other:?}", update.id()),
    }
}

/// Chats from `first` on that belong to one worker's part, where there are `workers` workers.
pub(crate) fn chats_of(worker: usize, workers: usize, first: i64) -> impl Iterator<Item = i64> {
    let part = move |chat| (u128::from(ChatKey::Chat(chat).hash64()) * workers as u128) >> 64;
    (first..).filter(move |chat| part(*chat) == worker as u128)
}
