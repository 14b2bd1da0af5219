//! What chance decides about one update.

use super::{
    PayloadOptions,
    chat::Chat,
    kind::{UpdateKind, shares},
};
use crate::rng::Rng;

/// The random part of an update: all that differs between two updates of equal options.
pub(super) struct Draw {
    pub(super) chat: Chat,
    /// The place of its template among those of the chat's type.
    pub(super) template: u64,
    /// The ten digits of the user who did it.
    pub(super) sender: u64,
    /// Any 64 bits, from which other identifiers are made.
    pub(super) noise: u64,
}

impl Draw {
    pub(super) fn new(options: &PayloadOptions, update_id: u64) -> Self {
        let mut rng = Rng::new(options.seed ^ Rng::new(update_id).next());
        let chats = options.chats.clamp(1, PayloadOptions::CHATS_MAX);
        let chat = Chat::pick(chats, &mut rng);
        let templates = shares(chat.kind).map(|(_, share)| share).sum();
        let template = rng.below(templates);
        let sender = chat.sender(&mut rng);
        Self { chat, template, sender, noise: rng.next() }
    }

    /// The kind of the update, without a look at any template.
    pub(super) fn kind(&self) -> UpdateKind {
        let mut end = 0;
        let mut kinds = shares(self.chat.kind);
        let found = kinds.find(|(_, share)| {
            end += share;
            self.template < end
        });
        // A draw stays within the shares.
        found.map_or(UpdateKind::Message, |(kind, _)| kind)
    }
}
