//! The real workers on real threads. Idle ones sleep for a minute and the watchdog waits for less,
//! so a wake-up that gets lost fails a test instead of slowing it down.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Barrier, Condvar, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use futures_core::Stream;

use super::message;
use crate::{
    config::{Dispatch, Limits},
    control::Control,
    delivery::{
        handler::{Handler, Outcome},
        stream::{OnDrop, Settlements, StreamSender, stream},
        worker::{Consumer, Worker, WorkerContext},
    },
    dispatch::{Budget, Dispatcher, FullChats, Scheduler, SettledBatch, budget::Measure},
    observe::metrics::WorkerMetrics,
    outcome::Refusal,
    proto::update::Update,
};

/// Less than a worker's longest sleep, more than a loaded machine needs.
const WATCHDOG: Duration = Duration::from_secs(40);

/// Runs `test` and fails where it does not end: it waits for things that must come.
fn watched(test: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        let _ = ended.send(());
    });
    match end.recv_timeout(WATCHDOG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a worker sleeps through work"),
        // A panic of the test's thread drops its end: the join returns which it was.
        _ => thread.join().unwrap(),
    }
}

/// Waits for a condition that other threads bring about; the watchdog bounds it.
fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

fn limits(queue_updates: usize, chat_updates: usize) -> Limits {
    Limits { queue_updates, chat_updates, ..Limits::default() }
}

/// What the workers give updates to.
enum To {
    Handler(Arc<dyn Handler>),
    Stream(StreamSender),
}

/// Workers that run, and shards that belong to the test.
struct Rig {
    budget: Arc<Budget>,
    full: Arc<FullChats>,
    limits: Limits,
    metrics: Vec<Arc<WorkerMetrics>>,
    scheduler: Arc<Scheduler>,
    shards: Vec<Dispatcher>,
    threads: Vec<JoinHandle<()>>,
}

impl Rig {
    fn new(shards: usize, workers: usize, limits: Limits, to: &To) -> Self {
        let full = Arc::new(FullChats::new());
        let budget = Budget::new(limits.queue_updates as u64, limits.queue_bytes as u64)
            .shared_by(shards + workers, limits.body_bytes as u64);
        let budget = Arc::new(budget);
        let now = Instant::now();
        let settings = Dispatch { max_attempts: 3, ..Dispatch::default() };
        let (scheduler, inboxes) = Scheduler::new(workers, 2, &limits, settings, &full, now);
        let scheduler = Arc::new(scheduler);
        let control = Arc::new(Control::new(None));
        let metrics: Vec<_> = (0..workers).map(|_| Arc::default()).collect();
        let start = |(index, metrics): (usize, &Arc<WorkerMetrics>)| {
            let consumer = match to {
                To::Handler(handler) => Consumer::Handler(Arc::clone(handler)),
                To::Stream(sender) => {
                    let (mailbox, settled) = unbounded();
                    let scheduler = Arc::clone(&scheduler);
                    let on_drop = OnDrop::Failed;
                    let settlements = Settlements { mailbox, scheduler, worker: index, on_drop };
                    Consumer::Stream(sender.clone(), settlements, settled)
                }
            };
            let context = WorkerContext {
                control: Arc::clone(&control),
                copies: Vec::new(),
                dead_letters: None,
                duplicates: Vec::new(),
                journal: None,
                metrics: Arc::clone(metrics),
                operation: Arc::default(),
                orders: Arc::default(),
                output: 0,
                output_state: None,
                parts: Vec::new(),
                lanes: Vec::new(),
                returns: Vec::new(),
                settled_at: None,
                settled: Vec::new(),
                settled_batch: SettledBatch::new(Arc::clone(&budget)),
            };
            let worker = Worker::new(index, Arc::clone(&scheduler), context, consumer);
            thread::spawn(|| worker.run())
        };
        let threads = metrics.iter().enumerate().map(start).collect();
        let shard = |index| Dispatcher::new(&scheduler, inboxes.clone(), &full, &budget, index);
        let shards = (0..shards).map(shard).collect();
        Self { budget, full, limits, metrics, scheduler, shards, threads }
    }

    fn with_handler(shards: usize, workers: usize, limits: Limits, handler: impl Handler) -> Self {
        Self::new(shards, workers, limits, &To::Handler(Arc::new(handler)))
    }

