//! Single questions that random steps hardly ever ask.

use std::{sync::Arc, time::Instant};

use super::message;
use crate::{
    config::{Dispatch, Limits, Order},
    dispatch::{
        Budget, Dispatcher, FullChats, Scheduler, budget::Measure, lanes::LaneKey,
        scheduler::STEAL_EVERY,
    },
    outcome::Refusal,
};

/// A shard and the lanes of `workers` workers, with a budget of `updates`.
fn hand_off(workers: usize, updates: usize) -> (Arc<Scheduler>, Dispatcher, Arc<Budget>) {
    let limits = Limits { queue_updates: updates, chat_updates: usize::MAX, ..Limits::default() };
    let full = Arc::new(FullChats::new());
    let budget = Arc::new(Budget::new(updates as u64, limits.queue_bytes as u64));
    let settings = Dispatch::default();
    let (scheduler, inboxes) = Scheduler::new(workers, 1, &limits, settings, &full, Instant::now());
    let scheduler = Arc::new(scheduler);
    let shard = Dispatcher::new(&scheduler, inboxes, &full, &budget, 0);
    (scheduler, shard, budget)
}

/// The first chats of partition `partition` of `partitions`.
fn chats_of(partition: usize, partitions: usize) -> impl Iterator<Item = i64> {
    (0..).filter(move |chat| {
        let hash = LaneKey::from_update(&message(0, *chat, 0, 0), Order::Chat).hash64();
        (u128::from(hash) * partitions as u128) >> 64 == partition as u128
    })
}

/// Two workers side by side are held up and the other two never run out of work.
#[test]
fn no_partition_is_forgotten_while_the_others_are_busy() {
    const WORKERS: usize = 4;
    let (scheduler, shard, _) = hand_off(WORKERS, 60_000);
    let now = Instant::now();
    let send = |chat, id| shard.dispatch(message(0, chat, id, 0), now).map_err(|(why, _)| why);
    let forgotten = chats_of(1, WORKERS).next().unwrap();
    send(forgotten, -1).unwrap();
    let busy: Vec<i64> =
        [0, 2, 3].map(|partition| chats_of(partition, WORKERS).next().unwrap()).into();
    let mut id = 0;
    for round in 1..=STEAL_EVERY * WORKERS as u32 {
        for worker in [2, 3] {
            for chat in &busy {
                id += 1;
                send(*chat, id).unwrap();
            }
            let mut batch = Vec::new();
            scheduler.next(worker, round, now, 1, &mut batch, |_| panic!("no id came twice"));
            for task in batch {
                if task.delivery.update.id().get() == -1 {
                    return;
                }
                scheduler.finish(task.lane, |_| {});
            }
        }
    }
    panic!("no worker has looked into the second partition");
}

/// What a full inbox refuses is not accepted: it costs nothing and comes in later as a new one.
#[test]
fn a_full_inbox_refuses_until_a_worker_has_emptied_it() {
    let (scheduler, shard, budget) = hand_off(4, 4096);
    let now = Instant::now();
    let chat = chats_of(0, 4).next().unwrap();
    let send = |id| shard.dispatch(message(0, chat, id, 0), now).map_err(|(why, _)| why);
    let accepted = (0..4096).take_while(|id| send(*id).is_ok()).count() as i64;
    assert_eq!(accepted, 1024);
    assert_eq!(send(accepted), Err(Refusal::Inbox));
    assert_eq!(budget.used(Measure::Updates), 1024);
    let other = chats_of(1, 4).next().unwrap();
    shard.dispatch(message(0, other, -1, 0), now).unwrap();
    let mut batch = Vec::new();
    scheduler.next(0, 1, now, 1, &mut batch, |_| panic!("no id came twice"));
    assert_eq!(send(accepted), Ok(()));
    let mut handled = Vec::new();
    while let Some(task) = batch.pop() {
        let update = &task.delivery.update;
        if update.id().get() >= 0 {
            handled.push(update.id().get());
        }
        scheduler.finish(task.lane, |_| {});
        scheduler.next(0, 1, now, 1, &mut batch, |_| panic!("no id came twice"));
    }
    assert_eq!(handled, (0..=accepted).collect::<Vec<_>>());
}

/// Where nothing could ever take it, the sender is told so, and nothing of the limits is spent.
#[test]
fn without_an_inbox_no_update_is_accepted() {
    let (scheduler, _, budget) = hand_off(1, 10);
    let full = Arc::new(FullChats::new());
    let shard = Dispatcher::new(&scheduler, Vec::new(), &full, &budget, 0);
    let refused = shard.dispatch(message(0, 1, 1, 0), Instant::now()).unwrap_err();
    assert_eq!((refused.0, refused.1.id().get()), (Refusal::Inbox, 1));
    assert_eq!(budget.used(Measure::Updates), 0);
}
