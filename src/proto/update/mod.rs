//! An update: the body as received, and parsed by the first that asks for a value in it.
//!
//! A shard's [`UpdateParser`] turns an [`UpdateBody`] into an [`Update`]; a worker reads it through
//! [`Value`], or as types of its own, and returns its memory as [`Recycled`]. The JSON parser is
//! named in this folder only.
//!
//! | file | what is in it |
//! |---|---|
//! | `body` | the bytes of a request body |
//! | `parser`, `document` | from a body to an update; a body with what is known of it |
//! | `scan` | the pass that every body gets: is it JSON, and what is its head |
//! | `tree` | a text and the tape that points into it |
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
mod scan;
mod spares;
mod tree;
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
use head::Head;

/// One update: a Bot API `Update`, whole, with the bot it is for and the time it came in.
///
/// It owns its bytes and can go to any thread. It serialises as one line of JSON of equal value;
/// `Debug` shows id, kind, bot and length, never the message.
pub struct Update {
    /// A pointer, so that an update is moved through queues at no cost, and that several outputs
    /// can have one.
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
        self.document.body().len()
    }

    /// The body byte for byte as received.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.document.body()
    }

    /// The whole update, an object.
    ///
    /// The first call parses the body: a microsecond for each KiB or so, and for others that ask
    /// at the same time a wait of that length.
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

    /// Appends the update as a line of JSON, without a line's end: the body as received but for
    /// line breaks. JSON has them only where white space is of no meaning.
    pub(crate) fn write_line(&self, line: &mut Vec<u8>) {
        let mut rest = self.body().trim_ascii();
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            line.extend_from_slice(rest.get(..at).unwrap_or_default());
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        line.extend_from_slice(rest);
    }

    /// Gives up the update and keeps its memory, for [`UpdateParser::keep`], unless another output
    /// has it still.
    #[doc(hidden)]
    #[must_use]
    pub fn recycle(self) -> Recycled {
        Recycled::new(self.document)
    }
}

/// False where the pass that every body gets has taken what the full parse refuses, or has found
/// another head.
pub(crate) fn scan_agrees(bytes: &[u8], depth_max: usize) -> bool {
    let Some(head) = scan::scan(bytes, depth_max) else { return true };
    let mut tree = tree::Tree::new();
    let read = tree.read(bytes, &mut simd_json::Buffers::with_max_depth(0, depth_max));
    read.is_ok() && Head::read(tree.root()).is_ok_and(|full| full == head)
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
