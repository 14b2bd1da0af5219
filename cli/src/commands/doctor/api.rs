//! What the Bot API says of a bot and of its webhook.

use std::time::{Duration, SystemTime};

use super::{program::within, step::Finding};
use crate::telegram::{
    bot_api::{ApiError, Client, WebhookInfo},
    webhook::{Plan, meaning},
};

/// An error that is no older than this is of now.
const RECENT: Duration = Duration::from_secs(600);

/// getMe.
pub(super) fn me(client: &Client, timeout: Duration) -> Finding {
    let client = client.clone();
    match within(timeout, move || client.get_me()) {
        None => late(timeout),
        Some(Ok(me)) => {
            let name = me.username.map_or(me.first_name, |name| format!("@{name}"));
            Finding::ok(format!("the token is that of {name}"))
        }
        Some(Err(error)) => refused(&error),
    }
}

/// getWebhookInfo, compared with what `plan` would set; `flags` are those with which other commands
/// are about the same bot.
pub(super) fn webhook(client: &Client, plan: &Plan, flags: &str, timeout: Duration) -> Finding {
    let client = client.clone();
    match within(timeout, move || client.get_webhook_info()) {
        None => late(timeout),
        Some(Ok(info)) => compare(plan, &info, flags, SystemTime::now()),
        Some(Err(error)) => refused(&error),
    }
}

fn late(timeout: Duration) -> Finding {
    Finding::fail(
        format!("no answer of the Bot API in {} s", timeout.as_secs()),
        "is the network slow, or a proxy in between? It was not waited for longer",
    )
}

fn refused(error: &ApiError) -> Finding {
    let fix = match error {
        ApiError::Refused { code: 401 | 404, .. } => {
            "put the token that BotFather shows into token_file of [[bot]], or into \
             TELEGRAM_BOT_TOKEN"
        }
        ApiError::Refused { .. } => "see what it says, and try again later",
        ApiError::Unreachable(_) => {
            "can this machine connect to it (curl -I)? A bot cannot answer without it; \
             HTTPS_PROXY is used where it is set"
        }
        ApiError::Odd(_) => "is webhook.api_root that of a Bot API server?",
    };
    Finding::fail(error.to_string(), fix)
}

fn compare(plan: &Plan, info: &WebhookInfo, flags: &str, now: SystemTime) -> Finding {
    let set = format!("ringhook webhook set{flags}");
    let pending = info.pending_update_count;
    let error = LastError::new(info, now);
    if info.url.is_empty() {
        return Finding::fail(format!("no webhook is set, {pending} update(s) wait"), set)
            .and("where the updates are fetched by polling, that is as it should be");
    }
    let differences = plan.differences(info);
    if let Some(first) = differences.first() {
        let finding = Finding::fail(format!("it is not as the config has it: {first}"), set);
        return differences.into_iter().skip(1).fold(finding, Finding::and);
    }
    match error {
        Some(error) if error.age <= RECENT => {
            let what = format!(
                "Telegram says {} ago: {} ({pending} update(s) wait)",
                spoken(error.age),
                error.text
            );
            let (meant, fix) = match meaning(error.text) {
                Some(meaning) => (Some(meaning.what), meaning.fix),
                None => (None, "ringhook webhook info shows all of it"),
            };
            let finding = Finding::warn(what, fix);
            meant
                .into_iter()
                .fold(finding, |finding, meant| finding.and(format!("it means: {meant}")))
        }
        Some(error) => Finding::ok(format!("set as the config has it, {pending} update(s) wait"))
            .and(format!(
                "its last error is {} old (a success never clears it): {}",
                spoken(error.age),
                error.text
            )),
        None => Finding::ok(format!("set as the config has it, {pending} update(s) wait")),
    }
}

struct LastError<'a> {
    age: Duration,
    text: &'a str,
}

impl<'a> LastError<'a> {
    fn new(info: &'a WebhookInfo, now: SystemTime) -> Option<Self> {
        let at = u64::try_from(info.last_error_date?).ok()?;
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at))?;
        let text = info.last_error_message.as_deref().unwrap_or("(no text)");
        Some(Self { age: now.duration_since(at).unwrap_or_default(), text })
    }
}

fn spoken(age: Duration) -> String {
    // Days, hours, minutes: the largest will do.
    let text = humantime::format_duration(Duration::from_secs(age.as_secs())).to_string();
    text.split(' ').next().unwrap_or("0s").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;
    use crate::commands::doctor::step::Verdict;

    const URL: &str = "https://bot.example.com/x";

    fn said(info: &WebhookInfo) -> Finding {
        let mut plan = Plan::default();
        plan.url = URL.to_owned();
        compare(&plan, info, " --bot shop", SystemTime::UNIX_EPOCH + Duration::from_secs(100_000))
    }

    #[test]
    fn a_webhook_is_compared_with_the_config() {
        let good = WebhookInfo { url: URL.to_owned(), ..WebhookInfo::default() };
        assert_eq!(said(&good), Finding::ok("set as the config has it, 0 update(s) wait"));
        let none = said(&WebhookInfo { pending_update_count: 3, ..WebhookInfo::default() });
        assert_eq!(none.what, "no webhook is set, 3 update(s) wait");
        assert_eq!(none.fix[0], "ringhook webhook set --bot shop");
        let other = said(&WebhookInfo { url: "https://other.example.com/".to_owned(), ..good });
        assert_eq!(other.verdict, Verdict::Fail);
        assert!(other.what.contains("other.example.com"), "{other:?}");
    }

    #[test]
    fn an_error_of_now_is_told_with_its_meaning() {
        let error = |at| WebhookInfo {
            url: URL.to_owned(),
            last_error_date: Some(at),
            last_error_message: Some("Wrong response from the webhook: 403 Forbidden".to_owned()),
            ..WebhookInfo::default()
        };
        let now = said(&error(99_940));
        assert_eq!(now.verdict, Verdict::Warn);
        assert!(now.what.starts_with("Telegram says 1m ago: Wrong response"), "{now:?}");
        assert!(now.fix[1].starts_with("it means: "), "{now:?}");
        let old = said(&error(10_000));
        assert_eq!(old.verdict, Verdict::Ok);
        assert!(old.fix[0].contains("1day old"), "{old:?}");
    }

    #[test]
    fn refusals_have_a_remedy_and_no_token() {
        let refused = refused(&ApiError::Refused {
            code: 401,
            description: "Unauthorized".to_owned(),
            retry_after: None,
        });
        assert!(refused.what.contains("401 Unauthorized"), "{refused:?}");
        assert!(refused.fix[0].contains("TELEGRAM_BOT_TOKEN"));
    }
}
