//! The hand-off from a shard to a worker.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

use std::{
    hint::black_box,
    sync::mpsc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use ringhook::{
    internals::HandOff,
    update::{BotId, Update, UpdateBody, UpdateParser},
};

criterion_group!(benches, busy, woken);
criterion_main!(benches);

fn update(id: u64) -> Update {
    let json = format!(r#"{{"update_id":{id},"message":{{"chat":{{"id":{id}}}}}}}"#);
    UpdateParser::default()
        .parse(UpdateBody::from(json.into_bytes()), BotId::new(0), Instant::now())
        .unwrap()
}

/// Send and receive with nobody asleep: what an update costs at saturation.
fn busy(criterion: &mut Criterion) {
    criterion.bench_function("dispatch/busy", |bencher| {
        let hand_off = HandOff::new(1024);
        let now = Instant::now();
        let mut travelling = Some(update(1));
        bencher.iter(|| {
            let sent = hand_off.dispatch(travelling.take().unwrap(), now);
            black_box(&sent).as_ref().unwrap();
            travelling = hand_off.take();
        });
    });
}

/// What the shard pays for each update where the worker sleeps before each batch: the reason to
/// wake once for a batch.
fn woken(criterion: &mut Criterion) {
    for batch in [1_u64, 32] {
        criterion.bench_function(&format!("dispatch/worker asleep, batch of {batch}"), |bencher| {
            let hand_off = HandOff::new(1024);
            let (back, mut spare) = (mpsc::channel(), Vec::new());
            let worker = hand_off.worker(move |update| back.0.send(update).unwrap());
            spare.extend((0..batch).map(update));
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
