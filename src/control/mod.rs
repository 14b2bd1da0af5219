//! What all threads of one server share beside the updates: flags to stop, the first failure, and
//! what each thread is doing.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the flags of one server, and waiting for threads to end |
//! | `operation` | what each thread is doing and since when |
//! | `heartbeat` | the signs of life of a shard |
//! | `output_state` | whether an output takes what it is given |
//! | `panics` | catching panics of foreign code |

mod heartbeat;
pub(crate) mod operation;
mod output_state;
pub(crate) mod panics;

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub(crate) use self::heartbeat::Heartbeat;
pub use self::output_state::{OutputDown, OutputState};
use crate::error::{Error, ErrorKind};

/// Pause between two checks in a wait for threads.
const END_STEP: Duration = Duration::from_millis(5);

/// Waits until all `threads` have ended, calling `nudge` in between, and joins them.
///
/// # Errors
/// The threads that have not ended, where `deadline` came first or `is_forced` ended the wait.
pub(crate) fn ended_by(
    mut threads: Vec<JoinHandle<()>>,
    deadline: Instant,
    is_forced: impl Fn() -> bool,
    nudge: impl Fn(),
) -> Result<(), Vec<JoinHandle<()>>> {
    loop {
        nudge();
        for thread in threads.extract_if(.., |thread| thread.is_finished()) {
            // The panic hook has logged its panic.
            let _ = thread.join();
        }
        if threads.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline || is_forced() {
            return Err(threads);
        }
        thread::sleep(END_STEP);
    }
}

/// Called once, with the first error that the server cannot recover from.
pub(crate) type OnFailure = Box<dyn Fn(&Error) + Send + Sync>;

/// The flags of one server. They are read often and written once.
#[derive(Default)]
pub(crate) struct Control {
    abandon: AtomicBool,
    /// The first error that the server cannot recover from.
    failure: OnceLock<String>,
    is_forced: AtomicBool,
    reading_over: AtomicBool,
    sink_gone: AtomicBool,
    stopping: AtomicBool,
    /// Workers that wait for the file of dead letters.
    waiting: AtomicUsize,
    on_failure: Option<OnFailure>,
}

impl Control {
    pub(crate) fn new(on_failure: Option<OnFailure>) -> Self {
        Self { on_failure, ..Self::default() }
    }

    /// Makes the workers leave what still waits.
    pub(crate) fn abandon(&self) {
        self.abandon.store(true, Ordering::Release);
    }

    /// True where the workers are to leave what still waits: because they were asked to, or because
    /// the server stops and the sink is lost, so that waiting would be for nothing.
    pub(crate) fn is_abandoned(&self) -> bool {
        let is_hopeless =
            || self.sink_gone.load(Ordering::Acquire) && self.stopping.load(Ordering::Acquire);
        self.abandon.load(Ordering::Acquire) || is_hopeless()
    }

    /// Makes a stop that is under way, or to come, wait for nothing.
    pub(crate) fn force(&self) {
        self.is_forced.store(true, Ordering::Release);
    }

    pub(crate) fn is_forced(&self) -> bool {
        self.is_forced.load(Ordering::Acquire)
    }

    /// Makes the thread that reads back end: what is left in the journal is for the next start.
    pub(crate) fn end_reading(&self) {
        self.reading_over.store(true, Ordering::Release);
    }

    pub(crate) fn is_reading_over(&self) -> bool {
        self.reading_over.load(Ordering::Acquire)
    }

    /// Notes that the server stops.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The first error that the server cannot recover from.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Counts a worker as waiting for the file of dead letters until the result is dropped.
    pub(crate) fn wait_for_disk(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// How many workers wait so.
    pub(crate) fn waiting_for_disk(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Reports an error from which the server cannot recover; only the first counts.
    pub(crate) fn fail(&self, error: &Error) {
        if error.kind() == ErrorKind::Sink {
            self.sink_gone.store(true, Ordering::Release);
        }
        if self.failure.set(error.to_string()).is_ok() {
            tracing::error!(%error, "the server has failed");
            // It runs on this thread, which must not end by its panic.
            if let Some(call) = &self.on_failure
                && panics::caught(|| call(error)).is_err()
            {
                tracing::error!("the program's on_failure has panicked");
            }
        }
    }
}

/// A worker that waits.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("abandon", &self.abandon).finish_non_exhaustive()
    }
}
