//! Updates that finally failed, kept in a file: one JSON object a line, with the reason.

use std::{io, path::Path, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    bots::BotRegistry,
    config::{Ack, base64},
    delivery::sink::lines::Lines,
    error::Error,
    files,
    proto::update::Update,
};

/// The file that failed updates go to.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    lines: Lines,
    registry: Arc<BotRegistry>,
}

/// One line of the file.
#[derive(Serialize)]
struct DeadLetter<'a, U> {
    bot: &'a str,
    update_id: i64,
    reason: &'a str,
    attempts: u32,
    update: U,
}

/// One line of the file, of what is no JSON.
#[derive(Serialize)]
struct BrokenLetter<'a> {
    bot: &'a str,
    update_id: i64,
    reason: &'a str,
    attempts: u32,
    update_base64: String,
}

/// False where `json` has something that readers of JSON reject, such as half of a surrogate pair:
/// the line would be lost to them. Depth is no obstacle, since a reader can raise its limit.
fn is_readable(json: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(_) => true,
        Err(error) => error.to_string().starts_with("recursion limit"),
    }
}

impl DeadLetters {
    /// A file of letters at `path`, to which they are appended, made with mode 0600. Where
    /// acknowledged updates outlive a power cut, letters do as well.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(crate) fn open(path: &Path, registry: &Arc<BotRegistry>, ack: Ack) -> Result<Self, Error> {
        let open = if ack == Ack::Synced { Lines::synced_file } else { Lines::file };
        let lines = files::at(path, || open(path, "dispatch.dead_letters = "))?;
        Ok(Self { lines, registry: Arc::clone(registry) })
    }

    /// The line of one letter.
    pub(crate) fn write(&self, update: &Update, reason: &str, attempts: u32, line: &mut Vec<u8>) {
        let bot = self.registry.name(update.bot()).unwrap_or_default();
        let update_id = update.id().get();
        let letter = DeadLetter { bot, update_id, reason, attempts, update: update.root() };
        // Writing to memory does not fail.
        if serde_json::to_writer(&mut *line, &letter).is_ok() {
            line.push(b'\n');
        }
    }

    /// The line of what came as update `id` of `bot` and could not be read as one: `json` as it is,
    /// or, where that is no JSON, its bytes in Base64.
    pub(crate) fn write_raw(
        &self,
        bot: &str,
        update_id: i64,
        json: &[u8],
        reason: &str,
        line: &mut Vec<u8>,
    ) {
        let before = line.len();
        // JSON holds line breaks between its parts only, never within a string.
        let text = std::str::from_utf8(json).ok().map(|json| json.replace(['\n', '\r'], " "));
        let text = text.as_deref().filter(|text| is_readable(text));
        let update = text.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let written = match update {
            Some(update) => {
                let letter = DeadLetter { bot, update_id, reason, attempts: 0, update };
                serde_json::to_writer(&mut *line, &letter)
            }
            None => {
                let update_base64 = base64(json);
                let letter = BrokenLetter { bot, update_id, reason, attempts: 0, update_base64 };
                serde_json::to_writer(&mut *line, &letter)
            }
        };
        // Writing to memory does not fail.
        match written {
            Ok(()) => line.push(b'\n'),
            Err(_) => line.truncate(before),
        }
    }

    /// Opens the file anew where it was renamed or removed. Waits for what is being written.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        self.lines.reopen()
    }

    /// Writes `line` to the file.
    ///
    /// # Errors
    /// The disk does not take it now; to be called again.
    pub(crate) fn commit(&self, line: &mut Vec<u8>) -> io::Result<()> {
        self.lines.commit(line)
    }
}
