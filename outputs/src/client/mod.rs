//! What speaks HTTP to other servers: targets, connections to them, and what is known of each bot.
//!
//! | file | what is in it |
//! |---|---|
//! | `target` | a server and a path on it |
//! | `dial`, `pool` | how connections are made and kept |
//! | `link` | a server of the Bot API |
//! | `terms` | bots: secrets, tokens, Bot APIs |
//! | `authorities` | whom TLS trusts |

mod authorities;
pub(crate) mod dial;
pub(crate) mod link;
pub(crate) mod pool;
pub(crate) mod target;
pub(crate) mod terms;

pub(crate) use self::authorities::authorities;
pub use self::{target::Target, terms::BotTerms};
