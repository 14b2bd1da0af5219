//! Requests, incidents, outputs, certificates and webhooks.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use maud::{Markup, Render, html};
use pagecharts::scale::{duration, grouped};
use ringhook::{RecentRequest, Report, ServerView, WebhookReport};
use ringhook_outputs::forward::{ForwardStatus, TargetState};

use super::{
    sections::{more, section},
    words::{ago, clock, since, time_of_day},
};
use crate::Program;

/// Rows of each list.
const REQUESTS: usize = 40;
const INCIDENTS: usize = 30;
pub(super) const OUTPUTS: usize = 40;
const CERTIFICATES: usize = 40;
const WEBHOOKS: usize = 40;
/// Certificates with fewer days left are pointed out.
const FEW_DAYS: i64 = 30;

/// The last requests.
pub(super) fn requests(server: &ServerView, now: SystemTime) -> Markup {
    let (requests, _) = server.requests(REQUESTS);
    let text = "Accepted ones at most once in a millisecond, refused ones all. Of their content \
                there is nothing.";
    let date = clock(now);
    let columns = ["time (UTC)", "status", "bot", "update", "address", "stages"];
    section(
        "Recent webhook requests",
        text,
        &html! {
            @if requests.is_empty() { p.sub { "None has come yet." } }
            @else {
                (table("Recent webhook requests", &format!("The newest first, at {date}"), &columns, &html! {
                    @for it in &requests {
                        tr {
                            th scope="row" { time datetime=(rfc3339(it.time)) { (time_of_day(it.time)) } }
                            td { (status(it)) }
                            td { (or_none(it.bot.as_ref())) }
                            td {
                                @if let (Some(kind), Some(id)) = (it.kind, it.update_id) {
                                    (kind.as_str()) " " (id)
                                }
                            }
                            td { (or_none(it.address.as_ref())) }
                            td { (stages(it)) }
                        }
                    }
                }))
                p.sub { "More, and by bot or status: " a href="/requests" { "/requests" } }
            }
        },
    )
}

fn status(request: &RecentRequest) -> Markup {
    let class = if request.status == 200 { "ok" } else { "broken" };
    html! {
        span class=(class) { (request.status) }
        @if !request.detail.is_empty() { " " (reason(request)) }
    }
}

/// Why it was refused, without the status itself, which some reasons are.
fn reason(request: &RecentRequest) -> &str {
    let status = request.status.to_string();
    request.detail.strip_prefix(&status).map_or(request.detail, str::trim_start)
}

fn stages(request: &RecentRequest) -> String {
    let all = request.stages_us.iter();
    let all = all.map(|(stage, us)| format!("{} {}", stage.as_str(), duration(*us)));
    all.collect::<Vec<_>>().join(" · ")
}

/// What peers, webhooks, outputs and the server itself did wrong.
pub(super) fn incidents(server: &ServerView, now: SystemTime) -> Markup {
    let (incidents, _) = server.incidents(INCIDENTS);
    let columns = ["last", "kind", "address", "bot", "detail", "count", "since"];
    section(
        "Incidents",
        "Security incidents, and faults of the server and its surroundings. The same of the same \
         address and bot is one row.",
        &html! {
            @if incidents.is_empty() { p.sub { "None." } }
            @else {
                (table("Incidents", "The newest first", &columns, &html! {
                    @for it in &incidents {
                        tr {
                            th scope="row" {
                                time datetime=(rfc3339(it.time)) { (since(it.time, now)) " ago" }
                            }
                            td { (it.kind.as_str()) }
                            td { (or_none(it.address.as_ref())) }
                            td { (or_none(it.bot.as_ref())) }
                            td { (it.detail) }
                            td { (grouped(it.count)) }
                            td { (since(it.since, now)) " ago" }
                        }
                    }
                }))
                p.sub { "More: " a href="/incidents" { "/incidents" } }
            }
        },
    )
}

