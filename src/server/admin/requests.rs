//! `/requests`: the last requests as JSON.

use serde::Serialize;

use crate::observe::recent::{RecentQuery, RecentRequest, RecentRequests};

/// The list that `query` asks for.
///
/// # Errors
/// What is wrong with the query.
pub(super) fn json(recent: &RecentRequests, query: &str) -> Result<Vec<u8>, &'static str> {
    let (requests, dropped) = recent.latest(parse(query)?);
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
struct RequestList {
    dropped: u64,
    requests: Vec<RecentRequest>,
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
