//! The config file as typed: TOML with unknown keys refused, times as `10s`, sizes as `1MiB`.

mod admin;
mod bot;
mod limits;
mod listener;
mod log;
mod pin;
mod profile;
mod tls;
mod webhook;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use self::{admin::AdminSection, limits::LimitsSection};
pub(crate) use self::{
    bot::{AllowedUpdates, BotSection},
    listener::{Address, ListenerSection},
    log::{LogFormat, LogLevel, LogSection},
    pin::PinSection,
    profile::ProfileSection,
    tls::TlsSection,
    webhook::{Fallback, WebhookSection},
};
use super::{Ack, Config, Dispatch, DriverChoice, Journal, Order};
use crate::{
    config::AllowList,
    error::{Error, ErrorKind},
    files::text_file,
};

/// Everything that `ringhook.toml` can say; what it leaves out has a default.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) server: ServerSection,
    #[serde(default)]
    pub(crate) admin: AdminSection,
    #[serde(default)]
    pub(crate) log: LogSection,
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
    #[serde(default)]
    pub(crate) webhook: WebhookSection,
    #[serde(default, rename = "listener", skip_serializing_if = "Vec::is_empty")]
    pub(crate) listeners: Vec<ListenerSection>,
    #[serde(default, rename = "bot")]
    pub(crate) bots: Vec<BotSection>,
}

/// `[server]`: threads, address and directory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerSection {
    pub(crate) listen: Option<Address>,
    pub(crate) reuse_port: Option<bool>,
    pub(crate) allow: Option<Vec<String>>,
    pub(crate) driver: Option<DriverChoice>,
    pub(crate) shards: Option<usize>,
    pub(crate) workers: Option<usize>,
    #[serde(default, skip_serializing_if = "PinSection::is_empty")]
    pub(crate) pin: PinSection,
    pub(crate) busy_poll: Option<Span>,
    pub(crate) date: Option<bool>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) drain_timeout: Option<Span>,
    /// Names or numbers.
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
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
    pub(crate) lock_wait: Option<Span>,
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
            lock_wait: self.lock_wait.map_or(defaults.lock_wait, |span| span.0),
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
    /// Whether a line tells bot, kind and time beside the update; where there is more than one bot.
    pub(crate) meta: Option<bool>,
}

