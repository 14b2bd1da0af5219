//! Which updates of a bot have to stay in order among each other.

use super::{UpdateId, UpdateKind, Value};

/// The lane of one bot that an update belongs to: updates of equal key reach the handler in the
/// order in which they were accepted.
///
/// Chats and users share one namespace on purpose. A private chat has the id of its user, so a
/// user's messages, inline queries and presses of inline buttons stay in order together; ids of
/// groups and channels are negative and ids of users positive, so nothing else meets.
///
/// Telegram itself orders no further than this: it keeps queues per kind and chat.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ChatKey {
    /// Id of a chat, or of a user: `Chat.id` or `User.id`.
    Chat(i64),
    /// Id of a poll: the number that `Poll.id` spells, or a hash of an id that spells none.
    Poll(u64),
    /// The update's own id, so a lane of its own: nothing is known to keep it in order with.
    Update(i64),
}

impl ChatKey {
    /// The lane of an update of `kind` whose field holds `payload`.
    ///
    /// An id that is missing or of a wrong type gives the update a lane of its own: it is
    /// delivered all the same.
    pub(super) fn from_update(id: UpdateId, kind: UpdateKind, payload: Option<Value<'_>>) -> Self {
        payload
            .and_then(|payload| Self::in_payload(kind, payload))
            .unwrap_or(Self::Update(id.get()))
    }

    /// A hash that is the same in every process, to choose a worker with `hash64() % workers`.
    ///
    /// Near ids give far hashes. Keys of different bots that are equal hash alike, which costs
    /// nothing but a shared worker.
    #[must_use]
    pub const fn hash64(self) -> u64 {
        // The odd constants keep the three namespaces apart: poll 5 is not chat 5.
        match self {
            Self::Chat(id) => mix(id.cast_unsigned()),
            Self::Poll(id) => mix(id ^ 0x9e37_79b9_7f4a_7c15),
            Self::Update(id) => mix(id.cast_unsigned() ^ 0xc2b2_ae3d_27d4_eb4f),
        }
    }

    /// What the payload of a `kind` names; `None` if it does not.
    fn in_payload(kind: UpdateKind, payload: Value<'_>) -> Option<Self> {
        match Lane::of(kind) {
            Lane::Id(key) => id_in(payload, key),
            Lane::Callback => payload
                .get("message")
                .and_then(|message| id_in(message, "chat"))
                .or_else(|| id_in(payload, "from")),
            Lane::Poll(key) => Some(poll_key(payload.get(key)?.as_str()?)),
            Lane::Own => None,
        }
    }
}

/// Where a kind of update names its lane, by the members of its payload.
#[derive(Clone, Copy)]
pub(super) enum Lane {
    /// The `id` in the chat or user that is this member.
    Id(&'static str),
    /// The `id` in the `chat` of `message`; or, since a button under a message sent via inline mode
    /// comes without the message, the one in `from`.
    Callback,
    /// This member, a string, is the id of a poll.
    Poll(&'static str),
    /// Nowhere: it has a lane of its own.
    Own,
}

impl Lane {
    /// Where updates of `kind` name it.
    pub(super) const fn of(kind: UpdateKind) -> Self {
        use UpdateKind as Kind;
        match kind {
            Kind::Message
            | Kind::EditedMessage
            | Kind::ChannelPost
            | Kind::EditedChannelPost
            | Kind::BusinessMessage
            | Kind::EditedBusinessMessage
            | Kind::DeletedBusinessMessages
            | Kind::GuestMessage
            | Kind::MessageReaction
            | Kind::MessageReactionCount
            | Kind::MyChatMember
            | Kind::ChatMember
            | Kind::ChatJoinRequest
            | Kind::ChatBoost
            | Kind::RemovedChatBoost
            | Kind::StoppedMessageGeneration => Self::Id("chat"),
            Kind::CallbackQuery => Self::Callback,
            Kind::InlineQuery
            | Kind::ChosenInlineResult
            | Kind::ShippingQuery
            | Kind::PreCheckoutQuery
            | Kind::PurchasedPaidMedia => Self::Id("from"),
            Kind::BusinessConnection | Kind::ManagedBot | Kind::Subscription => Self::Id("user"),
            Kind::Poll => Self::Poll("id"),
            Kind::PollAnswer => Self::Poll("poll_id"),
            Kind::Unknown => Self::Own,
        }
    }
}

/// The lane of the `Chat` or `User` in the field `key` of `object`.
fn id_in(object: Value<'_>, key: &str) -> Option<ChatKey> {
    Some(ChatKey::Chat(object.get(key)?.get("id")?.as_i64()?))
}

/// The lane of the poll with this id.
pub(super) fn poll_key(id: &str) -> ChatKey {
    ChatKey::Poll(id.parse().unwrap_or_else(|_| fnv1a(id.as_bytes())))
}

/// The finisher of MurmurHash3: every bit of `value` reaches every bit of the hash.
const fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

/// FNV-1a with 64 bits: for ids that Telegram does not send today, so speed does not matter.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hashes_are_fixed_and_namespaces_apart() {
        // Pinned: the hash is promised to be the same in every process.
        assert_eq!(ChatKey::Chat(1).hash64(), 0xb456_bcfc_34c2_cb2c);
        let hashes: HashSet<_> = [ChatKey::Chat(5), ChatKey::Poll(5), ChatKey::Update(5)]
            .map(ChatKey::hash64)
            .into_iter()
            .collect();
        assert_eq!(hashes.len(), 3);
    }

    #[test]
    fn consecutive_ids_spread_evenly_over_workers() {
        for workers in [2_u64, 3, 16] {
            let mut load = vec![0_u32; usize::try_from(workers).unwrap_or(0)];
            for id in 0..16_000 {
                let worker = ChatKey::Chat(-1_001_000_000_000 - id).hash64() % workers;
                if let Some(count) = load.get_mut(usize::try_from(worker).unwrap_or(0)) {
                    *count += 1;
                }
            }
            let mean = 16_000.0 / workers as f64;
            for count in load {
                assert!((f64::from(count) - mean).abs() < mean * 0.15, "{count} of {mean}");
            }
        }
    }

    #[test]
    fn fnv1a_is_the_published_function() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
