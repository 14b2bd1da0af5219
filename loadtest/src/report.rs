//! What a run has shown.
//!
//! # As JSON
//!
//! `loadtest run --report FILE` and `--json` write one object. Later versions add keys and keep
//! these. Durations are numbers in the unit that the key's name ends with; everything under a key
//! that ends with `_us` is in microseconds.
//!
//! | key | what |
//! |---|---|
//! | `started_at` | RFC 3339 |
//! | `command` | the arguments, without users and passwords of URLs; empty from the library |
//! | `machine` | `cpu`, `cpus`, `kernel`, `memory_bytes` of the generator's machine |
//! | `driver` | `io_uring` or `epoll` |
//! | `plan` | null or `{name, about}` |
//! | `options` | what was asked: [`Asked`]; `phases` is a list of `{duration_s, from, to}` |
//! | `duration_s` | from the first due time to the last answer |
//! | `planned`, `sent`, `acknowledged` | counts of updates |
//! | `statuses` | answers by status: `{"200": 9998, "503": 2}` |
//! | `failures` | `bad_response`, `closed`, `connect`, `timeout`, `tls`, `unsent` |
//! | `unsolicited` | requests whose answer was there before they were sent |
//! | `retries`, `copies`, `slow_peers` | null without `--as telegram`, `--duplicates`, slow peers |
//! | `rate_asked_per_s` | null in a closed loop |
//! | `rate_per_s` | answers per second |
//! | `bytes_sent`, `bytes_received`, `connections`, `handshakes_full`, `handshakes_resumed` | |
//! | `cpu_user_s`, `cpu_system_s`, `cpu_us_per_request` | the generator's own |
//! | `latency_us` | from due time, corrected for coordinated omission: [`Latencies`] |
//! | `send_to_answer_us` | from when it was sent, not corrected |
//! | `lateness_us` | from when it could have been sent to when it was: the generator's own |
//! | `handshake_us` | from the first SYN until requests can be sent |
//! | `series` | a list with a [`Second`] for each second |
//! | `expectations` | a list of `{name, bound, value, ok}`: [`Expectation`] |
//! | `warnings` | a list of texts: why the figures should be doubted |
//! | `telegram` | null, or with `--as telegram` a list with a [`WebhookInfo`] of each bot |
//!
//! [`Latencies`] are `{count, min, mean, p50, p90, p99, "p99.9", max, curve}`, and `curve` is a
//! list of pairs: a share from 0 to 1, and the microseconds that it does not exceed. A [`Second`]
//! is `{at_s, due, sent, acknowledged, refused, failed, in_flight, p50, p99, "p99.9", max,
//! send_to_answer_p99}`, the last five in microseconds from due time but for the very last.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    Expectation, Machine, Options, PayloadOptions, Phase, Second, WebhookInfo,
    clock::nanos,
    cpu::CpuTime,
    latencies::Latencies,
    options::{Driver, Rate, Stop, TlsVersion},
    phases::Phases,
    record::{Copies, Failures, Ids, Record, Retries, SlowPeersSeen},
    units::Short,
};

