//! Keeps the updates of a chat in order: the next leaves once the one before is acknowledged.

use std::collections::{HashMap, VecDeque};

use crate::{feed::Job, payload::ChatKey};

/// The chats that have an update on its way, and what waits behind it.
///
/// A chat without any is not here, so the memory is that of what waits.
#[derive(Default)]
pub(crate) struct Chats {
    busy: HashMap<ChatKey, Chat>,
    waiting: usize,
}

/// A chat whose head is under way, or waits to be sent again.
struct Chat {
    /// The head, and its copy if there is one: how many of them have yet to be acknowledged.
    heads: u32,
    waiting: VecDeque<Job>,
}

impl Chats {
    /// How many updates wait behind another.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether this update may leave at once; otherwise it waits here.
    pub(crate) fn admit(&mut self, chat: ChatKey, job: Job) -> bool {
        match self.busy.get_mut(&chat) {
            Some(chat) => {
                chat.waiting.push_back(job);
                self.waiting += 1;
                false
            }
            None => {
                self.busy.insert(chat, Chat { heads: 1, waiting: VecDeque::new() });
                true
            }
        }
    }

    /// Makes a chat wait for a copy of its head, too.
    pub(crate) fn hold(&mut self, chat: ChatKey) {
        if let Some(chat) = self.busy.get_mut(&chat) {
            chat.heads += 1;
        }
    }

    /// Notes that a chat's head or its copy was acknowledged. The update that is its head then.
    pub(crate) fn release(&mut self, key: ChatKey) -> Option<Job> {
        let chat = self.busy.get_mut(&key)?;
        chat.heads -= 1;
        if chat.heads > 0 {
            return None;
        }
        let next = chat.waiting.pop_front();
        match next {
            Some(_) => {
                chat.heads = 1;
                self.waiting -= 1;
            }
            None => {
                self.busy.remove(&key);
            }
        }
        next
    }
}