    /// One update through the first shard, with the workers woken at once.
    fn send(&self, chat: i64, id: i64) -> Result<(), Refusal> {
        let sent = self.shards[0].dispatch(message(0, chat, id, 0), Instant::now());
        self.shards[0].wake_workers();
        sent.map_err(|(refusal, _)| refusal)
    }

    fn sum(&self, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.metrics.iter().map(|metrics| of(metrics)).sum()
    }

    /// Stops as a server does, and checks that nothing is left anywhere.
    fn stop(self) {
        let Self { budget, full, scheduler, shards, threads, .. } = self;
        drop(shards);
        scheduler.close();
        while !threads.iter().all(JoinHandle::is_finished) {
            scheduler.wake_all();
            thread::yield_now();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(scheduler.left_behind(), []);
        assert_eq!(full.count(), 0);
        for measure in [Measure::Updates, Measure::Bytes] {
            assert_eq!(budget.used(measure), 0, "{measure:?}");
        }
    }
}

/// A number that looks random and is the same in each run.
fn scramble(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Keeps a handler in its call until it is opened.
#[derive(Default)]
struct Latch {
    is_open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicU64,
}

impl Latch {
    fn wait(&self) {
        self.waiting.fetch_add(1, SeqCst);
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// Checks each chat's order and that no other worker handles it meanwhile.
#[derive(Default)]
struct Ledger {
    chats: Vec<Mutex<Vec<i64>>>,
    busy: Vec<AtomicBool>,
    handled: AtomicU64,
    retried: Mutex<HashMap<i64, u32>>,
}

impl Ledger {
    fn new(chats: usize) -> Self {
        Self {
            chats: (0..chats).map(|_| Mutex::default()).collect(),
            busy: (0..chats).map(|_| AtomicBool::new(false)).collect(),
            ..Self::default()
        }
    }

    /// Updates are in the chat `id % chats`. Some take time, some yield, some come again.
    fn handle(&self, update: &Update) -> Outcome {
        let id = update.id().get();
        let chat = id as usize % self.chats.len();
        assert!(!self.busy[chat].swap(true, SeqCst), "chat {chat} is handled twice at once");
        let chance = scramble(id as u64);
        match chance % 64 {
            0 => thread::sleep(Duration::from_micros(chance >> 8 & 0xff)),
            1..8 => thread::yield_now(),
            _ => {}
        }
        let attempts = |retried: &mut HashMap<i64, u32>| {
            let attempts = retried.entry(id).or_default();
            *attempts += 1;
            *attempts
        };
        if chance.is_multiple_of(61) && attempts(&mut self.retried.lock().unwrap()) < 3 {
            self.busy[chat].store(false, SeqCst);
            return Outcome::Retry(Duration::from_micros(chance >> 16 & 0x7ff));
        }
        self.chats[chat].lock().unwrap().push(id);
        self.busy[chat].store(false, SeqCst);
        self.handled.fetch_add(1, SeqCst);
        Outcome::Done
    }

    fn check(&self, ids: i64) {
        for (chat, handled) in self.chats.iter().enumerate() {
            let expected: Vec<i64> = (chat as i64..ids).step_by(self.chats.len()).collect();
            assert_eq!(*handled.lock().unwrap(), expected, "chat {chat}");
        }
    }
}

/// The same ids at the same moment on two shards, within `limits`, in bursts after which all sleep.
fn twice_at_once(workers: usize, limits: Limits, ids: i64, burst: i64) {
    const CHATS: usize = 24;
    let ledger = Arc::new(Ledger::new(CHATS));
    let handler = Arc::clone(&ledger);
    let mut rig =
        Rig::with_handler(2, workers, limits, move |update: &Update| handler.handle(update));
    let start = Arc::new(Barrier::new(2));
    let producers: Vec<_> = rig
        .shards
        .drain(..)
        .map(|shard| {
            let (start, ledger) = (Arc::clone(&start), Arc::clone(&ledger));
            let (budget, limits) = (Arc::clone(&rig.budget), rig.limits);
            thread::spawn(move || {
                for id in 0..ids {
                    if id % burst == 0 {
                        // All is handled and the workers go to sleep; then both shards go on.
                        wait_until(|| ledger.handled.load(SeqCst) >= id as u64);
                        start.wait();
                    }
                    let mut update = message(0, id % CHATS as i64, id, 0);
                    while let Err((_, refused)) = shard.dispatch(update, Instant::now()) {
                        shard.wake_workers();
                        thread::yield_now();
                        update = refused;
                    }
                    assert!(budget.used(Measure::Updates) <= limits.queue_updates as u64);
                    assert!(budget.used(Measure::Bytes) <= limits.queue_bytes as u64);
                    if scramble(id as u64).is_multiple_of(3) || (id + 1) % burst == 0 {
                        shard.wake_workers();
                    }
                }
                shard.wake_workers();
                shard
            })
        })
        .collect();
    for producer in producers {
        rig.shards.push(producer.join().unwrap());
    }
    wait_until(|| ledger.handled.load(SeqCst) == ids as u64);
    wait_until(|| rig.sum(|metrics| metrics.duplicates.get()) == ids as u64);
    wait_until(|| rig.sum(|metrics| metrics.handled.get()) == ids as u64);
    assert_eq!(rig.sum(|metrics| metrics.failed.get()), 0);
    ledger.check(ids);
    rig.stop();
}

#[test]
fn of_two_copies_at_once_one_is_handled_and_in_order() {
    watched(|| twice_at_once(3, limits(4096, 4096), 20_000, 2_000));
}

#[test]
fn small_limits_hold_and_refuse_no_chat_for_good() {
    watched(|| twice_at_once(3, limits(5, 2), 4_000, 1_000));
}

#[test]
fn short_bursts_wake_the_workers_that_are_needed() {
    watched(|| twice_at_once(4, limits(1024, 256), 6_000, 3));
}

#[test]
fn a_stuck_handler_holds_up_its_chat_alone() {
    watched(|| {
        const STUCK: i64 = 0;
        let latch = Arc::new(Latch::default());
        let handled = Arc::new(Mutex::new(Vec::new()));
        let (held, seen) = (Arc::clone(&latch), Arc::clone(&handled));
        let rig = Rig::with_handler(1, 2, limits(8192, 4), move |update: &Update| {
            if update.id().get() == 0 {
                held.wait();
            }
            seen.lock().unwrap().push(update.id().get());
            Outcome::Done
        });
        rig.send(STUCK, 0).unwrap();
        wait_until(|| latch.waiting.load(SeqCst) == 1);
        // Its chat takes as many as it may have, then its sender is asked to come again.
        let waiting: Vec<i64> = (10_000..10_004).collect();
        for id in &waiting {
            rig.send(STUCK, *id).unwrap();
        }
        // The free worker takes them in.
        wait_until(|| rig.full.count() == 1);
        assert_eq!(rig.send(STUCK, 10_004), Err(Refusal::Chat));
        // A thousand other chats, in both partitions, all by the other worker.
        for id in 1..=1000 {
            rig.send(id, id).unwrap();
        }
        wait_until(|| handled.lock().unwrap().len() == 1000);
        assert_eq!(rig.send(STUCK, 1), Err(Refusal::Chat));
        latch.open();
        wait_until(|| handled.lock().unwrap().len() == 1001 + waiting.len());
        let own: Vec<i64> = handled
            .lock()
            .unwrap()
            .iter()
            .copied()
            .filter(|id| *id == 0 || *id >= 10_000)
            .collect();
        assert_eq!(own, [vec![0], waiting].concat());
        wait_until(|| rig.full.count() == 0);
        assert_eq!(rig.send(STUCK, 20_000), Ok(()), "the chat has recovered");
        rig.stop();
    });
}

/// One retry is due while all workers but one are stuck, including the one that was awake for it.
#[test]
fn a_retry_comes_in_time_while_others_are_stuck() {
    const WORKERS: u64 = 3;
    for chats in [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12], [13, 14], [15, 16]] {
        watched(move || {
            let latch = Arc::new(Latch::default());
            let calls = Arc::new(AtomicU64::new(0));
            let (held, count) = (Arc::clone(&latch), Arc::clone(&calls));
            let rig =
                Rig::with_handler(1, WORKERS as usize, limits(64, 64), move |update: &Update| {
                    if update.id().get() > 0 {
                        held.wait();
                    } else if count.fetch_add(1, SeqCst) == 0 {
                        return Outcome::Retry(Duration::from_millis(60));
                    }
                    Outcome::Done
                });
            rig.send(0, 0).unwrap();
            wait_until(|| rig.sum(|metrics| metrics.retried.get()) == 1);
            for (chat, stuck) in chats.into_iter().zip(1..) {
                rig.send(chat, chat).unwrap();
                wait_until(|| latch.waiting.load(SeqCst) == stuck);
            }
            wait_until(|| calls.load(SeqCst) == 2);
            latch.open();
            rig.stop();
        });
    }
}

#[test]
fn attempts_are_bounded_and_the_chat_goes_on() {
    watched(|| {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        let rig = Rig::with_handler(1, 2, limits(64, 64), move |update: &Update| {
            seen.lock().unwrap().push(update.id().get());
            match update.id().get() {
                1 => Outcome::Retry(Duration::from_millis(1)),
                2 => panic!("a handler of the test"),
                _ => Outcome::Done,
            }
        });
        for id in 1..=3 {
            rig.send(7, id).unwrap();
        }
        wait_until(|| rig.sum(|metrics| metrics.handled.get()) == 1);
        assert_eq!(*calls.lock().unwrap(), [1, 1, 1, 2, 3]);
        assert_eq!(rig.sum(|metrics| metrics.failed.get()), 2);
        rig.stop();
    });
}

/// Wakes a thread that polls.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A program takes updates, and two other threads settle them: each settlement has to reach the
/// worker that keeps the lane, whichever of the others sleep.
#[test]
fn settlements_wake_the_worker_that_waits_for_them() {
    watched(|| {
        const IDS: i64 = 3_000;
        const CHATS: i64 = 7;
        let (sender, mut updates) = stream(4);
        let rig = Rig::new(1, 3, limits(16, 4), &To::Stream(sender));
        let (to_settle, settling) = unbounded();
        let settlers: Vec<_> = (0..2)
            .map(|_| {
                let settling = settling.clone();
                thread::spawn(move || {
                    for pending in settling.iter() {
                        let update: crate::PendingUpdate = pending;
                        match scramble(update.id().get() as u64) % 8 {
                            0 => drop(update),
                            1 => thread::yield_now(),
                            _ => update.done(),
                        }
                    }
                })
            })
            .collect();
        let program = thread::spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut orders = vec![Vec::new(); CHATS as usize];
            loop {
                match pin!(&mut updates).poll_next(&mut Context::from_waker(&waker)) {
                    Poll::Ready(Some(update)) => {
                        orders[(update.id().get() % CHATS) as usize].push(update.id().get());
                        to_settle.send(update).unwrap();
                    }
                    Poll::Ready(None) => return orders,
                    Poll::Pending => thread::park(),
                }
            }
        });
        let settled = |rig: &Rig| rig.sum(|metrics| metrics.handled.get() + metrics.failed.get());
        for id in 0..IDS {
            while rig.send(id % CHATS, id).is_err() {
                thread::yield_now();
            }
            if id % 5 == 0 {
                wait_until(|| settled(&rig) == id as u64 + 1);
            }
        }
        wait_until(|| settled(&rig) == IDS as u64);
        rig.stop();
        let orders = program.join().unwrap();
        for (chat, order) in (0..).zip(orders) {
            assert_eq!(order, (chat..IDS).step_by(CHATS as usize).collect::<Vec<_>>());
        }
        settlers.into_iter().for_each(|settler| settler.join().unwrap());
    });
}

/// Copies of one id in different chats meet only in the window.
#[test]
fn of_copies_with_different_content_one_is_handled() {
    watched(|| {
        const IDS: u64 = 2_000;
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let mut rig = Rig::with_handler(2, 3, limits(8192, 256), move |_: &Update| {
            counted.fetch_add(1, Relaxed);
            Outcome::Done
        });
        let producers: Vec<_> = (0..)
            .zip(rig.shards.drain(..))
            .map(|(offset, shard)| {
                thread::spawn(move || {
                    for id in 0..IDS as i64 {
                        // The last chats of the one are the first of the other.
                        let update = message(0, id + offset, id, 0);
                        assert!(shard.dispatch(update, Instant::now()).is_ok());
                        shard.wake_workers();
                    }
                    shard
                })
            })
            .collect();
        for producer in producers {
            rig.shards.push(producer.join().unwrap());
        }
        wait_until(|| {
            rig.sum(|metrics| metrics.handled.get() + metrics.duplicates.get()) == 2 * IDS
        });
        assert_eq!(count.load(Relaxed), IDS);
        // The same id of another bot is another update.
        assert!(rig.shards[0].dispatch(message(1, 0, 0, 0), Instant::now()).is_ok());
        rig.shards[0].wake_workers();
        wait_until(|| count.load(Relaxed) == IDS + 1);
        rig.stop();
    });
}
