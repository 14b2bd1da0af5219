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
mod sizes;
mod skew;
mod steer;
mod template;

pub(crate) use self::template::push_number;
pub use self::{
    key::{ChatKey, chat_of, kind_of},
    kind::UpdateKind,
    sizes::Sizes,
    skew::Skew,
};

use self::{
    chat::ChatType,
    draw::Draw,
    template::{Fill, Template},
};
use crate::rng::Rng;

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
    /// The only kinds that come, each with its weight; every kind as it comes in a lively bot if
    /// there are none.
    pub kinds: Vec<(UpdateKind, u32)>,
    /// How much more often some chats write than others; as one over the rank if none.
    pub skew: Option<Skew>,
    /// How long bodies are; as they come if none. What is too short gets a member `padding`, and
    /// what a kind needs at least is not cut.
    pub size: Option<Sizes>,
    /// The share of updates, 0 to 1, that are photos of an album: four with neighbouring ids, one
    /// chat and one `media_group_id`.
    pub albums: f64,
}

impl PayloadOptions {
    /// The most distinct chats: their identifiers must fit ten digits.
    pub const CHATS_MAX: u32 = 1_000_000;
}

impl Default for PayloadOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            chats: 10_000,
            date: 1_767_225_600,
            kinds: Vec::new(),
            skew: None,
            size: None,
            albums: 0.0,
        }
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
    /// Photos of albums, likewise.
    albums: [Vec<Template>; ChatType::ALL.len()],
    options: PayloadOptions,
}

impl PayloadGenerator {
    /// Renders the templates, which takes a few milliseconds.
    #[must_use]
    pub fn new(options: &PayloadOptions) -> Self {
        let mut rng = Rng::new(options.seed);
        Self {
            templates: ChatType::ALL.map(|chat| body::templates(chat, options.size, &mut rng)),
            albums: match options.albums > 0.0 {
                true => ChatType::ALL.map(|chat| body::albums(chat, options.size, &mut rng)),
                false => ChatType::ALL.map(|_| Vec::new()),
            },
            options: options.clone(),
        }
    }

    /// What it was made from.
    pub(crate) fn options(&self) -> &PayloadOptions {
        &self.options
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
        let lists = if draw.album { &self.albums } else { &self.templates };
        // The arrays have one list per chat type, and a draw stays within it.
        #[allow(clippy::indexing_slicing)]
        &lists[draw.chat.kind as usize][draw.template as usize]
    }
}
