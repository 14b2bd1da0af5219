//! Counters of getUpdates and their report.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use serde::Serialize;

use super::Counter;

/// One bot's, written by the thread that polls for it.
#[derive(Debug, Default)]
pub struct PollMetrics {
    /// Calls that were answered.
    pub answers: Counter,
    /// Calls that were not, or refused.
    pub(crate) failures: Counter,
    /// Whether it is polled for now.
    pub is_polling: AtomicBool,
    /// Why the last of them failed, and when.
    pub(crate) last_failure: Mutex<Option<(SystemTime, String)>>,
    /// What came as an update and is none.
    pub skipped: Counter,
    /// Updates taken.
    pub updates: Counter,
}

impl PollMetrics {
    /// Counts a poll that has failed, and keeps why.
    pub fn failed(&self, why: &str) {
        self.failures.increment();
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((SystemTime::now(), why.to_owned()));
    }
}

/// Those of all bots that have been polled for.
#[derive(Debug, Default)]
pub struct Polls(Mutex<Vec<(String, Arc<PollMetrics>)>>);

impl Polls {
    /// Those of `bot`.
    pub fn of(&self, bot: &str) -> Arc<PollMetrics> {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, metrics)) = polls.iter().find(|(name, _)| name == bot) {
            return Arc::clone(metrics);
        }
        let metrics = Arc::default();
        polls.push((bot.to_owned(), Arc::clone(&metrics)));
        metrics
    }

    pub(super) fn report(&self) -> Vec<PollReport> {
        let polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polls.iter().map(|(bot, metrics)| PollReport::new(bot, metrics)).collect()
    }
}

/// How getUpdates went for one bot since the server's start.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PollReport {
    /// The bot's name.
    pub bot: String,
    /// Whether it is polled for now.
    pub is_polling: bool,
    /// Calls that were answered.
    pub answers: u64,
    /// Updates that were acknowledged, those that had been seen before included.
    pub updates: u64,
    /// What came as an update and is none: too large, too deep, no JSON of its form.
    pub skipped: u64,
    /// Calls that were not answered, or refused.
    pub failures: u64,
    /// Why the last of them was, in one line.
    pub last_failure: Option<String>,
    /// When, as RFC 3339 has it.
    pub last_failure_at: Option<String>,
}

impl PollReport {
    fn new(bot: &str, metrics: &PollMetrics) -> Self {
        let last = metrics.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (at, why) = last.unzip();
        Self {
            bot: bot.to_owned(),
            is_polling: metrics.is_polling.load(Relaxed),
            answers: metrics.answers.get(),
            updates: metrics.updates.get(),
            skipped: metrics.skipped.get(),
            failures: metrics.failures.get(),
            last_failure: why,
            last_failure_at: at.map(|at| humantime::format_rfc3339_seconds(at).to_string()),
        }
    }
}

impl fmt::Display for PollReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bot, updates, answers, skipped, failures, .. } = self;
        write!(f, "polled       {bot}: {updates} update(s) in {answers} answer(s)")?;
        if *skipped > 0 {
            write!(f, ", {skipped} skipped")?;
        }
        if *failures > 0 {
            write!(f, ", {failures} call(s) failed")?;
        }
        writeln!(f)?;
        if let (Some(why), Some(at)) = (&self.last_failure, &self.last_failure_at) {
            writeln!(f, "             last failure, at {at}: {why}")?;
        }
        Ok(())
    }
}
