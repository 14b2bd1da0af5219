//! One bot's polling.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    Conflict, Stop,
    caller::{Ask, Caller},
    trouble::{Backoff, is_final},
};
use crate::telegram::bot_api::{ApiError, Client, RawUpdate};
use ringhook::{
    Error, FeedError, Server,
    internals::{observe::metrics::PollMetrics, server::Inlet},
};

/// How long the Bot API may wait for an update before it answers.
const LONG_POLL: Duration = Duration::from_secs(25);
/// The most updates that an answer has.
const LIMIT: u8 = 100;
/// First and longest pause before updates that were refused are brought again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Fetches one bot's updates, brings them to the server and confirms those that it has taken.
#[derive(Debug)]
pub(crate) struct Poller {
    allowed: Option<Vec<String>>,
    backoff: Backoff,
    bot: String,
    caller: Caller,
    /// The offset that the Bot API was told last: all before it is confirmed.
    confirmed: Option<i64>,
    inlet: Inlet,
    limit: u8,
    metrics: Arc<PollMetrics>,
    /// What follows the last update that was taken.
    next: Option<i64>,
}

impl Poller {
    /// One for the bot named `bot` of `server`, which `client` calls for. With `allowed`, the Bot
    /// API is told which kinds of updates are wanted, which holds until it is told otherwise.
    ///
    /// # Errors
    /// Where its thread cannot be started.
    pub(crate) fn new(
        server: &Server,
        bot: &str,
        client: Client,
        allowed: Option<Vec<String>>,
    ) -> Result<Self, Error> {
        Self::into_inlet(server.inlet(), server.poll_metrics(bot), bot, client, allowed)
    }

