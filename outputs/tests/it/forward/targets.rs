//! Several targets for one stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ringhook_outputs::forward::TargetState;

use crate::support::{
    bench::{Bench, quick},
    http::{FakeServer, free_address, ok},
};

fn target() -> FakeServer {
    FakeServer::start(|_| async { ok() })
}

fn chats(target: &FakeServer) -> BTreeSet<i64> {
    target.seen().iter().map(|seen| seen.chat()).collect()
}

#[test]
fn each_chat_stays_with_one_of_them() {
    let targets = [target(), target(), target()];
    let settings = quick(&targets[0].url("/"))
        .and_to(targets[1].url("/").parse().unwrap())
        .and_to(targets[2].url("/").parse().unwrap());
    let bench = Bench::start(settings);
    (0..300).for_each(|id| bench.send(id % 60, id));
    bench.wait_handled(300);
    let chats: Vec<_> = targets.iter().map(chats).collect();
    assert_eq!(chats.iter().map(BTreeSet::len).sum::<usize>(), 60, "no chat is in two places");
    assert!(chats.iter().all(|chats| chats.len() > 5), "{chats:?}");
    bench.stop();
}

#[test]
fn the_chats_of_a_target_that_is_down_wait_for_it() {
    let (up, address) = (target(), free_address());
    let settings = quick(&up.url("/")).and_to(format!("http://{address}/").parse().unwrap());
    let bench = Bench::start(settings);
    (0..80).for_each(|id| bench.send(id % 40, id));
    bench.wait("the other one has all of its own", |status| {
        let [of_up, of_down] = &status.targets[..] else { panic!("two targets") };
        let waiting = of_down.waiting + of_down.in_flight;
        of_down.state == TargetState::Down
            && of_up.state == TargetState::Up
            && waiting > 0
            && waiting + chats(&up).len() as u64 == 40
            && of_up.waiting == 0
    });
    let back = FakeServer::start_at(address, |_| async { ok() });
    bench.wait_handled(80);
    assert!(chats(&up).is_disjoint(&chats(&back)));
    bench.stop();
}

#[test]
fn chats_move_after_a_while_and_go_back_later() {
    let (up, address) = (target(), free_address());
    let settings = quick(&up.url("/"))
        .and_to(format!("http://{address}/").parse().unwrap())
        .move_after(Some(Duration::from_millis(300)));
    let bench = Bench::attempts(settings, 1);
    (0..40).for_each(|id| bench.send(id, id));
    bench.wait_handled(40);
    assert_eq!(chats(&up).len(), 40);
    assert_eq!(bench.status().targets[1].state, TargetState::Down);
    // What comes now does not wait again.
    (40..80).for_each(|id| bench.send(id % 40, id));
    bench.wait_handled(80);
    assert_eq!((up.count(), bench.status().held), (80, 0));
    let back = FakeServer::start_at(address, |_| async { ok() });
    let mut id = 80;
    bench.wait("it is noticed that it is back", |status| {
        bench.send(id % 40, id);
        id += 1;
        status.targets[1].state == TargetState::Up
    });
    bench.wait_handled(id as u64);
    let (of_up, of_back) = (up.count(), back.count());
    (id..id + 80).for_each(|id| bench.send(id % 40, id));
    bench.wait_handled(id as u64 + 80);
    let last = |target: &FakeServer, before: usize| -> BTreeMap<i64, usize> {
        let mut counts = BTreeMap::new();
        for seen in &target.seen()[before..] {
            *counts.entry(seen.chat()).or_default() += 1;
        }
        counts
    };
    let (of_up, of_back) = (last(&up, of_up), last(&back, of_back));
    assert!(of_up.len() + of_back.len() == 40 && !of_back.is_empty(), "{of_up:?} {of_back:?}");
    assert!(of_up.values().chain(of_back.values()).all(|count| *count == 2));
    let report = bench.stop();
    assert_eq!((report.updates_failed, report.handler_retries), (0, 0));
}

#[test]
fn where_all_are_down_the_first_one_that_is_back_gets_everything() {
    let (first, second) = (free_address(), free_address());
    let settings = quick(&format!("http://{first}/"))
        .and_to(format!("http://{second}/").parse().unwrap())
        .move_after(Some(Duration::from_millis(50)));
    let bench = Bench::attempts(settings, 1);
    (0..40).for_each(|id| bench.send(id, id));
    bench.wait("both are down", |status| {
        status.targets.iter().all(|target| target.state == TargetState::Down)
            && status.held + status.in_flight == 40
    });
    let back = FakeServer::start_at(second, |_| async { ok() });
    bench.wait_handled(40);
    assert_eq!(back.count(), 40);
    bench.stop();
}
