//! The config file: TOML with unknown keys refused, each section a struct with its defaults.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the whole file, and the settings that it means |
//! | `server`, `listener`, `tls` | the sections of these names |
//! | `bot`, `webhook` | the same |
//! | `log`, `output`, `profile` | the same |
//! | `api_root` | where the Bot API is |
//! | `bot_token`, `hidden` | secrets that are never shown |
//! | `reference` | `docs/reference/settings.md`, made by a test |

mod api_root;
mod bot;
mod bot_token;
mod hidden;
mod listener;
mod log;
mod output;
mod profile;
#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod reference;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod webhook;

use std::{path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    api_root::ApiRoot,
    bot::{AllowedUpdates, BotSection},
    bot_token::BotToken,
    hidden::Hidden,
    listener::ListenerSection,
    log::{LogFormat, LogLevel, LogSection},
    output::{OutputSection, RotateTable},
    profile::ProfileSection,
    server::ServerSection,
    tls::TlsSection,
    webhook::{Fallback, WebhookSection},
};
use ringhook::{
    Admin, AllowList, Config, Dispatch, Error, ErrorKind, Journal, Limits,
    internals::files::text_file,
};
use ringhook_outputs::routes::RouteSection;

/// Everything that `ringhook.toml` can say; what it leaves out has a default.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConfigFile {
    pub(crate) server: ServerSection,
    pub(crate) admin: Admin,
    pub(crate) log: LogSection,
    pub(crate) tls: TlsSection,
    pub(crate) limits: Limits,
    pub(crate) dispatch: Dispatch,
    pub(crate) journal: Journal,
    pub(crate) profile: ProfileSection,
    pub(crate) webhook: WebhookSection,
    #[serde(rename = "output", skip_serializing_if = "Vec::is_empty")]
    pub(crate) outputs: Vec<OutputSection>,
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<RouteSection>,
    #[serde(rename = "listener", skip_serializing_if = "Vec::is_empty")]
    pub(crate) listeners: Vec<ListenerSection>,
    #[serde(rename = "bot")]
    pub(crate) bots: Vec<BotSection>,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            server: ServerSection::default(),
            admin: Admin::default(),
            log: LogSection::default(),
            tls: TlsSection::default(),
            limits: Limits::default(),
            dispatch: Dispatch::default(),
            journal: Journal::of_file(),
            profile: ProfileSection::default(),
            webhook: WebhookSection::default(),
            outputs: Vec::new(),
            routes: Vec::new(),
            listeners: Vec::new(),
            bots: Vec::new(),
        }
    }
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

    /// The settings of a server, checked.
    pub(crate) fn to_config(&self, secrets: Secrets) -> Result<Config, Error> {
        self.check_certificates()?;
        self.webhook.check()?;
        self.profile.check()?;
        let bots = self.bots.iter().map(|bot| bot.to_bot(secrets)).collect::<Result<_, _>>()?;
        let listeners = self.listeners.iter().map(ListenerSection::to_listener);
        let server = &self.server;
        let mut config = Config::default();
        config.admin = self.admin;
        config.allow = server.allow.as_ref().map(AllowList::new).transpose()?;
        config.bots = bots;
        config.busy_poll = server.busy_poll;
        config.date = server.date;
        config.dispatch = self.dispatch.clone();
        config.drain_timeout = server.drain_timeout;
        config.driver = server.driver;
        config.journal = self.journal.clone();
        config.journal.dir = Some(server.journal_dir());
        config.limits = self.limits;
        config.listens = true;
        config.listen.clone_from(&server.listen);
        config.listeners = listeners.collect::<Result<_, _>>()?;
        config.pin = server.pin.clone();
        config.profile.slow = self.profile.slow;
        config.reuse_port = server.reuse_port;
        config.shards = server.shards;
        config.workers = server.workers;
        config.validate()?;
        Ok(config)
    }

    /// All outputs, the one that is there where none is configured too.
    pub(crate) fn all_outputs(&self) -> Vec<OutputSection> {
        match &*self.outputs {
            [] => vec![OutputSection::default_to("ndjson:-")],
            outputs => outputs.to_vec(),
        }
    }

    /// The output that commands write to which take one.
    pub(crate) fn first_output(&self) -> OutputSection {
        let first = self.outputs.first().cloned();
        first.unwrap_or_else(|| OutputSection::default_to("ndjson:-"))
    }

    /// Whether the lines of `output` tell the bot's name: without it, two bots' updates look alike.
    /// Fields stand beside it.
    pub(crate) fn has_meta(&self, output: &OutputSection) -> bool {
        output.meta.unwrap_or(self.bots.len() > 1 || !output.fields.is_empty())
    }

    /// Sends all updates `to` one output, whatever outputs and routes are configured.
    pub(crate) fn set_output(&mut self, to: &str) {
        self.outputs = vec![OutputSection::default_to(to)];
        self.routes.clear();
        self.bots.iter_mut().for_each(|bot| bot.output = None);
    }

    /// Sets whether lines have bot, kind and time beside the update, for all outputs.
    pub(crate) fn set_meta(&mut self, meta: bool) {
        self.outputs = self.all_outputs();
        self.outputs.iter_mut().for_each(|output| output.meta = Some(meta));
    }

    /// Whether a listener speaks TLS, so that there has to be a certificate.
    pub(crate) fn has_tls_listener(&self) -> bool {
        let has_main = self.server.listen.is_some() || self.listeners.is_empty();
        has_main || self.listeners.iter().any(|listener| listener.tls != Some(false))
    }

    /// This file with the defaults written out that depend on other settings, for `--print-config`.
    pub(crate) fn effective(mut self, config: &Config) -> Self {
        if self.listeners.is_empty() {
            let main = config.all_listeners().into_iter().next();
            self.server.listen = main.map(|listener| listener.address);
        }
        let listeners = self.listeners.into_iter().zip(&config.listeners);
        self.listeners = listeners.map(|(typed, listener)| typed.effective(listener)).collect();
        self.outputs = self.all_outputs();
        let many = self.bots.len() > 1;
        self.outputs.iter_mut().for_each(|output| output.meta = output.meta.or(Some(many)));
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

/// Whether secrets are fetched from the files and variables that name them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Secrets {
    /// They stay where they are, and may not be there yet: the bots cannot tell friend from foe.
    Leave,
    /// They are read.
    Read,
}
