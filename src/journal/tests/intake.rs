//! A shard's end of the journal without a committer.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;

use super::registry;
use crate::{
    bots::BotId,
    config::Ack,
    journal::{Directory, Intake, Journal, Settings},
    proto::update::UpdateParser,
};

#[test]
fn without_a_committer_no_shard_waits() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        ack: Ack::Written,
        max_bytes: 1 << 30,
        segment_bytes: 1 << 20,
        sync_interval: Duration::from_secs(1),
    };
    let storage = Arc::new(Directory::own(dir.path()).unwrap());
    let (journal, _chores) =
        Journal::new(storage, settings, registry(&["bot".to_owned()]), Vec::new());
    let ((batches, gathered), (back, returned)) = (unbounded(), unbounded());
    let intake = Intake::new(journal, 0, batches, returned, Arc::default());
    let mut parser = UpdateParser::default();
    let mut submit = || {
        let text = br#"{"update_id":1}"#;
        let staged = intake.stage(text).unwrap();
        let mut body = parser.take_body(text.len());
        body.extend(text);
        let update = parser.parse(body, BotId::new(0), Instant::now()).ok().unwrap();
        intake.submit(&staged, update)
    };
    let mut kept = 0;
    let mut context = Context::from_waker(Waker::noop());
    // One is with the committer when it ends, one gathers, one comes later.
    let mut out = pin!(intake.committed(submit()));
    intake.work(|_| kept += 1);
    let mut gathering = pin!(intake.committed(submit()));
    assert!(out.as_mut().poll(&mut context).is_pending());
    assert!(gathering.as_mut().poll(&mut context).is_pending());
    drop((gathered, back));
    intake.work(|_| kept += 1);
    assert_eq!(out.as_mut().poll(&mut context), Poll::Ready(false));
    assert_eq!(gathering.as_mut().poll(&mut context), Poll::Ready(false));
    let mut late = pin!(intake.committed(submit()));
    assert!(late.as_mut().poll(&mut context).is_pending());
    intake.work(|_| kept += 1);
    assert_eq!(late.as_mut().poll(&mut context), Poll::Ready(false));
    assert_eq!(kept, 2, "the memory of one went with the committer");
}
