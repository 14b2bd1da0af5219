//! Which bot an update belongs to.

use std::fmt;

/// Index of a bot in the configuration, counted from zero.
///
/// Not Telegram's id of the bot's account: it never leaves the process.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BotId(u32);

impl BotId {
    /// The bot at `index` of the configuration.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The bot's place in the configuration.
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
