//! Tests of `read_back`.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    bots::BotId,
    config::{Ack, Dispatch, Limits},
    dispatch::{Budget, FullChats, Scheduler, dedup::Window},
    journal::{Directory, Settings, tests::registry},
};

/// Between the look for such bots and the one for what to read: what is left of them goes
/// before anything new.
#[test]
fn bots_that_are_brought_back_while_nothing_is_left_to_read_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        ack: Ack::Written,
        max_bytes: 1 << 30,
        segment_bytes: 1 << 20,
        sync_interval: Duration::from_secs(1),
    };
    let (now, name) = (Instant::now(), "bot".to_owned());
    let key = BotKey::from_name(&name);
    let storage = Arc::new(Directory::own(dir.path()).unwrap());
    let (journal, _chores) = Journal::new(storage, settings, registry(&[name]), Vec::new());
    let (full, budget) = (Arc::new(FullChats::new()), Arc::new(Budget::new(10, 1000)));
    let limits = Limits::default();
    let (scheduler, inboxes) = Scheduler::new(1, 1, &limits, Dispatch::default(), &full, now);
    let dispatcher = Dispatcher::new(&Arc::new(scheduler), inboxes, &full, &budget, 0);
    // The segment has gone meanwhile.
    let backlog = Backlog::new(Some(RecordId { segment: 1, offset: 40 }), (1, 40));
    let backlog = Arc::new(backlog.with([(key, Window::new())].into()));
    let mut read_back = ReadBack::new(journal, Arc::clone(&backlog), dispatcher, Arc::default());
    assert!(!read_back.begin_adoption());
    backlog.adopt([(BotId::new(0), key)].into_iter(), |_, _| {});
    assert!(!read_back.begin());
    assert!(backlog.lock().is_behind, "what comes now would be handed on at once");
    assert_eq!(read_back.step(now), ReadBackOutcome::Moved);
    assert_eq!(read_back.step(now), ReadBackOutcome::Idle);
    assert!(backlog.lock().is_empty());
}
