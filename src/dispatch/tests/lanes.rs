//! Lanes alone: plain data, so every step is seen.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::message;
use crate::{
    config::Order,
    dispatch::{
        Delivery, FullChats,
        lanes::{LaneKey, Lanes},
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn delivery(chat: i64, id: i64) -> Delivery {
    let update = message(0, chat, id, 0);
    let queued_at = update.received_at();
    let (record, rest) = (None, Vec::new());
    let (is_part, is_replayed) = (false, false);
    Delivery { update, queued_at, attempts: 0, is_part, is_replayed, record, rest, shard: 0 }
}

fn push(lanes: &mut Lanes, chat: i64, id: i64) {
    let delivery = delivery(chat, id);
    lanes.push(LaneKey::from_update(&delivery.update, Order::Chat), delivery);
}

fn id(delivery: &Delivery) -> i64 {
    delivery.update.id().get()
}

fn lanes_of(chat_updates: usize) -> (Lanes, Arc<FullChats>) {
    let full = Arc::new(FullChats::new());
    (Lanes::new(chat_updates, None, Arc::clone(&full)), full)
}

#[test]
fn a_retry_comes_before_the_later_ones_and_not_before_its_time() {
    let (mut lanes, _) = lanes_of(100);
    let now = Instant::now();
    for id in 1..=3 {
        push(&mut lanes, 7, id);
    }
    let (lane, first) = lanes.take(now).unwrap();
    assert_eq!(id(&first), 1);
    assert!(lanes.take(now).is_none(), "the chat is being handled");
    lanes.retry(lane, first, now + SECOND).unwrap();
    assert_eq!(lanes.next_due(), Some(now + SECOND));
    assert_eq!(lanes.ready(), 0);
    // What arrives meanwhile neither makes the lane due earlier nor overtakes.
    push(&mut lanes, 7, 4);
    assert!(lanes.take(now + SECOND - Duration::from_nanos(1)).is_none());
    for expected in 1..=4 {
        let (lane, taken) = lanes.take(now + SECOND).unwrap();
        assert_eq!(id(&taken), expected);
        lanes.finish(lane);
    }
    assert!(lanes.is_idle());
    assert_eq!(lanes.next_due(), None);
}

#[test]
fn lanes_that_wait_become_ready_in_the_order_of_their_times() {
    let (mut lanes, _) = lanes_of(100);
    let now = Instant::now();
    let delays = [5_u32, 1, 4, 2, 3];
    for (chat, _) in (1_i64..).zip(delays) {
        push(&mut lanes, chat, chat * 10);
    }
    let held: Vec<_> = delays.iter().map(|_| lanes.take(now).unwrap()).collect();
    for ((lane, delivery), delay) in held.into_iter().zip(delays) {
        lanes.retry(lane, delivery, now + SECOND * delay).unwrap();
    }
    for (delay, expected) in (1..=5).zip([20, 40, 50, 30, 10]) {
        assert_eq!(lanes.next_due(), Some(now + SECOND * delay));
        let (lane, taken) = lanes.take(now + SECOND * delay).unwrap();
        assert_eq!(id(&taken), expected);
        assert!(lanes.take(now + SECOND * delay).is_none());
        lanes.finish(lane);
    }
}

/// Ten thousand chats come and go, several rounds: each lane's memory serves other chats later.
#[test]
fn reused_lanes_do_not_mix_chats() {
    let (mut lanes, full) = lanes_of(3);
    let now = Instant::now();
    for round in 0..4_i64 {
        // Each round has chats of its own; every third has more updates than are let in.
        for chat in 0..2500 {
            for place in 0..(chat % 3) * 2 + 1 {
                push(&mut lanes, round * 2500 + chat, chat * 10 + place);
            }
        }
        assert_eq!(full.count(), 1666, "chats of three and of five updates");
        let mut next = vec![0; 2500];
        while let Some((lane, taken)) = lanes.take(now) {
            let (chat, place) = ((id(&taken) / 10) as usize, id(&taken) % 10);
            let key = LaneKey::from_update(&taken.update, Order::Chat);
            assert_eq!(
                key,
                LaneKey::from_update(&message(0, round * 2500 + chat as i64, 0, 0), Order::Chat)
            );
            assert_eq!(place, next[chat], "order in chat {chat}");
            next[chat] += 1;
            lanes.finish(lane);
        }
        assert_eq!(next.iter().sum::<i64>(), 2500 + 2 * 833 + 4 * 833);
        assert!(lanes.is_idle());
        assert_eq!(full.count(), 0);
        assert_eq!(lanes.ids().count(), 0);
    }
}

#[test]
fn ready_lanes_take_turns() {
    let (mut lanes, _) = lanes_of(100);
    let now = Instant::now();
    for id in 0..6 {
        push(&mut lanes, 1, id);
    }
    push(&mut lanes, 2, 100);
    push(&mut lanes, 3, 101);
    let order: Vec<i64> = std::iter::from_fn(|| {
        let (lane, taken) = lanes.take(now)?;
        lanes.finish(lane);
        Some(id(&taken))
    })
    .collect();
    assert_eq!(order, [0, 100, 101, 1, 2, 3, 4, 5]);
}

#[test]
fn a_chat_is_full_until_half_is_gone() {
    let (mut lanes, full) = lanes_of(4);
    let now = Instant::now();
    for id in 0..4 {
        assert_eq!(full.count(), 0);
        push(&mut lanes, 1, id);
    }
    assert_eq!(full.count(), 1);
    push(&mut lanes, 1, 4);
    assert_eq!(full.count(), 1, "it is told once");
    for left in (0..5).rev() {
        let (lane, first) = lanes.take(now).unwrap();
        // A retry gives nothing back.
        lanes.retry(lane, first, now).unwrap();
        let (lane, _) = lanes.take(now).unwrap();
        lanes.finish(lane);
        assert_eq!(full.count(), usize::from(left > 2), "{left} left");
    }
}

/// It cannot be, so nothing may come of it: the update is acknowledged.
#[test]
fn an_update_whose_lane_is_none_is_not_lost() {
    let (mut lanes, _) = lanes_of(100);
    push(&mut lanes, 1, 1);
    let (held, delivery) = lanes.take(Instant::now()).unwrap();
    let (mut others, _) = lanes_of(100);
    let delivery = others.retry(held, delivery, Instant::now()).unwrap_err();
    assert_eq!(id(&delivery), 1);
}

#[test]
fn a_run_is_lent_and_what_comes_again_does_so_in_its_order() {
    let (mut lanes, _) = lanes_of(100);
    let now = Instant::now();
    lanes.set_run(3);
    (1..=5).for_each(|id| push(&mut lanes, 7, id));
    let mut held: Vec<_> = std::iter::from_fn(|| lanes.take(now)).collect();
    assert_eq!(held.iter().map(|(_, taken)| id(taken)).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(lanes.updates(), 5);
    // One that is settled makes room for the next one.
    lanes.finish(held.remove(1).0);
    let (fourth, taken) = lanes.take(now).unwrap();
    assert_eq!(id(&taken), 4);
    assert!(lanes.take(now).is_none());
    // From the first that comes again on, nothing is lent before all have come back.
    lanes.finish(fourth);
    for (lane, delivery) in held {
        lanes.retry(lane, delivery, now + SECOND).unwrap();
        assert!(lanes.take(now).is_none());
    }
    assert_eq!((lanes.ids().count(), lanes.next_due()), (3, Some(now + SECOND)));
    for expected in [1, 3, 5] {
        assert_eq!(id(&lanes.take(now + SECOND).unwrap().1), expected);
    }
}
