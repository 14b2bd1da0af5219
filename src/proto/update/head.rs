//! The few facts about an update that every step asks for.

use super::{ChatKey, ParseError, UpdateId, UpdateKind, Value};

/// The result of one pass over the keys of an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) id: UpdateId,
    pub(super) kind: UpdateKind,
    pub(super) chat_key: ChatKey,
}

impl Head {
    /// The head of no update.
    pub(super) const NONE: Self =
        Self { id: UpdateId::new(0), kind: UpdateKind::Unknown, chat_key: ChatKey::Update(0) };

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
        for (key, value) in root.entries() {
            if key == "update_id" {
                id = id.or(Some(value));
            } else if carried.is_none()
                && let Some(kind) = UpdateKind::from_key(key)
            {
                carried = Some((kind, value));
            }
            if id.is_some() && carried.is_some() {
                break;
            }
        }
        let id = id.and_then(Value::as_i64).map(UpdateId::new).ok_or(ParseError::NoUpdateId)?;
        let kind = carried.map_or(UpdateKind::Unknown, |(kind, _)| kind);
        let chat_key = ChatKey::from_update(id, kind, carried.map(|(_, value)| value));
        Ok(Self { id, kind, chat_key })
    }
}
