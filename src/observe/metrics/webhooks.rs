//! The state of the bots' webhooks from Telegram's side; written by the program that watches them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::Serialize;

/// One bot's webhook as getWebhookInfo showed it last, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WebhookReport {
    /// Seconds since the last look that succeeded; `None` before the first.
    pub looked_age_s: Option<u64>,
    /// Looks that did not succeed.
    pub looks_failed: u64,
    /// Updates that wait at Telegram.
    pub pending: u64,
    /// Seconds since the last error of a delivery; `None` where there was none since the webhook
    /// was set. A success does not clear it.
    pub last_error_age_s: Option<u64>,
    /// That error in Telegram's words.
    pub last_error: Option<String>,
    /// Seconds for which Telegram has not been able to deliver; `None` where it is.
    pub failing_for_s: Option<u64>,
    /// What is other than the config has it: `gone`, `url`, `settings`; `None` where nothing is.
    pub changed: Option<&'static str>,
    /// How updates come: `webhook`, or `poll` in a fallback.
    pub mode: &'static str,
    /// Times that the webhook was set again.
    pub repaired: u64,
    /// Times that updates were fetched instead.
    pub fallbacks: u64,
    /// Times that this has ended.
    pub returns: u64,
    /// Updates that were fetched.
    pub polled: u64,
}

/// What a look has found, with times that do not age.
#[derive(Clone, Debug, Default)]
pub struct WebhookGauges {
    pub changed: Option<&'static str>,
    pub failing_since: Option<SystemTime>,
    pub fallbacks: u64,
    pub is_polling: bool,
    pub last_error: Option<(SystemTime, String)>,
    pub looked_at: Option<SystemTime>,
    pub looks_failed: u64,
    pub pending: u64,
    pub repaired: u64,
    pub returns: u64,
}

/// The webhooks that are watched, by the names of their bots.
#[derive(Debug, Default)]
pub struct Webhooks(Mutex<BTreeMap<String, WebhookGauges>>);

impl Webhooks {
    /// Changes what is known of the webhook of `bot`.
    pub fn change(&self, bot: &str, change: impl FnOnce(&mut WebhookGauges)) {
        let mut webhooks = self.lock();
        match webhooks.get_mut(bot) {
            Some(gauges) => change(gauges),
            None => change(webhooks.entry(bot.to_owned()).or_default()),
        }
    }

    /// Forgets those of other bots than `bots`.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        self.lock().retain(|bot, _| is_kept(bot));
    }

    /// All of them at `now`.
    pub(super) fn report(&self, now: SystemTime) -> BTreeMap<String, WebhookReport> {
        let reports = self.lock();
        reports.iter().map(|(bot, gauges)| (bot.clone(), gauges.report(now))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, WebhookGauges>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebhookGauges {
    fn report(&self, now: SystemTime) -> WebhookReport {
        let age = |at: SystemTime| now.duration_since(at).as_ref().map_or(0, Duration::as_secs);
        WebhookReport {
            looked_age_s: self.looked_at.map(age),
            looks_failed: self.looks_failed,
            pending: self.pending,
            last_error_age_s: self.last_error.as_ref().map(|(at, _)| age(*at)),
            last_error: self.last_error.as_ref().map(|(_, text)| text.clone()),
            failing_for_s: self.failing_since.map(age),
            changed: self.changed,
            mode: if self.is_polling { "poll" } else { "webhook" },
            repaired: self.repaired,
            fallbacks: self.fallbacks,
            returns: self.returns,
            polled: 0,
        }
    }
}

impl fmt::Display for WebhookReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pending, repaired, fallbacks, polled, .. } = self;
        write!(f, "{pending} pending")?;
        if let Some(seconds) = self.failing_for_s {
            write!(f, ", failing for {seconds} s")?;
        }
        if let Some(what) = self.changed {
            write!(f, ", changed ({what})")?;
        }
        if *repaired > 0 {
            write!(f, ", {repaired} times set again")?;
        }
        if *fallbacks > 0 {
            write!(f, ", {fallbacks} times polled instead: {polled} updates")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_the_report() {
        let (webhooks, then) = (Webhooks::default(), SystemTime::UNIX_EPOCH);
        webhooks.change("shop", |gauges| {
            gauges.pending = 7;
            gauges.looked_at = Some(then);
            gauges.last_error = Some((then + Duration::from_secs(9), "x".to_owned()));
        });
        webhooks.change("news", |_| {});
        let report = webhooks.report(then + Duration::from_secs(5));
        let shop = report.get("shop").cloned().unwrap_or_default();
        assert_eq!((shop.pending, shop.looked_age_s, shop.mode), (7, Some(5), "webhook"));
        assert_eq!(shop.last_error_age_s, Some(0), "another clock may be ahead");
        webhooks.keep(|bot| bot == "news");
        assert_eq!(webhooks.report(then).keys().collect::<Vec<_>>(), ["news"]);
    }
}