/// The result of a run. As JSON, durations are numbers in the unit that the field's name ends with;
/// the latencies are in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When the first request was due, as RFC 3339.
    pub started_at: String,
    /// The command line, if the caller fills it in.
    pub command: Vec<String>,
    /// Where the generator ran.
    pub machine: Machine,
    /// The plan that was followed, if any.
    pub plan: Option<PlanName>,
    /// What was asked for, without the secret.
    pub options: Asked,
    /// How the generator talked to the kernel: `io_uring` or `epoll`.
    pub driver: &'static str,
    /// From when the first request was due to the last answer.
    pub duration_s: f64,
    /// How many updates the plan came to: sent, failed before that, or unsent.
    pub planned: u64,
    /// Requests that were at least begun to be sent, with those for updates that had failed.
    pub sent: u64,
    /// Updates answered with 2xx.
    pub acknowledged: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by the reason.
    pub failures: Failures,
    /// Requests whose answer had begun to come before they were sent: the server answers more often
    /// than it is asked, and from then on each answer is taken for that of another update.
    pub unsolicited: u64,
    /// More about updates that were sent again, with [`Options::telegram`].
    pub retries: Option<Retries>,
    /// What became of second copies, with [`Options::duplicates`]. Of the other fields only those
    /// of bytes, connections and CPU time have a part of theirs.
    pub copies: Option<Copies>,
    /// What the server did with slow peers, with [`Options::slow_peers`].
    pub slow_peers: Option<SlowPeersSeen>,
    /// Updates that were to be due per second, over all phases; none in a closed loop.
    pub rate_asked_per_s: Option<f64>,
    /// Answers per second of `duration_s`.
    pub rate_per_s: f64,
    /// On the wire above TCP.
    pub bytes_sent: u64,
    /// On the wire above TCP.
    pub bytes_received: u64,
    /// Connections made, those before the start included.
    pub connections: u64,
    /// TLS handshakes from scratch.
    pub handshakes_full: u64,
    /// TLS handshakes that went on where an earlier session ended.
    pub handshakes_resumed: u64,
    /// The generator's CPU time outside the kernel, since the start.
    pub cpu_user_s: f64,
    /// The generator's CPU time in the kernel, since the start.
    pub cpu_system_s: f64,
    /// The generator's CPU time per request sent, in microseconds.
    pub cpu_us_per_request: f64,
    /// From when a request was due to its answer; with [`Options::telegram`], to the 2xx.
    pub latency_us: Latencies,
    /// From when a request was sent to its answer.
    pub send_to_answer_us: Latencies,
    /// From when a request was due and a connection free for it, to when it was sent: what the
    /// generator itself is to blame for.
    pub lateness_us: Latencies,
    /// From beginning to connect until requests can be sent.
    pub handshake_us: Latencies,
    /// The run second by second.
    pub series: Vec<Second>,
    /// What was expected of it, and whether it holds.
    pub expectations: Vec<Expectation>,
    /// Why the numbers should be doubted.
    pub warnings: Vec<String>,
    /// What getWebhookInfo would say of each bot, with [`Options::telegram`].
    pub telegram: Option<Vec<WebhookInfo>>,
    /// Which updates went where, with [`Options::keep_ids`].
    #[serde(skip)]
    pub ids: Option<Ids>,
}

/// The plan of a run as a report repeats it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanName {
    /// Its name, or that of its file.
    pub name: String,
    /// What it stands for.
    pub about: String,
}

/// The options of a run as a report repeats them.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// The URL without user and password.
    pub target: String,
    /// How many connections.
    pub connections: usize,
    /// Requests per second, over all phases; none for a closed loop.
    pub rate_per_s: Option<f64>,
    /// The phases that took turns; none with a single rate.
    pub phases: Vec<AskedPhase>,
    /// For how long at the beginning no times were taken.
    pub warmup_s: f64,
    /// How many slow peers there were.
    pub slow_peers: usize,
    /// How long requests were to be made.
    pub duration_s: Option<f64>,
    /// How many requests were to be made.
    pub requests: Option<u64>,
    /// What the updates were made from.
    pub seed: u64,
    /// Distinct chats.
    pub chats: u32,
    /// What else the updates were made from, by the keys of [`PayloadOptions::set`].
    pub payload: BTreeMap<&'static str, String>,
    /// The file that was replayed instead.
    pub replay: Option<String>,
    /// All of that once more.
    #[serde(skip)]
    pub(crate) payload_options: PayloadOptions,
    /// The `date` of all updates.
    pub date: u32,
    /// The id of the first update.
    pub first_update_id: u64,
    /// Whether a secret token was sent.
    pub secret_token: bool,
    /// The only version of TLS offered.
    pub tls: Option<&'static str>,
    /// Whether sessions were resumed.
    pub resume: bool,
    /// Whether each request had its own connection.
    pub churn: bool,
    /// What Telegram's times were divided by; none if it was not followed.
    pub time_scale: Option<f64>,
    /// The share of updates to be sent twice.
    pub duplicates: f64,
    /// The longest a request could take.
    pub timeout_s: f64,
    /// The CPU of the generator.
    pub pin: Option<usize>,
}

