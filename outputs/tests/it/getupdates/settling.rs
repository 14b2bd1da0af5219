//! What a server settles, keeps and gives back.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use ringhook::{Ack, Dispatch, Journal};
use ringhook_outputs::getupdates::GetUpdatesSettings;
use tempfile::tempdir;

use crate::support::{
    poll::{NONE, PollBench, bots},
    update,
};

#[test]
fn what_is_not_confirmed_comes_again_after_a_restart() {
    let dir = tempdir().unwrap();
    let start = || {
        let mut journal = Journal::default();
        journal.ack = Ack::Written;
        journal.dir = Some(dir.path().join("journal"));
        let settings = GetUpdatesSettings::new().quiet_time(Duration::from_millis(10));
        PollBench::with(settings.bots(bots("http://127.0.0.1:1")), |it| it.journal(journal))
    };
    let bench = start();
    bench.deliver(&(1..=10).map(|id| update(id % 3, id)).collect::<Vec<_>>());
    bench.wait_pending(10);
    let mut client = bench.client();
    assert_eq!(client.poll("limit=4"), [1, 2, 3, 4]);
    assert_eq!(client.poll("offset=3&limit=1"), [3]);
    bench.wait_handled(2);
    assert_eq!(bench.stop().journal.unwrap().lag_records, 8);
    let bench = start();
    bench.wait_pending(8);
    // A client that was there before confirms nothing that this process has not handed out.
    assert_eq!(bench.client().poll("offset=9"), (3..=10).collect::<Vec<_>>());
    let mut client = bench.client();
    assert_eq!(client.poll(""), (3..=10).collect::<Vec<_>>());
    assert_eq!(client.poll("offset=11"), NONE);
    bench.wait_handled(8);
    assert_eq!(bench.stop().journal.unwrap().lag_records, 0);
}

#[test]
fn a_stop_waits_for_a_client_that_asks() {
    let settings = GetUpdatesSettings::new().quiet_time(Duration::from_secs(60));
    let settings = settings.bots(bots("http://127.0.0.1:1"));
    let bench = PollBench::with(settings, |it| it.drain_timeout(Duration::from_secs(60)));
    bench.deliver(&(1..=500).map(|id| update(id % 3, id)).collect::<Vec<_>>());
    let mut client = bench.client();
    let (stopping, mut got) = (AtomicBool::new(false), BTreeSet::new());
    let mut offset = 0;
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| {
            stopping.store(true, SeqCst);
            bench.stop()
        });
        while !stopping.load(SeqCst) {
            std::thread::yield_now();
        }
        while got.len() < 500 {
            let ids = client.poll(&format!("offset={offset}&timeout=50"));
            offset = ids.last().map_or(offset, |last| last + 1);
            got.extend(ids);
        }
        // The last of them are confirmed; nothing comes any more.
        assert_eq!(client.poll(&format!("offset={offset}&timeout=50")), NONE);
        let report = stop.join().unwrap();
        assert_eq!((report.updates_handled, report.updates_abandoned), (500, 0));
    });
}

#[test]
fn the_messages_of_an_album_are_settled_together() {
    let mut dispatch = Dispatch::default();
    dispatch.media_groups = Some(Duration::from_millis(20));
    let settings = GetUpdatesSettings::new().bots(bots("http://127.0.0.1:1"));
    let bench = PollBench::with(settings, |server| server.dispatch(dispatch));
    let photo = |id: i64| {
        format!(
            "{{\"update_id\":{id},\"message\":{{\"message_id\":{id},\"date\":1,\"chat\":\
             {{\"id\":5,\"type\":\"private\"}},\"media_group_id\":\"7\"}}}}"
        )
    };
    bench.deliver(&(1..=3).map(photo).collect::<Vec<_>>());
    bench.wait_pending(3);
    let mut client = bench.client();
    assert_eq!(client.poll(""), [1, 2, 3]);
    assert_eq!(client.poll("offset=3"), [3]);
    bench.wait("two of them are confirmed", |status| status.confirmed == 2);
    assert_eq!(bench.server.report().updates_handled, 0);
    assert_eq!(client.poll("offset=4"), NONE);
    bench.wait_handled(3);
}

#[test]
fn many_updates_are_handed_out_in_little_time() {
    const COUNT: i64 = 20_000;
    let bench = PollBench::start(GetUpdatesSettings::new());
    let updates: Vec<_> = (1..=COUNT).map(|id| update(id % 5000, id)).collect();
    for some in updates.chunks(1000) {
        bench.deliver(some);
    }
    let (mut client, mut offset, mut got) = (bench.client(), 0, BTreeSet::new());
    let began = std::time::Instant::now();
    while got.len() < COUNT as usize {
        let ids = client.poll(&format!("offset={offset}&timeout=50"));
        offset = ids.last().unwrap() + 1;
        got.extend(ids);
    }
    eprintln!("{:.0} updates/s", COUNT as f64 / began.elapsed().as_secs_f64());
    client.poll(&format!("offset={offset}"));
    bench.wait_handled(COUNT as u64);
}
