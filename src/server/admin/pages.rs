//! The pages of the admin listener, by path.

use std::{fmt, net::IpAddr, sync::Arc, time::Instant};

use serde::{Serialize, Serializer};

use super::answer::Answer;
use crate::{
    observe::incidents::{Incident, Incidents},
    proto::http::{Method, Status},
    server::health::Health,
};

/// What there is to show.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) health: Arc<Health>,
    pub(crate) incidents: Arc<Incidents>,
}

impl Pages {
    /// The answer to a request for `path` with `query`.
    pub(super) fn answer(&self, method: Method, path: &str, query: &str) -> Answer {
        let page: fn(&Self, &str) -> Answer = match path {
            "/healthz" => Self::healthz,
            "/incidents" => Self::incidents,
            "/readyz" => Self::readyz,
            _ => return Answer::new(Status::NotFound),
        };
        match method {
            Method::Get | Method::Head => page(self, query),
            Method::Options | Method::Other | Method::Post => Answer::new(Status::MethodNotAllowed),
        }
    }

    /// Whether the server works, or has to be restarted.
    fn healthz(&self, _: &str) -> Answer {
        match self.health.failure(Instant::now()) {
            None => Answer::text(Status::Ok, "ok"),
            Some(failure) => Answer::text(Status::ServiceUnavailable, failure),
        }
    }

    /// Whether updates are taken now.
    fn readyz(&self, _: &str) -> Answer {
        let now = Instant::now();
        let obstacles = self.health.obstacles(now);
        match obstacles.is_empty() {
            true => {
                let lines = ["ok".to_owned()].into_iter().chain(self.health.asides(now));
                Answer::text(Status::Ok, lines.collect::<Vec<_>>().join("\n"))
            }
            false => Answer::text(Status::ServiceUnavailable, obstacles.join("\n")),
        }
    }

    /// What peers did wrong lately.
    fn incidents(&self, query: &str) -> Answer {
        let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
        let Ok(limit) = limit.map_or(Ok(usize::MAX), str::parse) else {
            return Answer::text(Status::BadRequest, "limit: expected a number");
        };
        let (incidents, dropped) = self.incidents.latest(limit);
        let list = IncidentList { dropped, incidents: incidents.iter().map(Shown::new).collect() };
        match serde_json::to_vec(&list) {
            Ok(json) => Answer::json(json),
            // Nothing in it can fail.
            Err(_) => Answer::new(Status::ServiceUnavailable),
        }
    }
}

#[derive(Serialize)]
struct IncidentList<'a> {
    dropped: u64,
    incidents: Vec<Shown<'a>>,
}

/// An incident as JSON has it.
#[derive(Serialize)]
struct Shown<'a> {
    time: Text<humantime::Rfc3339Timestamp>,
    since: Text<humantime::Rfc3339Timestamp>,
    kind: &'static str,
    address: Option<IpAddr>,
    bot: Option<&'a str>,
    detail: &'static str,
    count: u64,
}

impl<'a> Shown<'a> {
    fn new(incident: &'a Incident) -> Self {
        Self {
            time: Text(humantime::format_rfc3339_millis(incident.time)),
            since: Text(humantime::format_rfc3339_millis(incident.since)),
            kind: incident.kind.as_str(),
            address: incident.address,
            bot: incident.bot.as_deref(),
            detail: incident.detail,
            count: incident.count,
        }
    }
}

/// A value that JSON has as text.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