/// A phase as a report repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AskedPhase {
    /// How long it lasts.
    pub duration_s: f64,
    /// Requests per second at its beginning.
    pub from: f64,
    /// Requests per second at its end.
    pub to: f64,
}

/// What the feed came to.
#[derive(Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) updates: u64,
    pub(crate) copies: u64,
}

impl Report {
    /// Whether everything that was planned was answered with 2xx, in the end. Copies do not count.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.acknowledged == self.planned
    }

    /// Whether it is what was expected. Without expectations no update may be lost.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.expectations.iter().all(|expectation| expectation.ok)
    }

    pub(crate) fn new(
        options: &Options,
        driver: Driver,
        planned: Planned,
        started: SystemTime,
        duration: Duration,
        cpu: CpuTime,
        record: Record,
    ) -> Self {
        let requests = record.sent + record.copies.as_ref().map_or(0, |copies| copies.sent);
        let answered = record.statuses.values().sum::<u64>();
        let mut report = Self {
            started_at: humantime::format_rfc3339_millis(started).to_string(),
            command: Vec::new(),
            machine: Machine::this(),
            plan: options.plan.clone(),
            options: Asked::new(options),
            driver: if driver == Driver::IoUring { "io_uring" } else { "epoll" },
            duration_s: duration.as_secs_f64(),
            planned: planned.updates,
            sent: record.sent,
            acknowledged: record.acknowledged,
            statuses: record.statuses,
            failures: record.failures,
            unsolicited: record.unsolicited,
            retries: record.retries.map(|retries| Retries {
                pending: planned.updates.saturating_sub(record.acknowledged),
                ..retries
            }),
            copies: record.copies.map(|copies| Copies { planned: planned.copies, ..copies }),
            slow_peers: options.slow_peers.map(|_| record.slow_peers),
            rate_asked_per_s: rate_asked(options),
            rate_per_s: answered as f64 / duration.as_secs_f64().max(1e-9),
            bytes_sent: record.bytes_sent,
            bytes_received: record.bytes_received,
            connections: record.connections,
            handshakes_full: record.handshakes_full,
            handshakes_resumed: record.handshakes_resumed,
            cpu_user_s: cpu.user.as_secs_f64(),
            cpu_system_s: cpu.system.as_secs_f64(),
            cpu_us_per_request: (cpu.user + cpu.system).as_secs_f64() * 1e6
                / requests.max(1) as f64,
            latency_us: record.latency,
            send_to_answer_us: record.service,
            lateness_us: record.lateness,
            handshake_us: record.handshake,
            series: record.series.seconds,
            expectations: Vec::new(),
            warnings: Vec::new(),
            telegram: None,
            ids: record.ids,
        };
        report.expectations = options.expect.check(&report);
        report.doubt();
        report
    }

    /// Warns where the server is not to be believed, or the generator may have measured itself.
    fn doubt(&mut self) {
        if self.unsolicited > 0 {
            self.warnings.push(format!(
                "{} answers came before their requests: the server answers more often than asked",
                self.unsolicited
            ));
        }
        let closed = self.rate_asked_per_s.is_none();
        let (lateness, latency) = (self.lateness_us.quantile(0.99), self.latency_us.quantile(0.99));
        if !closed && self.latency_us.count() > 0 && lateness * LATENESS_SHARE > latency {
            let (lateness, latency) = (Short(lateness), Short(latency));
            self.warnings.push(format!(
                "the generator itself was late: p99 {lateness} of a latency of p99 {latency}"
            ));
        }
        let share = (self.cpu_user_s + self.cpu_system_s) / self.duration_s.max(1e-9);
        if share > CPU_SHARE {
            let percent = share * 100.0;
            let meaning = match closed {
                true => "a server that is faster still would look no faster",
                false => "it was the bottleneck",
            };
            self.warnings.push(format!("the generator used {percent:.0} % of its CPU: {meaning}"));
        }
    }
}

