//! The bots of a server: their numbers, their keys in the journal and their names.
//!
//! | file | what is in it |
//! |---|---|
//! | `bot_id` | a bot's number in this process |
//! | `bot_key` | its name in the journal, which outlives the process |
//! | `registry` | all bots since the start |

mod bot_id;
mod bot_key;
mod registry;

pub use self::{bot_id::BotId, bot_key::BotKey, registry::BotRegistry};
