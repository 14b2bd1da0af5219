//! What is reported of a bot's webhook: incidents, lines of the log, and what a report shows.

use std::sync::Arc;

use super::look::{Change, Event, Fix};
use crate::telegram::webhook::{WebhookUrl, meaning};
use ringhook::internals::observe::{
    incidents::{IncidentKind, IncidentWriter},
    metrics::Webhooks,
};

/// Where it is reported.
#[derive(Debug)]
pub(super) struct EventLog {
    pub(super) incidents: IncidentWriter,
    pub(super) webhooks: Arc<Webhooks>,
}

impl EventLog {
    /// Tells of `event`, which has happened to the webhook of `bot`.
    pub(super) fn write(&self, bot: &str, event: &Event) {
        self.count(bot, event);
        let note = |kind, detail, text: &str| {
            self.incidents.note_text(kind, Some(bot.into()), detail, text);
        };
        match event {
            Event::AsConfigured => tracing::info!(bot, "the webhook is as the config has it again"),
            Event::Changed(change, fix) => {
                let text = format!("{}: {}", what(change), doing(change, *fix));
                note(IncidentKind::WebhookChanged, detail(change), &text);
            }
            Event::CheckFailed(why) => {
                tracing::info!(bot, why, "still polling: the webhook's way does not work");
            }
            Event::Delivers => tracing::info!(bot, "Telegram can deliver to the webhook again"),
            Event::Error(text) => {
                let text = format!("Telegram could not deliver an update: {}", with_meaning(text));
                note(IncidentKind::WebhookFailing, "last_error", &text);
            }
            Event::FallBackFailed(why) => {
                let text = format!("the webhook could not be deleted, to poll instead: {why}");
                note(IncidentKind::WebhookFallback, "failed", &text);
            }
            Event::Fails(pending, _) => {
                let text = format!(
                    "Telegram cannot deliver to the webhook: {pending} update(s) wait; `ringhook \
                     doctor` looks for the reason"
                );
                note(IncidentKind::WebhookFailing, "pending", &text);
            }
            Event::FellBack => {
                let text = "the webhook is deleted, and updates are fetched by getUpdates until its \
                            way works again";
                note(IncidentKind::WebhookFallback, "poll", text);
            }
            Event::Held => {
                let text = "the webhook was deleted on purpose during the fallback: updates are \
                            fetched, and none is set, until `ringhook webhook set`";
                note(IncidentKind::WebhookFallback, "held", text);
            }
            Event::LetGo => {
                let text = "another client has set a webhook: updates are fetched no more";
                note(IncidentKind::WebhookFallback, "ended", text);
            }
            Event::Outage(why) => {
                tracing::warn!(bot, why, "the webhook cannot be looked at");
            }
            Event::OutageOver => tracing::info!(bot, "the webhook can be looked at again"),
            Event::ProbeFailed(why) => tracing::warn!(
                bot,
                why,
                "the webhook's way does not work from this machine: a fallback to polling would \
                 not end by itself"
            ),
            Event::Repaired => {
                note(IncidentKind::WebhookRepair, "set", "the webhook was set again");
            }
            Event::RepairFailed(why) => {
                let text = format!("the webhook could not be set again: {why}");
                note(IncidentKind::WebhookRepair, "failed", &text);
            }
            Event::RepairsUsedUp => {
                let text = "the webhook is not set again: it was three times within an hour. Find \
                            out who changes it, then `ringhook webhook set`";
                note(IncidentKind::WebhookRepair, "used_up", text);
            }
            Event::ReturnFailed(why) => {
                let text = format!("the webhook could not be set again after a fallback: {why}");
                note(IncidentKind::WebhookFallback, "not_ended", &text);
            }
            Event::WentBack => {
                let text = "the webhook is set again, and updates are fetched no more";
                note(IncidentKind::WebhookFallback, "ended", text);
            }
        }
    }

    fn count(&self, bot: &str, event: &Event) {
        self.webhooks.change(bot, |gauges| match event {
            Event::AsConfigured => gauges.changed = None,
            Event::Changed(change, _) => gauges.changed = Some(detail(change)),
            Event::FellBack => {
                gauges.fallbacks += 1;
                gauges.changed = None;
            }
            Event::LetGo => gauges.returns += 1,
            Event::Repaired => gauges.repaired += 1,
            Event::WentBack => {
                gauges.returns += 1;
                gauges.changed = None;
            }
            _ => {}
        });
    }
}

/// An error in Telegram's words, and what to do about it.
fn with_meaning(text: &str) -> String {
    let advice = meaning(text).map(|meaning| format!(" ({}: {})", meaning.what, meaning.fix));
    format!("{text:?}{}", advice.unwrap_or_default())
}

fn detail(change: &Change) -> &'static str {
    match change {
        Change::Gone => "gone",
        Change::Moved(_) | Change::Other(_) => "url",
        Change::Settings(_) => "settings",
    }
}

fn what(change: &Change) -> String {
    match change {
        Change::Gone => "no webhook is set".to_owned(),
        Change::Moved(what) => format!("the webhook's URL has changed: {}", what.join("; ")),
        // What follows the host may be a secret.
        Change::Other(url) => match WebhookUrl::parse(url) {
            Some(url) => format!("the webhook is at another URL, on {}:{}", url.host, url.port),
            None => "the webhook is at another URL".to_owned(),
        },
        Change::Settings(what) => {
            format!("the webhook is not as the config has it: {}", what.join("; "))
        }
    }
}

fn doing(change: &Change, fix: Fix) -> &'static str {
    match fix {
        Fix::NotOurs => {
            "it was never seen as the config has it, so it is left alone; `ringhook webhook set` sets \
             it"
        }
        Fix::Off => "`ringhook webhook set` sets it again, webhook.repair = true does it for you",
        Fix::OnPurpose => "so a command on this machine has asked for it",
        Fix::Repair => "it is set again if it stays so",
        Fix::UsedUp => "it is not set again now: it was three times within an hour",
        Fix::Useless => match change {
            Change::Settings(_) | Change::Moved(_) => {
                "setting it again did not help; `ringhook webhook set` tells why"
            }
            Change::Gone | Change::Other(_) => {
                "it came back after it was replaced, so it is set on purpose; `ringhook webhook set` \
                 replaces it"
            }
        },
    }
}
