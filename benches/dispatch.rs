//! The hand-off from a shard to a worker.
#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{
    hint::black_box,
    sync::mpsc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use ringhook::internals::{
    HandOff, Window,
    update::{BotId, Update, UpdateBody, UpdateParser},
};

criterion_group!(benches, busy, contended, woken);
criterion_main!(benches);

fn update(id: u64) -> Update {
    let json = format!(r#"{{"update_id":{id},"message":{{"chat":{{"id":{id}}}}}}}"#);
    UpdateParser::default()
        .parse(UpdateBody::from(json.into_bytes()), BotId::new(0), Instant::now())
        .unwrap()
}

/// Send and receive while every thread is awake: the cost of an update at saturation, both sides
/// together. The plain hash is a bounded channel for each worker, chosen by the chat's hash. It has
/// no lanes, no deduplication and no bound but the channel's.
fn busy(criterion: &mut Criterion) {
    let now = Instant::now();
    criterion.bench_function("dispatch/plain hash, both sides", |bencher| {
        let channels: Vec<_> = (0..4).map(|_| crossbeam_channel::bounded(1024)).collect();
        let mut travelling = Some(update(1));
        bencher.iter(|| {
            let update = travelling.take().unwrap();
            let worker = (update.chat_key().hash64() % 4) as usize;
            let (sender, receiver) = &channels[worker];
            sender.try_send((update, now, 0_usize)).unwrap();
            travelling = receiver.try_recv().ok().map(|(update, ..)| update);
        });
    });
    criterion.bench_function("dispatch/plain hash, shard's side", |bencher| {
        let channels: Vec<_> = (0..1).map(|_| crossbeam_channel::bounded(1024)).collect();
        let mut spare = updates(0, 512);
        bencher.iter_custom(|count| {
            timed(count, &mut spare, |spare| {
                let start = Instant::now();
                for update in spare.drain(..) {
                    let worker = (update.chat_key().hash64() % channels.len() as u64) as usize;
                    channels[worker].0.try_send((update, now, 0_usize)).unwrap();
                }
                let spent = start.elapsed();
                spare.extend(channels[0].1.try_iter().map(|(update, ..)| update));
                spent
            })
        });
    });
    criterion.bench_function("dispatch/lanes, shard's side", |bencher| {
        let hand_off = HandOff::new(1, 1 << 16);
        let mut settled = hand_off.settled();
        // Replays, since the same updates go round: ids are not looked at, lanes and bounds are.
        let hand_off = hand_off.for_replay();
        let mut spare = updates(0, 512);
        bencher.iter_custom(|count| {
            timed(count, &mut spare, |spare| {
                let start = Instant::now();
                for update in spare.drain(..) {
                    hand_off.dispatch(update, now).unwrap();
                }
                let spent = start.elapsed();
                while let Some(update) = hand_off.run(&mut settled, now) {
                    spare.push(update);
                }
                spent
            })
        });
    });
    criterion.bench_function("dispatch/lanes, worker's side", |bencher| {
        let hand_off = HandOff::new(1, 1 << 16);
        let mut settled = hand_off.settled();
        let hand_off = hand_off.for_replay();
        let mut spare = updates(0, 512);
        bencher.iter_custom(|count| {
            timed(count, &mut spare, |spare| {
                for update in spare.drain(..) {
                    hand_off.dispatch(update, now).unwrap();
                }
                let start = Instant::now();
                while let Some(update) = hand_off.run(&mut settled, now) {
                    spare.push(update);
                }
                start.elapsed()
            })
        });
    });
    criterion.bench_function("dispatch/duplicate check of one id", |bencher| {
        let mut window = Window::new();
        let mut id = 0;
        bencher.iter(|| {
            id += 1;
            black_box(window.accept(id))
        });
    });
}

fn updates(first: u64, count: u64) -> Vec<Update> {
    (first..first + count).map(update).collect()
}

/// Runs `round` over all of `spare` until `count` updates have passed.
fn timed(
    count: u64,
    spare: &mut Vec<Update>,
    mut round: impl FnMut(&mut Vec<Update>) -> Duration,
) -> Duration {
    let (mut spent, mut passed) = (Duration::ZERO, 0);
    let size = spare.len() as u64;
    while passed < count {
        spent += round(spare);
        passed += size;
    }
    // A round is never cut, so its surplus is taken out in proportion.
    spent.mul_f64(count as f64 / passed as f64)
}

/// Two shards fill the same worker's inbox at once: the time of one of them.
fn contended(criterion: &mut Criterion) {
    criterion.bench_function("dispatch/two producers, one timed", |bencher| {
        let hand_off = HandOff::new(1, 1 << 16).for_replay();
        let other = hand_off.another_shard();
        let (back, backs) = mpsc::channel();
        let worker = hand_off.worker(0, move |update| back.send(update).unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        let now = Instant::now();
        std::thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                let mut id = 1 << 32;
                let mut spare: Vec<Update> = updates(id, 64);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    match spare.pop() {
                        Some(update) => drop(other.dispatch(update, now)),
                        None => {
                            id += 64;
                            spare = updates(id, 64);
                        }
                    }
                }
            });
            let mut spare = updates(0, 64);
            bencher.iter_custom(|count| {
                timed(count, &mut spare, |spare| {
                    let start = Instant::now();
                    for update in spare.drain(..) {
                        drop(hand_off.dispatch(update, now));
                    }
                    let spent = start.elapsed();
                    hand_off.wake_workers();
                    spare.extend(updates(0, 64));
                    let _ = backs.try_iter().count();
                    spent
                })
            });
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        drop(worker);
    });
}

/// What the shard pays for each update where the worker sleeps before each batch: the reason to
/// wake once for a batch.
fn woken(criterion: &mut Criterion) {
    for batch in [1_u64, 32] {
        criterion.bench_function(&format!("dispatch/worker asleep, batch of {batch}"), |bencher| {
            let hand_off = HandOff::new(1, 1024).for_replay();
            let (back, mut spare) = (mpsc::channel(), updates(0, batch));
            let worker = hand_off.worker(0, move |update| back.0.send(update).unwrap());
            bencher.iter_custom(|updates| {
                let mut spent = Duration::ZERO;
                for _ in 0..updates.div_ceil(batch) {
                    // The worker has had time to fall asleep.
                    let asleep = Instant::now() + Duration::from_micros(100);
                    while Instant::now() < asleep {}
                    let due = worker.done() + batch;
                    let start = Instant::now();
                    for update in spare.drain(..) {
                        hand_off.dispatch(update, start).unwrap();
                    }
                    hand_off.wake_workers();
                    spent += start.elapsed();
                    while worker.done() < due {}
                    spare.extend(back.1.try_iter());
                }
                spent
            });
        });
    }
}
