//! What can be set, with its bounds and defaults.

use std::{sync::Arc, time::Duration};

use ringhook::{Error, ErrorKind};
use rustls::ClientConfig;

use crate::client::BotTerms;

/// The most consumers of a bot, and the most connections of clients.
const COUNT_MAX: usize = 65_536;

/// The settings of a [`GetUpdates`](super::GetUpdates).
#[derive(Clone, Debug)]
#[must_use]
pub struct GetUpdatesSettings {
    pub(super) bots: Vec<BotTerms>,
    pub(super) client_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) connections: usize,
    pub(super) consumers: usize,
    pub(super) quiet: Duration,
    pub(super) renumber: bool,
    pub(super) timeout: Duration,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Default for GetUpdatesSettings {
    fn default() -> Self {
        Self {
            bots: Vec::new(),
            client_timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            connections: 1024,
            consumers: 1,
            quiet: Duration::from_secs(2),
            renumber: false,
            timeout: Duration::from_secs(65),
            tls: None,
        }
    }
}

impl GetUpdatesSettings {
    /// The defaults, with no bot.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bots. Clients are known by their tokens, so one without is not served.
    pub fn bots(mut self, bots: Vec<BotTerms>) -> Self {
        self.bots = bots;
        self
    }

    /// After which time without a request a client counts as gone: 10 min. What it was given and
    /// has not confirmed is handed out again then, whatever offset comes.
    pub fn client_timeout(mut self, timeout: Duration) -> Self {
        self.client_timeout = timeout;
        self
    }

    /// The most connections of clients: 1 to 65,536; 1,024. Further ones wait to be accepted.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How many processes of each bot ask for updates: 1 to 65,536; 1. Each chat stays with one.
    pub fn consumers(mut self, consumers: usize) -> Self {
        self.consumers = consumers;
        self
    }

    /// How long nothing may be asked for before a stop leaves what is not confirmed: 2 s.
    pub fn quiet_time(mut self, time: Duration) -> Self {
        self.quiet = time;
        self
    }

    /// Whether updates get increasing numbers of our own; false.
    pub fn renumber(mut self, renumber: bool) -> Self {
        self.renumber = renumber;
        self
    }

    /// For how long nothing of another method's request or answer may move: 65 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With which authorities and parameters the Bot API is spoken to. By default with the
    /// authorities of `webpki-roots`.
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// # Errors
    /// A setting is out of its bounds.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Config, format!("getupdates: {what}")));
        for (name, count) in [("consumers", self.consumers), ("connections", self.connections)] {
            if !(1..=COUNT_MAX).contains(&count) {
                return wrong(&format!("{name}: expected 1 to {COUNT_MAX}"));
            }
        }
        let day = Duration::from_secs(24 * 3600);
        for (name, time) in [("client_timeout", self.client_timeout), ("timeout", self.timeout)] {
            if time.is_zero() || time > day {
                return wrong(&format!("{name}: expected more than nothing, a day at most"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn settings_have_bounds() {
        GetUpdatesSettings::new().validate().unwrap();
        for (wrong, name) in [
            (GetUpdatesSettings::new().consumers(0), "consumers"),
            (GetUpdatesSettings::new().connections(COUNT_MAX + 1), "connections"),
            (GetUpdatesSettings::new().client_timeout(Duration::ZERO), "client_timeout"),
            (GetUpdatesSettings::new().timeout(Duration::MAX), "timeout"),
        ] {
            let error = wrong.validate().unwrap_err();
            let expected = format!("getupdates: {name}: expected");
            assert!(error.is_usage() && error.to_string().starts_with(&expected), "{error}");
        }
    }
}
