//! What getWebhookInfo says of a bot, with what it means: for people and for machines.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::expected::Expected;
use crate::{
    net::url::without_userinfo,
    telegram::{
        bot_api::WebhookInfo,
        webhook::{Meaning, meaning},
    },
};
use ringhook::update::UpdateKind;

/// How long an error is taken for one that lasts. What fails is tried again every 60 to 120 s.
const RECENT: Duration = Duration::from_secs(600);

/// One look at a bot. As JSON all fields are always there; names and meanings stay as they are.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) bot: String,
    /// False where something is wrong; `wrong` says what.
    pub(super) ok: bool,
    pub(super) wrong: Vec<String>,
    /// Without user and password; empty where no webhook is set, `None` where that is not known.
    pub(super) url: Option<String>,
    pub(super) has_custom_certificate: Option<bool>,
    pub(super) pending_update_count: Option<u64>,
    /// More than at the look before, or fewer; `None` at the first.
    pub(super) pending_change: Option<i64>,
    pub(super) ip_address: Option<String>,
    pub(super) max_connections: Option<u32>,
    /// `None` is Telegram's default.
    pub(super) allowed_updates: Option<Vec<String>>,
    pub(super) last_error_message: Option<String>,
    /// In seconds since 1970.
    pub(super) last_error_date: Option<i64>,
    /// In seconds. A success does not clear it.
    pub(super) last_error_age: Option<u64>,
    /// What the last error means, and what to do; `None` where that is not known.
    pub(super) meaning: Option<&'static str>,
    pub(super) fix: Option<&'static str>,
    /// In seconds since 1970.
    pub(super) last_synchronization_error_date: Option<i64>,
    /// How it differs from the config; `None` where it was not compared.
    pub(super) differences: Option<Vec<String>>,
    /// Why it was not, or not wholly.
    pub(super) not_compared: Option<String>,
}

impl Report {
    /// What `info` says of `bot`, which was to be as `expected`.
    pub(super) fn new(bot: &str, info: WebhookInfo, expected: &Expected, now: SystemTime) -> Self {
        let text = info.last_error_message.as_deref();
        let known: Option<Meaning> = text.and_then(meaning);
        let differences = expected.plan().map(|plan| plan.differences(&info));
        let mut wrong = Vec::new();
        match &differences {
            _ if info.url.is_empty() => {
                wrong.push("no webhook is set: `ringhook webhook set`".to_owned());
            }
            Some(differences) if !differences.is_empty() => {
                wrong.push(format!(
                    "it is not as the config says (`ringhook webhook set` makes it so): {}",
                    differences.join("; ")
                ));
            }
            _ => {}
        }
        if let Expected::Unknown(why) = expected {
            wrong.push(format!("it cannot be compared with the config: {why}"));
        }
        let age = info.last_error_date.map(|date| age_of(date, now));
        if age.is_some_and(|age| age < RECENT) {
            let text = text.unwrap_or("Telegram does not say why");
            let why = known.map_or_else(|| plain(text), |known| known.what.to_owned());
            wrong.push(match info.pending_update_count {
                0 => format!("a delivery failed, though nothing waits now: {why}"),
                _ => format!("deliveries fail: {why}"),
            });
        }
        let sync = info.last_synchronization_error_date;
        if sync.is_some_and(|date| age_of(date, now) < RECENT) {
            wrong.push(
                "Telegram's servers had an error among themselves and may deliver late: wait"
                    .to_owned(),
            );
        }
        Self {
            bot: bot.to_owned(),
            ok: wrong.is_empty(),
            wrong,
            url: Some(without_userinfo(&info.url)),
            has_custom_certificate: Some(info.has_custom_certificate),
            pending_update_count: Some(info.pending_update_count),
            pending_change: None,
            ip_address: info.ip_address,
            max_connections: info.max_connections,
            allowed_updates: info.allowed_updates,
            last_error_message: info.last_error_message,
            last_error_date: info.last_error_date,
            last_error_age: age.map(|age| age.as_secs()),
            meaning: known.map(|known| known.what),
            fix: known.map(|known| known.fix),
            last_synchronization_error_date: sync,
            differences,
            not_compared: expected.gap().map(str::to_owned),
        }
    }

    /// One of a bot of which nothing could be learnt.
    pub(super) fn failed(bot: &str, why: &str) -> Self {
        Self { bot: bot.to_owned(), wrong: vec![why.to_owned()], ..Self::default() }
    }

    /// Something more that is wrong.
    pub(super) fn fault(&mut self, what: &str) {
        self.ok = false;
        self.wrong.push(what.to_owned());
    }

    /// One line, for a list of looks.
    pub(super) fn line(&self, now: SystemTime) -> String {
        let mut line = format!("{}  {}", humantime::format_rfc3339_seconds(now), self.bot);
        let Some(waiting) = self.pending_update_count else {
            return format!("{line}  {}", self.wrong.join("; "));
        };
        line += &format!("  {waiting} waiting");
        if let Some(change) = self.pending_change.filter(|change| *change != 0) {
            line += &format!(" ({change:+})");
        }
        if self.url.as_deref() == Some("") {
            line += "  no webhook is set";
        }
        line += &match &self.last_error_message {
            Some(text) => format!("  last error {} ago: {}", self.age(), plain(text)),
            None => "  no error".to_owned(),
        };
        line
    }

