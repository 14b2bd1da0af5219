//! What happened, counted as it happens.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{clock::Nanos, latencies::Latencies};

/// Counts and times of a run.
pub(crate) struct Record {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) failures: Failures,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) connections: u64,
    pub(crate) handshakes_full: u64,
    pub(crate) handshakes_resumed: u64,
    /// From when a request was due to its answer.
    pub(crate) latency: Latencies,
    /// From when a request was sent to its answer.
    pub(crate) service: Latencies,
    /// From when a request could have been sent to when it was.
    pub(crate) lateness: Latencies,
    /// From the first SYN until requests can be sent.
    pub(crate) handshake: Latencies,
    /// As `latency`, of the current second.
    pub(crate) recent: Latencies,
    pub(crate) ids: Option<Ids>,
}

/// Which updates went where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Those that were at least begun to be sent, in that order.
    pub sent: Vec<u64>,
    /// Those that were answered with 2xx, in that order.
    pub acknowledged: Vec<u64>,
}

/// Requests that got no answer, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// What came back was no HTTP/1 response.
    pub bad_response: u64,
    /// The server closed or reset the connection before a whole answer.
    pub closed: u64,
    /// No TCP connection could be made.
    pub connect: u64,
    /// The timeout ran out.
    pub timeout: u64,
    /// The TLS handshake or a record failed.
    pub tls: u64,
    /// Due, but no connection had time for it until the run had to end.
    pub unsent: u64,
}

impl Failures {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bad_response + self.closed + self.connect + self.timeout + self.tls + self.unsent
    }

    pub(crate) fn add(&mut self, failure: Failure) {
        let counter = match failure {
            Failure::BadResponse => &mut self.bad_response,
            Failure::Closed => &mut self.closed,
            Failure::Connect => &mut self.connect,
            Failure::Timeout => &mut self.timeout,
            Failure::Tls => &mut self.tls,
        };
        *counter += 1;
    }
}

/// Why a request got no answer; see [`Failures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    BadResponse,
    Closed,
    Connect,
    Timeout,
    Tls,
}

impl Record {
    pub(crate) fn new(keep_ids: bool) -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            statuses: BTreeMap::new(),
            failures: Failures::default(),
            bytes_sent: 0,
            bytes_received: 0,
            connections: 0,
            handshakes_full: 0,
            handshakes_resumed: 0,
            latency: Latencies::new(),
            service: Latencies::new(),
            lateness: Latencies::new(),
            handshake: Latencies::new(),
            recent: Latencies::new(),
            ids: keep_ids.then(Ids::default),
        }
    }

    /// An update is about to leave, so much later than it could have.
    pub(crate) fn sending(&mut self, update_id: u64, late: Nanos) {
        self.sent += 1;
        self.lateness.record(late);
        if let Some(ids) = &mut self.ids {
            ids.sent.push(update_id);
        }
    }

    /// An update was answered.
    pub(crate) fn answered(&mut self, update_id: u64, status: u16, times: &Times) {
        *self.statuses.entry(status).or_default() += 1;
        if (200..300).contains(&status) {
            self.acknowledged += 1;
            if let Some(ids) = &mut self.ids {
                ids.acknowledged.push(update_id);
            }
        }
        self.latency.record(times.answered.saturating_sub(times.due));
        self.recent.record(times.answered.saturating_sub(times.due));
        self.service.record(times.answered.saturating_sub(times.sent));
    }
}

/// The stations of one request.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) due: Nanos,
    pub(crate) sent: Nanos,
    pub(crate) answered: Nanos,
}
