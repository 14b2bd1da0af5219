#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::{ChatKey, UpdateKind};

const MS: Nanos = SECOND / 1000;

fn message(id: u64, chat: i64) -> Update {
    Update::new(id, (UpdateKind::Message, ChatKey::Chat(chat)), 0)
}

/// A sender with as many messages of as many chats.
fn sender(max: usize, chats: i64) -> Sender {
    let mut sender = Sender::new(max, 1);
    for chat in 0..chats {
        assert!(sender.push(message(chat as u64 + 1, chat)));
    }
    sender
}

fn actions(sender: &mut Sender, now: Nanos) -> Vec<Action> {
    std::iter::from_fn(|| sender.poll(now)).collect()
}

/// The only action there is.
fn only(sender: &mut Sender, now: Nanos) -> Action {
    let list = actions(sender, now);
    assert_eq!(list.len(), 1, "{list:?}");
    list[0]
}

fn connect(sender: &mut Sender, now: Nanos) -> ConnectionId {
    let Action::Connect(id) = only(sender, now) else { unreachable!() };
    sender.connected(id, now);
    id
}

fn sent(action: Action) -> (ConnectionId, u64) {
    let Action::Send(connection, update) = action else { unreachable!("{action:?}") };
    (connection, update.id)
}

#[test]
fn a_fresh_sender_has_one_connection_however_much_waits() {
    let mut sender = sender(40, 30);
    let one = connect(&mut sender, 0);
    assert_eq!(sent(only(&mut sender, 0)), (one, 1));
    sender.sent(one);
    // Its request hangs: nothing else happens for a minute.
    assert_eq!(sender.wake_at(0), TIMER);
    assert_eq!(actions(&mut sender, TIMER - 1), []);
    assert_eq!(actions(&mut sender, TIMER), [Action::Close(one), Action::Connect(one + 1)]);
    assert_eq!(sender.last_error().unwrap().message, "Read timeout expired");
    assert_eq!(sender.waiting(), 30);
}

#[test]
fn what_could_not_be_sent_in_a_minute_says_so() {
    let mut sender = sender(1, 1);
    let one = connect(&mut sender, 0);
    sent(only(&mut sender, 0));
    assert_eq!(sender.poll(TIMER), Some(Action::Close(one)));
    assert_eq!(sender.last_error().unwrap().message, "Write timeout expired");
    // The next connection is never made.
    let Some(Action::Connect(two)) = sender.poll(TIMER) else { unreachable!() };
    assert_eq!(sender.poll(2 * TIMER), Some(Action::Close(two)));
    assert_eq!(sender.last_error().unwrap().message, "Connection timed out");
}

#[test]
fn connections_that_fail_come_every_two_seconds() {
    let mut sender = sender(40, 30);
    let mut times = Vec::new();
    let mut now = 0;
    while times.len() < 4 {
        for action in actions(&mut sender, now) {
            let Action::Connect(id) = action else { unreachable!("{action:?}") };
            sender.broken(id, &Trouble::Connect("Connection refused".to_owned()), now);
            times.push(now / SECOND);
        }
        now = sender.wake_at(now);
    }
    assert_eq!(times, [0, 2, 4, 6]);
    assert_eq!(sender.last_error().unwrap().message, "Connection refused");
    // No update was tried, so none has lost any of its tries.
    assert_eq!(sender.waiting(), 30);
}

#[test]
fn the_first_success_lets_ten_in_and_then_twenty_per_second() {
    let mut sender = sender(100, 200);
    let one = connect(&mut sender, 0);
    let (_, id) = sent(only(&mut sender, 0));
    assert_eq!(id, 1);
    assert!(sender.answered(one, 200, "OK", 0, true, 5 * MS));
    let mut made = Vec::new();
    let mut now = 5 * MS;
    while now < 5 * MS + SECOND {
        for action in actions(&mut sender, now) {
            match action {
                Action::Connect(_) => made.push((now - 5 * MS) / MS),
                Action::Send(id, _) => assert_eq!(id, one),
                Action::Close(id) => unreachable!("{id}"),
            }
        }
        now = sender.wake_at(now);
    }
    let expected: Vec<u64> = [0; 10].into_iter().chain((1..20).map(|n| 50 * n)).collect();
    assert_eq!(made, expected);
}

