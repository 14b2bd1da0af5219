//! The config file as typed: TOML with unknown keys refused, times as `10s`, sizes as `1MiB`.

mod bot;
mod profile;

use std::{fmt, fs, net::SocketAddr, path::Path, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(crate) use self::{bot::BotSection, profile::ProfileSection};
use super::{Ack, Config, Dispatch, DriverChoice, Journal, Limits, Order};
use crate::{
    allow::AllowList,
    error::{Error, ErrorKind},
};

/// Everything that `ringhook.toml` can say; what it leaves out has a default.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) server: ServerSection,
    #[serde(default)]
    pub(crate) tls: TlsSection,
    #[serde(default)]
    pub(crate) limits: LimitsSection,
    #[serde(default)]
    pub(crate) dispatch: DispatchSection,
    #[serde(default)]
    pub(crate) journal: JournalSection,
    #[serde(default)]
    pub(crate) profile: ProfileSection,
    #[serde(default)]
    pub(crate) sink: SinkSection,
    #[serde(default, rename = "bot")]
    pub(crate) bots: Vec<BotSection>,
}

/// `[server]`: threads, address and directory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerSection {
    #[serde(default, deserialize_with = "address")]
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) allow: Option<Vec<String>>,
    pub(crate) driver: Option<DriverChoice>,
    pub(crate) shards: Option<usize>,
    pub(crate) workers: Option<usize>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) drain_timeout: Option<Span>,
}

/// `[tls]`: PEM files; both or neither.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// `[limits]`: see [`Limits`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsSection {
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) head_bytes: Option<ByteSize>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) body_bytes: Option<ByteSize>,
    pub(crate) json_depth: Option<usize>,
    pub(crate) handshake_timeout: Option<Span>,
    pub(crate) request_timeout: Option<Span>,
    pub(crate) idle_timeout: Option<Span>,
    pub(crate) queue_updates: Option<usize>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) queue_bytes: Option<ByteSize>,
    pub(crate) chat_updates: Option<usize>,
    pub(crate) connections: Option<usize>,
    pub(crate) connections_per_address: Option<usize>,
}

/// `[dispatch]`: see [`Dispatch`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DispatchSection {
    pub(crate) order: Option<Order>,
    pub(crate) drop_expired: Option<bool>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) dead_letters: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) media_groups: Option<MediaGroups>,
}

/// `[journal]`: see [`Journal`]. Its directory is `journal` in the data directory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalSection {
    pub(crate) ack: Option<Ack>,
    pub(crate) sync_interval: Option<Span>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) segment_bytes: Option<ByteSize>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) max_bytes: Option<ByteSize>,
}

impl JournalSection {
    fn to_journal(&self, data_dir: Option<&Path>) -> Journal {
        let defaults = Journal::default();
        let dir = data_dir.map(|dir| dir.join("journal"));
        // Without a directory there is nothing to write to.
        let ack = if dir.is_some() { Ack::Written } else { Ack::Memory };
        Journal {
            ack: self.ack.unwrap_or(ack),
            dir,
            max_bytes: self.max_bytes.map_or(defaults.max_bytes, |size| size.as_u64()),
            segment_bytes: self.segment_bytes.map_or(defaults.segment_bytes, |size| size.as_u64()),
            sync_interval: self.sync_interval.map_or(defaults.sync_interval, |span| span.0),
        }
    }
}

/// `dispatch.media_groups`: that albums are handled together.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MediaGroups {
    /// How long the next message of an album is waited for.
    pub(crate) wait: Span,
}

/// `[sink]`: where the updates go.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SinkSection {
    /// `ndjson:-`, `ndjson:FILE` or `null`.
    pub(crate) to: Option<String>,
}

