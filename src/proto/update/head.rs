//! The few facts about an update that every step asks for.

use super::{ChatKey, ParseError, UpdateId, UpdateKind, Value};

/// The result of one pass over the keys of an update.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) id: UpdateId,
    pub(super) kind: UpdateKind,
    pub(super) chat_key: ChatKey,
    /// Where on the tape the value of the kind's field begins; `None` for unknown kinds.
    pub(super) payload_at: Option<usize>,
}

impl Head {
    /// The head of no update.
    pub(super) const NONE: Self = Self {
        id: UpdateId::new(0),
        kind: UpdateKind::Unknown,
        chat_key: ChatKey::Update(0),
        payload_at: None,
    };

    /// Reads the head of the update `root`.
    ///
    /// Of several `update_id`, and of several fields that name a kind, the first counts, as it does
    /// for [`Value::get`].
    ///
    /// # Errors
    ///
    /// [`ParseError::NotAnObject`] and [`ParseError::NoUpdateId`].
    pub(super) fn read(root: Value<'_>) -> Result<Self, ParseError> {
        if !root.is_object() {
            return Err(ParseError::NotAnObject);
        }
        let mut id = None;
        let mut carried = None;
        let mut entries = root.entries();
        while let Some((key, value)) = entries.next() {
            if key == "update_id" {
                id = id.or(Some(value));
            } else if carried.is_none()
                && let Some(kind) = UpdateKind::from_key(key)
            {
                let end = root.node_count() - entries.node_count();
                carried = Some((kind, value, end - value.node_count()));
            }
            if id.is_some() && carried.is_some() {
                break;
            }
        }
        let id = id.and_then(Value::as_i64).map(UpdateId::new).ok_or(ParseError::NoUpdateId)?;
        let kind = carried.map_or(UpdateKind::Unknown, |(kind, ..)| kind);
        let chat_key = ChatKey::from_update(id, kind, carried.map(|(_, value, _)| value));
        Ok(Self { id, kind, chat_key, payload_at: carried.map(|(.., at)| at) })
    }
}
