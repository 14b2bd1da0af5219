//! What can be set, with its bounds and defaults.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use ringhook::{Error, ErrorKind, Update};
use rustls::ClientConfig;

use super::{BotTerms, Target, condition::Pacing};

/// What gives requests further headers.
pub(super) type HeaderMapping = Arc<dyn Fn(&Update, &mut HeaderMap) + Send + Sync>;

/// The most connections to one target that may be asked for.
const CONNECTIONS_MAX: usize = 65_536;

/// The settings of a [`Forward`](super::Forward).
///
/// ```
/// use std::time::Duration;
/// use ringhook_outputs::forward::ForwardSettings;
///
/// let settings = ForwardSettings::new("http://127.0.0.1:3001/webhook".parse()?)
///     .and_to("http://127.0.0.1:3002/webhook".parse()?)
///     .connections(64)
///     .move_after(Some(Duration::from_secs(30)));
/// # Ok::<(), ringhook::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct ForwardSettings {
    pub(super) bots: Vec<BotTerms>,
    pub(super) connect_timeout: Duration,
    pub(super) connections: usize,
    pub(super) headers: Option<HeaderMapping>,
    pub(super) idle_timeout: Duration,
    pub(super) move_after: Option<Duration>,
    pub(super) pacing: Pacing,
    pub(super) quiet: Duration,
    pub(super) reply_wait: Duration,
    pub(super) retry_unit: Duration,
    pub(super) targets: Vec<Target>,
    pub(super) timeout: Duration,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl ForwardSettings {
    /// All updates go to `target`.
    pub fn new(target: Target) -> Self {
        Self {
            bots: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            connections: 256,
            headers: None,
            idle_timeout: Duration::from_secs(60),
            move_after: None,
            pacing: Pacing { first: Duration::from_millis(500), max: Duration::from_secs(5) },
            quiet: Duration::from_secs(1),
            reply_wait: Duration::from_secs(60),
            retry_unit: Duration::from_secs(1),
            targets: vec![target],
            timeout: Duration::from_secs(65),
            tls: None,
        }
    }

    /// A further target: each chat of each bot stays with one of them.
    pub fn and_to(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// The bots; see [`Forward::set_bots`](super::Forward::set_bots). None by default.
    pub fn bots(mut self, bots: Vec<BotTerms>) -> Self {
        self.bots = bots;
        self
    }

    /// The most connections to one target, so the most requests to it at once: 1 to 65,536; 256.
    /// Further requests wait in the order in which their updates came.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How long a connection may take to come about, TLS included: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may take, from the search for a connection to the end of the answer:
    /// 65 s, which is what Telegram's own sender gives a webhook and five seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a connection without a request is kept: 60 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// After which time the chats of a target that is down, or wrongly set up, go to the next one
    /// in their order. `None`, the default, lets them wait. Later updates go back once it is up.
    pub fn move_after(mut self, time: Option<Duration>) -> Self {
        self.move_after = time;
        self
    }

    /// Has `map` give each request further headers. What the request itself consists of (`Host`,
    /// `Content-Type`, `Content-Length`, the secret token, headers of the connection) can not be
    /// replaced. A panic of it is caught, and leaves the request without further headers.
    pub fn headers(
        mut self,
        map: impl Fn(&Update, &mut HeaderMap) + Send + Sync + 'static,
    ) -> Self {
        self.headers = Some(Arc::new(map));
        self
    }

    /// With which authorities and parameters `https` is spoken. By default with the authorities of
    /// `webpki-roots`.
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// First and longest pause between two probes of a target that is down: 0.5 s and 5 s.
    pub fn probe_pauses(mut self, first: Duration, max: Duration) -> Self {
        self.pacing = Pacing { first, max };
        self
    }

    /// The unit of the ladder of retries, 0, 1, 2, 4 .. 60 of it: 1 s.
    pub fn retry_unit(mut self, unit: Duration) -> Self {
        self.retry_unit = unit;
        self
    }

    /// How long one webhook reply may wait in all for a Bot API that asks to be called later, or
    /// that takes no connection: 60 s.
    pub fn reply_wait(mut self, wait: Duration) -> Self {
        self.reply_wait = wait;
        self
    }

    /// How long nothing may come and be under way before a stop leaves what is held for targets
    /// that are down; see [`Forward::drain`](super::Forward::drain). 1 s, which is more than a
    /// server's connections take to end.
    pub fn quiet_time(mut self, time: Duration) -> Self {
        self.quiet = time;
        self
    }

    /// # Errors
    /// A setting is out of its bounds.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Config, format!("forward: {what}")));
        let mut known = HashSet::new();
        if let Some(twice) = self.targets.iter().find(|target| !known.insert(*target)) {
            return wrong(&format!("the target {twice} is there twice"));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return wrong("connections: expected 1 to 65536");
        }
        let times = [
            ("timeout", self.timeout),
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout),
            ("probe_pauses", self.pacing.first),
            ("probe_pauses", self.pacing.max),
            ("retry_unit", self.retry_unit),
        ];
        let day = Duration::from_secs(24 * 3600);
        if self.quiet > day || self.reply_wait > day {
            return wrong("quiet_time, reply_wait: expected a day at most");
        }
        match times.iter().find(|(_, time)| time.is_zero() || *time > day) {
            Some((name, _)) => wrong(&format!("{name}: expected more than nothing, a day at most")),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ForwardSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardSettings")
            .field("bots", &self.bots)
            .field("connections", &self.connections)
            .field("move_after", &self.move_after)
            .field("targets", &self.targets)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn settings_have_bounds() {
        let settings = || ForwardSettings::new("http://bot/".parse().unwrap());
        settings().validate().unwrap();
        for (wrong, expected) in [
            (settings().connections(0), "forward: connections: expected"),
            (
                settings().and_to("http://bot:80".parse().unwrap()),
                "forward: the target http://bot/",
            ),
            (settings().timeout(Duration::ZERO), "forward: timeout: expected"),
            (settings().retry_unit(Duration::MAX), "forward: retry_unit: expected"),
        ] {
            let error = wrong.validate().unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(error.is_usage());
        }
    }
}
