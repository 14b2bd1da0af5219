//! `/requests`: the last requests as JSON.

use std::{
    net::IpAddr,
    time::{Instant, SystemTime},
};

use serde::Serialize;

use crate::observe::recent::{RecentQuery, RecentRequest, RecentRequests, RecentStages};

/// The list that `query` asks for.
///
/// # Errors
/// What is wrong with the query.
pub(super) fn json(recent: &RecentRequests, query: &str) -> Result<Vec<u8>, &'static str> {
    let (requests, dropped) = recent.latest(parse(query)?);
    let (now, time) = (Instant::now(), SystemTime::now());
    let requests = requests.iter().map(|request| Shown::new(request, now, time)).collect();
    // Nothing in it can fail.
    serde_json::to_vec(&RequestList { dropped, requests }).map_err(|_| "no JSON")
}

fn parse(query: &str) -> Result<RecentQuery<'_>, &'static str> {
    let of = |name: &str| {
        let pair = |pair: &str| pair.split_once('=').is_some_and(|(key, _)| key == name);
        let found = query.split('&').find(|it| pair(it));
        found.and_then(|found| Some(found.split_once('=')?.1))
    };
    let limit = of("limit").map(str::parse).transpose();
    let status = of("status").map(str::parse).transpose();
    Ok(RecentQuery {
        limit: limit.map_err(|_| "limit: expected a number")?,
        bot: of("bot"),
        status: status.map_err(|_| "status: expected a status, such as 403")?,
    })
}

#[derive(Serialize)]
struct RequestList<'a> {
    dropped: u64,
    requests: Vec<Shown<'a>>,
}

/// A request as JSON has it.
#[derive(Serialize)]
struct Shown<'a> {
    time: String,
    address: Option<IpAddr>,
    bot: Option<&'a str>,
    kind: Option<&'static str>,
    update_id: Option<i64>,
    status: u16,
    detail: &'static str,
    stages_us: Stages,
}

/// Microseconds of the stages that the request has passed.
#[derive(Serialize)]
struct Stages {
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parse: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<f64>,
}

impl<'a> Shown<'a> {
    /// `now` and `time` are the same moment.
    fn new(request: &'a RecentRequest, now: Instant, time: SystemTime) -> Self {
        let age = now.saturating_duration_since(request.received_at);
        let received = time.checked_sub(age).unwrap_or(time);
        let (kind, update_id) = request.update.unzip();
        Self {
            time: humantime::format_rfc3339_millis(received).to_string(),
            address: request.peer,
            bot: request.bot.as_deref(),
            kind: kind.map(|kind| kind.as_str()),
            update_id,
            status: request.status.code(),
            detail: request.detail,
            stages_us: Stages::new(request.stages, update_id.is_some()),
        }
    }
}

impl Stages {
    fn new(stages: RecentStages, has_update: bool) -> Self {
        let us = |ns: u64, is_known: bool| is_known.then_some(ns as f64 / 1e3);
        let RecentStages { read, parse, commit, answer } = stages;
        Self {
            read: us(read, has_update),
            parse: us(parse, has_update),
            commit: us(commit, commit > 0),
            answer: us(answer, answer > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_requests_are_asked_for() {
        let asked = |query| {
            let parsed = parse(query);
            parsed.map(|RecentQuery { limit, bot, status }| (limit, bot, status))
        };
        assert_eq!(asked(""), Ok((None, None, None)));
        assert_eq!(asked("limit=5&bot=shop&status=404"), Ok((Some(5), Some("shop"), Some(404))));
        assert_eq!(asked("limits=5&robot=x"), Ok((None, None, None)));
        assert!(asked("limit=").is_err() && asked("limit=-1").is_err());
        assert!(asked("status=4xx").is_err());
    }
}
