//! What this machine has done to a bot's webhook on purpose, kept in the data directory for whoever
//! looks at the webhook later: a server that runs, or the next one.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{bot_api::WebhookInfo, webhook::without_userinfo};

/// What was done last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "webhook")]
pub(in crate::cli) enum Note {
    /// A command has deleted it.
    Deleted,
    /// A server has deleted it to poll instead, and is to set it again.
    Fallback,
    /// A command has set it to this.
    Set(Set),
}

/// What getWebhookInfo says of a webhook, as far as nobody but setWebhook changes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::cli) struct Set {
    allowed_updates: BTreeSet<String>,
    has_custom_certificate: bool,
    max_connections: Option<u32>,
    /// Without user and password.
    url: String,
}

impl Note {
    /// That a command has left the webhook as `info` says.
    pub(in crate::cli) fn of(info: &WebhookInfo) -> Self {
        if info.url.is_empty() {
            return Self::Deleted;
        }
        Self::Set(Set {
            allowed_updates: info.allowed_updates.iter().flatten().cloned().collect(),
            has_custom_certificate: info.has_custom_certificate,
            max_connections: info.max_connections,
            url: without_userinfo(&info.url),
        })
    }
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

    /// As [`write`](Self::write) where a server has been with this data directory; elsewhere there is
    /// nobody to read it.
    pub(in crate::cli) fn leave(&self, note: &Note) -> io::Result<()> {
        let data_dir = self.0.ancestors().nth(2);
        if data_dir.is_some_and(Path::is_dir) { self.write(note) } else { Ok(()) }
    }

    /// Writes it so that it is there after a power cut.
    pub(super) fn write(&self, note: &Note) -> io::Result<()> {
        let dir = self.0.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let half = self.0.with_extension("new");
        let mut file = File::create(&half)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        if let Some(owner) = dir.parent().and_then(|data_dir| fs::metadata(data_dir).ok()) {
            // A command of root's must not leave what a server with another user cannot read.
            for path in [dir, &half] {
                let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
            }
        }
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
        let info = WebhookInfo { url: "https://u:s3cret@x/".to_owned(), ..WebhookInfo::default() };
        for note in [Note::Fallback, Note::of(&info), Note::of(&WebhookInfo::default())] {
            file.leave(&note).unwrap();
            assert!(!fs::read_to_string(&file.0).unwrap().contains("s3cret"));
            assert_eq!(NoteFile::of(dir.path(), 7).read(), Some(note));
        }
        assert_eq!(NoteFile::of(dir.path(), 8).read(), None);
        file.forget().unwrap();
        assert_eq!(file.read(), None);
        let nowhere = dir.path().join("nowhere");
        NoteFile::of(&nowhere, 7).leave(&Note::Deleted).unwrap();
        assert!(!nowhere.exists());
    }
}