#[test]
fn ten_seconds_without_success_make_it_pending() {
    let mut sender = sender(100, 200);
    let one = connect(&mut sender, 0);
    actions(&mut sender, 0);
    sender.answered(one, 200, "OK", 0, false, 0);
    // Just active still.
    let last = 10 * SECOND;
    assert_eq!(actions(&mut sender, last).len(), 10);
    for id in 1..=10 {
        sender.broken(id, &Trouble::Closed, last + 1);
    }
    assert_eq!(only(&mut sender, last + 1), Action::Connect(11));
    sender.broken(11, &Trouble::Closed, last + 1);
    assert_eq!(sender.wake_at(last + 1), last + 1 + 2 * SECOND);
}

#[test]
fn there_are_as_many_connections_as_queues_and_no_more_than_the_maximum() {
    for (max, chats, expected) in [(40, 5, 5), (5, 50, 5), (0, 50, 1), (1000, 300, 100)] {
        let mut sender = sender(max, chats);
        let one = connect(&mut sender, 0);
        actions(&mut sender, 0);
        sender.answered(one, 200, "OK", 0, true, 0);
        // The first chat is done, but another was loaded, if there is any.
        let expected = expected.min(chats as usize - 1);
        let mut now = 0;
        for _ in 0..2000 {
            actions(&mut sender, now);
            // Always active.
            sender.last_success = Some(now);
            now += 5 * MS;
        }
        assert_eq!(sender.connections.len(), expected, "{max} {chats}");
    }
}

#[test]
fn delays_grow_and_what_the_server_asks_for_counts_instead() {
    let mut sender = sender(1, 1);
    connect(&mut sender, 0);
    let mut now = 0;
    for (retry_after, low, high) in [
        (0, 0, 0),
        (0, 2, 2),
        (0, 4, 4),
        (17, 17, 17),
        (0, 8, 8),
        (0, 16, 16),
        (0, 32, 32),
        (0, 60, 64),
        (0, 60, 120),
        (3600, 3600, 3600),
        (9999, 3600, 3600),
    ] {
        let connection = loop {
            match only_or_wake(&mut sender, &mut now) {
                Action::Send(id, _) => break id,
                Action::Connect(id) => sender.connected(id, now),
                Action::Close(_) => {}
            }
        };
        let failed = now;
        sender.answered(connection, 503, "Busy", retry_after, true, now);
        let at = sender.queues.ready_at().unwrap() - failed;
        assert!((low * SECOND..=high * SECOND).contains(&at), "{at} after {retry_after}");
    }
    let error = sender.last_error().unwrap();
    assert_eq!(error.message, "Wrong response from the webhook: 503 Busy");
    assert_eq!(sender.counts().expired, 0);
}

/// The next action, after sleeping if there is none now.
fn only_or_wake(sender: &mut Sender, now: &mut Nanos) -> Action {
    loop {
        if let Some(action) = sender.poll(*now) {
            return action;
        }
        *now = sender.wake_at(*now);
    }
}

#[test]
fn what_would_be_past_its_life_at_the_next_try_is_dropped_at_once() {
    for (kind, life, retry_after, dropped) in [
        (UpdateKind::InlineQuery, 30, 30, false),
        (UpdateKind::InlineQuery, 30, 31, true),
        (UpdateKind::CallbackQuery, 150, 150, false),
        (UpdateKind::ShippingQuery, 150, 151, true),
        (UpdateKind::PreCheckoutQuery, 150, 151, true),
        (UpdateKind::ChosenInlineResult, 600, 600, false),
        (UpdateKind::ChosenInlineResult, 600, 601, true),
        (UpdateKind::Message, 86_400, 3600, false),
    ] {
        let mut sender = Sender::new(1, 1);
        let update = Update::new(1, (kind, ChatKey::Chat(1)), 0);
        assert_eq!(update.expires, life * SECOND);
        sender.push(update);
        let one = connect(&mut sender, 0);
        sent(only(&mut sender, 0));
        sender.answered(one, 500, "", retry_after, true, 0);
        assert_eq!(
            (sender.waiting(), sender.counts().expired),
            match dropped {
                true => (0, 1),
                false => (1, 0),
            }
        );
    }
}

