//! Looks at the bots' webhooks from Telegram's side while the server runs, sets them again, and
//! polls where Telegram cannot deliver.
//!
//! One thread calls the Bot API for all bots, one call after the other; each poller has a thread of
//! its own. The main thread waits for none of these calls: a stop leaves the one that is under way
//! alone. What it may have done is noted in the data directory before, so that the next process
//! goes on from there.
//!
//! | file | question |
//! |---|---|
//! | `machine` | what is to be done, and when; no I/O, no clock |
//! | `deliveries` | its part: does Telegram deliver |
//! | `repairs` | its part: is the webhook set again |
//! | `fallback` | its part: are updates fetched instead |
//! | `look` | what is seen, done and reported |
//! | `watch` | the thread that does it |
//! | `signal` | how the main thread reaches it |
//! | `watched_bot` | what the config says of a bot |
//! | `polling` | the pollers of those that have fallen back |
//! | `note` | what was done on purpose, kept for later |
//! | `log` | incidents, lines, and what a report shows |

mod deliveries;
mod fallback;
mod log;
mod look;
mod machine;
mod note;
mod polling;
mod repairs;
mod signal;
#[cfg(test)]
mod tests;
mod watch;
mod watched_bot;

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use self::{log::EventLog, polling::Pollers, signal::Signal, watch::Watch};
pub(in crate::commands) use self::{
    note::{Note, NoteFile},
    polling::Ended,
    watched_bot::WatchedBot,
};
use ringhook::Server;

/// The thread that watches over the webhooks, from the first bot on that is to be watched.
#[derive(Debug)]
pub(super) struct WebhookWatch {
    pollers: Arc<Pollers>,
    signal: Arc<Signal>,
    /// Until it runs.
    waiting: Mutex<Option<Watch>>,
}

impl WebhookWatch {
    /// Watches over `bots`, bots of `server`.
    pub(super) fn start(server: &Server, bots: Vec<WatchedBot>) -> Self {
        let pollers = Arc::new(Pollers::new(server.inlet(), server.polls()));
        let signal = Arc::<Signal>::default();
        let events = EventLog { incidents: server.incident_writer(), webhooks: server.webhooks() };
        let watch =
            Watch::new(Arc::clone(&pollers), server.registry(), Arc::clone(&signal), events);
        let this = Self { pollers, signal, waiting: Mutex::new(Some(watch)) };
        this.follow(bots);
        this
    }

    /// Watches over `bots` from now on, as soon as a call that is under way is over.
    pub(super) fn follow(&self, bots: Vec<WatchedBot>) {
        let is_wanted = !bots.is_empty();
        self.signal.follow(bots);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = waiting.take_if(|_| is_wanted) {
            let thread = thread::Builder::new().name("ringhook-webhook".into());
            // The server does its work without it.
            if let Err(error) = thread.spawn(|| watch.run()) {
                tracing::error!(%error, "webhooks are not watched: no thread for it");
            }
        }
    }

    /// Stops within a moment: a call that is under way is left alone. The webhooks stay as they
    /// are.
    pub(super) fn stop(self) -> Ended {
        self.signal.stop();
        self.pollers.end_all()
    }
}
