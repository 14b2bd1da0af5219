//! The last requests, with their stages and without content.
//!
//! Each shard has two rings that it alone writes to: of the requests that it has answered 200, of
//! which at most one in each [`PERIOD`] is kept, and of all others. So a flood of one of them
//! displaces none of the other, and an update costs one comparison at most where many come.

use std::{
    cell::Cell,
    cmp::Reverse,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::{Duration, Instant, SystemTime},
};

use serde::{Serialize, Serializer};

use super::metrics::{Counter, Stage, by_stage};
use crate::proto::{http::Status, update::UpdateKind};

/// Time in which a shard keeps one request that it has answered 200.
pub(crate) const PERIOD: Duration = Duration::from_millis(1);
/// Requests that each shard keeps: accepted ones, and others.
const ACCEPTED: usize = 256;
const REFUSED: usize = 128;

/// What a shard knows of a request. Of its content there is nothing here.
#[derive(Clone, Debug)]
pub(crate) struct RecentRecord {
    /// When its last byte, or what was wrong with it, had come.
    pub(crate) received_at: Instant,
    /// The peer; `None` on a socket that has no addresses.
    pub(crate) peer: Option<IpAddr>,
    /// The bot that was meant, where that is known.
    pub(crate) bot: Option<Arc<str>>,
    /// Its update's kind and id, where it had one.
    pub(crate) update: Option<(UpdateKind, i64)>,
    pub(crate) status: Status,
    /// Why it was refused: a fixed word or a status, never a peer's bytes; empty with 200.
    pub(crate) detail: &'static str,
    pub(crate) stages: RecentStages,
}

/// The stages that the shard has timed, in nanoseconds; 0 where there was none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct RecentStages {
    pub(crate) read: u64,
    pub(crate) parse: u64,
    pub(crate) commit: u64,
    pub(crate) answer: u64,
}

/// One of the last requests. Of its content there is nothing here.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RecentRequest {
    /// When its last byte, or what was wrong with it, had come; in JSON as RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The peer; `None` on a socket that has no addresses.
    pub address: Option<IpAddr>,
    /// The bot that was meant, where that is known.
    pub bot: Option<String>,
    /// Its update's kind, where it had one.
    pub kind: Option<UpdateKind>,
    /// Its update's id.
    pub update_id: Option<i64>,
    /// The status of the answer.
    pub status: u16,
    /// Why it was refused: a fixed word or a status; empty with 200.
    pub detail: &'static str,
    /// Microseconds of the stages that the shard has timed.
    #[serde(serialize_with = "by_stage")]
    pub stages_us: Vec<(Stage, f64)>,
}

impl RecentRequest {
    /// `now` and `time` are the same moment.
    fn new(record: &RecentRecord, now: Instant, time: SystemTime) -> Self {
        let age = now.saturating_duration_since(record.received_at);
        let (kind, update_id) = record.update.unzip();
        let RecentStages { read, parse, commit, answer } = record.stages;
        let stages = [
            (Stage::Read, read, kind.is_some()),
            (Stage::Parse, parse, kind.is_some()),
            (Stage::Commit, commit, commit > 0),
            (Stage::Answer, answer, answer > 0),
        ];
        let known = stages.into_iter().filter(|(.., is_known)| *is_known);
        Self {
            time: time.checked_sub(age).unwrap_or(time),
            address: record.peer,
            bot: record.bot.as_deref().map(str::to_owned),
            kind,
            update_id,
            status: record.status.code(),
            detail: record.detail,
            stages_us: known.map(|(stage, ns, _)| (stage, ns as f64 / 1e3)).collect(),
        }
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// Which requests are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecentQuery<'a> {
    /// The most of them; `None`: all that there are.
    pub(crate) limit: Option<usize>,
    /// Those to this bot only.
    pub(crate) bot: Option<&'a str>,
    /// Those that were answered with this status only.
    pub(crate) status: Option<u16>,
}

/// The last ones of a kind. All of its memory is there from the begin.
#[derive(Debug)]
struct Ring {
    most: usize,
    /// Where the next one goes, once there are as many as may be.
    oldest: usize,
    requests: Vec<RecentRecord>,
}

/// The rings of one shard, as it and its readers share them.
#[derive(Debug)]
struct SharedRings {
    /// Requests that found their ring being read; written by the shard.
    dropped: Counter,
    accepted: Mutex<Ring>,
    refused: Mutex<Ring>,
}

/// The last requests of one server.
#[derive(Debug, Default)]
pub(crate) struct RecentRequests(Mutex<Vec<Arc<SharedRings>>>);

/// One shard's writer. It waits for no reader.
#[derive(Debug)]
pub(crate) struct RecentWriter {
    /// When an accepted request is to be kept again.
    due: Cell<Instant>,
    shared: Arc<SharedRings>,
}

impl RecentRequests {
    /// Rings for one more shard.
    pub(crate) fn writer(&self) -> RecentWriter {
        let [accepted, refused] = [ACCEPTED, REFUSED].map(|most| Mutex::new(Ring::new(most)));
        let shared = Arc::new(SharedRings { dropped: Counter::default(), accepted, refused });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&shared));
        RecentWriter { due: Cell::new(Instant::now()), shared }
    }

    /// Those that `query` asks for, the newest first, and how many were dropped in all.
    pub(crate) fn latest(&self, query: RecentQuery<'_>) -> (Vec<RecentRequest>, u64) {
        let (records, dropped) = self.records(query);
        let (now, time) = (Instant::now(), SystemTime::now());
        let shown = |record| RecentRequest::new(record, now, time);
        (records.iter().map(shown).collect(), dropped)
    }

    pub(crate) fn records(&self, query: RecentQuery<'_>) -> (Vec<RecentRecord>, u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut requests = Vec::new();
        let mut dropped = 0;
        for shared in all {
            dropped += shared.dropped.get();
            for ring in [&shared.accepted, &shared.refused] {
                let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                requests.extend(ring.requests.iter().filter(|it| query.asks_for(it)).cloned());
            }
        }
        requests.sort_by_key(|request| Reverse(request.received_at));
        requests.truncate(query.limit.unwrap_or(usize::MAX));
        (requests, dropped)
    }
}

