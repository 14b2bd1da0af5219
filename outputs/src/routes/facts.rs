//! What conditions ask of an update, found once for all routes.

use std::cell::OnceCell;

use ringhook::update::{BotId, ChatKey, Update, UpdateKind as Kind, Value};

use super::{KindSet, command::command};

/// Kinds whose payload has the chat that it is about.
const CHAT_IN_PAYLOAD: KindSet = TEXT.union(KindSet::new(&[
    Kind::DeletedBusinessMessages,
    Kind::MessageReaction,
    Kind::MessageReactionCount,
    Kind::MyChatMember,
    Kind::ChatMember,
    Kind::ChatJoinRequest,
    Kind::ChatBoost,
    Kind::RemovedChatBoost,
    Kind::StoppedMessageGeneration,
]));
/// Kinds whose payload has the user who acts as `from`.
const FROM_IN_PAYLOAD: KindSet = TEXT.union(KindSet::new(&[
    Kind::InlineQuery,
    Kind::ChosenInlineResult,
    Kind::CallbackQuery,
    Kind::ShippingQuery,
    Kind::PreCheckoutQuery,
    Kind::PurchasedPaidMedia,
    Kind::MyChatMember,
    Kind::ChatMember,
    Kind::ChatJoinRequest,
]));
/// Kinds whose payload has the user who acts as `user`.
const USER_IN_PAYLOAD: KindSet = KindSet::new(&[
    Kind::BusinessConnection,
    Kind::MessageReaction,
    Kind::PollAnswer,
    Kind::ManagedBot,
    Kind::Subscription,
]);

/// Kinds that may be about a chat.
pub(super) const CHAT: KindSet = CHAT_IN_PAYLOAD.union(KindSet::new(&[Kind::CallbackQuery]));
/// Kinds that may name the type of a chat.
pub(super) const CHAT_TYPE: KindSet = CHAT.union(INLINE);
/// The kind that may come from a chat of the type `sender`.
pub(super) const INLINE: KindSet = KindSet::new(&[Kind::InlineQuery]);
/// Kinds that may name the user who acts.
pub(super) const FROM: KindSet = FROM_IN_PAYLOAD.union(USER_IN_PAYLOAD);
/// Kinds whose payload is a message, which may have a text or a caption.
pub(super) const TEXT: KindSet = KindSet::new(&[
    Kind::Message,
    Kind::EditedMessage,
    Kind::ChannelPost,
    Kind::EditedChannelPost,
    Kind::BusinessMessage,
    Kind::EditedBusinessMessage,
    Kind::GuestMessage,
]);

/// An update, and what was found in it so far.
pub(super) struct Facts<'a> {
    pub(super) update: &'a Update,
    chat: OnceCell<Option<i64>>,
    chat_type: OnceCell<Option<&'a str>>,
    command: OnceCell<Option<&'a str>>,
    from: OnceCell<Option<i64>>,
    text: OnceCell<Option<Text<'a>>>,
}

/// A text or a caption, and its entities.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    entities: Option<Value<'a>>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(update: &'a Update) -> Self {
        Self {
            update,
            chat: OnceCell::new(),
            chat_type: OnceCell::new(),
            command: OnceCell::new(),
            from: OnceCell::new(),
            text: OnceCell::new(),
        }
    }

    pub(super) fn bot(&self) -> BotId {
        self.update.bot()
    }

    pub(super) fn kind(&self) -> Kind {
        self.update.kind()
    }

    /// The id of the chat that the update is about.
    pub(super) fn chat(&self) -> Option<i64> {
        *self.chat.get_or_init(|| {
            if CHAT_IN_PAYLOAD.contains(self.kind()) {
                // The lane of these kinds is their chat, and is known already.
                return match self.update.chat_key() {
                    ChatKey::Chat(id) => Some(id),
                    _ => None,
                };
            }
            self.chat_object()?.get("id")?.as_i64()
        })
    }

    /// The type of that chat; of an inline query, of the chat where it is typed.
    pub(super) fn chat_type(&self) -> Option<&'a str> {
        *self.chat_type.get_or_init(|| {
            let found = match self.kind() {
                Kind::InlineQuery => self.update.payload()?.get("chat_type"),
                _ => self.chat_object()?.get("type"),
            };
            found?.as_str()
        })
    }

    /// The id of the user who acts.
    pub(super) fn from(&self) -> Option<i64> {
        *self.from.get_or_init(|| {
            let key = match self.kind() {
                kind if FROM_IN_PAYLOAD.contains(kind) => "from",
                kind if USER_IN_PAYLOAD.contains(kind) => "user",
                _ => return None,
            };
            self.update.payload()?.get(key)?.get("id")?.as_i64()
        })
    }

    /// The text or caption of a message.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.whole_text().map(|found| found.text)
    }

    /// The name of the command that the text or caption begins with.
    pub(super) fn command(&self) -> Option<&'a str> {
        *self.command.get_or_init(|| {
            let Text { text, entities } = self.whole_text()?;
            command(text, entities)
        })
    }

    fn whole_text(&self) -> Option<Text<'a>> {
        *self.text.get_or_init(|| {
            let message = self.update.payload().filter(|_| TEXT.contains(self.kind()))?;
            let under = |text, entities| {
                let text = message.get(text)?.as_str()?;
                Some(Text { text, entities: message.get(entities) })
            };
            under("text", "entities").or_else(|| under("caption", "caption_entities"))
        })
    }

    fn chat_object(&self) -> Option<Value<'a>> {
        let payload = self.update.payload()?;
        match self.kind() {
            Kind::CallbackQuery => payload.get("message")?.get("chat"),
            kind if CHAT_IN_PAYLOAD.contains(kind) => payload.get("chat"),
            _ => None,
        }
    }
}
