//! How a server stops: which threads end in which order, and how long each may take.
//!
//! Nothing here waits for a thread, a lock or a queue without a bound. In all, a stop waits for the
//! drain timeout, then [`ABORT_GRACE`] for threads that were made to leave everything, and
//! [`FORCED_GRACE`] for each kind of threads that comes after that.

use std::{
    mem,
    net::Shutdown,
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_channel::{mpsc, oneshot};

use super::{Server, feeder::Inlet, journal::JournalThreads, watch::Watcher};
use crate::{
    bots::BotId,
    control::{Control, ended_by},
    dispatch::Outputs,
    duration::deadline,
    io::shard::Message,
    observe::{incidents::Incidents, metrics::Report},
    server::admin::AdminThread,
};

/// Time that all threads get to end after they were made to leave everything.
const ABORT_GRACE: Duration = Duration::from_secs(1);
/// Time for one kind of threads where the stop is forced, or where others have taken that.
const FORCED_GRACE: Duration = Duration::from_millis(200);

/// What a stop ends, taken out of the handle.
struct Stopping {
    acceptor: Option<(UnixStream, JoinHandle<()>)>,
    admin: Option<AdminThread>,
    control: Arc<Control>,
    deadline: Instant,
    /// What is left of the time for threads that were made to leave everything.
    grace: Duration,
    hangs: Option<Watcher>,
    incidents: Arc<Incidents>,
    inlet: Inlet,
    journal: Option<JournalThreads>,
    outputs: Outputs,
    shards: Vec<mpsc::Sender<Message>>,
    shard_threads: Vec<JoinHandle<()>>,
    watcher: Option<Watcher>,
    worker_threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Stops accepting, answers the requests in flight, drains the queues, ends all threads.
    ///
    /// Takes at most about the drain timeout: connections that are not done by then are cut, and
    /// updates that still wait are counted as abandoned. A handler that never returns keeps its
    /// thread. It blocks its thread meanwhile: in async code use [`stop_async`](Self::stop_async).
    pub fn stop(mut self) -> Report {
        if let Some(stopping) = self.begin_stop() {
            stopping.run();
        }
        let mut report = self.report();
        if report.updates_abandoned > 0 {
            let left = self.outputs.schedulers().flat_map(|it| it.left_behind());
            let left = left.take(Report::ABANDONED_MAX);
            let name = |bot: BotId| self.registry.name(bot).unwrap_or_default().to_owned();
            report.abandoned = left.map(|(bot, id)| (name(bot), id.get())).collect();
        }
        report
    }

    /// As [`stop`](Self::stop), for async code of whichever runtime: a thread of its own does it.
    /// It begins with this call, whether or not what is returned is awaited, and goes on where that
    /// is dropped.
    ///
    /// ```
    /// use ringhook::{Bot, Outcome, Server, Update};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let server = Server::builder()
    ///     .without_listeners()
    ///     .bot(Bot::without_secret("shop", "/webhook"))
    ///     .handler(|_: &Update| Outcome::Done)
    ///     .start()?;
    /// let report = server.stop_async().await;
    /// assert_eq!(report.updates_abandoned, 0);
    /// # Ok::<(), ringhook::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_async(self) -> impl Future<Output = Report> + Send + use<> {
        // Returned should the stop panic, which would be a bug of ours.
        let so_far = self.report();
        let (done, stopped) = oneshot::channel();
        on_own_thread(self, move |handle| drop(done.send(handle.stop())));
        async move { stopped.await.unwrap_or(so_far) }
    }

    /// Takes what is to be stopped; `None` where that has been done.
    fn begin_stop(&mut self) -> Option<Stopping> {
        if mem::replace(&mut self.stopped, true) {
            return None;
        }
        self.control.stop();
        let drain_timeout = self.settings().drain_timeout;
        Some(Stopping {
            acceptor: self.acceptor.take(),
            admin: self.admin.take(),
            control: Arc::clone(&self.control),
            deadline: deadline(drain_timeout),
            grace: ABORT_GRACE,
            hangs: self.hangs.take(),
            incidents: Arc::clone(&self.incidents),
            inlet: self.inlet.clone(),
            journal: self.journal.take(),
            outputs: self.outputs.clone(),
            shards: mem::take(&mut self.shards),
            shard_threads: mem::take(&mut self.shard_threads),
            watcher: self.watcher.take(),
            worker_threads: self.running.take_threads(),
        })
    }
}

/// Stops the server as [`stop`](Server::stop) does, and waits for that, unless it happens in async
/// code: then a thread of its own stops it, and nothing waits.
impl Drop for Server {
    fn drop(&mut self) {
        let Some(stopping) = self.begin_stop() else { return };
        if self.is_started && (self.running.has_stream() || is_in_runtime()) {
            on_own_thread(stopping, Stopping::run);
        } else {
            stopping.run();
        }
    }
}