#[test]
fn what_expired_while_it_waited_is_not_sent() {
    let mut sender = Sender::new(1, 1);
    sender.push(Update::new(1, (UpdateKind::InlineQuery, ChatKey::Chat(1)), 0));
    sender.push(message(2, 1));
    let Action::Connect(one) = only(&mut sender, 0) else { unreachable!() };
    sender.connected(one, 31 * SECOND);
    assert_eq!(sent(only(&mut sender, 31 * SECOND)), (one, 2));
    assert_eq!((sender.waiting(), sender.counts().expired), (1, 1));
}

#[test]
fn an_idle_connection_is_closed_after_a_minute() {
    let mut sender = sender(4, 1);
    let one = connect(&mut sender, 0);
    sent(only(&mut sender, 0));
    sender.answered(one, 204, "No Content", 0, true, SECOND);
    assert_eq!((sender.waiting(), sender.wake_at(SECOND)), (0, SECOND + TIMER));
    assert_eq!(only(&mut sender, SECOND + TIMER), Action::Close(one));
    assert_eq!(sender.wake_at(SECOND + TIMER), Nanos::MAX);
    assert_eq!(sender.last_error(), None);
}

#[test]
fn an_end_without_an_answer_is_tried_again_and_leaves_no_word() {
    let mut sender = sender(4, 1);
    let one = connect(&mut sender, 0);
    sent(only(&mut sender, 0));
    sender.broken(one, &Trouble::Closed, MS);
    assert_eq!((sender.last_error(), sender.waiting()), (None, 1));
    // A connection that was closed while idle is no failure either, and not even a try.
    let Action::Connect(two) = only(&mut sender, 2 * SECOND) else { unreachable!() };
    sender.connected(two, 2 * SECOND);
    sent(only(&mut sender, 2 * SECOND));
    sender.closed_before(two, 2 * SECOND);
    assert_eq!(sender.queues.ready_at(), Some(2 * SECOND));
}

/// Twice as many chats as connections are refused, so the bot stands still.
#[test]
fn failing_heads_stall_the_bot() {
    let mut sender = sender(2, 10);
    let one = connect(&mut sender, 0);
    let mut tried = BTreeSet::new();
    let mut now = 0;
    while now < 20 * SECOND {
        for action in actions(&mut sender, now) {
            match action {
                Action::Send(id, update) => {
                    tried.insert(update.id);
                    sender.answered(id, 500, "", 0, true, now);
                }
                Action::Connect(id) => sender.connected(id, now),
                Action::Close(id) => unreachable!("{id}"),
            }
        }
        now = sender.wake_at(now);
    }
    assert_eq!(tried, (1..=4).collect());
    assert_eq!(one, 0);
}

#[test]
fn more_than_a_hundred_thousand_do_not_wait() {
    let mut sender = sender(1, WAITING_MAX as i64);
    assert!(!sender.push(message(0, 0)));
    assert_eq!((sender.waiting(), sender.counts().overflown), (WAITING_MAX, 1));
}

/// A server that does anything at all, until it behaves.
struct World {
    sender: Sender,
    rng: Rng,
    now: Nanos,
    /// What happens on a connection, and when.
    events: BTreeMap<(Nanos, ConnectionId), Event>,
    /// The update on its way on each connection that is open.
    open: BTreeMap<ConnectionId, Option<Update>>,
    acknowledged: Vec<Update>,
    /// When connections were made, and whether the sender was in pending mode.
    made: Vec<(Nanos, bool)>,
}

#[derive(Clone, Copy)]
enum Event {
    Connected,
    Refused,
    Answered(u16, bool),
    Cut,
}

impl World {
    fn act(&mut self, wrong_percent: u64) {
        let pending = self.sender.is_pending(self.now);
        while let Some(action) = self.sender.poll(self.now) {
            let at = self.now + self.rng.between(0, 300) * MS;
            let wrong = self.rng.chance(wrong_percent);
            match action {
                Action::Connect(id) => {
                    self.made.push((self.now, pending));
                    self.open.insert(id, None);
                    let refused = wrong && self.rng.chance(50);
                    // Or nothing ever comes.
                    if !wrong || refused {
                        let event = if refused { Event::Refused } else { Event::Connected };
                        self.events.insert((at, id), event);
                    }
                }
                Action::Close(id) => {
                    assert!(self.open.remove(&id).is_some());
                    self.events.retain(|(_, other), _| *other != id);
                }
                Action::Send(id, update) => {
                    let flying = self.open.values().flatten();
                    assert!(flying.clone().all(|other| other.queue != update.queue));
                    let before = self.open.insert(id, Some(update));
                    assert_eq!(before, Some(None), "a connection has one request");
                    let event = match (wrong, self.rng.below(4)) {
                        (false, _) => Event::Answered(200, self.rng.chance(95)),
                        (true, 0) => continue,
                        (true, 1) => Event::Cut,
                        (true, _) => Event::Answered(503, self.rng.chance(70)),
                    };
                    self.events.insert((at, id), event);
                }
            }
            assert!(self.open.len() <= self.sender.connections_max());
            assert_eq!(self.open.len(), self.sender.connections.len());
        }
    }

