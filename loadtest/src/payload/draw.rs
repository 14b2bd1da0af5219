//! What chance decides about one update.

use super::{
    PayloadOptions,
    body::{ALBUM_TEMPLATES, album_kind},
    chat::{Chat, ChatType},
    kind::{UpdateKind, shares},
};
use crate::rng::Rng;

/// Photos of an album have ids that are equal when divided by this.
const ALBUM_UPDATES: u64 = 4;

/// The random part of an update: all that differs between two updates of equal options.
pub(super) struct Draw {
    pub(super) chat: Chat,
    /// Whether it is one of an album's photos, which have templates of their own.
    pub(super) album: bool,
    /// The place of its template among those of the chat's type.
    pub(super) template: u64,
    /// The ten digits of the user who did it.
    pub(super) sender: u64,
    /// Any 64 bits, from which other identifiers are made.
    pub(super) noise: u64,
}

impl Draw {
    pub(super) fn new(options: &PayloadOptions, update_id: u64) -> Self {
        if let Some(album) = Self::album(options, update_id) {
            return album;
        }
        let mut rng = Rng::new(options.seed ^ Rng::new(update_id).next());
        let kind = wanted(options, &mut rng);
        let chat = pick(options, &mut rng, |chat| kind.is_none_or(|kind| carries(chat, kind)));
        let (first, count) = match kind {
            Some(kind) => range(chat.kind, kind),
            None => (0, shares(chat.kind).map(|(_, share)| share).sum()),
        };
        let template = first + rng.below(count);
        let sender = chat.sender(&mut rng);
        Self { chat, album: false, template, sender, noise: rng.next() }
    }

    /// The photo of an album that has this id, if the chance of its album says so.
    fn album(options: &PayloadOptions, update_id: u64) -> Option<Self> {
        // As many numbers as a float holds without loss.
        const STEPS: u64 = 1 << 53;
        if options.albums <= 0.0 {
            return None;
        }
        // Another sequence than that of single updates.
        let mut rng = Rng::new(!options.seed ^ Rng::new(update_id / ALBUM_UPDATES).next());
        if rng.below(STEPS) as f64 >= options.albums * STEPS as f64 {
            return None;
        }
        let chat = pick(options, &mut rng, |_| true);
        let sender = chat.sender(&mut rng);
        let first = rng.below(ALBUM_TEMPLATES);
        let template = (first + update_id % ALBUM_UPDATES) % ALBUM_TEMPLATES;
        Some(Self { chat, album: true, template, sender, noise: rng.next() })
    }

    /// The kind of the update, without a look at any template.
    pub(super) fn kind(&self) -> UpdateKind {
        if self.album {
            return album_kind(self.chat.kind);
        }
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

/// One of the kinds that are asked for; none if any may come.
fn wanted(options: &PayloadOptions, rng: &mut Rng) -> Option<UpdateKind> {
    if options.kinds.is_empty() {
        return None;
    }
    let total = options.kinds.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut drawn = rng.below(total);
    let found = options.kinds.iter().find(|(_, weight)| {
        let here = drawn < u64::from(*weight);
        drawn = drawn.saturating_sub(u64::from(*weight));
        here
    });
    found.map(|(kind, _)| *kind)
}

fn pick(options: &PayloadOptions, rng: &mut Rng, fits: impl Fn(ChatType) -> bool) -> Chat {
    let chats = options.chats.clamp(1, PayloadOptions::CHATS_MAX);
    Chat::pick_fitting(chats, options.skew.as_ref(), rng, fits)
}

/// Whether this kind of update comes from this type of chat.
fn carries(chat: ChatType, kind: UpdateKind) -> bool {
    shares(chat).any(|(other, _)| other == kind)
}

/// The places of the templates of a kind: the first, and how many there are.
fn range(chat: ChatType, kind: UpdateKind) -> (u64, u64) {
    let mut first = 0;
    for (other, share) in shares(chat) {
        if other == kind {
            return (first, share);
        }
        first += share;
    }
    // No type of chat has it, which cannot be; then anything may come.
    (0, first)
}
