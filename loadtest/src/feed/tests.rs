//! Tests of `feed`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::*;
use crate::{ChatKey, Rate, Retry, Stop};

fn feed(retry: Option<f64>, duplicates: f64, rate: Rate, stop: Stop, chats: u32) -> Feed {
    let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
    options.retry = retry.map(|scale| Retry { scale });
    options.duplicates = duplicates;
    options.rate = rate;
    options.stop = stop;
    options.connections = 8;
    options.payload.chats = chats;
    let source = Source::new(&options).unwrap();
    let mut feed = Feed::new(&options, Rc::new(source));
    feed.start(0);
    feed
}

fn job(offer: Offer) -> Job {
    let Offer::Job(job) = offer else { unreachable!("{offer:?}") };
    job
}

const REFUSED: Outcome = Outcome::Failed { retry_after_s: 0 };

/// Acknowledges the updates of polls, each of which is a chat to itself, until there is nothing
/// before `until`. How many there were.
fn let_polls_through(feed: &mut Feed, now: Nanos, until: Nanos) -> usize {
    let mut count = 0;
    loop {
        match feed.take(1, now) {
            Offer::Job(job) => {
                assert!(matches!(feed.source.chat_of(job.update_id), ChatKey::Poll(_)));
                feed.settle(1, &job, Outcome::Acknowledged, now);
                count += 1;
            }
            other => {
                assert_eq!(other, Offer::Wait(until));
                return count;
            }
        }
    }
}

#[test]
fn a_failed_head_blocks_its_chat_until_it_is_acknowledged() {
    let mut feed = feed(Some(2.0), 0.0, Rate::PerSecond(1e9), Stop::Requests(2), 1);
    let second = 1_000_000_000;
    let mut now = 10;
    let mut head = job(feed.take(0, now));
    for (retry_after_s, delay) in [(0, 0), (0, second), (7, 7 * second / 2), (0, 2 * second)] {
        assert_eq!(feed.take(1, now), Offer::Wait(Nanos::MAX));
        feed.settle(0, &head, Outcome::Failed { retry_after_s }, now);
        if delay > 0 {
            assert_eq!(feed.take(1, now + delay - 1), Offer::Wait(now + delay));
        }
        now += delay;
        let again = job(feed.take(0, now));
        assert_eq!((again.update_id, again.due, again.ready), (head.update_id, 0, now));
        head = again;
    }
    assert_eq!(head.failures(), 4);
    feed.settle(0, &head, Outcome::Acknowledged, now);
    let next = job(feed.take(0, now));
    assert_eq!((next.update_id, next.due, next.ready), (head.update_id + 1, 1, now));
    assert_eq!(feed.take(1, now), Offer::Wait(Nanos::MAX));
    feed.settle(0, &next, Outcome::Acknowledged, now);
    assert_eq!(feed.take(1, now), Offer::End);
}

/// Plays a server that refuses, and connections that take turns, by chance.
fn play(seed: u64, mut feed: Feed, refused_percent: u64) -> Played {
    let (source, mut rng) = (Rc::clone(&feed.source), Rng::new(seed));
    let mut played = Played::default();
    let mut flying: BTreeMap<usize, Job> = BTreeMap::new();
    let (mut now, mut idle_rounds) = (0, 0);
    while idle_rounds < 2 {
        now += rng.below(3_000_000);
        let slot = rng.below(8) as usize;
        if let Some(job) = flying.remove(&slot) {
            if rng.chance(refused_percent) {
                let retry_after_s = rng.below(2) as u32;
                feed.settle(slot, &job, Outcome::Failed { retry_after_s }, now);
            } else {
                feed.settle(slot, &job, Outcome::Acknowledged, now);
                played.acknowledged(&source, &job);
            }
            continue;
        }
        match feed.take(slot, now) {
            Offer::Job(job) => {
                let chat = source.chat_of(job.update_id);
                for (other_slot, other) in &flying {
                    if other.update_id == job.update_id {
                        assert!(*other_slot != slot && job.copy != other.copy, "seed {seed}");
                    } else if feed.retrying.is_some() {
                        assert_ne!(source.chat_of(other.update_id), chat, "seed {seed}");
                    }
                }
                flying.insert(slot, job);
            }
            Offer::Wait(Nanos::MAX) => {}
            Offer::Wait(until) => {
                if flying.is_empty() {
                    // Only this connection may have to keep off.
                    now = if feed.has_ready() { now } else { now.max(until) };
                }
            }
            Offer::End => idle_rounds += 1,
        }
    }
    assert!(flying.is_empty() || feed.retrying.is_none(), "seed {seed}");
    assert_eq!(feed.retrying.as_ref().map_or(0, |retrying| retrying.chats.waiting()), 0);
    played.planned = (feed.planned(), feed.copies_planned());
    played
}