impl ConfigFile {
    /// Reads and parses `path`; the message of an error in it has the line and the key.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = text_file::read(path).map_err(|source| {
            Error::with_source(ErrorKind::Config, format!("config {}", path.display()), source)
        })?;
        text.parse().map_err(|error: Error| {
            Error::new(ErrorKind::Config, format!("config {}: {error}", path.display()))
        })
    }

    /// What is typed here, checked and completed with defaults.
    pub(crate) fn to_config(&self, secrets: Secrets) -> Result<Config, Error> {
        let defaults = Config::default();
        self.check_certificates()?;
        self.webhook.check()?;
        let bots = self.bots.iter().map(|bot| bot.to_bot(secrets)).collect::<Result<_, _>>()?;
        let server = &self.server;
        let config = Config {
            admin: self.admin.to_admin(),
            allow: server.allow.as_ref().map(AllowList::new).transpose()?,
            bots,
            busy_poll: server.busy_poll.map(|span| span.0),
            date: server.date.unwrap_or(defaults.date),
            dispatch: self.dispatch.to_dispatch(),
            drain_timeout: server.drain_timeout.map_or(defaults.drain_timeout, |span| span.0),
            driver: server.driver.unwrap_or_default(),
            journal: self.journal.to_journal(server.data_dir.as_deref()),
            limits: self.limits.to_limits()?,
            listens: true,
            listen: server.listen.clone().map(|Address(address)| address),
            listeners: self
                .listeners
                .iter()
                .map(ListenerSection::to_listener)
                .collect::<Result<_, _>>()?,
            pin: server.pin.to_pin(),
            profile: self.profile.to_profile()?,
            reuse_port: server.reuse_port.unwrap_or(defaults.reuse_port),
            shards: server.shards,
            workers: server.workers,
        };
        config.validate()?;
        Ok(config)
    }

    /// Whether the sink's lines tell the bot's name: without it, two bots' updates look alike.
    pub(crate) fn sink_has_meta(&self) -> bool {
        self.sink.meta.unwrap_or(self.bots.len() > 1)
    }

    /// Whether a listener speaks TLS, so that there has to be a certificate.
    pub(crate) fn has_tls_listener(&self) -> bool {
        let has_main = self.server.listen.is_some() || self.listeners.is_empty();
        has_main || self.listeners.iter().any(|listener| listener.tls != Some(false))
    }

    /// This file with every value written out as `config` has it, for `--print-config`.
    pub(crate) fn effective(mut self, config: &Config) -> Self {
        self.admin = AdminSection::effective(&config.admin);
        self.log = self.log.effective();
        if self.listeners.is_empty() {
            let main = config.all_listeners().into_iter().next();
            self.server.listen = main.map(|listener| Address(listener.address));
        }
        let listeners = self.listeners.into_iter().zip(&config.listeners);
        self.listeners = listeners.map(|(typed, listener)| typed.effective(listener)).collect();
        self.server.reuse_port = Some(config.reuse_port);
        self.server.date = Some(config.date);
        self.server.driver = Some(config.driver);
        self.server.shards = config.shards;
        self.server.workers = config.workers;
        self.server.drain_timeout = Some(Span(config.drain_timeout));
        self.limits = LimitsSection::of(&config.limits);
        let journal = &config.journal;
        self.journal = JournalSection {
            ack: Some(journal.ack),
            lock_wait: Some(Span(journal.lock_wait)),
            sync_interval: Some(Span(journal.sync_interval)),
            segment_bytes: Some(ByteSize::b(journal.segment_bytes)),
            max_bytes: Some(ByteSize::b(journal.max_bytes)),
        };
        self.sink.meta = Some(self.sink_has_meta());
        self.profile = self.profile.effective();
        self.webhook = self.webhook.effective();
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
            if let Some(successor) = limits::successor(&message) {
                return Error::new(ErrorKind::Config, format!("line {line}: {successor}"));
            }
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
        reuse_port = true
        allow = ["telegram", "10.0.0.0/8"]
        driver = "io-uring"
        shards = 2
        workers = 3
        pin = { shards = "0,2", workers = "1" }
        busy_poll = "50us"
        date = false
        data_dir = "data"
        drain_timeout = "1m 30s"
        user = "nobody"
        group = "12"
        [admin]
        listen = "127.0.0.1:9464"
        incidents = 100
        [log]
        format = "json"
        level = "warn"
        [tls]
        cert = "cert.pem"
        key = "key.pem"
        key_password_file = "key.password"
        [limits]
        head_bytes = "16KiB"
        body_bytes = "2MiB"
        handshakes = 100
        handshakes_waiting = 0
        head_timeout = "5s"
        body_timeout = "20s"
        body_bytes_per_second = "1KiB"
        body_grace = "2s"
        answer_timeout = "8s"
        idle_timeout = "90s"
        requests_per_connection = 1000
        queue_updates = 10
        connections = 500
        connections_per_address = 50
        [journal]
        ack = "synced"
        lock_wait = "30s"
        sync_interval = "50ms"
        segment_bytes = "16MiB"
        max_bytes = "1GiB"
        [profile]
        dir = "profile"
        interval = "500ms"
        slow = "50ms"
        [sink]
        to = "null"
        [[listener]]
        address = "unix:/run/hook.sock"
        tls = false
        mode = "0600"
        [[listener]]
        address = "10.0.0.2:8443"
        allow = ["telegram"]
        proxy_protocol = ["10.0.0.0/8"]
        [[bot]]
        name = "shop"
        allow = ["telegram", "10.1.0.0/16"]
        path = "/shop"
        host = "*.example.com"
        cert = "shop.pem"
        key = "shop.key"
        key_password = "w0rd"
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
        assert_eq!(config.listen, Some("0.0.0.0:443".parse().unwrap()));
        assert!(config.reuse_port);
        let (unix, balanced) = (&config.listeners[0], &config.listeners[1]);
        assert_eq!(unix.address, "unix:/run/hook.sock".parse().unwrap());
        assert_eq!((unix.tls, unix.mode, &unix.allow), (false, 0o600, &None));
        assert_eq!(balanced.address, "10.0.0.2:8443".parse().unwrap());
        assert!(balanced.tls && unix.proxy_protocol.is_none());
        assert_eq!(balanced.allow, Some(AllowList::new(["telegram"]).unwrap()));
        assert_eq!(balanced.proxy_protocol, Some(AllowList::new(["10.0.0.0/8"]).unwrap()));
        assert_eq!(config.allow, Some(AllowList::new(["telegram", "10.0.0.0/8"]).unwrap()));
        let server = &file.server;
        assert_eq!((server.user.as_deref(), server.group.as_deref()), (Some("nobody"), Some("12")));
        let admin = config.admin;
        assert_eq!((admin.listen, admin.incidents), ("127.0.0.1:9464".parse().ok(), 100));
        assert_eq!(file.log.format, Some(LogFormat::Json));
        assert_eq!(file.log.level, Some(LogLevel::Warn));
        assert_eq!(config.driver, DriverChoice::IoUring);
        assert_eq!((config.shards, config.workers), (Some(2), Some(3)));
        assert_eq!(config.pin.to_string(), "shards=0,2,workers=1");
        assert_eq!(config.busy_poll, Some(Duration::from_micros(50)));
        assert!(!config.date);
        assert_eq!(config.drain_timeout, Duration::from_secs(90));
        assert_eq!(config.limits.head_bytes, 16 * 1024);
        assert_eq!(config.limits.body_bytes, 2 * 1024 * 1024);
        assert_eq!(config.limits.idle_timeout, Duration::from_secs(90));
        let limits = &config.limits;
        assert_eq!((limits.handshakes, limits.handshakes_waiting), (100, 0));
        let seconds = [limits.head_timeout, limits.body_timeout, limits.body_grace]
            .map(|timeout| timeout.as_secs());
        assert_eq!((seconds, limits.answer_timeout), ([5, 20, 2], Duration::from_secs(8)));
        assert_eq!((limits.body_bytes_per_second, limits.requests_per_connection), (1024, 1000));
        assert_eq!(config.limits.queue_updates, 10);
        assert_eq!(config.limits.connections, 500);
        assert_eq!(config.limits.connections_per_address, 50);
        let journal = &config.journal;
        assert_eq!((journal.ack, &journal.dir), (Ack::Synced, &Some("data/journal".into())));
        assert_eq!((journal.segment_bytes, journal.max_bytes), (16 << 20, 1 << 30));
        assert_eq!(journal.sync_interval, Duration::from_millis(50));
        assert_eq!(journal.lock_wait, Duration::from_secs(30));
        assert_eq!(config.profile.slow, Some(Duration::from_millis(50)));
        let profile = &file.profile;
        assert_eq!(
            (profile.dir.as_deref(), profile.interval().as_millis()),
            (Some("profile".as_ref()), 500)
        );
        let shop = &config.bots[0];
        assert_eq!(shop.host.as_deref(), Some("*.example.com"));
        assert_eq!(shop.allow, Some(AllowList::new(["telegram", "10.1.0.0/16"]).unwrap()));
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
            "line 2: unknown field `listn`, expected one of `listen`, `reuse_port`, `allow`, \
             `driver`, `shards`, `workers`, `pin`, `busy_poll`, `date`, `data_dir`, `drain_timeout`, `user`, `group`"
        );
        let gone = error("[limits]\nrequest_timeout = \"10s\"");
        assert!(gone.starts_with("line 2: limits.request_timeout is now three: head_"), "{gone}");
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
        let bot = "[[bot]]\nname='a'\npath='/a'\nauth='none'\n";
        let said = error(&format!("{bot}allow=['10.0.0.1/8']"));
        assert!(said.starts_with("bot.allow = \"10.0.0.1/8\": expected \"10.0.0.0/8\""), "{said}");
        let said = error(&format!("{bot}[[listener]]\naddress='localhost:80'"));
        assert!(said.starts_with("line 6: listener.address: \"localhost:80\" is no"), "{said}");
        for (key, value, expected) in [
            ("mode", "'0660'", "listener.mode = \"0660\": expected none"),
            ("mode", "'0888'", "line 7: listener.mode: \"0888\" are no"),
            ("mode", "'1777'", "line 7: listener.mode: \"1777\" are no"),
            ("allow", "['x']", "listener.allow = \"x\": expected"),
            ("proxy_protocol", "[]", "listener.proxy_protocol = []: expected"),
        ] {
            let listener = format!("[[listener]]\naddress='[::1]:80'\n{key}={value}");
            let said = error(&format!("{bot}{listener}"));
            assert!(said.starts_with(expected), "{said}");
        }
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
        for secret in ["s3cret", "old-one", "user:word", "w0rd"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(printed.contains("previous_secret_token_until = \"2027-01-31T12:00:00Z\""));
        assert!(printed.contains("idle_timeout = \"1m 30s\""), "{printed}");
        assert!(printed.contains("body_bytes = \"2.0 MiB\""), "{printed}");
        assert!(printed.contains("reuse_port = true"), "{printed}");
        assert!(printed.contains("mode = \"0600\"") && printed.contains("tls = true"), "{printed}");
        assert!(printed.contains("proxy_protocol = [\"10.0.0.0/8\"]"), "{printed}");
        // What is printed can be read again, the hidden secret apart.
        let again: ConfigFile = printed.parse().unwrap();
        assert_eq!(again.to_toml().unwrap(), printed);
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "tok-en\n").unwrap();
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
