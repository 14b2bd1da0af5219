//! What this machine has done to a bot's webhook on purpose, kept in the data directory for
//! the server that runs, or the next one.

use std::{
    collections::BTreeSet,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    files::{Half, Over},
    net::url::without_userinfo,
    telegram::{bot_api::WebhookInfo, webhook::Plan},
};
use ringhook::internals::{
    files,
    files::{Dir, How},
};

/// What was done last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "webhook")]
pub(crate) enum Note {
    /// A command has deleted it.
    Deleted,
    /// A server has deleted it to poll instead, and is to set it again.
    Fallback,
    /// A server has set it by its config, with this certificate ([`Sum::certificate`]).
    Own { certificate: Option<u32> },
    /// A command has set it to this.
    Set(Set),
}

/// What getWebhookInfo says of a webhook, as far as only setWebhook changes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Set {
    allowed_updates: BTreeSet<String>,
    has_custom_certificate: bool,
    max_connections: Option<u32>,
    /// What the config asked for then.
    #[serde(default)]
    plan: Option<Sum>,
    /// Without user and password.
    url: String,
}

/// By which a plan is known again. No secret is in it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Sum {
    /// Of the certificate that is uploaded, CRC-32C; `None` where none is.
    pub(super) certificate: Option<u32>,
    /// Of all else that getWebhookInfo shows.
    settings: u32,
}

impl Sum {
    pub(super) fn new(plan: &Plan) -> Self {
        let kinds: Option<BTreeSet<_>> =
            plan.allowed_updates.as_ref().map(|kinds| kinds.iter().collect());
        let settings = serde_json::json!([
            without_userinfo(&plan.url),
            plan.ip_address.map(|ip| ip.to_string()),
            plan.max_connections,
            kinds,
        ]);
        Self {
            certificate: plan.certificate.as_deref().map(crc32c::crc32c),
            settings: crc32c::crc32c(settings.to_string().as_bytes()),
        }
    }
}

impl Note {
    /// That a command has left the webhook as `info` says, where the config asks for `plan`.
    pub(crate) fn new(info: &WebhookInfo, plan: Option<&Plan>) -> Self {
        if info.url.is_empty() {
            Self::Deleted
        } else {
            Self::Set(Set::new(info, plan.map(Sum::new)))
        }
    }

    /// True where a command has left the webhook as `info` says.
    pub(super) fn is_of(&self, info: &WebhookInfo) -> bool {
        match self {
            Self::Deleted => info.url.is_empty(),
            Self::Set(set) => !info.url.is_empty() && *set == Set::new(info, set.plan),
            Self::Fallback | Self::Own { .. } => false,
        }
    }

    /// What the config asked for when a command has set it.
    pub(super) fn plan(&self) -> Option<Sum> {
        if let Self::Set(set) = self { set.plan } else { None }
    }

    /// The certificate that was uploaded, as far as it is known.
    pub(super) fn certificate(&self) -> Option<u32> {
        match self {
            Self::Own { certificate } => *certificate,
            note => note.plan().and_then(|plan| plan.certificate),
        }
    }
}

impl Set {
    fn new(info: &WebhookInfo, plan: Option<Sum>) -> Self {
        Self {
            allowed_updates: info.allowed_updates.iter().flatten().cloned().collect(),
            has_custom_certificate: info.has_custom_certificate,
            max_connections: info.max_connections,
            plan,
            url: without_userinfo(&info.url),
        }
    }
}

/// Where the note about one bot is: `DATA_DIR/webhook/ID.json`, by the bot's id at Telegram.
#[derive(Clone, Debug)]
pub(crate) struct NoteFile(PathBuf);

impl NoteFile {
    pub(crate) fn new(data_dir: &Path, bot_id: u64) -> Self {
        Self(data_dir.join("webhook").join(format!("{bot_id}.json")))
    }

