//! Telegram's side: its API, its sender, and what it makes of a webhook.
//!
//! | folder | what is in it |
//! |---|---|
//! | `bot_api` | a client of the Bot API |
//! | `polling` | getUpdates, as a way in |
//! | `samples` | an update of each kind |
//! | `sender` | requests as Telegram's sender makes them |
//! | `webhook` | what a webhook is set to, and what is wrong with it |

pub(crate) mod bot_api;
pub(crate) mod polling;
pub(crate) mod samples;
pub(crate) mod sender;
pub(crate) mod webhook;
