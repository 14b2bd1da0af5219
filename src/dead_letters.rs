//! Updates that finally failed, kept in a file: one JSON object a line, with the reason.

use std::{io, path::Path, sync::Arc};

use serde::Serialize;
#[cfg(feature = "cli")]
use serde_json::value::RawValue;

use crate::{
    config::Ack, error::Error, rights, roster::Roster, sink::lines::Lines, update::Update,
};

/// Where failed updates go.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    lines: Lines,
    roster: Arc<Roster>,
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

impl DeadLetters {
    /// Letters appended to the file at `path`, made with mode 0600. Where acknowledged updates
    /// outlive a power cut, letters do as well.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(crate) fn open(path: &Path, roster: &Arc<Roster>, ack: Ack) -> Result<Self, Error> {
        let open = if ack == Ack::Synced { Lines::synced_file } else { Lines::file };
        let lines = rights::at(path, || open(path, "dispatch.dead_letters = "))?;
        Ok(Self { lines, roster: Arc::clone(roster) })
    }

    /// The line of one letter.
    pub(crate) fn write(&self, update: &Update, reason: &str, attempts: u32, line: &mut Vec<u8>) {
        let bot = self.roster.name(update.bot()).unwrap_or_default();
        let update_id = update.id().get();
        let letter = DeadLetter { bot, update_id, reason, attempts, update: update.root() };
        // Writing to memory does not fail.
        if serde_json::to_writer(&mut *line, &letter).is_ok() {
            line.push(b'\n');
        }
    }

    /// The line of what came as update `id` of `bot` and could not be read as one: `json` as it is.
    /// False where that is no JSON.
    #[cfg(feature = "cli")]
    pub(crate) fn write_raw(
        &self,
        bot: &str,
        update_id: i64,
        json: &str,
        reason: &str,
        line: &mut Vec<u8>,
    ) -> bool {
        // JSON holds line breaks between its parts only, never within a string.
        let json = json.replace(['\n', '\r'], " ");
        let Ok(update) = serde_json::from_str::<&RawValue>(&json) else { return false };
        let letter = DeadLetter { bot, update_id, reason, attempts: 0, update };
        let before = line.len();
        if serde_json::to_writer(&mut *line, &letter).is_err() {
            line.truncate(before);
            return false;
        }
        line.push(b'\n');
        true
    }

    /// Brings `line` to the file.
    ///
    /// # Errors
    /// The disk does not take it now; to be called again.
    pub(crate) fn commit(&self, line: &mut Vec<u8>) -> io::Result<()> {
        self.lines.commit(line)
    }
}