/// The outputs and, of those behind HTTP, their targets.
pub(super) fn outputs(
    server: &ServerView,
    report: &Report,
    forwards: &[(String, ForwardStatus)],
    now: SystemTime,
) -> Markup {
    let states: Vec<_> = server.outputs().collect();
    let queues = server.queues();
    let columns = ["output", "state", "handled", "failed", "retried", "queued"];
    let targets = || {
        let of = |(name, status): &'_ (String, ForwardStatus)| {
            status.targets.iter().map(|target| (name.clone(), target.clone())).collect::<Vec<_>>()
        };
        forwards.iter().flat_map(of)
    };
    let target_columns = ["output and target", "state", "since", "in flight", "waiting", "oldest"];
    section(
        "Outputs",
        "",
        &html! {
            (table("Outputs", "Since the start", &columns, &html! {
                @for (number, state) in states.iter().enumerate().take(OUTPUTS) {
                    tr {
                        th scope="row" { (state.name()) }
                        td {
                            @match state.down() {
                                None => span.ok { "up" },
                                Some(down) => {
                                    span.broken { "down for " (since(down.since, now)) }
                                    " " span.text { (down.reason) }
                                }
                            }
                        }
                        // The report lists them where there are several.
                        @match report.outputs.iter().find(|it| it.name == state.name()) {
                            Some(it) => (counts(it.handled, it.failed, it.retried)),
                            None => (counts(
                                report.updates_handled,
                                report.updates_failed,
                                report.handler_retries,
                            )),
                        }
                        td { (queues.get(number).map_or("–".to_owned(), |it| grouped(it.updates))) }
                    }
                }
            }))
            (more(states.len(), OUTPUTS))
            @if !forwards.is_empty() {
                (table("Targets", "Targets behind HTTP", &target_columns, &html! {
                    @for (name, it) in targets().take(OUTPUTS) {
                        tr {
                            th scope="row" { (name) " " span.text { (it.target) } }
                            td {
                                @match (it.state, it.status) {
                                    (TargetState::Up, _) => span.ok { "up" },
                                    (TargetState::Misconfigured, Some(status)) => {
                                        span.broken { "answers " (status) }
                                    }
                                    _ => span.broken { "down" },
                                }
                            }
                            td { (since(it.since, now)) " ago" }
                            td { (grouped(it.in_flight)) }
                            td { (grouped(it.waiting)) }
                            td { (it.oldest_waiting.map_or("–".to_owned(), ago)) }
                        }
                    }
                }))
                (more(targets().count(), OUTPUTS))
            }
        },
    )
}

fn counts(handled: u64, failed: u64, retried: u64) -> Markup {
    html! { td { (grouped(handled)) } td { (grouped(failed)) } td { (grouped(retried)) } }
}

/// What is served now, the first to expire first.
pub(super) fn certificates(server: &ServerView, now: SystemTime) -> Markup {
    let mut certificates = server.certificates();
    if certificates.is_empty() {
        return html! {};
    }
    certificates.sort_by_key(|it| it.not_after);
    let columns = ["names", "days left", "until", "file"];
    section(
        "Certificates",
        "",
        &html! {
            (table("Certificates", "The first to expire first", &columns, &html! {
                @for it in certificates.iter().take(CERTIFICATES) {
                    tr {
                        th scope="row" { span.text { (names(&it.names)) } }
                        @match it.not_after {
                            Some(end) => {
                                td {
                                    @match days_left(end, now) {
                                        days if days < 0 => span.broken { "expired" },
                                        days if days < FEW_DAYS => span.broken { (days) },
                                        days => (days),
                                    }
                                }
                                td { (clock(end)) }
                            }
                            None => { td { "not known" } td {} }
                        }
                        td { span.text { (it.source) } }
                    }
                }
            }))
            (more(certificates.len(), CERTIFICATES))
        },
    )
}