    fn happen(&mut self, id: ConnectionId, event: Event) {
        let update = self.open.get_mut(&id).unwrap().take();
        match event {
            Event::Connected => self.sender.connected(id, self.now),
            Event::Refused | Event::Cut => {
                self.open.remove(&id);
                self.sender.broken(id, &Trouble::Closed, self.now);
            }
            Event::Answered(status, stays) => {
                if status == 200 {
                    self.acknowledged.push(update.unwrap());
                }
                if !self.sender.answered(id, status, "x", 0, stays, self.now) {
                    self.open.remove(&id);
                }
            }
        }
    }

    /// Goes on until nothing waits.
    fn play(&mut self, trouble_until: Nanos, wrong_percent: u64) {
        for _ in 0..200_000 {
            self.act(if self.now < trouble_until { wrong_percent } else { 0 });
            if self.sender.waiting() == 0 && self.sender.in_flight() == 0 {
                return;
            }
            let wake = self.sender.wake_at(self.now);
            match self.events.first_key_value().map(|(key, event)| (*key, *event)) {
                Some(((at, id), event)) if at < wake => {
                    self.events.remove(&(at, id));
                    self.now = at.max(self.now);
                    self.happen(id, event);
                }
                _ => self.now = wake,
            }
            assert_ne!(self.now, Nanos::MAX, "{} wait for ever", self.sender.waiting());
        }
        unreachable!("no end, {} wait", self.sender.waiting());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_the_server_does_everything_arrives_once_and_in_order(
        seed in any::<u64>(),
        max in 1_usize..120,
        chats in 1_u64..60,
        count in 1_u64..400,
        wrong_percent in 0_u64..100,
        trouble_s in 0_u64..600,
    ) {
        let mut world = World {
            sender: Sender::new(max, seed),
            rng: Rng::new(seed),
            now: 0,
            events: BTreeMap::new(),
            open: BTreeMap::new(),
            acknowledged: Vec::new(),
            made: Vec::new(),
        };
        let kinds = [UpdateKind::Message, UpdateKind::EditedMessage, UpdateKind::CallbackQuery];
        for id in 1..=count {
            let kind = *world.rng.choose(&kinds);
            let chat = ChatKey::Chat(world.rng.below(chats) as i64);
            world.sender.push(Update::new(id, (kind, chat), 0));
        }
        world.play(trouble_s * SECOND, wrong_percent);

        let mut last = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for update in &world.acknowledged {
            prop_assert!(seen.insert(update.id), "{} twice", update.id);
            let before = last.insert(update.queue, update.id);
            prop_assert!(before < Some(update.id), "{before:?} before {}", update.id);
        }
        prop_assert_eq!(seen.len() as u64 + world.sender.counts().expired, count);
        // Whatever has a day was not dropped.
        let dropped = (1..=count).filter(|id| !seen.contains(id)).count() as u64;
        prop_assert_eq!(dropped, world.sender.counts().expired);

        let pending: Vec<Nanos> =
            world.made.iter().filter(|(_, pending)| *pending).map(|(at, _)| *at).collect();
        prop_assert!(pending.windows(2).all(|pair| pair[1] - pair[0] >= 2 * SECOND));
        let active: Vec<Nanos> =
            world.made.iter().filter(|(_, pending)| !*pending).map(|(at, _)| *at).collect();
        for (index, start) in active.iter().enumerate() {
            let within = active[index..].iter().take_while(|at| **at - start < SECOND).count();
            prop_assert!(within <= 30, "{within} in a second");
        }
    }
}
