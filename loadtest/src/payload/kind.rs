//! The kinds of updates of Bot API 10.3, and how often each comes.

use super::chat::ChatType;

macro_rules! kinds {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// The kinds of updates of Bot API 10.3.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum UpdateKind { $(#[doc = $doc] $variant,)* }

        impl UpdateKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name of its member in the update.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    BusinessConnection "business_connection" "A business account connected or left the bot.",
    BusinessMessage "business_message" "A message to a connected business account.",
    CallbackQuery "callback_query" "A button under a message was pressed.",
    ChannelPost "channel_post" "A post in a channel.",
    ChatBoost "chat_boost" "A chat was boosted.",
    ChatJoinRequest "chat_join_request" "A user asks to join a chat.",
    ChatMember "chat_member" "A member's status changed.",
    ChosenInlineResult "chosen_inline_result" "A result of an inline query was chosen.",
    DeletedBusinessMessages "deleted_business_messages" "Messages of a business account were deleted.",
    EditedBusinessMessage "edited_business_message" "A message to a business account was edited.",
    EditedChannelPost "edited_channel_post" "A channel post was edited.",
    EditedMessage "edited_message" "A message was edited.",
    GuestMessage "guest_message" "A message in a chat in which the bot is a guest.",
    InlineQuery "inline_query" "An inline query.",
    ManagedBot "managed_bot" "A bot managed by this one changed.",
    Message "message" "A message.",
    MessageReaction "message_reaction" "A reaction to a message changed.",
    MessageReactionCount "message_reaction_count" "The count of anonymous reactions changed.",
    MyChatMember "my_chat_member" "The bot's own status in a chat changed.",
    Poll "poll" "A poll changed.",
    PollAnswer "poll_answer" "A user voted in a poll.",
    PreCheckoutQuery "pre_checkout_query" "The last question before a payment.",
    PurchasedPaidMedia "purchased_paid_media" "Paid media was bought.",
    RemovedChatBoost "removed_chat_boost" "A boost was taken away.",
    ShippingQuery "shipping_query" "An address for a shipment.",
    StoppedMessageGeneration "stopped_message_generation" "The user stopped a message being written.",
    Subscription "subscription" "A user's subscription changed.",
}

/// The kinds that come from one type of chat, each with how many templates it has there: each as
/// often as its weight says, and at least once.
pub(super) fn shares(chat: ChatType) -> impl Iterator<Item = (UpdateKind, u64)> {
    // More variants would only cost cache misses while a load runs.
    let count = match chat {
        ChatType::Private | ChatType::Supergroup => 500,
        ChatType::Channel | ChatType::Group => 125,
    };
    weights(chat).iter().map(move |&(kind, weight)| (kind, (weight * count / 1000).max(1)))
}

/// The kinds that come from one type of chat, each with its weight: about how many in a thousand.
/// The numbers are a guess at a lively bot that asked for every kind in `allowed_updates`.
fn weights(chat: ChatType) -> &'static [(UpdateKind, u64)] {
    use UpdateKind as K;
    match chat {
        ChatType::Channel => &[
            (K::ChannelPost, 830),
            (K::EditedChannelPost, 90),
            (K::MessageReactionCount, 40),
            (K::ChatMember, 20),
            (K::MyChatMember, 10),
            (K::ChatBoost, 6),
            (K::RemovedChatBoost, 4),
        ],
        ChatType::Group => &[
            (K::Message, 900),
            (K::EditedMessage, 50),
            (K::CallbackQuery, 30),
            (K::MyChatMember, 20),
        ],
        ChatType::Private => &[
            (K::Message, 600),
            (K::CallbackQuery, 170),
            (K::InlineQuery, 60),
            (K::EditedMessage, 30),
            (K::BusinessMessage, 30),
            (K::ChosenInlineResult, 15),
            (K::MyChatMember, 14),
            (K::MessageReaction, 10),
            (K::PollAnswer, 10),
            (K::GuestMessage, 6),
            (K::Poll, 6),
            (K::PreCheckoutQuery, 6),
            (K::StoppedMessageGeneration, 6),
            (K::BusinessConnection, 4),
            (K::DeletedBusinessMessages, 4),
            (K::EditedBusinessMessage, 4),
            (K::ManagedBot, 4),
            (K::PurchasedPaidMedia, 4),
            (K::ShippingQuery, 4),
            (K::Subscription, 4),
        ],
        ChatType::Supergroup => &[
            (K::Message, 800),
            (K::CallbackQuery, 50),
            (K::EditedMessage, 40),
            (K::MessageReaction, 40),
            (K::ChatMember, 30),
            (K::PollAnswer, 12),
            (K::ChatJoinRequest, 8),
            (K::GuestMessage, 6),
            (K::MyChatMember, 4),
            (K::Poll, 4),
            (K::ChatBoost, 3),
            (K::RemovedChatBoost, 3),
        ],
    }
}
