//! Seeded updates that look like Telegram's.
//!
//! Bodies are rendered once, at start-up, into a few hundred [`Template`]s. Making an update is
//! then a copy of one template plus a handful of digits written over fixed places: no allocation
//! once the caller's buffer has grown, and far under a microsecond per kilobyte.
//!
//! A chat keeps its type (private, group, supergroup, channel) for the whole run, and popular chats
//! come far more often than the rest, as in a real bot.

mod body;
mod chat;
mod content;
mod draw;
mod key;
mod kind;
mod script;
mod template;

pub(crate) use self::template::push_number;
pub use self::{
    key::{ChatKey, chat_of, kind_of},
    kind::UpdateKind,
};

use self::{
    chat::ChatType,
    draw::Draw,
    template::{Fill, Template},
};
use crate::{Error, rng::Rng};

/// What decides the bytes of the updates: equal options give equal updates.
#[derive(Clone, Debug)]
pub struct PayloadOptions {
    /// Where the random numbers start.
    pub seed: u64,
    /// How many distinct chats write to the bot, 1 to [`PayloadOptions::CHATS_MAX`]; other values
    /// are brought into that range. With fewer than 10, some kinds of updates never come.
    pub chats: u32,
    /// The `date` of all updates, in seconds since 1970.
    pub date: u32,
}

impl PayloadOptions {
    /// The most distinct chats: their identifiers must fit ten digits.
    pub const CHATS_MAX: u32 = 1_000_000;

    /// Sets the option called `key`.
    ///
    /// # Errors
    /// [`Error::Option`] that names key, value and what was expected instead.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let wrong = |expected: &str| Error::key(&format!("payload.{key}"), value, expected);
        match key {
            "seed" => self.seed = value.parse().map_err(|_| wrong("a whole number"))?,
            "chats" => {
                let chats = value.parse().ok().filter(|n| (1..=Self::CHATS_MAX).contains(n));
                self.chats = chats.ok_or_else(|| wrong("1 to 1000000"))?;
            }
            _ => return Err(Error::key("payload", key, "one of seed, chats")),
        }
        Ok(())
    }
}

impl Default for PayloadOptions {
    fn default() -> Self {
        Self { seed: 1, chats: 10_000, date: 1_767_225_600 }
    }
}

/// Writes updates. What an update says depends on the options and its id alone, whatever was
/// written before: a retry, or a second run, sends the same bytes.
///
/// ```
/// use loadtest::{PayloadGenerator, PayloadOptions};
///
/// let updates = PayloadGenerator::new(&PayloadOptions::default());
/// let mut body = Vec::new();
/// updates.write(&mut body, 7);
/// assert!(body.starts_with(b"{\"update_id\":7,\n\""));
/// ```
pub struct PayloadGenerator {
    /// Templates by [`ChatType`], in its order.
    templates: [Vec<Template>; ChatType::ALL.len()],
    options: PayloadOptions,
}

impl PayloadGenerator {
    /// Renders the templates, which takes a few milliseconds.
    #[must_use]
    pub fn new(options: &PayloadOptions) -> Self {
        let mut rng = Rng::new(options.seed);
        Self {
            templates: ChatType::ALL.map(|chat| body::templates(chat, &mut rng)),
            options: options.clone(),
        }
    }

    /// Appends the update of the given id to `out`, and says which kind it is.
    pub fn write(&self, out: &mut Vec<u8>, update_id: u64) -> UpdateKind {
        let draw = Draw::new(&self.options, update_id);
        let fill = Fill {
            chat: draw.chat.number,
            sender: draw.sender,
            // Seven digits, with room below for the message it answers.
            message: 1_010_000 + update_id % 8_900_000,
            date: u64::from(self.options.date),
            noise: draw.noise,
        };
        let template = self.template(&draw);
        template.write(out, update_id, &fill);
        template.kind()
    }

    fn template(&self, draw: &Draw) -> &Template {
        // The array has one list per chat type, and a draw stays within it.
        #[allow(clippy::indexing_slicing)]
        &self.templates[draw.chat.kind as usize][draw.template as usize]
    }
}
