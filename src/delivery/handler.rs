//! The interface to a program's code: it is called with an update and returns the outcome.

use std::{borrow::Cow, time::Duration};

use crate::proto::update::Update;

/// The outcome of an update in a handler.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It has been dealt with.
    Done,
    /// It cannot be dealt with now: the same update is given to the handler again after this time,
    /// before any later update of its chat. After [`Dispatch::max_attempts`](crate::Dispatch) calls
    /// it counts as failed.
    Retry(Duration),
    /// It will never be dealt with. The reason goes to the log and to the file of dead letters: it
    /// must not quote the message.
    Failed(Cow<'static, str>),
}

/// Handles updates, called by the worker threads: several at once where there are several workers,
/// but never twice at once for one chat, whose updates come in the order of their arrival.
///
/// Every `Fn(&Update) -> Outcome` that is `Send + Sync` is one. A handler may block; while it does,
/// updates queue up, and at the limits the sender is asked to come again. A panic is caught and
/// counts as [`Outcome::Failed`].
pub trait Handler: Send + Sync + 'static {
    /// Handles one update, whose sender already has its 200.
    fn handle(&self, update: &Update) -> Outcome;

    /// Handles the messages of one album together, in order, where
    /// [`Dispatch::media_groups`](crate::Dispatch::media_groups) gathers them. There is one outcome
    /// for all of them.
    ///
    /// Unless it is implemented, each is handled by itself up to the first that is not
    /// [`Outcome::Done`]; a retry then begins with the first again.
    fn handle_album(&self, updates: &[&Update]) -> Outcome {
        let outcomes = updates.iter().map(|update| self.handle(update));
        outcomes.into_iter().find(|outcome| *outcome != Outcome::Done).unwrap_or(Outcome::Done)
    }
}

impl<F> Handler for F
where
    F: Fn(&Update) -> Outcome + Send + Sync + 'static,
{
    fn handle(&self, update: &Update) -> Outcome {
        self(update)
    }
}
