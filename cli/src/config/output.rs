//! `[[output]]`: where updates go.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use ringhook_outputs::routes::OneOf;
use serde::{Deserialize, Serialize};

use super::{Secrets, bot::Source};
use ringhook::Error;

/// One destination of updates. Without any there is one named `default` to `ndjson:-`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputSection {
    /// Its name in routes, logs, reports and the journal.
    pub(crate) name: String,
    /// A bot behind HTTP, such as `http://127.0.0.1:3000/webhook`, `https://host/path` or
    /// `http+unix:/run/bot.sock:/webhook`; `getupdates://127.0.0.1:8081` or
    /// `getupdates+unix:/run/poll.sock` for bots that poll there; `ndjson:-` for lines of JSON on
    /// standard output, `ndjson:FILE`, or `null`; or a broker, such as `redis://127.0.0.1:6379` or
    /// `postgres://ringhook@127.0.0.1/bots`. Of a list of bots behind HTTP, each chat stays with
    /// one.
    pub(crate) to: OneOf<String>,
    /// Of lines: whether a line has bot, kind and time beside the update. Without it, where there
    /// is more than one bot, or `output.fields`.
    pub(crate) meta: Option<bool>,
    /// Of lines: when the file is renamed to `FILE.1`, that one to `FILE.2` and so on, such as
    /// `{ size = "256MiB", keep = 8 }`. Without it never.
    pub(crate) rotate: Option<RotateTable>,
    /// Of HTTP: the most connections to each target; 256. Requests beyond them wait. Of getUpdates:
    /// the most connections of clients; 1,024.
    pub(crate) connections: Option<usize>,
    /// Of HTTP: how long one request may take; 65 s. Of getUpdates: for how long nothing of another
    /// method's request or answer may move; 65 s. Of brokers: how long a connection may take to be
    /// made, and a batch to be acknowledged; 10 s.
    #[serde(default, with = "humantime_option")]
    pub(crate) timeout: Option<Duration>,
    /// Of HTTP with several targets: after how long the chats of one that is down move to another.
    /// Without it they wait.
    #[serde(default, with = "humantime_option")]
    pub(crate) move_after: Option<Duration>,
    /// Of brokers: a file with the password. It is read at each connection.
    pub(crate) password_file: Option<PathBuf>,
    /// Of brokers: an environment variable with the password.
    pub(crate) password_env: Option<String>,
    /// Of brokers with TLS: a file with the certificates of the authorities that are trusted, in
    /// PEM. Without it those that browsers trust.
    pub(crate) ca: Option<PathBuf>,
    /// Of brokers: whether streams and tables are made where they are missing. Without it updates
    /// wait for them.
    pub(crate) create: Option<bool>,
    /// Of Redis: what the names of its streams begin with; `tg`. Of PostgreSQL: the table;
    /// `ringhook_updates`.
    pub(crate) into: Option<String>,
    /// Of Redis: over how many streams the chats of each bot are spread; 1.
    pub(crate) shards: Option<u32>,
    /// Of getUpdates: after how long without a request a client counts as gone, so that it is given
    /// again what it has not confirmed, whatever offset comes; 10 min.
    #[serde(default, with = "humantime_option")]
    pub(crate) client_timeout: Option<Duration>,
    /// Of getUpdates: how many processes of each bot poll; 1. Each chat stays with one. The API
    /// root of the second one ends with `/consumer/2`.
    pub(crate) consumers: Option<usize>,
    /// Of getUpdates: whether updates get increasing numbers in the place of their ids, for
    /// libraries that drop an id below the last one without a word, as go-telegram-bot-api does;
    /// false.
    pub(crate) renumber: Option<bool>,
    /// Values of the update by name: of HTTP as headers, such as `X-Chat = "message.chat.id"`, of
    /// lines as `fields` beside the update, such as `command = "message.text"`, of brokers as
    /// fields of the record. A path is keys from the root of the update with dots in between. A
    /// value that is not there makes no field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) fields: BTreeMap<String, String>,
}

/// How large a file of lines may become, and how many older ones are kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateTable {
    /// Of lines: the size at which the file is renamed to `FILE.1`, that one to `FILE.2` and so on,
    /// such as `256MiB`. Without `rotate` it is never renamed; with it this key is needed.
    pub(crate) size: ByteSize,
    /// Of lines: how many renamed files are kept; 8.
    #[serde(default = "kept")]
    pub(crate) keep: u32,
}

fn kept() -> u32 {
    8
}

impl OutputSection {
    /// The first place of `to`.
    pub(crate) fn first_to(&self) -> &str {
        self.to.first().map_or("", String::as_str)
    }

    /// The password of a broker, as it is now; `None` where there is none.
    pub(crate) fn password(&self) -> Result<Option<String>, Error> {
        let source = Source {
            key: "output.password",
            typed: None,
            file: self.password_file.as_deref(),
            variable: self.password_env.as_deref(),
        };
        if source.count() > 1 {
            let expected = "one of password_file and password_env";
            return Err(Error::config("output.password", source.count(), expected));
        }
        source.read(Secrets::Read, |text, _| Ok(text.to_owned()))
    }

    /// The files that it reads.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Path> {
        [&self.password_file, &self.ca].into_iter().filter_map(|path| path.as_deref())
    }

    /// The same for a command that brings updates there without a server. Fields are those of its
    /// own destination, so not of one that is typed.
    pub(crate) fn for_replay(&self, is_typed: bool) -> Self {
        let fields = if is_typed { BTreeMap::new() } else { self.fields.clone() };
        Self { fields, ..self.clone() }
    }

    /// The one that is there where none is configured, with another destination.
    pub(crate) fn default_to(to: &str) -> Self {
        let to = vec![to.to_owned()].into();
        Self { name: "default".to_owned(), to, ..Self::default() }
    }
}

mod humantime_option {
    //! Durations as text, which may be missing.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| humantime::format_duration(time).to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Some).map_err(de::Error::custom)
    }
}