impl ConfigFile {
    /// Reads and parses `path`; the message of an error in it has the line and the key.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| {
            Error::with_source(ErrorKind::Config, format!("config {}", path.display()), source)
        })?;
        text.parse().map_err(|error: Error| {
            Error::new(ErrorKind::Config, format!("config {}: {error}", path.display()))
        })
    }

    /// What is typed here, checked and completed with defaults.
    pub(crate) fn to_config(&self, secrets: Secrets) -> Result<Config, Error> {
        let defaults = Config::default();
        let bots = self.bots.iter().map(|bot| bot.to_bot(secrets)).collect::<Result<_, _>>()?;
        let server = &self.server;
        let config = Config {
            allow: server.allow.as_ref().map(AllowList::new).transpose()?,
            bots,
            dispatch: self.dispatch.to_dispatch(),
            drain_timeout: server.drain_timeout.map_or(defaults.drain_timeout, |span| span.0),
            driver: server.driver.unwrap_or_default(),
            journal: self.journal.to_journal(server.data_dir.as_deref()),
            limits: self.limits.to_limits()?,
            listen: server.listen.unwrap_or(defaults.listen),
            profile: self.profile.to_profile()?,
            shards: server.shards,
            workers: server.workers,
        };
        config.validate()?;
        Ok(config)
    }

    /// This file with every value written out as `config` has it, for `--print-config`.
    pub(crate) fn effective(mut self, config: &Config) -> Self {
        self.server.listen = Some(config.listen);
        self.server.driver = Some(config.driver);
        self.server.shards = config.shards;
        self.server.workers = config.workers;
        self.server.drain_timeout = Some(Span(config.drain_timeout));
        let limits = &config.limits;
        self.limits = LimitsSection {
            head_bytes: Some(ByteSize::b(limits.head_bytes as u64)),
            body_bytes: Some(ByteSize::b(limits.body_bytes as u64)),
            json_depth: Some(limits.json_depth),
            handshake_timeout: Some(Span(limits.handshake_timeout)),
            request_timeout: Some(Span(limits.request_timeout)),
            idle_timeout: Some(Span(limits.idle_timeout)),
            queue_updates: Some(limits.queue_updates),
            queue_bytes: Some(ByteSize::b(limits.queue_bytes as u64)),
            chat_updates: Some(limits.chat_updates),
            connections: Some(limits.connections),
            connections_per_address: Some(limits.connections_per_address),
        };
        let journal = &config.journal;
        self.journal = JournalSection {
            ack: Some(journal.ack),
            sync_interval: Some(Span(journal.sync_interval)),
            segment_bytes: Some(ByteSize::b(journal.segment_bytes)),
            max_bytes: Some(ByteSize::b(journal.max_bytes)),
        };
        self.profile = self.profile.effective();
        let dispatch = &config.dispatch;
        self.dispatch = DispatchSection {
            order: Some(dispatch.order),
            drop_expired: Some(dispatch.drop_expired),
            max_attempts: Some(dispatch.max_attempts),
            dead_letters: dispatch.dead_letters.clone(),
            media_groups: dispatch.media_groups.map(|wait| MediaGroups { wait: Span(wait) }),
        };
        self
    }

    /// As TOML; secrets stay hidden.
    pub(crate) fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self)
            .map_err(|source| Error::with_source(ErrorKind::Config, "config", source))
    }
}

impl FromStr for ConfigFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
            });
            // `Display` would quote the line, and the line may hold a secret.
            let message = error.message().replace('\n', ", ");
            let key = key_of(&error).map(|key| format!("{key}: ")).unwrap_or_default();
            Error::new(ErrorKind::Config, format!("line {line}: {key}{message}"))
        })
    }
}

/// The key whose value is wrong, as in `server.shards`; `None` for mistakes in the TOML itself, and
/// for unknown keys, which the message names.
fn key_of(error: &toml::de::Error) -> Option<String> {
    if error.message().starts_with("unknown field") {
        return None;
    }
    // Its only way out is the last line of the form without the input's line.
    let mut bare = error.clone();
    bare.set_input(None);
    let text = bare.to_string();
    let key = text.trim_end().lines().last()?.strip_prefix("in `")?.strip_suffix('`')?;
    Some(key.to_owned())
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| {
        de::Error::custom(format!("{text:?} is no address, expected one like \"127.0.0.1:8443\""))
    })
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a size like \"1MiB\", or a number of bytes")]
    enum Typed {
        Bytes(u64),
        Text(String),
    }
    match Typed::deserialize(deserializer)? {
        Typed::Bytes(bytes) => Ok(Some(ByteSize::b(bytes))),
        Typed::Text(text) => text.parse().map(Some).map_err(|_| {
            de::Error::custom(format!("{text:?} is no size, expected one like \"1MiB\""))
        }),
    }
}

/// As people write it where that says all, else in bytes: `1.2 MiB` would not be what was typed.
fn exact_size<S: Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(size) = size else { return serializer.serialize_none() };
    let text = size.to_string();
    if text.parse() == Ok(*size) {
        return serializer.serialize_str(&text);
    }
    serializer.collect_str(&format_args!("{} B", size.as_u64()))
}

/// Whether secrets are fetched from the files and variables that name them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Secrets {
    /// They stay where they are, and may not be there yet: the bots cannot tell friend from foe.
    Leave,
    /// They are read.
    Read,
}