    /// The same where there is no handle at hand.
    ///
    /// # Errors
    /// Where its thread cannot be started.
    pub(crate) fn into_inlet(
        inlet: Inlet,
        metrics: Arc<PollMetrics>,
        bot: &str,
        client: Client,
        allowed: Option<Vec<String>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            allowed,
            backoff: Backoff::default(),
            bot: bot.to_owned(),
            caller: Caller::start(client)?,
            confirmed: None,
            inlet,
            limit: LIMIT,
            metrics,
            next: None,
        })
    }

    /// The bot's name.
    pub(crate) fn bot(&self) -> &str {
        &self.bot
    }

    /// True where a call has been answered.
    pub(crate) fn has_begun(&self) -> bool {
        self.metrics.answers.get() > 0
    }

    /// Polls until it is told to stop, which it does within a moment: a long poll that is under way
    /// is left alone, and confirms nothing that was not taken before it. Outages are waited out.
    /// Where it returns without having been told to, nothing can be taken any more. It is run once.
    ///
    /// # Errors
    /// What no waiting helps against: a webhook that is set, a token that is wrong.
    pub(crate) fn run(&mut self, stop: &Stop) -> Result<(), ApiError> {
        self.metrics.is_polling.store(true, Relaxed);
        let outcome = self.poll(stop);
        self.metrics.is_polling.store(false, Relaxed);
        outcome
    }

    /// Confirms what was taken and not confirmed yet, so that it does not come again. To be called
    /// once those updates may be gone for good, after [`run`](Self::run). Waits for the answer up
    /// to `within`; false where it did not come, which costs nothing but duplicates that are
    /// dropped.
    pub(crate) fn confirm(&mut self, within: Duration) -> bool {
        if self.next.is_none() || self.next == self.confirmed {
            return true;
        }
        let (_stopper, stop) = Stop::new();
        // One update at the most is sent, and not looked at.
        let ask = Ask { allowed: None, limit: 1, offset: self.next, timeout: Duration::ZERO };
        let is_confirmed = matches!(self.caller.call(ask, &stop, Some(within)), Some(Ok(_)));
        if is_confirmed {
            self.confirmed = self.next;
        }
        is_confirmed
    }

    fn poll(&mut self, stop: &Stop) -> Result<(), ApiError> {
        while !stop.is_told() && !self.caller.is_left() {
            let ask = Ask {
                allowed: self.allowed.clone(),
                limit: self.limit,
                offset: self.next,
                timeout: LONG_POLL,
            };
            let offset = ask.offset;
            match self.caller.call(ask, stop, None) {
                Some(Ok(updates)) => {
                    self.well_again();
                    self.confirmed = offset;
                    self.metrics.answers.increment();
                    if !self.take(updates, stop) {
                        return Ok(());
                    }
                }
                Some(Err(error)) if is_final(&error) => {
                    self.metrics.failed(&error.to_string());
                    return Err(error);
                }
                Some(Err(error)) => {
                    stop.pause(self.wait_after(&error));
                }
                // Whether it has got there is unknown. Where it has not, duplicates are dropped.
                None => self.confirmed = offset,
            }
        }
        Ok(())
    }

    fn well_again(&mut self) {
        if self.backoff.is_waiting() {
            tracing::info!(bot = self.bot, "getUpdates is answered again");
        }
        self.backoff.reset();
        // Step by step: what has failed at the limit may come again with more.
        self.limit = self.limit.saturating_mul(4).min(LIMIT);
    }

    /// Tells of a call that has failed; how long to wait before the next one.
    fn wait_after(&mut self, error: &ApiError) -> Duration {
        let wait = self.backoff.after(error);
        let mut why = error.to_string();
        if let Some(conflict) = Conflict::new(error) {
            why = format!("{why} ({})", conflict.meaning());
        }
        self.metrics.failed(&why);
        let wait_s = wait.as_secs_f64();
        tracing::warn!(bot = self.bot, error = why, wait_s, "getUpdates has failed");
        if matches!(error, ApiError::Odd(_) | ApiError::Unreachable(_)) {
            // Perhaps the answer was too long for the line, or an update in it is the reason.
            self.limit = (self.limit / 4).max(1);
        }
        wait
    }

    /// Brings `updates` to the server, in the order of their ids, until all are taken or it is told
    /// to stop. Those that are left are not confirmed. False where nothing can be taken any more.
    fn take(&mut self, mut updates: Vec<RawUpdate>, stop: &Stop) -> bool {
        updates.sort_by_key(|update| update.id);
        let mut left = updates.as_slice();
        let (mut pause, mut is_told) = (PAUSES.0, false);
        while let [first, rest @ ..] = left {
            match self.inlet.deliver(&self.bot, left) {
                Ok(taken) => {
                    let (taken, further) = left.split_at(taken.min(left.len()));
                    self.metrics.updates.add(taken.len() as u64);
                    self.next = taken.last().map(|last| last.id.saturating_add(1)).or(self.next);
                    left = further;
                    pause = PAUSES.0;
                    if std::mem::take(&mut is_told) {
                        tracing::info!(bot = self.bot, "updates are taken again");
                    }
                }
                Err(error @ (FeedError::Full | FeedError::Journal)) => {
                    if pause == PAUSES.1 && !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(bot = self.bot, %error, "updates wait at Telegram");
                    }
                    if !stop.pause(pause) {
                        return false;
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(error @ (FeedError::NotAnUpdate(_) | FeedError::TooLarge)) => {
                    self.skip(first, error);
                    left = rest;
                }
                // There is no server any more, or it does not know the bot.
                Err(_) => return false,
            }
        }
        true
    }

    /// Passes over what is no update: it would come again and again, and nothing behind it.
    fn skip(&mut self, update: &RawUpdate, error: FeedError) {
        self.metrics.skipped.increment();
        let reason = format!("it came by getUpdates and is no update: {error}");
        let is_kept = self.inlet.dead_letter(&self.bot, update.id, &update.json, &reason);
        let (bot, update_id) = (&self.bot, update.id);
        tracing::error!(bot, update_id, %error, is_kept, "what came by getUpdates is skipped");
        self.next = Some(update.id.saturating_add(1));
    }
}
