//! The kind of an update: the optional field of the Bot API's `Update` that it carries.

use std::{cmp::Ordering, error::Error, fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// Declares the kinds once, so that names, list and parser cannot drift apart.
macro_rules! kinds {
    ($($(#[$doc:meta])+ $variant:ident = $field:literal,)+) => {
        /// Which optional field of the Bot API's `Update` an update carries; Bot API 10.3, in its
        /// order.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum UpdateKind {
            $($(#[$doc])+ $variant,)+
            /// A field that this version does not know. Such updates are delivered like any other.
            Unknown,
        }

        impl UpdateKind {
            /// Every kind the Bot API names, so all but [`Unknown`](Self::Unknown), in the Bot
            /// API's order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name of the field, as in `allowed_updates`; `unknown` for
            /// [`Unknown`](Self::Unknown).
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $field,)+
                    Self::Unknown => "unknown",
                }
            }

            /// The field of an update that has it.
            pub(super) fn field(self) -> Option<&'static str> {
                (self != Self::Unknown).then(|| self.as_str())
            }

            /// The kind whose field is `key`, if it is one of [`ALL`](Self::ALL).
            #[must_use]
            pub fn from_key(key: &str) -> Option<Self> {
                Self::from_bytes(key.as_bytes())
            }

            /// The same for a key that is not known to be UTF-8.
            pub(super) fn from_bytes(key: &[u8]) -> Option<Self> {
                $(
                    if key == $field.as_bytes() {
                        return Some(Self::$variant);
                    }
                )+
                None
            }
        }
    };
}

kinds! {
    /// A new message of any kind: a `Message`.
    Message = "message",
    /// A new version of a message: a `Message`.
    EditedMessage = "edited_message",
    /// A new post in a channel: a `Message`.
    ChannelPost = "channel_post",
    /// A new version of a post in a channel: a `Message`.
    EditedChannelPost = "edited_channel_post",
    /// The bot was connected to a business account, or its rights changed: a
    /// `BusinessConnection`.
    BusinessConnection = "business_connection",
    /// A new message from a connected business account: a `Message`.
    BusinessMessage = "business_message",
    /// A new version of a message from a connected business account: a `Message`.
    EditedBusinessMessage = "edited_business_message",
    /// Messages were deleted from a connected business account: a `BusinessMessagesDeleted`.
    DeletedBusinessMessages = "deleted_business_messages",
    /// A new message in a chat where the bot is a guest: a `Message`.
    GuestMessage = "guest_message",
    /// A user changed a reaction to a message: a `MessageReactionUpdated`.
    MessageReaction = "message_reaction",
    /// Anonymous reactions to a message changed: a `MessageReactionCountUpdated`.
    MessageReactionCount = "message_reaction_count",
    /// A new inline query: an `InlineQuery`.
    InlineQuery = "inline_query",
    /// A user picked a result of an inline query: a `ChosenInlineResult`.
    ChosenInlineResult = "chosen_inline_result",
    /// A button was pressed: a `CallbackQuery`.
    CallbackQuery = "callback_query",
    /// A question for shipping options: a `ShippingQuery`.
    ShippingQuery = "shipping_query",
    /// A checkout to be confirmed: a `PreCheckoutQuery`.
    PreCheckoutQuery = "pre_checkout_query",
    /// A user bought paid media: a `PaidMediaPurchased`.
    PurchasedPaidMedia = "purchased_paid_media",
    /// A new state of a poll: a `Poll`.
    Poll = "poll",
    /// A user voted in a poll that is not anonymous: a `PollAnswer`.
    PollAnswer = "poll_answer",
    /// The bot's own membership of a chat changed: a `ChatMemberUpdated`.
    MyChatMember = "my_chat_member",
    /// A user's membership of a chat changed: a `ChatMemberUpdated`.
    ChatMember = "chat_member",
    /// A user asks to join a chat: a `ChatJoinRequest`.
    ChatJoinRequest = "chat_join_request",
    /// A boost was added to a chat or changed: a `ChatBoostUpdated`.
    ChatBoost = "chat_boost",
    /// A boost was taken from a chat: a `ChatBoostRemoved`.
    RemovedChatBoost = "removed_chat_boost",
    /// A bot managed by this one was made or changed: a `ManagedBotUpdated`.
    ManagedBot = "managed_bot",
    /// A user's subscription changed.
    Subscription = "subscription",
    /// A user stopped the generation of a message.
    StoppedMessageGeneration = "stopped_message_generation",
}

/// By their names, as the keys of a report are sorted.
impl Ord for UpdateKind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for UpdateKind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As its name.
impl Serialize for UpdateKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for UpdateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for UpdateKind {
    type Err = UnknownKind;

    /// Reads a name as [`from_key`](Self::from_key) does; `unknown` is no name.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_key(name).ok_or(UnknownKind)
    }
}

/// A name that is none of [`UpdateKind::ALL`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownKind;

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a kind of update that this version knows")
    }
}

impl Error for UnknownKind {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bot_api_10_3_has_27_kinds() {
        assert_eq!(UpdateKind::ALL.len(), 27);
        let names: HashSet<_> = UpdateKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), 27);
    }

    #[test]
    fn kinds_are_sorted_as_their_names() {
        let mut kinds = UpdateKind::ALL.to_vec();
        kinds.push(UpdateKind::Unknown);
        kinds.sort_unstable();
        assert!(kinds.iter().map(|kind| kind.as_str()).is_sorted_by(|a, b| a < b), "{kinds:?}");
    }

    #[test]
    fn names_and_kinds_translate_both_ways() {
        for &kind in UpdateKind::ALL {
            assert_eq!(UpdateKind::from_key(kind.as_str()), Some(kind));
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_ne!(kind, UpdateKind::Unknown);
        }
        for name in ["unknown", "", "Message", "message ", "update_id"] {
            assert_eq!(UpdateKind::from_key(name), None, "{name:?}");
            assert_eq!(name.parse::<UpdateKind>(), Err(UnknownKind), "{name:?}");
        }
    }
}