/// The share of measured latency, as one in so many, above which own lateness is told.
const LATENESS_SHARE: u32 = 10;
/// The share of its CPU above which the generator is told to be the bottleneck.
const CPU_SHARE: f64 = 0.9;

/// Updates to be due per second, over all of a run.
fn rate_asked(options: &Options) -> Option<f64> {
    if options.phases.is_empty() {
        return match options.rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(rate),
        };
    }
    let phases = Phases::new(&options.phases);
    let (count, time) = match options.stop {
        Stop::After(time) => (phases.count_before(nanos(time)), nanos(time)),
        Stop::Requests(count) => (count, phases.due_of_any(count)),
    };
    Some(count as f64 * 1e9 / time.max(1) as f64)
}

impl From<&Phase> for AskedPhase {
    fn from(phase: &Phase) -> Self {
        Self { duration_s: phase.duration.as_secs_f64(), from: phase.from, to: phase.to }
    }
}

impl Asked {
    fn new(options: &Options) -> Self {
        Self {
            target: options.target.to_string(),
            connections: options.connections,
            rate_per_s: rate_asked(options),
            phases: options.phases.iter().map(AskedPhase::from).collect(),
            warmup_s: options.warmup.as_secs_f64(),
            slow_peers: options.slow_peers.map_or(0, |peers| peers.connections),
            duration_s: match options.stop {
                Stop::After(duration) => Some(duration.as_secs_f64()),
                Stop::Requests(_) => None,
            },
            requests: match options.stop {
                Stop::After(_) => None,
                Stop::Requests(requests) => Some(requests),
            },
            seed: options.payload.seed,
            chats: options.payload.chats,
            payload: options.payload.steering().into_iter().collect(),
            replay: options.replay.as_ref().map(|replay| replay.file.display().to_string()),
            payload_options: options.payload.clone(),
            date: options.payload.date,
            first_update_id: options.first_update_id,
            secret_token: options.secret_token.is_some(),
            tls: options.tls.map(|version| match version {
                TlsVersion::V1_2 => "1.2",
                TlsVersion::V1_3 => "1.3",
            }),
            resume: options.resume,
            churn: options.churn,
            time_scale: options.telegram.as_ref().map(|telegram| telegram.time_scale),
            duplicates: options.duplicates,
            timeout_s: options.timeout.as_secs_f64(),
            pin: options.pin,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A report of a run of 1 s with 100 answers after 1 ms each, and such a generator.
    fn report(rate: Rate, late: Duration, cpu: Duration) -> Report {
        let mut options = Options::new("http://127.0.0.1:1/".parse().unwrap());
        options.rate = rate;
        let mut record = Record::new(&options);
        for _ in 0..100 {
            record.latency.record(1_000_000);
            record.lateness.record(nanos(late));
        }
        let cpu = CpuTime { user: cpu / 2, system: cpu / 2 };
        let planned = Planned { updates: 100, copies: 0 };
        let second = Duration::from_secs(1);
        Report::new(&options, Driver::Epoll, planned, SystemTime::now(), second, cpu, record)
    }

    #[test]
    fn a_generator_that_was_the_bottleneck_says_so() {
        let (rate, ms) = (Rate::PerSecond(100.0), Duration::from_millis);
        let micros = Duration::from_micros;
        assert_eq!(report(rate, micros(90), ms(800)).warnings, Vec::<String>::new());
        let late = report(rate, micros(150), ms(800)).warnings;
        assert_eq!(late, ["the generator itself was late: p99 150 us of a latency of p99 1.00 ms"]);
        let busy = report(rate, micros(90), ms(950)).warnings;
        assert_eq!(busy, ["the generator used 95 % of its CPU: it was the bottleneck"]);
        // A closed loop has no due times, and may be at its end all the same.
        let closed = report(Rate::Max, micros(150), ms(950)).warnings;
        assert_eq!(closed.len(), 1);
        assert!(closed.concat().contains("a server that is faster still would look no faster"));
    }
}
