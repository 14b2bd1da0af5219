//! The outputs of a server while it runs: how they start, and how they end once they are taken out.
//!
//! An output is its number, queue and workers; where updates are brought is what they are given.
//! So another destination takes over the queue as it is: a chat's next update waits for the one
//! that is under way, and goes to the new destination.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{Destination, Inlet, files::Files, health::Health, output::Output, threads::spawn};
use crate::{
    config::Config,
    control::{Control, OutputState, operation::Operation},
    delivery::{
        dead_letters::DeadLetters,
        sink::{BotNames, Sink},
        stream::{OnDrop, Settlement, Settlements},
        worker::{Consumer, Order, Orders, Worker, WorkerContext},
    },
    dispatch::{Budget, FullChats, OutputKey, OutputQueue, Outputs, Scheduler, SettledBatch, Task},
    error::Error,
    io::cpu_affinity,
    journal::{Backlog, Journal},
    observe::metrics::{AllWorkers, OutputReport, WorkerMetrics},
    proto::update::Recycled,
};

/// All outputs of a server, and what their workers are made with.
pub(super) struct RunningOutputs {
    /// By number; those that are no more stay.
    pub(super) all: Mutex<Vec<RunningOutput>>,
    /// Set once the journal's threads run, where there is one.
    pub(super) backlog: OnceLock<Arc<Backlog>>,
    pub(super) control: Arc<Control>,
    /// Of the workers of one output, one after the other.
    pub(super) cpus: Vec<usize>,
    pub(super) files: Files,
    pub(super) health: Arc<Health>,
    pub(super) inlet: Inlet,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) letters: Option<Arc<DeadLetters>>,
    pub(super) metrics: AllWorkers,
    pub(super) names: BotNames,
    pub(super) on_drop: OnDrop,
    pub(super) outputs: Outputs,
    /// Those of the shards.
    pub(super) shard_cpus: Vec<usize>,
    /// Where each shard takes memory back.
    pub(super) returns: Vec<Sender<Recycled>>,
    /// Those of the workers.
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One output.
pub(super) struct RunningOutput {
    pub(super) is_stream: bool,
    /// Changes that are prepared and rely on its workers.
    pub(super) holds: usize,
    pub(super) stage: Stage,
    pub(super) state: Arc<OutputState>,
    pub(super) workers: Vec<RunningWorker>,
}

pub(super) enum Stage {
    InForce,
    /// It was taken out, and something may be left. Each shard has a copy until it has gone on.
    Draining(Arc<()>),
    Over,
}

/// A worker as it is known to others.
pub(super) struct RunningWorker {
    metrics: Arc<WorkerMetrics>,
    number: usize,
    operation: Arc<Operation>,
    pub(super) orders: Arc<Orders>,
    pub(super) outcomes: Outcomes,
}

/// A worker's mailbox for the outcomes of a stream's updates.
pub(super) type Outcomes = (Sender<(Task, Settlement)>, Receiver<(Task, Settlement)>);

/// The queue of an output with so many workers.
pub(super) fn queue(
    name: &str,
    workers: usize,
    config: &Config,
    bots: usize,
    shards: usize,
) -> OutputQueue {
    let limits = &config.limits;
    // Two of the shards' kind more: for the journal's threads, or for updates that are fed in.
    let budget = Budget::new(limits.queue_updates as u64, limits.queue_bytes as u64)
        .shared_by(shards + 2 + workers, limits.body_bytes as u64);
    let full = Arc::new(FullChats::new());
    let (scheduler, inboxes) =
        Scheduler::new(workers, bots, limits, config.dispatch.clone(), &full, Instant::now());
    let (budget, key) = (Arc::new(budget), OutputKey::from_name(name));
    OutputQueue { budget, full, inboxes, key, scheduler: Arc::new(scheduler) }
}