impl RecentQuery<'_> {
    fn asks_for(&self, request: &RecentRecord) -> bool {
        self.bot.is_none_or(|bot| request.bot.as_deref() == Some(bot))
            && self.status.is_none_or(|status| request.status.code() == status)
    }
}

impl RecentWriter {
    /// Whether a request that was answered 200 at `now` is to be kept: a comparison.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.due.get()
    }

    /// Keeps a request that was answered 200 at `now`.
    #[cold]
    pub(crate) fn accepted(&self, now: Instant, request: RecentRecord) {
        self.due.set(now + PERIOD);
        self.keep(&self.shared.accepted, request);
    }

    /// Keeps a request that was not.
    #[cold]
    pub(crate) fn refused(&self, request: RecentRecord) {
        self.keep(&self.shared.refused, request);
    }

    fn keep(&self, ring: &Mutex<Ring>, request: RecentRecord) {
        match ring.try_lock() {
            Ok(mut ring) => ring.add(request),
            Err(TryLockError::Poisoned(ring)) => ring.into_inner().add(request),
            Err(TryLockError::WouldBlock) => self.shared.dropped.increment(),
        }
    }
}

impl Ring {
    fn new(most: usize) -> Self {
        Self { most, oldest: 0, requests: Vec::with_capacity(most) }
    }

    fn add(&mut self, request: RecentRecord) {
        if self.requests.len() < self.most {
            self.requests.push(request);
        } else if let Some(oldest) = self.requests.get_mut(self.oldest) {
            *oldest = request;
            self.oldest = (self.oldest + 1) % self.most;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use super::*;

    fn request(bot: &str, status: Status, received_at: Instant) -> RecentRecord {
        RecentRecord {
            received_at,
            peer: None,
            bot: Some(bot.into()),
            update: None,
            status,
            detail: "",
            stages: RecentStages::default(),
        }
    }

    #[test]
    fn an_accepted_one_is_due_again_after_a_period() {
        let recent = RecentRequests::default();
        let writer = recent.writer();
        let start = Instant::now();
        assert!(writer.is_due(start));
        writer.accepted(start, request("shop", Status::Ok, start));
        assert!(!writer.is_due(start + PERIOD / 2));
        assert!(writer.is_due(start + PERIOD));
    }

    #[test]
    fn neither_sort_displaces_the_other_and_the_newest_come_first() {
        let recent = RecentRequests::default();
        let writers = [recent.writer(), recent.writer()];
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        writers[0].accepted(at(0), request("shop", Status::Ok, at(0)));
        for ms in 1..1000 {
            writers[1].refused(request("news", Status::NotFound, at(ms)));
        }
        let (all, dropped) = recent.records(RecentQuery::default());
        assert_eq!((all.len(), dropped), (REFUSED + 1, 0));
        assert!(all.is_sorted_by_key(|it| Reverse(it.received_at)));
        assert_eq!(all.first().unwrap().received_at, at(999));
        assert_eq!(all.last().unwrap().status, Status::Ok);
        let asked = |query| recent.records(query).0.len();
        assert_eq!(asked(RecentQuery { bot: Some("shop"), ..RecentQuery::default() }), 1);
        assert_eq!(asked(RecentQuery { status: Some(404), ..RecentQuery::default() }), REFUSED);
        let both = RecentQuery { limit: Some(5), bot: Some("news"), status: Some(200) };
        assert_eq!(asked(both), 0);
        assert_eq!(asked(RecentQuery { limit: Some(5), ..RecentQuery::default() }), 5);
    }

    #[test]
    fn who_writes_waits_for_no_reader() {
        let recent = RecentRequests::default();
        let writer = recent.writer();
        let shared = Arc::clone(&writer.shared);
        let reading = shared.refused.lock().unwrap();
        // On another thread, since a wait would never return.
        let write = move || writer.refused(request("shop", Status::NotFound, Instant::now()));
        thread::spawn(write).join().unwrap();
        drop(reading);
        let (requests, dropped) = recent.records(RecentQuery::default());
        assert_eq!((requests.len(), dropped), (0, 1));
    }
}
