//! What a body becomes: the right update, or the right refusal.

mod equality;
mod kinds;
mod memory;
mod privacy;
mod rejections;
mod samples;
mod values;

use std::time::Instant;

use ringhook::internals::update::{BotId, ParseError, Update, UpdateBody, UpdateParser};

/// Parses `text` with a parser of its own.
fn parse(text: impl AsRef<[u8]>) -> Result<Update, ParseError> {
    let mut body = UpdateBody::with_capacity(text.as_ref().len());
    body.extend(text.as_ref());
    UpdateParser::default()
        .parse(body, BotId::new(0), Instant::now())
        .map_err(|rejected| rejected.error)
}
