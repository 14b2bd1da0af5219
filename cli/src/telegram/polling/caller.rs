//! Calls on a thread of their own, so that a stop need not wait for the end of a long poll.

use std::{thread, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use super::Stop;
use crate::telegram::bot_api::{ApiError, Client, RawUpdate};
use ringhook::{Error, ErrorKind};

/// One call of getUpdates.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) allowed: Option<Vec<String>>,
    pub(super) limit: u8,
    pub(super) offset: Option<i64>,
    pub(super) timeout: Duration,
}

type Answer = Result<Vec<RawUpdate>, ApiError>;

/// Makes one call after the other. The thread ends with it, or with the call that is under way
/// then.
#[derive(Debug)]
pub(super) struct Caller {
    answers: Receiver<Answer>,
    asks: Sender<Ask>,
    /// Whether an answer was not waited for.
    is_left: bool,
}

impl Caller {
    pub(super) fn start(client: Client) -> Result<Self, Error> {
        let (asks, asked) = bounded::<Ask>(1);
        let (answer, answers) = bounded(1);
        let run = move || {
            for Ask { allowed, limit, offset, timeout } in asked {
                let updates = client.get_updates(offset, limit, timeout, allowed.as_deref());
                if answer.send(updates).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("ringhook-call".into()).spawn(run).map_err(|source| {
            Error::with_source(ErrorKind::Thread, "cannot start a thread", source)
        })?;
        Ok(Self { answers, asks, is_left: false })
    }

    /// True where a call that was given up may still be under way.
    pub(super) fn is_left(&self) -> bool {
        self.is_left
    }

    /// The answer to `ask`; `None` where `stop` was told first, or `within` was over. Then the
    /// answer is never looked at, and no further call is made.
    pub(super) fn call(
        &mut self,
        ask: Ask,
        stop: &Stop,
        within: Option<Duration>,
    ) -> Option<Answer> {
        if self.is_left {
            return None;
        }
        // Set unless an answer is looked at, also where the thread is gone.
        self.is_left = true;
        self.asks.send(ask).ok()?;
        let over = within.map_or_else(never, crossbeam_channel::after);
        let answer = select! {
            recv(self.answers) -> answer => answer.ok(),
            recv(stop.channel()) -> _ => None,
            recv(over) -> _ => None,
        };
        self.is_left = answer.is_none();
        answer
    }
}
