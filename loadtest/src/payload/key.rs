//! Which updates must stay in order among each other.

use super::{PayloadOptions, draw::Draw, kind::UpdateKind, template::long_id};

/// What an update is ordered by: updates of equal keys are to be handled in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChatKey {
    /// The id of a chat or of a user; a private chat has its user's.
    Chat(i64),
    /// The id of a poll.
    Poll(u64),
    /// The update's own id: nothing is known to keep it in order with.
    Update(u64),
}

/// The kind of the update that [`PayloadGenerator::write`](super::PayloadGenerator::write) writes
/// for this id. Makes no update and allocates nothing.
#[must_use]
pub fn kind_of(options: &PayloadOptions, update_id: u64) -> UpdateKind {
    Draw::new(options, update_id).kind()
}

/// The ordering key of the update that [`PayloadGenerator::write`](super::PayloadGenerator::write)
/// writes for this id. Makes no update and allocates nothing.
///
/// ```
/// use loadtest::{ChatKey, PayloadOptions, chat_of};
///
/// let one_chat = PayloadOptions { chats: 1, ..Default::default() };
/// assert_eq!(chat_of(&one_chat, 1), ChatKey::Chat(-1_001_000_000_000));
/// ```
#[must_use]
pub fn chat_of(options: &PayloadOptions, update_id: u64) -> ChatKey {
    use UpdateKind as K;
    let draw = Draw::new(options, update_id);
    match draw.kind() {
        K::Poll | K::PollAnswer => ChatKey::Poll(long_id(draw.noise)),
        K::BusinessConnection
        | K::ChosenInlineResult
        | K::InlineQuery
        | K::ManagedBot
        | K::PreCheckoutQuery
        | K::PurchasedPaidMedia
        | K::ShippingQuery
        | K::Subscription => ChatKey::Chat(draw.sender.cast_signed()),
        _ => ChatKey::Chat(draw.chat.id()),
    }
}