#[derive(Default)]
struct Played {
    updates: BTreeSet<u64>,
    copies: BTreeSet<u64>,
    last: BTreeMap<ChatKey, u64>,
    disordered: u64,
    planned: (u64, u64),
}

impl Played {
    fn acknowledged(&mut self, source: &Source, job: &Job) {
        let known = self.updates.contains(&job.update_id);
        let list = if job.copy { &mut self.copies } else { &mut self.updates };
        assert!(list.insert(job.update_id), "acknowledged twice: {job:?}");
        if !job.copy && !known {
            let last = self.last.entry(source.chat_of(job.update_id)).or_default();
            self.disordered += u64::from(*last > job.update_id);
            *last = job.update_id;
        }
    }
}

#[test]
fn everything_is_acknowledged_in_order_whatever_is_refused() {
    for seed in 0..60 {
        for rate in [Rate::Max, Rate::PerSecond(2000.0)] {
            let chats = [1, 4, 100, 5000][seed as usize % 4];
            let feed = feed(Some(1000.0), 0.2, rate, Stop::Requests(300), chats);
            let copies: BTreeSet<u64> =
                (1..=300).filter(|id| feed.copies.as_ref().unwrap().of(*id).is_some()).collect();
            let played = play(seed, feed, 30);
            assert_eq!(played.updates, (1..=300).collect(), "seed {seed}");
            assert_eq!(played.copies, copies, "seed {seed}");
            assert_eq!(played.planned, (300, copies.len() as u64), "seed {seed}");
            assert_eq!(played.disordered, 0, "seed {seed}");
        }
    }
}

#[test]
fn without_retries_order_is_left_to_chance_and_copies_still_come() {
    let feed = feed(None, 0.5, Rate::Max, Stop::Requests(300), 3);
    let played = play(1, feed, 0);
    assert!(played.disordered > 0);
    assert_eq!(played.updates.len(), 300);
    assert_eq!(played.copies.len() as u64, played.planned.1);
    assert!((100..200).contains(&played.copies.len()), "{}", played.copies.len());
}

#[test]
fn a_closed_loop_does_not_run_ahead_of_a_blocked_chat() {
    let mut feed = feed(Some(1.0), 0.0, Rate::Max, Stop::Requests(100_000), 1);
    job(feed.take(0, 5));
    let polls = let_polls_through(&mut feed, 6, Nanos::MAX);
    let waiting = feed.planned() as usize - 1 - polls;
    assert_eq!(waiting, 8 * CLOSED_WAITING_PER_CONNECTION);
    assert_eq!(feed.last_due(), Some(6));
}

#[test]
fn what_is_left_at_the_end_is_left_alone() {
    let stop = Stop::After(Duration::from_secs(1));
    let mut feed = feed(Some(1.0), 0.0, Rate::PerSecond(1000.0), stop, 1);
    let head = job(feed.take(0, 100_000_000));
    let_polls_through(&mut feed, 100_000_000, 101_000_000);
    // A failure whose second try has its time after the end.
    let mut other = Job { update_id: 100_000, copy: true, ..head };
    feed.in_flight += 1;
    other.backoff.fail(0, 60);
    feed.settle(1, &other, REFUSED, 100_000_000);
    assert_eq!(feed.next_retry(), 2_100_000_000);
    assert_eq!(feed.planned(), 101);
    assert_eq!(feed.end(104_500_000), 4);
    assert!(!feed.settle(0, &head, REFUSED, 104_600_000));
    for now in [104_600_000, 9_000_000_000] {
        assert_eq!(feed.next(now), None);
        assert_eq!(feed.take(0, now), Offer::End);
    }
    assert_eq!(feed.planned(), 105);
}