fn names(names: &[String]) -> String {
    const NAMES: usize = 3;
    let more = names.len().saturating_sub(NAMES);
    let shown = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Whole days, rounded down.
fn days_left(end: SystemTime, now: SystemTime) -> i64 {
    let days = |span: Duration| i64::try_from(span.as_secs() / 86_400).unwrap_or(i64::MAX);
    match end.duration_since(now) {
        Ok(left) => days(left),
        Err(past) => -1 - days(past.duration()),
    }
}

/// What Telegram says of each bot's webhook, those with trouble first.
pub(super) fn webhooks(
    webhooks: &BTreeMap<String, WebhookReport>,
    program: &dyn Program,
) -> Markup {
    if webhooks.is_empty() {
        let text = "Not watched: a bot needs a bot token for that, and webhook.check_interval.";
        return section("Webhooks", text, &html! {});
    }
    let mut webhooks: Vec<_> = webhooks.iter().collect();
    webhooks.sort_by_key(|(_, it)| Reverse((trouble(it), it.pending)));
    let columns = ["bot", "mode", "pending", "what Telegram said last"];
    section(
        "Webhooks",
        "",
        &html! {
            (table("Webhooks", "Those with trouble first", &columns, &html! {
                @for (bot, it) in webhooks.iter().take(WEBHOOKS) {
                    tr {
                        th scope="row" { (bot) }
                        td { (it.mode) }
                        td { (grouped(it.pending)) }
                        td { span.text { (webhook(it, program)) } }
                    }
                }
            }))
            (more(webhooks.len(), WEBHOOKS))
        },
    )
}

fn trouble(webhook: &WebhookReport) -> u8 {
    match (webhook.changed, webhook.failing_for_s, webhook.looked_age_s) {
        (Some(_), ..) => 3,
        (_, Some(_), _) => 2,
        (.., None) => 1,
        _ => 0,
    }
}

/// The state in words, and what to do about it.
fn webhook(it: &WebhookReport, program: &dyn Program) -> Markup {
    let age = |seconds| ago(Duration::from_secs(seconds));
    html! {
        @match it.changed {
            Some("gone") => {
                span.broken { "The webhook is gone." }
                " Set it again: " code { "ringhook webhook set" }
            }
            Some("url") => {
                span.broken { "It leads to another URL." }
                " If this server is to have it: " code { "ringhook webhook set" }
            }
            Some(_) => {
                span.broken { "It has other settings than the config." }
                " See " code { "ringhook webhook info" } ", then " code { "ringhook webhook set" }
            }
            None if it.looked_age_s.is_none() => "Telegram has not been asked yet.",
            None => { @if it.failing_for_s.is_none() { span.ok { "as configured" } } }
        }
        @if let Some(seconds) = it.failing_for_s {
            " " span.broken { "Telegram cannot deliver for " (age(seconds)) "." }
        }
        @if let Some(error) = &it.last_error {
            div {
                "Last error"
                @if let Some(seconds) = it.last_error_age_s { ", " (age(seconds)) " ago" }
                ": " (error)
            }
            @if let Some(meaning) = program.meaning(error) {
                div.sub { (meaning.what) ". What to do: " (meaning.fix) }
            }
        }
        @if let Some(seconds) = it.looked_age_s {
            div.sub {
                "Looked " (age(seconds)) " ago"
                @if it.looks_failed > 0 { ", " (grouped(it.looks_failed)) " look(s) failed" }
                @if it.repaired > 0 { ", set again " (grouped(it.repaired)) " time(s)" }
                @if it.fallbacks > 0 { ", polled instead " (grouped(it.fallbacks)) " time(s)" }
                "."
            }
        }
    }
}

/// A table that scrolls by itself where it is wider than the page.
pub(super) fn table(name: &str, caption: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        // What scrolls has to be reached by the keyboard.
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table {
                caption { (caption) }
                thead { tr { @for name in columns { th scope="col" { (name) } } } }
                tbody { (rows) }
            }
        }
    }
}

fn or_none(value: Option<&impl ToString>) -> Markup {
    match value {
        Some(value) => value.to_string().render(),
        None => html! { "–" },
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use ringhook_outputs::forward::ForwardStatus;

    use super::*;
    use crate::{Meaning, ShownConfig};

    struct Knows;

    impl Program for Knows {
        fn stderr_lines_dropped(&self) -> u64 {
            0
        }

        fn forwards(&self) -> Vec<(String, ForwardStatus)> {
            Vec::new()
        }

        fn config(&self) -> Option<std::sync::Arc<ShownConfig>> {
            None
        }

        fn meaning(&self, error: &str) -> Option<Meaning> {
            error.contains("refused").then_some(Meaning { what: "nobody listens", fix: "start it" })
        }
    }

    fn report(change: impl FnOnce(&mut WebhookReport)) -> WebhookReport {
        let mut report = WebhookReport::default();
        report.mode = "webhook";
        report.looked_age_s = Some(7);
        change(&mut report);
        report
    }

    #[test]
    fn what_telegram_says_stands_there_with_what_to_do() {
        let shown = |change: fn(&mut WebhookReport)| {
            webhooks(&BTreeMap::from([("shop".to_owned(), report(change))]), &Knows).into_string()
        };
        assert!(shown(|_| {}).contains("as configured"));
        assert!(shown(|it| it.looked_age_s = None).contains("has not been asked"));
        assert!(shown(|it| it.changed = Some("gone")).contains("ringhook webhook set"));
        let failing = shown(|it| {
            it.failing_for_s = Some(90);
            it.last_error = Some("Connection refused <b>".to_owned());
            it.last_error_age_s = Some(3);
        });
        for part in ["for 1 min 30 s", "3 s ago: Connection refused &lt;b&gt;", "start it"] {
            assert!(failing.contains(part), "{part} in {failing}");
        }
        assert!(!failing.contains("as configured"));
    }

    #[test]
    fn of_many_webhooks_those_with_trouble_are_shown() {
        let mut all: BTreeMap<_, _> =
            (0..2000).map(|n| (format!("bot{n}"), report(|_| {}))).collect();
        all.insert("waits".to_owned(), report(|it| it.pending = 9));
        all.insert("zeta".to_owned(), report(|it| it.changed = Some("url")));
        let shown = webhooks(&all, &Knows).into_string();
        let zeta = shown.find("zeta").unwrap_or(usize::MAX);
        assert!(zeta < shown.find("waits").unwrap_or(0), "{shown}");
        assert!(shown.contains("And 1\u{202f}962 more.") && shown.len() < 20_000);
    }

    #[test]
    fn days_are_rounded_down() {
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert_eq!(days_left(now + day * 30, now), 30);
        assert_eq!(days_left(now + day / 2, now), 0);
        assert_eq!(days_left(now - day / 2, now), -1);
    }
}
