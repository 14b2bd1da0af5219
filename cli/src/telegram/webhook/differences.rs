//! Whether getWebhookInfo is as planned.

use std::collections::BTreeSet;

use super::{Plan, WebhookUrl, problems::NOT_BY_DEFAULT, url};
use crate::{net::url::without_userinfo, telegram::bot_api::WebhookInfo};
use ringhook::update::UpdateKind;

impl Plan {
    /// What is set otherwise than planned, each in words for people; empty where nothing is. What
    /// the plan leaves to the Bot API is not compared.
    pub(crate) fn differences(&self, info: &WebhookInfo) -> Vec<String> {
        if info.url.is_empty() {
            return vec!["no webhook is set".to_owned()];
        }
        let mut found = Vec::new();
        let is_same = match self.is_bare {
            true => url::are_same_place(&self.url, &info.url),
            false => url::are_same(&self.url, &info.url),
        };
        if !is_same {
            let (is, planned) = (without_userinfo(&info.url), self.shown_url());
            found.push(match is == planned {
                true if url::have_same_target(&self.url, &info.url) => {
                    "url: user and password are others than those of the config".to_owned()
                }
                true => "url: the token in its path is another than that of the config".to_owned(),
                false => moved(&info.url, &self.url)
                    .unwrap_or_else(|| format!("url is {is}, expected {planned}")),
            });
        }
        match (self.certificate.is_some(), info.has_custom_certificate) {
            _ if self.is_bare => {}
            (true, false) => found.push("certificate: none is uploaded".to_owned()),
            (false, true) => found.push(
                "certificate: one is uploaded, and by the config there should be none".to_owned(),
            ),
            _ => {}
        }
        if let (Some(planned), Some(is)) = (self.max_connections, info.max_connections)
            && is != planned
        {
            found.push(format!("max_connections is {is}, expected {planned}"));
        }
        if let Some(planned) = self.ip_address {
            let is = info.ip_address.as_deref().unwrap_or("not given");
            if is.parse() != Ok(planned) {
                found.push(format!("ip_address is {is}, expected {planned}"));
            }
        }
        if let Some(planned) = &self.allowed_updates {
            found.extend(of_kinds(planned, info.allowed_updates.as_deref()));
        }
        found
    }
}

/// What differs where host and path are the same; `None` where they are not. No path and no query
/// is in it: both may be secrets, and this goes to logs.
fn moved(is: &str, planned: &str) -> Option<String> {
    let (is, planned) = (WebhookUrl::parse(is)?, WebhookUrl::parse(planned)?);
    if is.host != planned.host || is.path() != planned.path() {
        return None;
    }
    let place = |url: &WebhookUrl| {
        let scheme = if url.is_https { "https" } else { "http" };
        format!("{scheme}://{}:{}", url.host, url.port)
    };
    let (is, planned) = (place(&is), place(&planned));
    Some(if is == planned {
        format!("url on {is} has another query or user than that of the config")
    } else {
        format!("url is on {is}, expected {planned}")
    })
}

/// Those of `kinds` that Telegram does not deliver by `info`, without those that `plan` asks for:
/// where these are missing, that is a difference.
pub(crate) fn undelivered(
    wanted: impl IntoIterator<Item = UpdateKind>,
    plan: Option<&Plan>,
    info: &WebhookInfo,
) -> Vec<&'static str> {
    let is = kinds(info.allowed_updates.as_deref().unwrap_or_default());
    let planned = plan.and_then(|plan| plan.allowed_updates.as_deref()).map(kinds);
    let wanted = wanted.into_iter().map(UpdateKind::as_str);
    let is_planned = |name: &str| planned.as_ref().is_some_and(|planned| planned.contains(name));
    wanted.filter(|name| !is.contains(*name) && !is_planned(name)).collect()
}

/// Compares lists of kinds as sets; one that is not there or empty is Telegram's default.
fn of_kinds(planned: &[String], is: Option<&[String]>) -> Option<String> {
    let (mut planned, is) = (kinds(planned), kinds(is.unwrap_or_default()));
    // The Bot API drops those that it does not know; of that the problems tell.
    planned.retain(|name| is.contains(name) || UpdateKind::from_key(name).is_some());
    let list = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        one.difference(other).cloned().collect::<Vec<_>>().join(", ")
    };
    let (missing, more) = (list(&planned, &is), list(&is, &planned));
    let missing = (!missing.is_empty()).then(|| format!("{missing} missing"));
    let more = (!more.is_empty()).then(|| format!("{more} not asked for"));
    let words: Vec<_> = missing.into_iter().chain(more).collect();
    (!words.is_empty()).then(|| format!("allowed_updates: {}", words.join("; ")))
}

