//! Updates that finally failed, kept in a file: one JSON object a line, with the reason.

use std::{io, path::Path, sync::Arc};

use serde::Serialize;

use crate::{
    config::Ack,
    error::Error,
    roster::Roster,
    sink::lines::Lines,
    update::{Update, Value},
};

/// Where failed updates go.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    lines: Lines,
    roster: Arc<Roster>,
}

/// One line of the file.
#[derive(Serialize)]
struct DeadLetter<'a> {
    bot: &'a str,
    update_id: i64,
    reason: &'a str,
    attempts: u32,
    update: Value<'a>,
}

impl DeadLetters {
    /// Letters appended to the file at `path`, made with mode 0600. Where acknowledged updates
    /// outlive a power cut, letters do as well.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(crate) fn open(path: &Path, roster: &Arc<Roster>, ack: Ack) -> Result<Self, Error> {
        let open = if ack == Ack::Synced { Lines::synced_file } else { Lines::file };
        let lines = open(path, "dispatch.dead_letters = ")?;
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

    /// Brings `line` to the file.
    ///
    /// # Errors
    /// The disk does not take it now; to be called again.
    pub(crate) fn commit(&self, line: &mut Vec<u8>) -> io::Result<()> {
        self.lines.commit(line)
    }
}