/// True where waiting would hold up other tasks.
fn is_in_runtime() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

/// Has a new thread do `work` with `subject`, or this one where none can be started.
fn on_own_thread<T: Send + 'static>(subject: T, work: impl FnOnce(T) + Send + 'static) {
    let kept = Arc::new(Mutex::new(Some((subject, work))));
    let take = {
        let kept = Arc::clone(&kept);
        move || kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    };
    let run = move || {
        if let Some((subject, work)) = take() {
            // What it has printed is all that can be reported.
            let _ = catch_unwind(AssertUnwindSafe(|| work(subject)));
        }
    };
    let thread = thread::Builder::new().name("ringhook-stop".to_owned());
    if thread.spawn(run).is_err() {
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((subject, work)) = kept {
            work(subject);
        }
    }
}

impl Stopping {
    fn run(mut self) {
        let watcher: Vec<_> = self.watcher.take().into_iter().map(Watcher::stop).collect();
        if let Some((stop, thread)) = self.acceptor.take() {
            // Not only dropped: a child that was forked may hold a copy of it.
            let _ = stop.shutdown(Shutdown::Both);
            self.give_time(vec![thread], || {});
        }
        self.send_to_shards(|| Message::Drain);
        let threads = mem::take(&mut self.shard_threads);
        if let Err(late) = self.drained(threads, || {}) {
            self.send_to_shards(|| Message::Abort);
            self.give_time(late, || {});
        }
        self.shards.clear();
        self.end_intake();
        let outputs = self.outputs.clone();
        outputs.schedulers().for_each(|scheduler| scheduler.close());
        let wake = || outputs.schedulers().for_each(|scheduler| scheduler.wake_all());
        let threads = mem::take(&mut self.worker_threads);
        if let Err(late) = self.drained(threads, wake) {
            self.control.abandon();
            self.give_time(late, wake);
        }
        if let Some(JournalThreads { journal, housekeeper, .. }) = self.journal.take() {
            journal.stop();
            if let Err(late) = self.drained(housekeeper, || {}) {
                self.give_time(late, || {});
            }
        }
        // It ends at once, unless a file system that does not answer keeps it.
        self.give_time(watcher, || {});
        // It has reported what the stop waited for.
        let hangs = self.hangs.take().into_iter().map(Watcher::stop).collect();
        self.give_time(hangs, || {});
        self.incidents.close();
        // The last of all: it shows the stop to probes.
        if let Some(admin) = self.admin.take() {
            self.give_time(admin.stop(), || {});
        }
    }

    /// Ends the sending ends of the journal and its reader: what has not gone to the workers stays
    /// there for the next start.
    fn end_intake(&mut self) {
        // Then all senders to the committer are dropped, so it ends.
        self.inlet.close(self.deadline.max(Instant::now() + FORCED_GRACE));
        let Some(journal) = &mut self.journal else { return };
        let (committer, read_back) =
            (mem::take(&mut journal.committer), mem::take(&mut journal.read_back));
        let (journal, backlog) = (Arc::clone(&journal.journal), Arc::clone(&journal.backlog));
        if let Err(late) = self.drained(committer, || journal.wake_committer()) {
            // It ends by itself, after a last sync. Until then the directory is locked, and a
            // server that this process starts next would not get it.
            self.give_time(late, || journal.wake_committer());
        }
        self.control.end_reading();
        self.give_time(read_back, || backlog.wake());
    }

    /// Waits until the drain timeout for `threads` to end.
    ///
    /// # Errors
    /// Those that have not by then, or when the stop was forced.
    fn drained(
        &self,
        threads: Vec<JoinHandle<()>>,
        nudge: impl Fn(),
    ) -> Result<(), Vec<JoinHandle<()>>> {
        ended_by(threads, self.deadline, || self.control.is_forced(), nudge)
    }

    /// Waits for threads that were made to leave everything. They share the time, and each kind of
    /// them gets a moment however much those before have taken; those that have not ended then are
    /// left.
    fn give_time(&mut self, threads: Vec<JoinHandle<()>>, nudge: impl Fn()) {
        let began_at = Instant::now();
        let grace = if self.control.is_forced() { FORCED_GRACE } else { self.grace };
        let _ = ended_by(threads, began_at + grace.max(FORCED_GRACE), || false, nudge);
        self.grace = self.grace.saturating_sub(began_at.elapsed());
    }

    fn send_to_shards(&self, message: impl Fn() -> Message) {
        for mailbox in &self.shards {
            // A sender of its own always finds room, and does not wait for a shard that hangs. A
            // closed mailbox belongs to a shard that has ended.
            let _ = mailbox.clone().try_send(message());
        }
    }
}