impl RunningOutputs {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<RunningOutput>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads())
    }

    /// True where async code takes the updates of one.
    pub(super) fn has_stream(&self) -> bool {
        self.lock().iter().any(|output| output.is_stream)
    }

    /// Starts the workers of `output`. Its queue is `queue`, which gets its number here unless the
    /// start has given it one.
    ///
    /// # Errors
    /// Its sink cannot be opened, or a thread not be started; then it is over.
    pub(super) fn start(
        &self,
        all: &mut Vec<RunningOutput>,
        output: &Output,
        queue: &OutputQueue,
    ) -> Result<usize, Error> {
        let outcomes: Vec<Outcomes> = queue.inboxes.iter().map(|_| unbounded()).collect();
        let consumers = self.consumers(&output.destination, outcomes.iter(), &queue.scheduler)?;
        let workers = outcomes.into_iter().map(|outcomes| {
            let (number, metrics) = self.metrics.add();
            let (operation, orders) = (Arc::default(), Arc::default());
            RunningWorker { metrics, number, operation, orders, outcomes }
        });
        let workers: Vec<_> = workers.collect();
        let state = Arc::new(OutputState::new(&output.name));
        let number = all.len();
        if self.outputs.queues.count() == number {
            self.outputs.add(queue.clone());
            self.journal.iter().for_each(|journal| journal.parts().add_output(queue.key));
        }
        self.health.watch_output(&state);
        drop(self.files.set_sink(number, sink_of(&output.destination)));
        workers.iter().for_each(|worker| self.health.watch_worker(&worker.operation));
        let is_stream = matches!(output.destination, Destination::Stream(_));
        let new = RunningOutput { is_stream, holds: 0, stage: Stage::InForce, state, workers };
        let spawned = self.spawn(number, &new, queue, consumers);
        all.push(new);
        if let (Err(_), Some(output)) = (&spawned, all.get_mut(number)) {
            drop(self.end(number, output));
        }
        spawned.map(|()| number)
    }

    fn spawn(
        &self,
        number: usize,
        output: &RunningOutput,
        queue: &OutputQueue,
        consumers: Vec<Consumer>,
    ) -> Result<(), Error> {
        let cpus = self.cpus.iter().copied().cycle();
        for (index, ((worker, consumer), cpu)) in
            output.workers.iter().zip(consumers).zip(cpus).enumerate()
        {
            let context = WorkerContext {
                control: Arc::clone(&self.control),
                copies: Vec::new(),
                dead_letters: self.letters.clone(),
                duplicates: Vec::new(),
                journal: self.journal.clone(),
                metrics: Arc::clone(&worker.metrics),
                operation: Arc::clone(&worker.operation),
                orders: Arc::clone(&worker.orders),
                output: number,
                output_state: Some(Arc::clone(&output.state)),
                parts: Vec::new(),
                lanes: Vec::new(),
                returns: self.returns.clone(),
                settled_at: None,
                settled: Vec::new(),
                settled_batch: SettledBatch::new(Arc::clone(&queue.budget)),
            };
            let worker_of = Worker::new(index, Arc::clone(&queue.scheduler), context, consumer);
            let name = format!("ringhook-w{}", worker.number);
            let is_shared = self.shard_cpus.contains(&cpu);
            let run = move || {
                if is_shared {
                    // The shard that wakes it is about to sleep: it may do so first.
                    cpu_affinity::be_patient();
                }
                worker_of.run();
            };
            let thread = spawn(&self.control, name, Some(cpu), run)?;
            let mut threads = self.threads();
            for ended in threads.extract_if(.., |thread| thread.is_finished()) {
                // The panic hook has logged its panic.
                let _ = ended.join();
            }
            threads.push(thread);
        }
        Ok(())
    }

    /// What brings updates to `destination`, for each worker with a mailbox for outcomes.
    pub(super) fn consumers<'a>(
        &self,
        destination: &Destination,
        outcomes: impl Iterator<Item = &'a Outcomes>,
        scheduler: &Arc<Scheduler>,
    ) -> Result<Vec<Consumer>, Error> {
        let consumer = |(index, outcomes): (usize, &Outcomes)| {
            Ok(match destination {
                Destination::Handler(handler) => Consumer::Handler(Arc::clone(handler)),
                Destination::Sink(sink) => Consumer::Sink(sink.writer_for(&self.names)?),
                Destination::Stream(sender) => {
                    sender.serve(scheduler);
                    // Bounded by the budget: each entry is an update under way.
                    let (mailbox, settled) = outcomes.clone();
                    let (scheduler, on_drop) = (Arc::clone(scheduler), self.on_drop);
                    let settlements = Settlements { mailbox, scheduler, worker: index, on_drop };
                    Consumer::Stream(sender.clone(), settlements, settled)
                }
            })
        };
        outcomes.enumerate().map(consumer).collect()
    }

    /// Says which output is the only one, where one is.
    pub(super) fn mark_sole(all: &[RunningOutput]) {
        let is_in_force = |it: &RunningOutput| matches!(it.stage, Stage::InForce);
        let is_sole = all.iter().filter(|output| is_in_force(output)).count() == 1;
        all.iter().for_each(|output| output.state.set_sole(is_sole && is_in_force(output)));
    }

    /// Starts the outputs of a server that starts.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub(super) fn start_all(&self, outputs: &[Output]) -> Result<(), Error> {
        let mut all = self.lock();
        for output in outputs {
            let Some(queue) = self.outputs.queues.get(all.len()) else { continue };
            self.start(&mut all, output, queue)?;
        }
        Self::mark_sole(&all);
        Ok(())
    }

    /// Ends outputs that were taken out and have nothing left; to be called now and then.
    pub(super) fn look(&self) {
        if self.control.is_stopping() {
            return;
        }
        // Sinks are the program's: they are dropped without the lock.
        let mut ended = Vec::new();
        for (number, output) in self.lock().iter_mut().enumerate() {
            let Stage::Draining(token) = &output.stage else { continue };
            // An update may be on its way by routes that were in force.
            let is_awaited = Arc::strong_count(token) > 1
                || self.backlog.get().is_none() && !self.inlet.is_free();
            let left = self.left(number);
            if left == 0 && !is_awaited && output.holds == 0 {
                ended.push(self.end(number, output));
                tracing::info!(output = output.state.name(), "the output has ended");
            } else {
                output.state.set_removed(left as u64);
            }
        }
    }

    /// How many updates are left for an output.
    pub(super) fn left(&self, number: usize) -> usize {
        let Some(queue) = self.outputs.queues.get(number) else { return 0 };
        let with_workers = || queue.scheduler.updates();
        match (self.backlog.get(), &self.journal) {
            (Some(backlog), Some(journal)) => {
                backlog.left_for(number, journal.parts(), with_workers)
            }
            _ => with_workers(),
        }
    }

    /// Ends what an output has. Nothing of it is under way.
    fn end(&self, number: usize, output: &mut RunningOutput) -> Option<Arc<dyn Sink>> {
        output.stage = Stage::Over;
        output.is_stream = false;
        output.state.set_over();
        output.workers.iter().for_each(|worker| worker.orders.give(Order::End));
        self.wake(number);
        self.health.count_workers(-output.workers.len().cast_signed());
        self.files.set_sink(number, None)
    }

    pub(super) fn wake(&self, number: usize) {
        self.outputs.queues.get(number).into_iter().for_each(|queue| queue.scheduler.wake_all());
    }

    /// The outputs' parts of the report, where there are several.
    pub(super) fn reports(&self) -> Vec<OutputReport> {
        let all = self.lock();
        let report = |output: &RunningOutput| {
            let state = &output.state;
            let is_told = !state.is_over() && (state.down().is_some() || state.removed().is_some());
            let down = is_told.then(|| state.to_string());
            let own = output.workers.iter().map(|worker| Arc::clone(&worker.metrics));
            OutputReport::new(state.name(), down, &own.collect::<Vec<_>>())
        };
        all.iter().filter(|_| all.len() > 1).map(report).collect()
    }
}

pub(super) fn sink_of(destination: &Destination) -> Option<Arc<dyn Sink>> {
    match destination {
        Destination::Sink(sink) => Some(Arc::clone(sink)),
        Destination::Handler(_) | Destination::Stream(_) => None,
    }
}

impl fmt::Debug for RunningOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningOutputs").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}
