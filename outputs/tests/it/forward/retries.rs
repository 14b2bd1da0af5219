//! Updates that a target does not take at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use ringhook_outputs::forward::TargetState;

use crate::support::{
    bench::{Bench, quick},
    http::{Act, FakeServer, Seen, answer, hang_up, ok},
};

/// A target that answers its n-th request, counted from 0, by `script`.
fn nth(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> FakeServer {
    let count = AtomicUsize::new(0);
    FakeServer::start(move |_| {
        let act = script(count.fetch_add(1, SeqCst));
        async move { act }
    })
}

fn gaps(seen: &[Seen]) -> Vec<Duration> {
    seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[test]
fn it_comes_again_by_the_ladder_before_its_chats_next() {
    let statuses = [500, 503, 408, 425, 429, 400];
    let target = nth(move |count| match statuses.get(count) {
        Some(status) => answer(*status, "", "no"),
        None => ok(),
    });
    let unit = Duration::from_millis(20);
    let bench = Bench::start(quick(&target.url("/")).retry_unit(unit));
    (1..=2).for_each(|id| bench.send(1, id));
    bench.wait_handled(2);
    assert_eq!(target.ids(), [1, 1, 1, 1, 1, 1, 1, 2]);
    let gaps = gaps(&target.seen());
    for (gap, steps) in gaps.iter().zip([0, 1, 2, 4, 8, 16]) {
        assert!(*gap >= unit * steps, "{gaps:?}");
    }
    let status = bench.status();
    assert_eq!((status.sent, status.delivered, status.retried), (8, 2, 6));
    assert_eq!((status.failed.status_5xx, status.failed.status_4xx), (2, 4));
    let report = bench.stop();
    assert_eq!((report.updates_handled, report.handler_retries), (2, 6));
}

#[test]
fn the_ladder_begins_anew_with_the_next_update() {
    let target = nth(|count| if count % 5 < 4 { answer(500, "", "") } else { ok() });
    let unit = Duration::from_millis(400);
    let bench = Bench::start(quick(&target.url("/")).retry_unit(unit));
    (1..=2).for_each(|id| bench.send(1, id));
    bench.wait_handled(2);
    let gaps = gaps(&target.seen());
    assert!(gaps[3] >= 4 * unit && gaps[8] >= 4 * unit, "{gaps:?}");
    assert!(gaps[5] < 4 * unit, "{gaps:?}");
    bench.stop();
}

#[test]
fn retry_after_is_honoured_as_seconds_and_as_a_date() {
    let target = nth(|count| match count {
        0 => answer(429, "Retry-After: 1\r\n", ""),
        1 => {
            let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
            answer(503, &format!("Retry-After: {date}\r\n"), "")
        }
        _ => ok(),
    });
    let bench = Bench::start(quick(&target.url("/")));
    bench.send(1, 1);
    bench.wait_handled(1);
    let gaps = gaps(&target.seen());
    // A date has no fractions of a second.
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(950)), "{gaps:?}");
    bench.stop();
}

#[test]
fn what_a_target_never_takes_is_given_up_and_its_chat_goes_on() {
    let target = FakeServer::start(|seen| async move {
        match seen.update_id() {
            1 => answer(400, "", ""),
            2 => answer(500, "", ""),
            3 => hang_up(),
            4 => answer(410, "", ""),
            _ => ok(),
        }
    });
    let bench = Bench::attempts(quick(&target.url("/")), 7);
    (1..=5).for_each(|id| bench.send(1, id));
    bench.wait_handled(1);
    let expected = [[1; 7], [2; 7], [3; 7], [4; 7]].concat();
    // A connection that was kept costs no attempt, so there may be one request more.
    let ids: Vec<_> = target.ids();
    for id in 1..=4 {
        let (count, least) = (ids.iter().filter(|it| **it == id).count(), 7);
        assert!((least..=least + 1).contains(&count), "{ids:?} for {expected:?}");
    }
    assert_eq!(ids.last(), Some(&5));
    let status = bench.status();
    assert_eq!((status.retried, status.failed.reset, status.delivered), (28, 7, 1));
    let report = bench.stop();
    assert_eq!((report.updates_failed, report.updates_handled), (4, 1));
}

#[test]
fn an_answer_that_does_not_come_is_a_failure() {
    let count = Arc::new(AtomicUsize::new(0));
    let target = FakeServer::start(move |_| {
        let is_first = count.fetch_add(1, SeqCst) == 0;
        async move {
            if is_first {
                std::future::pending::<()>().await;
            }
            ok()
        }
    });
    let bench = Bench::start(quick(&target.url("/")).timeout(Duration::from_millis(300)));
    bench.send(1, 1);
    bench.wait_handled(1);
    let status = bench.status();
    assert_eq!((status.failed.timeout, status.retried, status.delivered), (1, 1, 1));
    assert_eq!(target.connections().0, 2);
    bench.stop();
}

#[test]
fn updates_that_kill_their_target_do_not_hold_the_others_up_for_ever() {
    let target =
        FakeServer::start(
            |seen| async move { if seen.update_id() < 10 { hang_up() } else { ok() } },
        );
    let bench = Bench::attempts(quick(&target.url("/")), 3);
    (0..10).for_each(|id| bench.send(id, id));
    bench.wait("it is down", |status| status.targets[0].state == TargetState::Down);
    // Each that it takes shows that it works, and is followed by those that kill it.
    let mut id = 10;
    while bench.server.report().updates_failed < 10 {
        bench.send(id, id);
        id += 1;
        bench.wait_handled(id as u64 - 10);
    }
    assert!(bench.status().retried >= 30);
    bench.stop();
}
