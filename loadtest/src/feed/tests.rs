//! Tests of `feed`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::*;
use crate::{Rate, Stop, rng::Rng};

fn feed(duplicates: f64, rate: Rate, stop: Stop) -> Feed {
    let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
    options.duplicates = duplicates;
    options.rate = rate;
    options.stop = stop;
    options.connections = 8;
    let source = Source::new(&options).unwrap();
    let mut feed = Feed::new(&options, Rc::new(source));
    feed.start(0);
    feed
}

fn job(offer: Offer) -> Job {
    let Offer::Job(job) = offer else { unreachable!("{offer:?}") };
    job
}

/// Plays a server that refuses, and connections that take turns, by chance.
fn play(seed: u64, mut feed: Feed, refused_percent: u64) -> Played {
    let mut rng = Rng::new(seed);
    let mut played = Played::default();
    let mut flying: BTreeMap<usize, Job> = BTreeMap::new();
    let (mut now, mut idle_rounds) = (0, 0);
    while idle_rounds < 2 {
        now += rng.below(3_000_000);
        let slot = rng.below(8) as usize;
        if let Some(job) = flying.remove(&slot) {
            let acknowledged = !rng.chance(refused_percent);
            feed.settle(slot, &job, acknowledged, now);
            played.settled(&job, acknowledged);
            continue;
        }
        match feed.take(slot, now) {
            Offer::Job(job) => {
                for (other_slot, other) in &flying {
                    if other.update_id == job.update_id {
                        assert!(*other_slot != slot && job.copy != other.copy, "seed {seed}");
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
    assert!(flying.is_empty(), "seed {seed}");
    played.planned = (feed.planned(), feed.copies_planned());
    played
}

#[derive(Default)]
struct Played {
    updates: BTreeSet<u64>,
    copies: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    planned: (u64, u64),
}

impl Played {
    fn settled(&mut self, job: &Job, acknowledged: bool) {
        let list = if job.copy { &mut self.copies } else { &mut self.updates };
        assert!(list.insert(job.update_id), "sent twice: {job:?}");
        if !job.copy && !acknowledged {
            self.refused.insert(job.update_id);
        }
    }
}

#[test]
fn everything_is_sent_once_and_copies_on_top() {
    for seed in 0..60 {
        for rate in [Rate::Max, Rate::PerSecond(2000.0)] {
            for refused_percent in [0, 30] {
                let feed = feed(0.2, rate, Stop::Requests(300));
                let when = |id: &u64| feed.copies.as_ref().unwrap().of(*id);
                let along: BTreeSet<u64> =
                    (1..=300).filter(|id| when(id) == Some(When::Along)).collect();
                let after: BTreeSet<u64> =
                    (1..=300).filter(|id| when(id) == Some(When::After)).collect();
                let played = play(seed, feed, refused_percent);
                assert_eq!(played.updates, (1..=300).collect(), "seed {seed}");
                // What is refused has no copy after it.
                let copies = &along | &(&after - &played.refused);
                assert_eq!(played.copies, copies, "seed {seed}");
                assert_eq!(played.planned, (300, copies.len() as u64), "seed {seed}");
                assert_eq!(played.refused.is_empty(), refused_percent == 0);
            }
        }
    }
}

#[test]
fn what_is_left_at_the_end_is_left_alone() {
    let mut feed = feed(1.0, Rate::PerSecond(1000.0), Stop::After(Duration::from_secs(1)));
    let first = job(feed.take(0, 100_000_000));
    while let Offer::Job(job) = feed.take(1, 100_000_000) {
        feed.settle(1, &job, true, 100_000_000);
    }
    let planned = feed.planned();
    assert_eq!(planned, 101);
    assert_eq!(feed.end(104_500_000), 4);
    assert!(!feed.settle(0, &first, true, 104_600_000));
    for now in [104_600_000, 9_000_000_000] {
        assert_eq!(feed.next(now), None);
        assert_eq!(feed.take(0, now), Offer::End);
    }
    assert_eq!(feed.planned(), 105);
}
