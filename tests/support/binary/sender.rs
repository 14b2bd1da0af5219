//! A sender that knows what it was promised, and a service to send to.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use super::{process::Process, service::Service};
use crate::support::{
    client::Client,
    long,
    sunk::{Sunk, Tap},
    wait_until,
};

/// Length of the updates: a thousand of them fill eight segments of the smallest size.
pub(crate) const LENGTH: usize = 8 * 1024;
pub(crate) const SMALL_SEGMENTS: &str = "[journal]\nsegment_bytes = '1MiB'\n";
/// How long everything has to be refused to be refused for good. Here and there something small may
/// still find room.
const FOR_GOOD: Duration = Duration::from_millis(500);

/// Sends one update after the other, each until it is taken.
pub(crate) struct Sender<'a> {
    service: &'a Service,
    client: Client,
    next: i64,
    /// What was answered 200.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// How many answers were 503.
    pub(crate) refused: u64,
}

impl<'a> Sender<'a> {
    /// Sends to the server that runs.
    pub(crate) fn new(service: &'a Service) -> Self {
        let client = service.connect();
        Self { service, client, next: 1, acknowledged: BTreeSet::new(), refused: 0 }
    }

    /// Goes on with another server.
    pub(crate) fn reconnect(&mut self) {
        self.client = self.service.connect();
    }

    /// Sends the next update, of a chat of its own; whether it is taken.
    #[track_caller]
    pub(crate) fn post(&mut self) -> bool {
        let response = self.client.post(&long(self.next, self.next, LENGTH));
        match response.status {
            200 => {
                self.acknowledged.insert(self.next.cast_unsigned());
                self.next += 1;
                true
            }
            503 => {
                assert_eq!(response.headers["retry-after"], "1");
                self.refused += 1;
                false
            }
            other => panic!("answered with {other}"),
        }
    }

    /// Sends `count` updates, all of which are taken at once.
    #[track_caller]
    pub(crate) fn post_all(&mut self, count: usize) {
        for n in 0..count {
            assert!(self.post(), "{n} of {count} were taken");
        }
    }

    /// Sends until nothing is taken any more.
    #[track_caller]
    pub(crate) fn until_refused(&mut self) {
        let mut refused_since = None;
        wait_until("nothing is taken any more", || {
            let now = Instant::now();
            refused_since = if self.post() { None } else { refused_since.or(Some(now)) };
            refused_since.is_some_and(|since| now - since >= FOR_GOOD)
        });
    }

    /// Sends until something is taken again.
    #[track_caller]
    pub(crate) fn until_taken(&mut self) {
        wait_until("something is taken again", || self.post());
    }

    /// Asserts that the sinks of all lives together have what was acknowledged and nothing else.
    #[track_caller]
    pub(crate) fn assert_complete(&self, sunk: &Sunk) {
        let ids = sunk.updates();
        let missing: Vec<_> = self.acknowledged.difference(&ids).collect();
        assert!(missing.is_empty(), "{} are lost: {missing:?}", missing.len());
        // What was refused last may have been written all the same.
        let surplus: Vec<_> = ids.difference(&self.acknowledged).collect();
        assert!(
            surplus.is_empty() || surplus == [&self.next.cast_unsigned()],
            "{surplus:?} were never acknowledged"
        );
        for (life, ids) in sunk.ids().iter().enumerate() {
            let once: BTreeSet<_> = ids.iter().collect();
            assert_eq!(once.len(), ids.len(), "doubled within life {life}");
        }
    }
}

/// Takes all that `sender` was promised, and ends `server` as an operator does.
#[track_caller]
pub(crate) fn end_in_peace(server: Process, mut tap: Tap, sunk: &mut Sunk, sender: &Sender<'_>) {
    tap.take_all(&sender.acknowledged, sunk);
    server.signal("TERM");
    tap.end_life(sunk);
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
    sender.assert_complete(sunk);
}

/// A service whose sink stands still until it is tapped, and whose data is in `disk`.
pub(crate) fn on(disk: &Path, ack: &str) -> Service {
    let args = ["--ack", ack, "--output", "ndjson:-"];
    Service::new(SMALL_SEGMENTS, &args).with_data_in(&disk.join("data"))
}

pub(crate) fn start(service: &Service) -> (Process, Tap) {
    let (tap, stdout) = Tap::new();
    (service.start_with_stdout(stdout), tap)
}
