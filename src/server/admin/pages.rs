//! The pages of the admin listener, by path.

use std::{fmt, net::IpAddr, sync::Arc, time::Instant};

use serde::{Serialize, Serializer};

use super::{
    answer::AdminResponse,
    host,
    program::{AdminRequest, Awaited, ProgramPages},
    requests,
};
use crate::{
    observe::{
        incidents::{Incident, Incidents},
        recent::RecentRequests,
    },
    proto::http::{Method, Status},
    server::health::Health,
};

/// What there is to show.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) health: Arc<Health>,
    pub(crate) incidents: Arc<Incidents>,
    pub(crate) recent: Arc<RecentRequests>,
    /// Whether the listener is on loopback.
    is_local: bool,
    /// Those of the program.
    pub(super) program: Option<ProgramPages>,
}

/// What a request gets.
pub(super) enum Answer {
    Now(AdminResponse),
    /// The program's thread has been asked.
    Later(Awaited),
}

impl Pages {
    /// The server's own pages.
    pub(crate) fn new(
        health: Arc<Health>,
        incidents: Arc<Incidents>,
        recent: Arc<RecentRequests>,
        is_local: bool,
    ) -> Self {
        Self { health, incidents, recent, is_local, program: None }
    }

    /// The answer to `request` under the name `host`; `None` where it has none under that. Probes
    /// have one under any.
    pub(super) fn answer_under(
        &self,
        host: Option<&str>,
        method: Method,
        request: &AdminRequest<'_>,
    ) -> Option<Answer> {
        let is_probe = matches!(request.path, "/healthz" | "/readyz");
        let is_shown = is_probe || !self.is_local || host.is_none_or(host::is_own);
        is_shown.then(|| self.answer(method, request))
    }

    /// The answer to `request`.
    pub(super) fn answer(&self, method: Method, request: &AdminRequest<'_>) -> Answer {
        let AdminRequest { path, query, .. } = *request;
        let page: fn(&Self, &str) -> AdminResponse = match path {
            "/healthz" => Self::healthz,
            "/incidents" => Self::incidents,
            "/readyz" => Self::readyz,
            "/requests" => Self::requests,
            _ => return self.answer_of_program(method, request),
        };
        Answer::Now(match method {
            Method::Get | Method::Head => page(self, query),
            Method::Options | Method::Other | Method::Post => {
                AdminResponse::new(Status::MethodNotAllowed)
            }
        })
    }

    /// The program's answer. It has no page that takes another method.
    fn answer_of_program(&self, method: Method, request: &AdminRequest<'_>) -> Answer {
        let Some(program) = &self.program else {
            return Answer::Now(AdminResponse::new(Status::NotFound));
        };
        match method {
            Method::Get | Method::Head => {
                program.ask(request).map_or_else(Answer::Now, Answer::Later)
            }
            Method::Options | Method::Other | Method::Post => {
                Answer::Now(AdminResponse::new(Status::MethodNotAllowed))
            }
        }
    }

    /// Whether the server works, or has to be restarted.
    fn healthz(&self, _: &str) -> AdminResponse {
        match self.health.failure(Instant::now()) {
            None => AdminResponse::text(Status::Ok, "ok"),
            Some(failure) => AdminResponse::text(Status::ServiceUnavailable, failure),
        }
    }

    /// Whether updates are taken now.
    fn readyz(&self, _: &str) -> AdminResponse {
        let now = Instant::now();
        let mut lines = self.health.obstacles(now);
        let status = if lines.is_empty() { Status::Ok } else { Status::ServiceUnavailable };
        if lines.is_empty() {
            lines.push("ok".to_owned());
        }
        // Also beside an obstacle: a journal may be full because an output is down.
        lines.extend(self.health.asides(now).iter().map(|aside| format!("degraded: {aside}")));
        AdminResponse::text(status, lines.join("\n"))
    }

    /// The last requests.
    fn requests(&self, query: &str) -> AdminResponse {
        match requests::json(&self.recent, query) {
            Ok(json) => AdminResponse::json(json),
            Err(what) => AdminResponse::text(Status::BadRequest, what),
        }
    }

    /// What peers did wrong lately.
    fn incidents(&self, query: &str) -> AdminResponse {
        let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
        let Ok(limit) = limit.map_or(Ok(usize::MAX), str::parse) else {
            return AdminResponse::text(Status::BadRequest, "limit: expected a number");
        };
        let (incidents, dropped) = self.incidents.latest(limit);
        let list = IncidentList { dropped, incidents: incidents.iter().map(Shown::new).collect() };
        match serde_json::to_vec(&list) {
            Ok(json) => AdminResponse::json(json),
            // Nothing in it can fail.
            Err(_) => AdminResponse::new(Status::ServiceUnavailable),
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