impl DispatchSection {
    fn to_dispatch(&self) -> Dispatch {
        let defaults = Dispatch::default();
        Dispatch {
            dead_letters: self.dead_letters.clone(),
            drop_expired: self.drop_expired.unwrap_or(defaults.drop_expired),
            max_attempts: self.max_attempts.unwrap_or(defaults.max_attempts),
            media_groups: self.media_groups.map(|groups| groups.wait.0),
            order: self.order.unwrap_or(defaults.order),
        }
    }
}

impl LimitsSection {
    fn to_limits(&self) -> Result<Limits, Error> {
        let defaults = Limits::default();
        let bytes = |key: &str, size: Option<ByteSize>, default: usize| match size {
            None => Ok(default),
            Some(size) => usize::try_from(size.as_u64())
                .map_err(|_| Error::config(key, size, "a size that fits this machine's memory")),
        };
        Ok(Limits {
            head_bytes: bytes("limits.head_bytes", self.head_bytes, defaults.head_bytes)?,
            body_bytes: bytes("limits.body_bytes", self.body_bytes, defaults.body_bytes)?,
            json_depth: self.json_depth.unwrap_or(defaults.json_depth),
            handshake_timeout: self.handshake_timeout.map_or(defaults.handshake_timeout, |s| s.0),
            request_timeout: self.request_timeout.map_or(defaults.request_timeout, |s| s.0),
            idle_timeout: self.idle_timeout.map_or(defaults.idle_timeout, |s| s.0),
            queue_updates: self.queue_updates.unwrap_or(defaults.queue_updates),
            queue_bytes: bytes("limits.queue_bytes", self.queue_bytes, defaults.queue_bytes)?,
            chat_updates: self.chat_updates.unwrap_or(defaults.chat_updates),
            connections: self.connections.unwrap_or(defaults.connections),
            connections_per_address: self
                .connections_per_address
                .unwrap_or(defaults.connections_per_address),
        })
    }
}

