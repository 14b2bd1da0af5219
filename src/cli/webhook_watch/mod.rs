//! Looks at the bots' webhooks from Telegram's side while the server runs, sets them again, and polls
//! where Telegram cannot deliver.
//!
//! One thread calls the Bot API for all bots, one call after the other; each poller has a thread of
//! its own. The main thread waits for none of these calls: a stop leaves the one that is under way
//! alone. What it may have done is noted in the data directory before, so that the next process goes
//! on from there.
//!
//! | file | question |
//! |---|---|
//! | `machine` | what is to be done, and when; no I/O, no clock |
//! | `watch` | the thread that does it |
//! | `signal` | how the main thread reaches it |
//! | `ward` | what the config says of a bot |
//! | `check` | whether the public way works |
//! | `polling` | the pollers of those that have fallen back |
//! | `note` | what was done on purpose, kept for later |
//! | `tell` | incidents, lines, and what a report shows |

mod check;
mod machine;
mod note;
mod polling;
mod signal;
mod tell;
#[cfg(test)]
mod tests;
mod ward;
mod watch;

use std::{sync::Arc, thread};

pub(super) use self::{
    note::{Note, NoteFile},
    polling::Ended,
    ward::Ward,
};
use self::{polling::Pollers, signal::Signal, tell::Teller, watch::Watch};
use crate::{
    ServerHandle,
    error::{Error, ErrorKind},
};

/// The thread that watches over the webhooks.
#[derive(Debug)]
pub(super) struct WebhookWatch {
    pollers: Arc<Pollers>,
    signal: Arc<Signal>,
}

impl WebhookWatch {
    /// Watches over `wards`, bots of `server`.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(super) fn start(server: &ServerHandle, wards: Vec<Ward>) -> Result<Self, Error> {
        let pollers = Arc::new(Pollers::new(server.inlet(), server.polls()));
        let signal = Arc::<Signal>::default();
        let teller = Teller { incidents: server.incident_writer(), webhooks: server.webhooks() };
        let watch = Watch::new(Arc::clone(&pollers), server.roster(), Arc::clone(&signal), teller);
        signal.follow(wards);
        let thread = thread::Builder::new().name("ringhook-webhook".into());
        thread.spawn(|| watch.run()).map_err(|source| {
            Error::with_source(ErrorKind::Thread, "cannot start a thread", source)
        })?;
        Ok(Self { pollers, signal })
    }

    /// Watches over `wards` from now on, as soon as a call that is under way is over.
    pub(super) fn follow(&self, wards: Vec<Ward>) {
        self.signal.follow(wards);
    }

    /// Stops within a moment: a call that is under way is left alone. The webhooks stay as they are.
    pub(super) fn stop(self) -> Ended {
        self.signal.stop();
        self.pollers.end_all()
    }
}
