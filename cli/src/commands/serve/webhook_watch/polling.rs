//! The pollers of bots that have fallen back.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    process::threads::ended_in_time,
    telegram::{
        bot_api::Client,
        polling::{Poller, Stop, Stopper},
    },
};
use ringhook::{
    Error, ErrorKind,
    internals::{observe::metrics::Polls, server::Inlet},
};

/// How long a stop waits for the last updates to be confirmed.
const CONFIRM: Duration = Duration::from_secs(1);

/// Those that run, each on a thread, by the names of their bots.
#[derive(Debug)]
pub(super) struct Pollers {
    inlet: Inlet,
    polls: Arc<Polls>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    /// None are started any more.
    is_over: bool,
    polling: BTreeMap<String, Polling>,
}

#[derive(Debug)]
struct Polling {
    stopper: Stopper,
    thread: JoinHandle<Poller>,
}

impl Polling {
    /// Waits for the end, which comes within a moment.
    fn end(self) -> Option<Poller> {
        drop(self.stopper);
        self.thread.join().ok()
    }
}

impl Pollers {
    pub(super) fn new(inlet: Inlet, polls: Arc<Polls>) -> Self {
        Self { inlet, polls, running: Mutex::default() }
    }

    /// Polls for `bot`, unless a poller of it runs, or the server stops.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub(super) fn start(
        &self,
        bot: &str,
        client: Client,
        allowed: Option<Vec<String>>,
    ) -> Result<(), Error> {
        let mut running = self.lock();
        let is_there = running.polling.get(bot).is_some_and(|it| !it.thread.is_finished());
        if running.is_over || is_there {
            return Ok(());
        }
        let (inlet, metrics) = (self.inlet.clone(), self.polls.of(bot));
        let mut poller = Poller::into_inlet(inlet, metrics, bot, client, allowed)?;
        let (stopper, stop) = Stop::new();
        let run = move || {
            if let Err(error) = poller.run(&stop) {
                // The next look at the webhook tells what is to be done.
                tracing::warn!(bot = poller.bot(), %error, "polling has ended");
            }
            poller
        };
        let thread = thread::Builder::new().name("ringhook-poll".into()).spawn(run);
        let thread = thread.map_err(|source| {
            Error::with_source(ErrorKind::Thread, "cannot start a thread", source)
        })?;
        running.polling.insert(bot.to_owned(), Polling { stopper, thread });
        Ok(())
    }

    /// Stops polling for `bot`. With `confirm`, what was taken is confirmed within that time, so
    /// that it does not come again; where that fails, it does, and is recognised.
    pub(super) fn end(&self, bot: &str, confirm: Option<Duration>) {
        let polling = self.lock().polling.remove(bot);
        let poller = polling.and_then(Polling::end);
        if let (Some(mut poller), Some(within)) = (poller, confirm) {
            poller.confirm(within);
        }
    }

    /// Tells them all to stop, and starts none any more. They are not waited for: one that brings
    /// updates to a disk that does not answer ends when the server stops.
    pub(super) fn end_all(&self) -> Ended {
        let mut running = self.lock();
        running.is_over = true;
        let polling = mem::take(&mut running.polling);
        drop(running);
        let (stoppers, threads): (Vec<_>, Vec<_>) =
            polling.into_values().map(|polling| (polling.stopper, polling.thread)).unzip();
        drop(stoppers);
        Ended(threads)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pollers that were stopped.
#[derive(Debug)]
pub(crate) struct Ended(Vec<JoinHandle<Poller>>);

impl Ended {
    /// Confirms what they have taken. To be called once that may be gone for good; takes a second
    /// at the most.
    pub(crate) fn confirm(self) {
        let end = Instant::now() + CONFIRM;
        let pollers = ended_in_time(self.0, end);
        let threads = pollers.into_iter().map(|mut poller| {
            thread::spawn(move || {
                poller.confirm(end.saturating_duration_since(Instant::now()));
            })
        });
        // Each ends by then.
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| drop(thread.join()));
    }
}
