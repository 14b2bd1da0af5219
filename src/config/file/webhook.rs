//! `[webhook]`: how the bots are known to the Bot API.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::Span;
use crate::{bot_api::ApiRoot, error::Error};

/// What holds for all bots; what is about one is in its `[[bot]]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSection {
    /// Where the Bot API is.
    pub(crate) api_root: Option<ApiRoot>,
    /// Whether the server there runs with `--local`: any port, plain HTTP, up to 100,000 connections.
    pub(crate) local: Option<bool>,
    /// The port of webhook URLs, where it is not the listener's.
    pub(crate) port: Option<u16>,
    /// Whether a server looks at getWebhookInfo of each bot whose token it knows.
    pub(crate) watch: Option<bool>,
    /// How often, give or take a tenth.
    pub(crate) interval: Option<Span>,
    /// Whether it sets a webhook of its own again that was removed or changed.
    pub(crate) repair: Option<bool>,
    /// What it does when Telegram cannot deliver while the Bot API can be reached.
    pub(crate) fallback: Option<Fallback>,
    /// For how long deliveries must have failed for that.
    pub(crate) fallback_after: Option<Span>,
}

/// What to do when a webhook does not work.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fallback {
    /// Nothing: Telegram keeps the updates for 24 hours.
    #[default]
    Off,
    /// Delete it, without dropping anything, and fetch by getUpdates until it is well again.
    Poll,
}

impl WebhookSection {
    const INTERVAL: Span = Span(Duration::from_secs(60));
    const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
    const FALLBACK_AFTER: Span = Span(Duration::from_secs(300));
    const FALLBACKS: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(86_400);

    pub(super) fn check(&self) -> Result<(), Error> {
        let within = |key, span: Duration, range: &RangeInclusive<Duration>, expected| {
            let span = Some(span).filter(|span| !range.contains(span));
            span.map_or(Ok(()), |span| {
                Err(Error::config(key, humantime::format_duration(span), expected))
            })
        };
        within("webhook.interval", self.interval(), &Self::INTERVALS, "1s to 1h")?;
        within("webhook.fallback_after", self.fallback_after(), &Self::FALLBACKS, "1s to 1day")?;
        if self.port == Some(0) {
            return Err(Error::config("webhook.port", 0, "1 to 65535"));
        }
        if self.is_local() && self.api_root().is_cloud() {
            let expected = "webhook.api_root beside it: Telegram's own server is never local";
            return Err(Error::config("webhook.local", true, expected));
        }
        let is_watched = self.is_watched();
        if self.fallback() != Fallback::Off && !is_watched {
            let expected = "webhook.watch = true beside it";
            return Err(Error::config("webhook.fallback", "\"poll\"", expected));
        }
        if self.repairs() && !is_watched {
            let expected = "webhook.watch = true beside it";
            return Err(Error::config("webhook.repair", true, expected));
        }
        Ok(())
    }

    pub(crate) fn api_root(&self) -> ApiRoot {
        self.api_root.clone().unwrap_or_default()
    }

    pub(crate) fn is_local(&self) -> bool {
        self.local.unwrap_or(false)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watch.unwrap_or(true)
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(Self::INTERVAL).0
    }

    pub(crate) fn repairs(&self) -> bool {
        self.repair.unwrap_or(false)
    }

    pub(crate) fn fallback(&self) -> Fallback {
        self.fallback.unwrap_or_default()
    }

    pub(crate) fn fallback_after(&self) -> Duration {
        self.fallback_after.unwrap_or(Self::FALLBACK_AFTER).0
    }

    /// With every value written out.
    pub(super) fn effective(self) -> Self {
        Self {
            api_root: Some(self.api_root()),
            local: Some(self.is_local()),
            port: self.port,
            watch: Some(self.is_watched()),
            interval: Some(Span(self.interval())),
            repair: Some(self.repairs()),
            fallback: Some(self.fallback()),
            fallback_after: Some(Span(self.fallback_after())),
        }
    }
}
