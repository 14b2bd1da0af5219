//! Batches of updates for a sink, and what it refuses of them.

use std::{
    fs, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use ringhook::{Ack, Dispatch, Error, Journal, Refused, Sink, SinkWriter, Update};
use serde_json::Value;

use crate::support::{TestServer, update_of, wait_until};

/// Takes updates of even ids, and refuses those of odd ones for good. Each batch fails once before
/// it is taken, and what it refuses then counts for nothing.
#[derive(Clone, Default)]
struct Choosy {
    batch: Vec<i64>,
    has_failed: bool,
    failures: Arc<AtomicUsize>,
    taken: Arc<Mutex<Vec<i64>>>,
}

impl Sink for Choosy {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl SinkWriter for Choosy {
    fn write(&mut self, update: &Update) {
        self.batch.push(update.id().get());
    }

    fn pending_bytes(&self) -> usize {
        self.batch.len()
    }

    fn commit(&mut self, refused: &mut Refused) -> io::Result<()> {
        assert!(refused.is_empty());
        self.has_failed = !self.has_failed;
        if self.has_failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
            refused.push(0, "said before an error");
            return Err(io::ErrorKind::TimedOut.into());
        }
        for (index, id) in self.batch.iter().enumerate() {
            if id % 2 == 0 {
                self.taken.lock().unwrap().push(*id);
            } else {
                refused.push(index, "odd");
                refused.push(index, "said again");
            }
        }
        self.batch.clear();
        Ok(())
    }
}

#[test]
fn what_a_sink_refuses_for_good_is_a_dead_letter_and_the_rest_of_its_batch_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("letters");
    let sink = Choosy::default();
    let (taken, failures) = (Arc::clone(&sink.taken), Arc::clone(&sink.failures));
    let server = TestServer::with(|server| {
        let mut dispatch = Dispatch::default();
        dispatch.dead_letters = Some(letters.clone());
        let journal = Journal::at(dir.path().join("journal"), Ack::Written);
        server.shards(1).workers(2).dispatch(dispatch).journal(journal).sink(sink)
    });
    let mut client = server.connect();
    for id in 1..=60 {
        assert_eq!(client.post(&update_of(id % 7, id)).status, 200);
    }
    wait_until("all are settled", || {
        let report = server.handle.report();
        report.updates_handled + report.updates_failed == 60
    });
    let report = server.handle.stop();
    assert_eq!((report.updates_handled, report.updates_failed), (30, 30));
    assert_eq!(report.journal.unwrap().lag_records, 0, "refused ones are settled as well");
    assert!(failures.load(Ordering::Relaxed) > 0);
    let mut taken = taken.lock().unwrap().clone();
    taken.sort_unstable();
    assert_eq!(taken, (1..=30).map(|half| 2 * half).collect::<Vec<_>>());
    let text = fs::read_to_string(letters).unwrap();
    let letters: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut ids: Vec<_> =
        letters.iter().map(|letter| letter["update_id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..30).map(|half| 2 * half + 1).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| letter["reason"] == "odd" && letter["attempts"] == 1));
}
