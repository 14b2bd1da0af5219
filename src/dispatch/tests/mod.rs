//! Tests of the hand-off as a whole.
//!
//! | file | question |
//! |---|---|
//! | `lanes` | does one chat's order survive retries, due times and reused memory |
//! | `model` | do the promises hold in any order of steps, on one thread with a clock of its own |
//! | `threads` | do they hold with real workers, and does no worker sleep through work |
//! | `questions` | who looks where, and what a full inbox does |

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod lanes;
mod model;
mod questions;
mod threads;

use std::time::Instant;

use crate::{
    bots::BotId,
    proto::update::{Update, UpdateParser},
};

/// A message in `chat`, with a text of `padding` bytes.
fn message(bot: u32, chat: i64, id: i64, padding: usize) -> Update {
    let text = "x".repeat(padding);
    let json =
        format!(r#"{{"update_id":{id},"message":{{"chat":{{"id":{chat}}},"text":"{text}"}}}}"#);
    let parsed =
        UpdateParser::default().parse(json.into_bytes().into(), BotId::new(bot), Instant::now());
    parsed.map_err(|rejected| rejected.error).unwrap()
}