    /// `None` where there is none, or none that can be read.
    pub(super) fn read(&self) -> Option<Note> {
        let (mut file, mut text) = (files::open(&self.0, How::Read).ok()?, Vec::new());
        file.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// As [`write`](Self::write) where a server has been with this data directory; elsewhere no
    /// server would read it.
    pub(crate) fn leave(&self, note: &Note) -> io::Result<()> {
        let data_dir = self.0.ancestors().nth(2);
        if data_dir.is_some_and(Path::is_dir) { self.write(note) } else { Ok(()) }
    }

    /// Writes it so that it is there after a power cut.
    pub(super) fn write(&self, note: &Note) -> io::Result<()> {
        let path = self.0.parent().unwrap_or(Path::new("."));
        // A command of root's must not leave what a server with another user cannot read, and is
        // led nowhere by what that user has put there.
        Dir::make(path, 0o700, None)?;
        let (dir, name) = Dir::parent_of(&self.0, None)?;
        Half::write(dir, &name, 0o600, &serde_json::to_vec(note)?)?.settle(Over::Replace)?;
        Dir::find(path, None)?.sync()
    }

    /// Takes it away, where there is one.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match Dir::parent_of(&self.0, None).and_then(|(dir, name)| dir.remove(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    fn planned(url: &str, change: impl FnOnce(&mut Plan)) -> Plan {
        let mut plan = Plan::default();
        plan.url = url.to_owned();
        change(&mut plan);
        plan
    }

    #[test]
    fn a_plan_is_known_again() {
        let plan = planned("https://x/", |_| {});
        let certificate =
            |pem: &[u8]| planned("https://x/", |plan| plan.certificate = Some(pem.to_vec()));
        assert_eq!(Sum::new(&plan), Sum::new(&plan.clone()));
        let count = planned("https://x/", |plan| plan.max_connections = Some(3));
        let url = planned("https://y/", |_| {});
        for other in [certificate(b"a"), count, url] {
            assert_ne!(Sum::new(&plan), Sum::new(&other));
        }
        assert_ne!(Sum::new(&certificate(b"a")), Sum::new(&certificate(b"b")));
        let info = WebhookInfo { url: plan.url.clone(), ..WebhookInfo::default() };
        let note = Note::new(&info, Some(&certificate(b"a")));
        assert!(note.is_of(&info) && !note.is_of(&WebhookInfo::default()));
        assert_eq!(note.certificate(), Sum::new(&certificate(b"a")).certificate);
        // One of a version that knew no plans.
        let old = r#"{"webhook":"set","allowed_updates":[],"has_custom_certificate":false,
                      "max_connections":null,"url":"https://x/"}"#;
        let old: Note = serde_json::from_str(old).unwrap();
        assert!(old.is_of(&info) && old.plan().is_none());
    }

    #[test]
    fn is_there_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = NoteFile::new(dir.path(), 7);
        assert_eq!(file.read(), None);
        file.forget().unwrap();
        let info = WebhookInfo { url: "https://u:s3cret@x/".to_owned(), ..WebhookInfo::default() };
        let plan = planned(&info.url, |_| {});
        let deleted = Note::new(&WebhookInfo::default(), None);
        assert_eq!(deleted, Note::Deleted);
        let own = Note::Own { certificate: Some(7) };
        for note in
            [Note::Fallback, Note::new(&info, Some(&plan)), Note::new(&info, None), own, deleted]
        {
            file.leave(&note).unwrap();
            assert!(!fs::read_to_string(&file.0).unwrap().contains("s3cret"));
            assert_eq!(NoteFile::new(dir.path(), 7).read(), Some(note));
        }
        assert_eq!(NoteFile::new(dir.path(), 8).read(), None);
        file.forget().unwrap();
        assert_eq!(file.read(), None);
        let nowhere = dir.path().join("nowhere");
        NoteFile::new(&nowhere, 7).leave(&Note::Deleted).unwrap();
        assert!(!nowhere.exists());
    }
}
