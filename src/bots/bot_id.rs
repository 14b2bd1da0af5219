//! Which bot an update belongs to.

use std::fmt;

/// Index of a bot in the configuration, counted from zero; bots that a
/// [reload](crate::ServerHandle::reload) adds count on, and a name keeps its number until the
/// process ends.
///
/// Not Telegram's id of the bot's account: it never leaves the process.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BotId(u32);

impl BotId {
    /// The bot with this index.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The bot's index.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
