//! What this machine has done to a bot's webhook on purpose, kept in the data directory for whoever
//! looks at the webhook later: a server that runs, or the next one.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What was done, and not undone since.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "webhook")]
pub(in crate::cli) enum Note {
    /// Somebody has deleted it by a command.
    Deleted,
    /// Somebody has set another one by a command.
    Elsewhere {
        /// Without user and password.
        url: String,
    },
    /// A server has deleted it to poll instead, and is to set it again.
    Fallback,
}

/// Where the note about one bot is: `DATA_DIR/webhook/ID.json`, by the bot's id at Telegram.
#[derive(Clone, Debug)]
pub(in crate::cli) struct NoteFile(PathBuf);

impl NoteFile {
    pub(in crate::cli) fn of(data_dir: &Path, bot_id: u64) -> Self {
        Self(data_dir.join("webhook").join(format!("{bot_id}.json")))
    }

    /// `None` where there is none, or none that can be read.
    pub(super) fn read(&self) -> Option<Note> {
        serde_json::from_slice(&fs::read(&self.0).ok()?).ok()
    }

    /// Writes it so that it is there after a power cut.
    pub(in crate::cli) fn write(&self, note: &Note) -> io::Result<()> {
        let dir = self.0.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let half = self.0.with_extension("new");
        let mut file = File::create(&half)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        fs::rename(half, &self.0)?;
        File::open(dir)?.sync_all()
    }

    /// Takes it away, where there is one.
    pub(in crate::cli) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn is_there_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = NoteFile::of(dir.path(), 7);
        assert_eq!(file.read(), None);
        file.forget().unwrap();
        for note in [Note::Fallback, Note::Elsewhere { url: "https://x/".to_owned() }] {
            file.write(&note).unwrap();
            assert_eq!(NoteFile::of(dir.path(), 7).read(), Some(note));
        }
        assert_eq!(NoteFile::of(dir.path(), 8).read(), None);
        file.forget().unwrap();
        assert_eq!(file.read(), None);
    }
}
