//! From a shard to a worker and back, driven by one thread.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, bounded};

use crate::{
    config::{Dispatch, Limits},
    control::Control,
    delivery::{
        handler::Outcome,
        worker::{Consumer, Worker, WorkerContext},
    },
    dispatch::{Budget, Dispatcher, FullChats, Scheduler, SettledBatch},
    proto::update::{Recycled, Update, UpdateParser},
};

/// Updates that a shard takes back at once, and that may wait for it.
const RETURNS: usize = 64;

/// A shard's side of the hand-off, and a worker with its handler and everything that it keeps of
/// them.
pub struct TestPipeline {
    dispatcher: Dispatcher,
    returns: Receiver<Recycled>,
    stop: Arc<Stop>,
    worker: Worker,
}

/// Ends the worker's loop when so many updates have been handled.
#[derive(Default)]
struct Stop {
    control: Mutex<Arc<Control>>,
    left: AtomicUsize,
}

impl TestPipeline {
    /// One shard, one worker and the usual limits.
    pub fn new(handle: impl Fn(&Update) + Send + Sync + 'static) -> Self {
        let limits = Limits::default();
        let budget = Arc::new(Budget::new(limits.queue_updates as u64, limits.queue_bytes as u64));
        let full = Arc::new(FullChats::new());
        let now = Instant::now();
        let (scheduler, inboxes) = Scheduler::new(1, 1, &limits, Dispatch::default(), &full, now);
        let scheduler = Arc::new(scheduler);
        let dispatcher = Dispatcher::new(&scheduler, inboxes, &full, &budget, 0);
        let (returns, taken_back) = bounded(RETURNS);
        let stop = Arc::<Stop>::default();
        let stopping = Arc::clone(&stop);
        let handler = move |update: &Update| {
            handle(update);
            if stopping.left.fetch_sub(1, Relaxed) == 1 {
                stopping.control.lock().unwrap_or_else(PoisonError::into_inner).abandon();
            }
            Outcome::Done
        };
        let context = WorkerContext {
            control: Arc::default(),
            copies: Vec::new(),
            dead_letters: None,
            duplicates: Vec::new(),
            journal: None,
            metrics: Arc::default(),
            operation: Arc::default(),
            orders: Arc::default(),
            output: 0,
            output_state: None,
            parts: Vec::new(),
            lanes: Vec::new(),
            returns: vec![returns],
            settled_at: None,
            settled: Vec::new(),
            settled_batch: SettledBatch::new(budget),
        };
        let consumer = Consumer::Handler(Arc::new(handler));
        let worker = Worker::new(0, scheduler, context, consumer);
        Self { dispatcher, returns: taken_back, stop, worker }
    }

    /// # Errors
    /// The update, where it is refused.
    #[inline]
    pub fn dispatch(&self, update: Update, now: Instant) -> Result<(), Update> {
        self.dispatcher.dispatch(update, now).map_err(|(_, update)| update)
    }

    /// Prepares [`work`](Self::work) for the next `updates`, of which none is a duplicate.
    pub fn prepare(&mut self, updates: usize) {
        let control = Arc::<Control>::default();
        self.worker.context.control = Arc::clone(&control);
        *self.stop.control.lock().unwrap_or_else(PoisonError::into_inner) = control;
        self.stop.left.store(updates, Relaxed);
    }

    /// Runs the worker's loop until as many updates as were prepared for are settled. As many have
    /// to be dispatched: it would sleep for more.
    pub fn work(&mut self) {
        self.worker.work_to_the_end();
    }

    /// Takes memory back, as a shard does where it has none left.
    #[inline]
    pub fn reclaim(&self, parser: &mut UpdateParser) {
        if parser.spares().0 == 0 {
            for recycled in self.returns.try_iter().take(RETURNS) {
                parser.keep(recycled);
            }
        }
    }
}

impl fmt::Debug for TestPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestPipeline").finish_non_exhaustive()
    }
}
