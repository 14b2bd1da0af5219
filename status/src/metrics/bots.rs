//! Bots, their webhooks and polls.
//!
//! Counters are those of the first bots of the config: a series that came and went with the traffic
//! would look like a restart. Of webhooks those are shown first that something is the matter with.

use std::{cmp::Reverse, fmt, time::Duration};

use ringhook::{PollReport, WebhookReport};

use super::{
    families::{Families, Label, head, label, timestamp},
    snapshot::Snapshot,
};

/// The most bots that a family has series of their own for; the others are one more series, with
/// the label `bot="other"`, where a sum makes sense.
pub const BOTS_MAX: usize = 200;

/// The label of all bots beyond.
const OTHER: &str = "other";

pub(super) fn write(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let finished = |(name, finished, _): &_| (String::clone(name), *finished);
    families.counters(
        head("bot_deliveries", "Updates that need no further call, by bot, for each output"),
        bounded(of.bots.iter().map(finished)),
    )?;
    families.counters(
        head("bot_failures", "Of these, updates that an output has finally not taken"),
        bounded(of.bots.iter().map(|(name, _, failed)| (name.clone(), *failed))),
    )?;
    families.gauge(head("bots", "Bots that the config in force has"), of.config.bots.len())?;
    webhooks(of, families)?;
    let polls = |count: fn(&PollReport) -> u64| {
        bounded(of.report.polls.iter().map(move |poll| (poll.bot.clone(), count(poll))))
    };
    families.counters(
        head("poll_updates", "Updates fetched by getUpdates and acknowledged"),
        polls(|poll| poll.updates),
    )?;
    families.counters(
        head("poll_failures", "Calls of getUpdates that were not answered, or refused"),
        polls(|poll| poll.failures),
    )
}

/// What getWebhookInfo has said last of each bot.
fn webhooks(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let mut webhooks: Vec<_> = of.report.webhook.iter().collect();
    let is_odd = |webhook: &WebhookReport| {
        webhook.changed.is_some() || webhook.failing_for_s.is_some() || webhook.mode == "poll"
    };
    if webhooks.len() > BOTS_MAX {
        webhooks.sort_by_key(|(_, it)| Reverse((is_odd(it), it.pending)));
        webhooks.truncate(BOTS_MAX);
    }
    let ago = |seconds: Option<u64>| {
        let seconds = Duration::from_secs(seconds?);
        // Whole seconds: the age was rounded, and the time must not move between two scrapes.
        Some(timestamp(of.now.checked_sub(seconds)?).round())
    };
    let all = || webhooks.iter().map(|(bot, webhook)| (label("bot", bot.as_str()), *webhook));
    families.gauges(
        head("webhook_pending_updates", "Updates that wait at Telegram, as it last said"),
        all().map(|(bot, webhook)| (bot, webhook.pending)),
    )?;
    families.gauges(
        head("webhook_matches_config", "1 where the webhook is as the config has it, else 0"),
        all().map(|(bot, webhook)| (bot, u64::from(webhook.changed.is_none()))),
    )?;
    families.gauges(
        head("webhook_is_failing", "1 where Telegram cannot deliver, else 0"),
        all().map(|(bot, webhook)| (bot, u64::from(webhook.failing_for_s.is_some()))),
    )?;
    families.gauges(
        head("webhook_is_polled", "1 while updates are fetched in place of the webhook, else 0"),
        all().map(|(bot, webhook)| (bot, u64::from(webhook.mode == "poll"))),
    )?;
    families.gauges(
        head("webhook_last_error_timestamp", "When Telegram last failed to deliver").seconds(),
        all().filter_map(|(bot, webhook)| Some((bot, ago(webhook.last_error_age_s)?))),
    )?;
    families.gauges(
        head("webhook_last_look_timestamp", "When getWebhookInfo last answered").seconds(),
        all().filter_map(|(bot, webhook)| Some((bot, ago(webhook.looked_age_s)?))),
    )?;
    let sum = |count: fn(&WebhookReport) -> u64| of.report.webhook.values().map(count).sum::<u64>();
    families.gauge(
        head("webhooks_pending_updates", "Updates that wait at Telegram, of all bots"),
        sum(|webhook| webhook.pending),
    )?;
    families.gauge(
        head("webhooks_taken_away", "Webhooks that are not as the config has them"),
        sum(|webhook| u64::from(webhook.changed.is_some())),
    )?;
    families.counter(
        head("webhook_looks_failed", "Calls of getWebhookInfo that did not succeed"),
        sum(|webhook| webhook.looks_failed),
    )?;
    families.counter(
        head("webhook_repairs", "Times that a webhook was set again"),
        sum(|webhook| webhook.repaired),
    )?;
    families.counter(
        head("webhook_fallbacks", "Times that updates were fetched in place of a webhook"),
        sum(|webhook| webhook.fallbacks),
    )
}

/// Series by bot: the first ones, and the sum of the others.
fn bounded(bots: impl Iterator<Item = (String, u64)>) -> Vec<([Label<'static>; 1], u64)> {
    let mut series = Vec::new();
    let mut other = None;
    for (bot, count) in bots {
        if series.len() < BOTS_MAX {
            series.push((label("bot", bot), count));
        } else {
            *other.get_or_insert(0) += count;
        }
    }
    series.extend(other.map(|count| (label("bot", OTHER), count)));
    series
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn bots_beyond_the_bound_are_one_series() {
        let bots = |many: u64| bounded((0..many).map(|n| (format!("bot{n}"), n)));
        assert_eq!(bots(BOTS_MAX as u64).len(), BOTS_MAX);
        let many = bots(2_000);
        assert_eq!(many.len(), BOTS_MAX + 1);
        assert_eq!(many[BOTS_MAX], (label("bot", OTHER), (200..2_000).sum()));
    }
}
