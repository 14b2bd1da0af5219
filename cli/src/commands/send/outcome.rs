//! What became of the updates, for people or as JSON.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{feed::Outgoing, fix, target::SendTarget};
use crate::telegram::sender::{Answer, Failure};
use ringhook::{Error, ErrorKind, internals::redact::hide_tokens};

/// Of so many updates each is listed; of more there is a summary.
const LISTED: u64 = 50;

/// The longest time that is distinguished, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// The most of an answer's body that is shown, in characters.
const BODY_SHOWN: usize = 1000;

/// What became of the updates so far.
pub(super) struct Outcome {
    answers: BTreeMap<u16, u64>,
    /// The first answer that was no 2xx.
    bad: Option<Answer>,
    failure: Option<(i64, Failure)>,
    /// The first and the last id.
    ids: Option<(i64, i64)>,
    is_json: bool,
    listed: Vec<Listed>,
    taken: u64,
    /// Of the connection; `None` without TLS.
    pub(super) tls: Option<&'static str>,
    /// In microseconds.
    times: Histogram<u64>,
    total: u64,
}

/// One update.
#[derive(Debug, Serialize)]
struct Listed {
    kind: &'static str,
    update_id: i64,
    status: u16,
    reason: String,
    microseconds: u64,
    /// What was answered beside that: with a webhook reply a call of the Bot API.
    #[serde(skip_serializing_if = "String::is_empty")]
    body: String,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Summary {
    url: String,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    total: u64,
    answered: u64,
    taken: u64,
    first_update_id: Option<i64>,
    last_update_id: Option<i64>,
    seconds: f64,
    statuses: BTreeMap<u16, u64>,
    microseconds: Option<Times>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    updates: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Times {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Outcome {
    pub(super) fn new(total: u64, is_json: bool) -> Result<Self, Error> {
        let times = Histogram::new_with_bounds(1, LONGEST, 3)
            .map_err(|source| Error::with_source(ErrorKind::Send, "no histogram", source))?;
        Ok(Self {
            answers: BTreeMap::new(),
            bad: None,
            failure: None,
            ids: None,
            is_json,
            listed: Vec::new(),
            taken: 0,
            tls: None,
            times,
            total,
        })
    }

    /// True where there is a line for each update.
    pub(super) fn lists(&self) -> bool {
        self.total <= LISTED
    }

    /// Takes note of an answer.
    pub(super) fn add(&mut self, update: &Outgoing, answer: &Answer) -> Result<(), Error> {
        let microseconds = u64::try_from(answer.took.as_micros()).unwrap_or(u64::MAX);
        self.times.saturating_record(microseconds);
        *self.answers.entry(answer.status).or_default() += 1;
        let first = self.ids.map_or(update.id, |(first, _)| first);
        self.ids = Some((first, update.id));
        self.taken += u64::from(answer.is_taken());
        if !answer.is_taken() && self.bad.is_none() {
            self.bad = Some(answer.clone());
        }
        if !self.lists() {
            return Ok(());
        }
        let kind = update.kind.as_str();
        if !self.is_json {
            let (id, line) = (update.id, answer.line());
            return print(&format!("{kind:<26}  {id}  {line:<22}  {}", spoken(microseconds)));
        }
        let (status, reason) = (answer.status, answer.reason.clone());
        let body = String::from_utf8_lossy(&answer.body).chars().take(BODY_SHOWN).collect();
        let update_id = update.id;
        self.listed.push(Listed { kind, update_id, status, reason, microseconds, body });
        Ok(())
    }

    /// Takes note that `update` has no answer, and that nothing follows.
    pub(super) fn end_with(&mut self, update: &Outgoing, failure: Failure) {
        self.failure = Some((update.id, failure));
    }

    /// Tells what there is to tell.
    ///
    /// # Errors
    /// Where an update was not taken: which, why, and what to do.
    pub(super) fn finish(self, send_target: &SendTarget, took: Duration) -> Result<(), Error> {
        let error = self.error(send_target);
        if self.is_json {
            let summary = self.summary(send_target, took, error.clone());
            let text = serde_json::to_string_pretty(&summary);
            let failed = |source| Error::with_source(ErrorKind::Send, "JSON", source);
            print(&text.map_err(failed)?)?;
        } else {
            self.print_summary(took)?;
        }
        error.map_or(Ok(()), |message| Err(Error::new(ErrorKind::Send, message)))
    }

    fn error(&self, send_target: &SendTarget) -> Option<String> {
        let answered: u64 = self.answers.values().sum();
        if let Some((id, failure)) = &self.failure {
            let fix = fix::of_failure(failure, send_target);
            let before = match self.taken {
                0 => String::new(),
                taken => format!(" ({taken} of {} were taken before)", self.total),
            };
            return Some(format!("update {id} was not taken{before}: {failure}: {fix}"));
        }
        let bad = self.bad.as_ref()?;
        let fix = fix::of_answer(bad, send_target);
        let missing = answered - self.taken;
        let line = bad.line();
        Some(format!("{missing} of {} update(s) not taken: {line}: {fix}", self.total))
    }

    fn times(&self) -> Option<Times> {
        let at = |quantile| self.times.value_at_quantile(quantile);
        (!self.times.is_empty()).then(|| Times {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.times.max(),
        })
    }

    fn summary(self, send_target: &SendTarget, took: Duration, error: Option<String>) -> Summary {
        Summary {
            url: send_target.target.url(),
            at: send_target.target.place.to_string(),
            bot: send_target.known.as_ref().map(|known| known.bot.clone()),
            tls: self.tls,
            total: self.total,
            answered: self.answers.values().sum(),
            taken: self.taken,
            first_update_id: self.ids.map(|(first, _)| first),
            last_update_id: self.ids.map(|(_, last)| last),
            seconds: took.as_secs_f64(),
            microseconds: self.times(),
            statuses: self.answers,
            updates: self.listed,
            error,
        }
    }

    fn print_summary(&self, took: Duration) -> Result<(), Error> {
        let (Some((first, last)), false) = (self.ids, self.lists()) else { return Ok(()) };
        let answered: u64 = self.answers.values().sum();
        // Far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        let rate = answered as f64 / took.as_secs_f64().max(1e-6);
        print(&format!(
            "taken    {} of {} in {:.3} s, {rate:.0} a second",
            self.taken,
            self.total,
            took.as_secs_f64()
        ))?;
        print(&format!("ids      {first} to {last}"))?;
        let statuses = self.answers.iter().map(|(status, count)| format!("{status}: {count}"));
        print(&format!("answers  {}", statuses.collect::<Vec<_>>().join(", ")))?;
        let Some(Times { p50, p90, p99, p999, max }) = self.times() else { return Ok(()) };
        let times = [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)];
        let times = times.map(|(name, time)| format!("{name} {}", spoken(time)));
        print(&format!("times    {}", times.join(", ")))
    }
}

/// A time for people.
fn spoken(microseconds: u64) -> String {
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let milliseconds = microseconds as f64 / 1000.0;
    match microseconds {
        0..10_000 => format!("{milliseconds:.2} ms"),
        _ => format!("{milliseconds:.0} ms"),
    }
}

/// Where the reader of standard output has gone, the rest is dropped, and that is no failure.
fn print(line: &str) -> Result<(), Error> {
    match writeln!(io::stdout(), "{}", hide_tokens(line)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::with_source(ErrorKind::Send, "standard output", error))
        }
        _ => Ok(()),
    }
}
