//! How the journal names a bot.

use std::fmt;

/// A bot in the journal: the CRC32C of its name, which stays when the configuration's order
/// changes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BotKey(u32);

impl BotKey {
    /// The key of the bot named `name`.
    pub fn from_name(name: &str) -> Self {
        Self(crc32c::crc32c(name.as_bytes()))
    }

    /// The key with these four bytes, as a record has them.
    pub(crate) const fn from_crc(crc: u32) -> Self {
        Self(crc)
    }

    /// The CRC32C.
    pub(crate) const fn crc(self) -> u32 {
        self.0
    }

    /// The key as its `Display` writes it.
    pub fn from_hex(text: &str) -> Option<Self> {
        let is_hex = text.len() == 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex.then(|| u32::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// As eight digits, for bots whose names are not known.
impl fmt::Display for BotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