    fn age(&self) -> String {
        spoken(Duration::from_secs(self.last_error_age.unwrap_or_default()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<12}{text}");
        line("bot", &self.bot)?;
        let Some(waiting) = self.pending_update_count else {
            return line("failed", &self.wrong.join("; "));
        };
        let url = self.url.as_deref().unwrap_or_default();
        line("webhook", if url.is_empty() { "none is set" } else { url })?;
        line("waiting", &format!("{waiting} update(s)"))?;
        if !url.is_empty() {
            line(
                "certificate",
                match self.has_custom_certificate {
                    Some(true) => "uploaded: Telegram trusts this one alone",
                    _ => "none uploaded: Telegram trusts public CAs",
                },
            )?;
            line("address", self.ip_address.as_deref().unwrap_or("not resolved yet"))?;
            let most = self.max_connections.map(|count| format!("at most {count}"));
            line("connections", most.as_deref().unwrap_or("unknown"))?;
        }
        line("updates", &kinds(self.allowed_updates.as_deref()))?;
        match (&self.last_error_message, self.last_error_date) {
            (None, None) => line("last error", "none")?,
            (text, date) => {
                let text = text.as_deref().map_or_else(|| "no text".to_owned(), plain);
                line("last error", &format!("{text}, {} ago ({})", self.age(), moment(date)))?;
                line(
                    "",
                    "(it stays until the webhook is changed or deleted: a success does not clear it)",
                )?;
                let unknown = "not known here";
                line("  means", self.meaning.unwrap_or(unknown))?;
                line("  to do", self.fix.unwrap_or("`ringhook doctor` tries the whole way"))?;
            }
        }
        if let Some(date) = self.last_synchronization_error_date {
            line("sync error", &format!("{}: Telegram's own, nothing to do", moment(Some(date))))?;
        }
        match &self.differences {
            _ if url.is_empty() => {}
            None => {
                let why = self.not_compared.as_deref().unwrap_or_default();
                line("config", &format!("not compared: {why}"))?;
            }
            Some(differences) if differences.is_empty() => match &self.not_compared {
                None => line("config", "as it says")?,
                Some(_) => line("config", "as it says, as far as it was compared")?,
            },
            Some(differences) => {
                for (place, difference) in differences.iter().enumerate() {
                    line(
                        if place == 0 { "config" } else { "" },
                        &format!("differs: {difference}"),
                    )?;
                }
            }
        }
        if let (Some(_), Some(why), false) = (&self.differences, &self.not_compared, url.is_empty())
        {
            line("", &format!("certificate, user and password are not compared: {why}"))?;
        }
        line("verdict", &if self.ok { "ok".to_owned() } else { self.wrong.join("; ") })
    }
}

/// The kinds of updates that come, for people.
fn kinds(list: Option<&[String]>) -> String {
    let Some(list) = list else {
        let default =
            "Telegram's default: all but chat_member, message_reaction, message_reaction_count";
        return default.to_owned();
    };
    let is_in = |kind: &UpdateKind| list.iter().any(|name| name == kind.as_str());
    match UpdateKind::ALL.iter().all(is_in) {
        true => format!("all {} kinds", list.len()),
        false => plain(&list.join(", ")),
    }
}

/// Text from elsewhere, without what could steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn age_of(date: i64, now: SystemTime) -> Duration {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Clocks differ: what seems to lie ahead is of now.
    now.saturating_sub(Duration::from_secs(date.try_into().unwrap_or(0)))
}

/// A duration by its largest unit.
fn spoken(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn moment(date: Option<i64>) -> String {
    /// The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    let Some(seconds) = date.and_then(|date| u64::try_from(date).ok()) else {
        return "no date".to_owned();
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOW: u64 = 1_795_219_200;

    fn report(info: WebhookInfo) -> Report {
        let expected = Expected::Silent("bot.host = (none): expected a name".to_owned());
        Report::new("shop", info, &expected, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
    }

    fn info() -> WebhookInfo {
        WebhookInfo { url: "https://u:s3cret@a.example/x".to_owned(), ..WebhookInfo::default() }
    }

    fn with_error(age: i64) -> WebhookInfo {
        WebhookInfo {
            last_error_date: Some(NOW.cast_signed() - age),
            last_error_message: Some("Connection refused".to_owned()),
            ..info()
        }
    }

    #[test]
    fn an_old_error_is_no_fault() {
        assert!(report(info()).ok);
        assert!(!report(with_error(0)).ok);
        assert!(!report(with_error(-30)).ok, "the clocks differ");
        assert!(!report(with_error(599)).ok);
        assert!(report(with_error(600)).ok);
        assert!(!report(WebhookInfo::default()).ok, "none is set");
        let sync = |age: i64| WebhookInfo {
            last_synchronization_error_date: Some(NOW.cast_signed() - age),
            ..info()
        };
        assert!(!report(sync(60)).ok);
        assert!(report(sync(6000)).ok);
    }

    #[test]
    fn says_what_it_means_and_no_password() {
        let text = report(with_error(7300)).to_string();
        assert!(
            text.contains("https://(hidden)@a.example/x") && !text.contains("s3cret"),
            "{text}"
        );
        for part in
            ["Connection refused, 2 h ago", "nothing listens", "a success does not clear it"]
        {
            assert!(text.contains(part), "{text}");
        }
        let json = serde_json::to_string(&report(with_error(5))).unwrap();
        assert!(json.contains("\"ok\":false") && !json.contains("s3cret"), "{json}");
    }

    #[test]
    fn ages_are_told_by_their_largest_unit() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
        assert_eq!(moment(Some(-1)), "no date");
        assert_eq!(moment(Some(i64::MAX)), "9999-12-31T23:59:59Z");
    }
}
