//! What happened, counted as it happens.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    Options, clock::Nanos, feed::Job, latencies::Latencies, profile::Intervals, series::Series,
};

/// Counts and times of a run. Of copies only the bytes are counted together with the rest.
pub(crate) struct Record {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) failures: Failures,
    pub(crate) retries: Option<Retries>,
    pub(crate) copies: Option<Copies>,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) connections: u64,
    pub(crate) handshakes_full: u64,
    pub(crate) handshakes_resumed: u64,
    /// From when a request was due to its answer; with [`Options::telegram`], to the 2xx.
    pub(crate) latency: Latencies,
    /// From when a request was sent to its answer.
    pub(crate) service: Latencies,
    /// From when a request could have been sent to when it was.
    pub(crate) lateness: Latencies,
    /// From the first SYN until requests can be sent.
    pub(crate) handshake: Latencies,
    /// As `latency`, of the current second.
    pub(crate) recent: Latencies,
    /// With [`Options::profile`].
    pub(crate) profile: Option<Intervals>,
    /// As `service`, of the current second.
    pub(crate) recent_service: Latencies,
    pub(crate) series: Series,
    /// Requests that were due before this time are in none of the histograms of a whole run.
    pub(crate) timed_from: Nanos,
    pub(crate) slow_peers: SlowPeersSeen,
    /// Requests whose answer had begun to come before they were sent.
    pub(crate) unsolicited: u64,
    pub(crate) ids: Option<Ids>,
}

/// Which updates went where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Those that were at least begun to be sent, in that order; again for each try.
    pub sent: Vec<u64>,
    /// Those that were answered with 2xx, in that order.
    pub acknowledged: Vec<u64>,
}

/// What became of updates that were sent again until they were answered with 2xx.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// Tries, those included that failed before anything was sent.
    pub attempts: u64,
    /// Updates that were tried more than once.
    pub retried: u64,
    /// Updates without a 2xx when the run ended.
    pub pending: u64,
    /// Answers by status, of first tries, second tries and so on. The last place of
    /// [`Retries::PLACES_MAX`] has those of all later tries, too.
    pub statuses: Vec<BTreeMap<u16, u64>>,
}

impl Retries {
    /// The most places of [`Retries::statuses`].
    pub const PLACES_MAX: usize = 16;

    fn answered(&mut self, job: &Job, status: u16) {
        let place = (job.failures as usize).min(Self::PLACES_MAX - 1);
        if self.statuses.len() <= place {
            self.statuses.resize_with(place + 1, BTreeMap::new);
        }
        if let Some(statuses) = self.statuses.get_mut(place) {
            *statuses.entry(status).or_default() += 1;
        }
    }
}

/// What became of the second copies of updates that were sent twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copies {
    /// How many there were to send.
    pub planned: u64,
    /// Requests with a copy that were at least begun to be sent.
    pub sent: u64,
    /// Copies answered with 2xx.
    pub acknowledged: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests with a copy without an answer, by the reason.
    pub failures: Failures,
}

/// What the server did with [slow peers](crate::SlowPeers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SlowPeersSeen {
    /// Connections made.
    pub connections: u64,
    /// How many of them the server closed.
    pub closed: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// Bytes of requests sent.
    pub bytes: u64,
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

    /// The counts with their names, in alphabetical order.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("bad response", self.bad_response),
            ("closed", self.closed),
            ("connect", self.connect),
            ("timeout", self.timeout),
            ("tls", self.tls),
            ("unsent", self.unsent),
        ]
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
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            statuses: BTreeMap::new(),
            failures: Failures::default(),
            retries: options.telegram.is_some().then(Retries::default),
            copies: (options.duplicates > 0.0).then(Copies::default),
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
            profile: None,
            recent_service: Latencies::new(),
            series: Series::default(),
            timed_from: 0,
            slow_peers: SlowPeersSeen::default(),
            unsolicited: 0,
            ids: options.keep_ids.then(Ids::default),
        }
    }

    /// An update is a connection's to send.
    pub(crate) fn trying(&mut self, job: &Job) {
        if let Some(retries) = &mut self.retries
            && !job.copy
        {
            retries.attempts += 1;
            retries.retried += u64::from(job.failures == 1);
        }
    }

    /// An update is about to leave, so much later than it could have.
    pub(crate) fn sending(&mut self, job: &Job, late: Nanos) {
        if let Some(copies) = self.copies_of(job) {
            copies.sent += 1;
            return;
        }
        self.sent += 1;
        if job.due >= self.timed_from {
            self.lateness.record(late);
        }
        if let Some(ids) = &mut self.ids {
            ids.sent.push(job.update_id);
        }
    }

    /// An update was answered.
    pub(crate) fn answered(&mut self, job: &Job, status: u16, times: &Times) {
        let acknowledged = (200..300).contains(&status);
        if let Some(copies) = self.copies_of(job) {
            *copies.statuses.entry(status).or_default() += 1;
            copies.acknowledged += u64::from(acknowledged);
            return;
        }
        *self.statuses.entry(status).or_default() += 1;
        if acknowledged {
            self.acknowledged += 1;
            if let Some(ids) = &mut self.ids {
                ids.acknowledged.push(job.update_id);
            }
        }
        if let Some(retries) = &mut self.retries {
            retries.answered(job, status);
        }
        let latency = times.answered.saturating_sub(times.due);
        let service = times.answered.saturating_sub(times.sent);
        self.recent.record(latency);
        self.recent_service.record(service);
        if times.due < self.timed_from {
            return;
        }
        // A refusal that is followed by another try is no answer to who waits for the update.
        if acknowledged || self.retries.is_none() {
            self.latency.record(latency);
        }
        self.service.record(service);
    }

    /// Ends an interval of the profile, so much time after the start.
    pub(crate) fn end_interval(&mut self, elapsed: Nanos) {
        if let Some(mut profile) = self.profile.take() {
            profile.end(self, elapsed);
            self.profile = Some(profile);
        }
    }

    /// A request got no answer.
    pub(crate) fn failed(&mut self, job: &Job, failure: Failure) {
        match self.copies_of(job) {
            Some(copies) => copies.failures.add(failure),
            None => self.failures.add(failure),
        }
    }

    /// Something else came to nothing.
    pub(crate) fn failed_otherwise(&mut self, failure: Failure) {
        self.failures.add(failure);
    }

    fn copies_of(&mut self, job: &Job) -> Option<&mut Copies> {
        self.copies.as_mut().filter(|_| job.copy)
    }
}

/// The stations of one request.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) due: Nanos,
    pub(crate) sent: Nanos,
    pub(crate) answered: Nanos,
}
