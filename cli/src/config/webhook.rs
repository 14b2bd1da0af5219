//! `[webhook]`: how the bots are known to the Bot API.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::ApiRoot;
use ringhook::{Error, internals::config::value::duration};

/// What holds for all bots; what is about one is in its `[[bot]]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebhookSection {
    /// Where the Bot API is.
    pub(crate) api_root: ApiRoot,
    /// Whether the Bot API server runs with `--local`: any port, plain HTTP, 100,000 connections.
    pub(crate) local: bool,
    /// The port of webhook URLs, where it is not the listener's.
    pub(crate) port: Option<u16>,
    /// Whether `serve` looks at getWebhookInfo of each bot whose token it knows.
    pub(crate) watch: bool,
    /// How often it looks, give or take a tenth.
    #[serde(with = "duration")]
    pub(crate) interval: Duration,
    /// Whether it sets a webhook of its own again that was removed or changed.
    pub(crate) repair: bool,
    /// What it does when Telegram cannot deliver while the Bot API can be reached. `poll` deletes
    /// the webhook, without dropping anything, and fetches by getUpdates until deliveries work
    /// again.
    pub(crate) fallback: Fallback,
    /// How long deliveries must have failed before it falls back.
    #[serde(with = "duration")]
    pub(crate) fallback_after: Duration,
}

impl Default for WebhookSection {
    fn default() -> Self {
        Self {
            api_root: ApiRoot::default(),
            local: false,
            port: None,
            watch: true,
            interval: Duration::from_secs(60),
            repair: false,
            fallback: Fallback::Off,
            fallback_after: Duration::from_secs(300),
        }
    }
}

/// What to do when a webhook does not work.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fallback {
    /// Nothing: Telegram keeps the updates for 24 hours.
    #[default]
    Off,
    /// Delete it, without dropping anything, and fetch by getUpdates until deliveries work again.
    Poll,
}

impl WebhookSection {
    const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
    const FALLBACKS: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(86_400);

    pub(super) fn check(&self) -> Result<(), Error> {
        let within = |key, span: Duration, range: &RangeInclusive<Duration>, expected| {
            let span = Some(span).filter(|span| !range.contains(span));
            span.map_or(Ok(()), |span| {
                Err(Error::config(key, humantime::format_duration(span), expected))
            })
        };
        within("webhook.interval", self.interval, &Self::INTERVALS, "1s to 1h")?;
        within("webhook.fallback_after", self.fallback_after, &Self::FALLBACKS, "1s to 1day")?;
        if self.port == Some(0) {
            return Err(Error::config("webhook.port", 0, "1 to 65535"));
        }
        if self.local && self.api_root.is_cloud() {
            let expected = "webhook.api_root beside it: Telegram's own server is never local";
            return Err(Error::config("webhook.local", true, expected));
        }
        if self.fallback != Fallback::Off && !self.watch {
            let expected = "webhook.watch = true beside it";
            return Err(Error::config("webhook.fallback", "\"poll\"", expected));
        }
        if self.repair && !self.watch {
            let expected = "webhook.watch = true beside it";
            return Err(Error::config("webhook.repair", true, expected));
        }
        Ok(())
    }
}