/// A duration as people write it: `10s`, `500ms`, `1m 30s`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            de::Error::custom(format!("{text:?} is no duration, expected one like \"10s\""))
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A secret as typed; it is never written back or shown.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl Hidden {
    fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Takes every type, since serde's own message on a wrong one would show the value.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Typed {
            Text(String),
            Other(de::IgnoredAny),
        }
        match Typed::deserialize(deserializer)? {
            Typed::Text(text) => Ok(Self(text)),
            Typed::Other(_) => Err(de::Error::custom("expected a string in quotes")),
        }
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use std::time::SystemTime;

    use super::*;

    const WHOLE: &str = r#"
        [server]
        listen = "0.0.0.0:443"
        allow = ["telegram", "10.0.0.0/8"]
        driver = "io-uring"
        shards = 2
        workers = 3
        data_dir = "data"
        drain_timeout = "1m 30s"
        [tls]
        cert = "cert.pem"
        key = "key.pem"
        [limits]
        head_bytes = "16KiB"
        body_bytes = "2MiB"
        idle_timeout = "90s"
        queue_updates = 10
        connections = 500
        connections_per_address = 50
        [journal]
        ack = "synced"
        sync_interval = "50ms"
        segment_bytes = "16MiB"
        max_bytes = "1GiB"
        [profile]
        dir = "profile"
        interval = "500ms"
        slow = "50ms"
        [sink]
        to = "null"
        [[bot]]
        name = "shop"
        path = "/shop"
        host = "*.example.com"
        secret_token = "s3cret"
        previous_secret_token = "old-one"
        previous_secret_token_until = "2027-01-31T12:00:00Z"
        basic_auth = "user:word"
        [[bot]]
        name = "open"
        path = "/open"
        auth = "none"
    "#;

    fn error(text: &str) -> String {
        match text.parse::<ConfigFile>() {
            Err(error) => error.to_string(),
            Ok(file) => file.to_config(Secrets::Read).unwrap_err().to_string(),
        }
    }

    #[test]
    fn every_key_is_read() {
        let file: ConfigFile = WHOLE.parse().unwrap();
        let config = file.to_config(Secrets::Read).unwrap();
        assert_eq!(config.listen, "0.0.0.0:443".parse().unwrap());
        assert_eq!(config.allow, Some(AllowList::new(["telegram", "10.0.0.0/8"]).unwrap()));
        assert_eq!(config.driver, DriverChoice::IoUring);
        assert_eq!((config.shards, config.workers), (Some(2), Some(3)));
        assert_eq!(config.drain_timeout, Duration::from_secs(90));
        assert_eq!(config.limits.head_bytes, 16 * 1024);
        assert_eq!(config.limits.body_bytes, 2 * 1024 * 1024);
        assert_eq!(config.limits.idle_timeout, Duration::from_secs(90));
        assert_eq!(config.limits.queue_updates, 10);
        assert_eq!(config.limits.connections, 500);
        assert_eq!(config.limits.connections_per_address, 50);
        let journal = &config.journal;
        assert_eq!((journal.ack, &journal.dir), (Ack::Synced, &Some("data/journal".into())));
        assert_eq!((journal.segment_bytes, journal.max_bytes), (16 << 20, 1 << 30));
        assert_eq!(journal.sync_interval, Duration::from_millis(50));
        assert_eq!(config.profile.slow, Some(Duration::from_millis(50)));
        let profile = &file.profile;
        assert_eq!(
            (profile.dir.as_deref(), profile.interval().as_millis()),
            (Some("profile".as_ref()), 500)
        );
        let shop = &config.bots[0];
        assert_eq!(shop.host.as_deref(), Some("*.example.com"));
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_396_800);
        assert_eq!(shop.previous_token.as_ref().unwrap().until, until);
        assert!(shop.basic_auth.as_ref().unwrap().matches(b"Basic dXNlcjp3b3Jk"));
        let tokens: Vec<bool> = config.bots.iter().map(|bot| bot.secret_token.is_some()).collect();
        assert_eq!(tokens, [true, false]);
    }

    #[test]
    fn mistakes_name_line_key_and_expectation() {
        assert_eq!(
            error("[server]\nlistn = \"x\""),
            "line 2: unknown field `listn`, expected one of `listen`, `allow`, `driver`, \
             `shards`, `workers`, `data_dir`, `drain_timeout`"
        );
        assert!(
            error("\n[server]\ndrain_timeout = \"soon\"")
                .starts_with("line 3: server.drain_timeout: \"soon\" is no")
        );
        let small =
            error("[limits]\nhead_bytes = \"100B\"\n[[bot]]\nname='a'\npath='/a'\nauth='none'");
        assert_eq!(small, "limits.head_bytes = 100: expected 512 to 65536");
        assert!(error("[[bot]]\nname = 'a'\npath = '/a'").contains("expected one of secret_token"));
        assert!(
            error("[[bot]]\nname='a'\npath='/a'\nsecret_token='x'\nauth='none'")
                .contains("bot \"a\"")
        );
        assert!(error("[[bot]]\nname='a'\npath='a'\nauth='none'").starts_with("bot.path = \"a\""));
    }

    #[test]
    fn a_secret_is_not_shown_in_errors_or_in_the_printed_config() {
        let text = WHOLE.replace("\"s3cret\"", "\"s3cret\" x");
        assert!(!error(&text).contains("s3cret"));
        assert!(!error(&WHOLE.replace("\"s3cret\"", "[\"s3cret\"]")).contains("s3cret"));
        assert!(!error(&WHOLE.replace("s3cret", "s3 cret")).contains("s3 cret"));
        let number = error(&WHOLE.replace("\"s3cret\"", "7654321"));
        assert!(number.contains("expected a string") && !number.contains("7654321"), "{number}");
        let file: ConfigFile = WHOLE.parse().unwrap();
        let config = file.to_config(Secrets::Read).unwrap();
        let printed = file.effective(&config).to_toml().unwrap();
        for secret in ["s3cret", "old-one", "word"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(printed.contains("previous_secret_token_until = \"2027-01-31T12:00:00Z\""));
        assert!(printed.contains("idle_timeout = \"1m 30s\""), "{printed}");
        assert!(printed.contains("body_bytes = \"2.0 MiB\""), "{printed}");
        // What is printed can be read again, the hidden secret apart.
        let again: ConfigFile = printed.parse().unwrap();
        assert_eq!(again.to_toml().unwrap(), printed);
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "tok-en\n").unwrap();
        let text = format!(
            "[[bot]]\nname='a'\npath='/a'\nsecret_token_file={:?}",
            file.path().to_str().unwrap()
        );
        let config = text.parse::<ConfigFile>().unwrap().to_config(Secrets::Read).unwrap();
        assert!(config.bots[0].secret_token.as_ref().unwrap().matches(b"tok-en"));
        let missing = error("[[bot]]\nname='a'\npath='/a'\nsecret_token_env='RINGHOOK_NOT_SET'");
        assert!(missing.starts_with("bot.secret_token_env = RINGHOOK_NOT_SET"), "{missing}");
        let missing = error("[[bot]]\nname='a'\npath='/a'\nsecret_token_file='/nonexistent/x'");
        assert!(missing.starts_with("bot.secret_token_file = /nonexistent/x"), "{missing}");
    }
}