fn kinds(list: &[String]) -> BTreeSet<String> {
    if !list.is_empty() {
        return list.iter().cloned().collect();
    }
    let by_default = UpdateKind::ALL.iter().filter(|kind| !NOT_BY_DEFAULT.contains(kind));
    by_default.map(|kind| kind.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn info(url: &str) -> WebhookInfo {
        WebhookInfo { url: url.to_owned(), max_connections: Some(40), ..WebhookInfo::default() }
    }

    fn plan(url: &str) -> Plan {
        Plan { url: url.to_owned(), ..Plan::default() }
    }

    #[test]
    fn kinds_that_nobody_asked_for_are_not_delivered() {
        let named = [UpdateKind::Message, UpdateKind::Poll, UpdateKind::MessageReaction];
        let undelivered = |planned: Option<&[&str]>, is: Option<&[&str]>| {
            let owned =
                |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let plan = Plan { allowed_updates: planned.map(owned), ..plan("https://a.example/") };
            let info = WebhookInfo { allowed_updates: is.map(owned), ..info("https://a.example/") };
            undelivered(named, Some(&plan), &info)
        };
        // Telegram's default, by either of its forms.
        assert_eq!(undelivered(Some(&[]), None), ["message_reaction"]);
        assert_eq!(undelivered(None, Some(&[])), ["message_reaction"]);
        assert_eq!(
            undelivered(Some(&["message"]), Some(&["message"])),
            ["poll", "message_reaction"]
        );
        // It is a difference that poll is missing.
        assert_eq!(undelivered(Some(&["poll"]), Some(&["message"])), ["message_reaction"]);
        assert!(undelivered(None, Some(&["message", "poll", "message_reaction"])).is_empty());
    }

    #[test]
    fn what_is_as_planned_differs_in_nothing() {
        let url = "https://bot.example.com/x";
        assert!(plan(url).differences(&info("https://BOT.example.com:443/x")).is_empty());
        let all: Vec<_> = UpdateKind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
        let mut turned = all.clone();
        turned.reverse();
        let planned = Plan { allowed_updates: Some(all), ..plan(url) };
        let is = WebhookInfo { allowed_updates: Some(turned), ..info(url) };
        assert!(planned.differences(&is).is_empty());
        assert_eq!(
            planned.differences(&info(url)),
            ["allowed_updates: chat_member, message_reaction, message_reaction_count missing"]
        );
        let default = Plan { allowed_updates: Some(Vec::new()), ..plan(url) };
        assert!(default.differences(&info(url)).is_empty());
    }

    #[test]
    fn a_kind_that_there_is_not_is_not_missed() {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let url = "https://bot.example.com/x";
        let planned = Plan { allowed_updates: list(&["message", "mesage", "poll"]), ..plan(url) };
        let is = |names| WebhookInfo { allowed_updates: list(names), ..info(url) };
        assert_eq!(planned.differences(&is(&["message", "poll"])), [""; 0]);
        assert_eq!(planned.differences(&is(&["message"])), ["allowed_updates: poll missing"]);
        let known_there = is(&["message", "mesage", "poll"]);
        assert_eq!(planned.differences(&known_there), [""; 0]);
    }

    #[test]
    fn each_difference_is_named() {
        let planned = Plan {
            certificate: Some(Vec::new()),
            max_connections: Some(100),
            ip_address: Some("8.8.8.8".parse().unwrap()),
            allowed_updates: Some(vec!["message".to_owned()]),
            ..plan("https://u:s3cret@a.example/x")
        };
        let is = WebhookInfo {
            ip_address: Some("8.8.4.4".to_owned()),
            allowed_updates: Some(vec!["poll".to_owned()]),
            ..info("https://b.example/x")
        };
        assert_eq!(
            planned.differences(&is),
            [
                "url is https://b.example/x, expected https://(hidden)@a.example/x",
                "certificate: none is uploaded",
                "max_connections is 40, expected 100",
                "ip_address is 8.8.4.4, expected 8.8.8.8",
                "allowed_updates: message missing; poll not asked for",
            ]
        );
        let other = planned.differences(&info("https://u:other@a.example/x"));
        assert!(other.first().unwrap().starts_with("url: user and password"), "{other:?}");
        let (one, two) = ("A".repeat(35), "B".repeat(35));
        let tokens = plan(&format!("https://a.example/1:{one}"))
            .differences(&info(&format!("https://a.example/1:{two}")));
        assert!(tokens.first().unwrap().starts_with("url: the token in its path"), "{tokens:?}");
        let query = planned.differences(&info("https://u:s3cret@a.example/x?key=k3y"));
        let what = "url on https://a.example:443 has another query or user than that of the config";
        assert_eq!(query.first().unwrap(), what);
        let port = planned.differences(&info("https://u:s3cret@a.example:8443/x?key=k3y"));
        let what = "url is on https://a.example:8443, expected https://a.example:443";
        assert_eq!(port.first().unwrap(), what);
        assert_eq!(plan("https://a.example/").differences(&info("")), ["no webhook is set"]);
    }
}
