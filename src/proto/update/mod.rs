//! An update: the body as received, parsed in place, owned and `Send`.
//!
//! A shard's [`UpdateParser`] turns an [`UpdateBody`] into an [`Update`]; a worker reads it through
//! [`Value`], or as types of its own, and returns its memory as [`Recycled`]. The JSON parser is
//! named in this folder only.
//!
//! | file | what is in it |
//! |---|---|
//! | `body` | the bytes of a request body, in memory that can be parsed in place |
//! | `parser`, `document` | from a body to an update; a body and the tape that points into it |
//! | `head` | the few facts that every step asks for |
//! | `kind`, `update_id`, `chat_key` | the kind, the number, and which updates stay in order |
//! | `value` | a read-only view of a JSON value |
//! | `error` | why bytes are no update |
//! | `recycled`, `spares` | memory of handled updates, and where it is kept |

mod body;
mod chat_key;
mod document;
mod error;
mod head;
mod kind;
mod parser;
mod recycled;
mod spares;
mod update_id;
mod value;

use std::{fmt, sync::Arc, time::Instant};

use serde::{Deserialize, Serialize, Serializer};

pub use crate::bots::BotId;
pub use body::UpdateBody;
pub use chat_key::ChatKey;
pub use error::{ParseError, Rejected};
pub use kind::{UnknownKind, UpdateKind};
pub use parser::{ParserLimits, UpdateParser};
pub use recycled::Recycled;
pub use update_id::UpdateId;
pub use value::{DeserializeError, Elements, Entries, Value};

use document::Document;

/// One update: a Bot API `Update`, whole, with the bot it is for and the time it came in.
///
/// It owns its bytes and can go to any thread. It serialises as one line of JSON of equal value;
/// `Debug` shows id, kind, bot and length, never the message.
pub struct Update {
    /// A pointer, so that an update is moved through queues at no cost, and that several outputs
    /// can have one. Document, body and tape are used again together.
    document: Arc<Document>,
}

impl Update {
    fn new(document: Arc<Document>) -> Self {
        Self { document }
    }

    /// The same update once more, for another output.
    pub(crate) fn share(&self) -> Self {
        Self { document: Arc::clone(&self.document) }
    }

    /// Telegram's number of the update.
    #[must_use]
    pub fn id(&self) -> UpdateId {
        self.document.head().id
    }

    /// The kind of the update. Of several known fields, the first in the object decides.
    #[must_use]
    pub fn kind(&self) -> UpdateKind {
        self.document.head().kind
    }

    /// The bot it is for.
    #[must_use]
    pub fn bot(&self) -> BotId {
        self.document.bot
    }

    /// The lane, within the bot, in which order is kept.
    #[must_use]
    pub fn chat_key(&self) -> ChatKey {
        self.document.head().chat_key
    }

    /// When it came in, as given to the parser.
    #[must_use]
    pub fn received_at(&self) -> Instant {
        self.document.received_at
    }

    /// Length of the body as received, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.document.byte_len()
    }

    /// The body byte for byte as received, where the server keeps it
    /// ([`Config::keep_bodies`](crate::Config::keep_bodies)).
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        Some(self.document.received()).filter(|body| !body.is_empty())
    }

    /// The whole update, an object.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        self.document.root()
    }

    /// The field `key` of the update; of several, the first.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.root().get(key)
    }

    /// The value of the [kind's](Self::kind) field, such as the `Message` of a message; `None` for
    /// unknown kinds.
    #[must_use]
    pub fn payload(&self) -> Option<Value<'_>> {
        self.document.payload()
    }

    /// Reads the whole update as a type of one's own, as [`Value::deserialize`] does.
    ///
    /// # Errors
    ///
    /// [`DeserializeError`] if the update has not the shape of `T`.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DeserializeError> {
        self.root().deserialize()
    }

    /// Gives up the update and keeps its memory, for [`UpdateParser::keep`], unless another output
    /// has it still.
    #[doc(hidden)]
    #[must_use]
    pub fn recycle(self) -> Recycled {
        Recycled::new(self.document)
    }
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("id", &self.id())
            .field("kind", &self.kind())
            .field("bot", &self.bot())
            .field("byte_len", &self.byte_len())
            .finish()
    }
}

impl Serialize for Update {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root().serialize(serializer)
    }
}
