//! What a second shard and worker cost the first: an update's path on one thread and on two, each
//! with a shard's and a worker's part, from body to recycled memory. No socket.
//!
//! The two have nothing in common at first, which shows what the machine makes of two busy CPUs.
//! Then they are of one server: half of the updates of each go to the other one's inbox. CPU time
//! is counted, since other processes of the machine do not change it.
#![allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used)]

use std::{
    io::Write as _,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use loadtest::{PayloadGenerator, PayloadOptions};
use ringhook::internals::{
    HandOff,
    update::{BotId, UpdateParser},
};
use rustix::time::{ClockId, clock_gettime};

/// Updates of each thread and round, and rounds.
const UPDATES: usize = 100_000;
const ROUNDS: usize = 7;
/// Different bodies; each gets a new id when it is used again.
const BODIES: usize = 512;
/// Updates that a shard hands on before it wakes the workers.
const BATCH: usize = 32;
/// Under way at the most: a server's default.
const UNDER_WAY: usize = 65_536;
/// The first id; all of a round have as many digits.
const FIRST_ID: u64 = 1_000_000_000;

/// One thread's part: shard `index` and worker `index` of the server behind `hand_off`.
struct Part {
    bot: BotId,
    hand_off: HandOff,
    index: usize,
}

/// The load generator's updates, and where the id is in each of them.
fn bodies(thread: usize) -> Vec<(Vec<u8>, usize)> {
    let updates = PayloadGenerator::new(&PayloadOptions::default());
    let body = |number: usize| {
        let mut body = Vec::new();
        updates.write(&mut body, FIRST_ID + (thread * BODIES + number) as u64);
        let key = b"\"update_id\":";
        let at = body.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        (body, at)
    };
    (0..BODIES).map(body).collect()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

impl Part {
    /// Runs all updates through; nanoseconds of CPU time and of time for each of them.
    fn run(&self, barrier: &Barrier) -> (f64, f64) {
        let cpus = core_affinity::get_core_ids().unwrap();
        core_affinity::set_for_current(CoreId { id: cpus[self.index % cpus.len()].id });
        let mut bodies = bodies(self.index);
        let mut parser = UpdateParser::default();
        let mut settled = self.hand_off.settled();
        let mut next_id = FIRST_ID + ((self.index + 1) * 2 * UPDATES) as u64;
        barrier.wait();
        let (start, cpu) = (Instant::now(), cpu_time());
        for _ in 0..UPDATES / BATCH {
            let now = Instant::now();
            for _ in 0..BATCH {
                let (text, at) = &mut bodies[next_id as usize % BODIES];
                (&mut text[*at..]).write_all(&digits(next_id)).unwrap();
                next_id += 1;
                let mut body = parser.take_body(text.len());
                body.extend(text);
                let mut update = parser.parse(body, self.bot, now).unwrap();
                while let Err(refused) = self.hand_off.dispatch(update, now) {
                    update = refused;
                    self.work(&mut settled, &mut parser, 1);
                }
            }
            self.hand_off.wake_workers();
            self.work(&mut settled, &mut parser, BATCH);
        }
        let each = |time: Duration| time.as_nanos() as f64 / UPDATES as f64;
        let spent = (each(cpu_time() - cpu), each(start.elapsed()));
        // No update is left for the other part's round.
        while self.work(&mut settled, &mut parser, BATCH) > 0 {}
        barrier.wait();
        spent
    }

    /// The worker's part, for up to `limit` updates.
    fn work(
        &self,
        settled: &mut ringhook::internals::TestSettledBatch,
        parser: &mut UpdateParser,
        limit: usize,
    ) -> usize {
        let now = Instant::now();
        let settled_updates =
            (0..limit).map_while(|_| self.hand_off.run_worker(self.index, settled, now));
        settled_updates.map(|update| parser.keep(update.recycle())).count()
    }
}

/// Ten of them.
fn digits(mut id: u64) -> [u8; 10] {
    let mut digits = [b'0'; 10];
    for digit in digits.iter_mut().rev() {
        *digit += (id % 10) as u8;
        id /= 10;
    }
    digits
}

/// Runs all `parts` at once; what each of them took.
fn round(parts: Vec<Part>) -> Vec<(f64, f64)> {
    let barrier = Arc::new(Barrier::new(parts.len()));
    let threads: Vec<_> = parts
        .into_iter()
        .map(|part| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || part.run(&barrier))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// What runs at once.
type Parts = fn() -> Vec<Part>;

/// One thread, or two with what they share.
const KINDS: [(&str, Parts); 4] = [
    ("one thread", || vec![part(0, 0, HandOff::new(1, UNDER_WAY))]),
    ("two, a server each", || {
        (0..2).map(|index| Part { index, ..part(0, 0, HandOff::new(2, UNDER_WAY)) }).collect()
    }),
    ("two, one server, a bot each", || of_one_server(1)),
    ("two, one server, one bot", || of_one_server(0)),
];

fn part(index: usize, bot: u32, hand_off: HandOff) -> Part {
    Part { bot: BotId::new(bot), hand_off, index }
}

fn of_one_server(second_bot: u32) -> Vec<Part> {
    let first = HandOff::new(2, UNDER_WAY).with_bots(2);
    let second = first.another_shard();
    vec![part(0, 0, first), part(1, second_bot, second)]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test --benches` only checks that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    let mut spent: Vec<Vec<(f64, f64)>> = vec![Vec::new(); KINDS.len()];
    for _ in 0..rounds {
        for ((_, parts), spent) in KINDS.iter().zip(&mut spent) {
            spent.extend(round(parts()));
        }
    }
    println!("{rounds} round(s) of {UPDATES} updates for each thread, in turn; medians");
    println!(
        "{:<30}{:>16}{:>16}{:>22}",
        "", "CPU ns/update", "to one thread", "updates/s, a thread"
    );
    let cpu: Vec<f64> =
        spent.iter().map(|spent| median(spent.iter().map(|spent| spent.0).collect())).collect();
    for (((name, _), spent), cpu_ns) in KINDS.iter().zip(spent).zip(&cpu) {
        let wall = median(spent.iter().map(|spent| spent.1).collect());
        println!("{name:<30}{cpu_ns:>16.0}{:>15.2}x{:>22.0}", cpu_ns / cpu[0], 1e9 / wall);
    }
}
