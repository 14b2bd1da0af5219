//! The number Telegram gives an update.

use std::fmt;

/// `update_id` of the Bot API's `Update`: unique within one bot and increasing by one, except that
/// after a week of silence the next one is chosen at random.
///
/// The Bot API sends positive numbers that fit 32 bits; every `i64` is accepted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UpdateId(i64);

impl UpdateId {
    /// The id with the number `id`.
    #[must_use]
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The number as sent.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
