//! What a run has shown.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    Options,
    cpu::CpuTime,
    latencies::Latencies,
    options::{Driver, Rate, Stop, TlsVersion},
    record::{Copies, Failures, Ids, Record, Retries},
    units::Short,
};

/// The result of a run. As JSON, durations are numbers in the unit that the field's name ends with;
/// the latencies are in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
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
    /// More about updates that were sent again, with [`Options::retry`].
    pub retries: Option<Retries>,
    /// What became of second copies, with [`Options::duplicates`]. Of the other fields only those
    /// of bytes, connections and CPU time have a part of theirs.
    pub copies: Option<Copies>,
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
    /// From when a request was due to its answer; with retries, to the 2xx.
    pub latency_us: Latencies,
    /// From when a request was sent to its answer.
    pub send_to_answer_us: Latencies,
    /// From when a request was due and a connection free for it, to when it was sent: what the
    /// generator itself is to blame for.
    pub lateness_us: Latencies,
    /// From beginning to connect until requests can be sent.
    pub handshake_us: Latencies,
    /// Why the numbers should be doubted.
    pub warnings: Vec<String>,
    /// Which updates went where, with [`Options::keep_ids`].
    #[serde(skip)]
    pub ids: Option<Ids>,
}

/// The options of a run as a report repeats them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// The URL without user and password.
    pub target: String,
    /// How many connections.
    pub connections: usize,
    /// Requests per second; none for a closed loop.
    pub rate_per_s: Option<f64>,
    /// How long requests were to be made.
    pub duration_s: Option<f64>,
    /// How many requests were to be made.
    pub requests: Option<u64>,
    /// What the updates were made from.
    pub seed: u64,
    /// Distinct chats.
    pub chats: u32,
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
    /// What the delays of retries were divided by; none without retries.
    pub retry_scale: Option<f64>,
    /// The share of updates to be sent twice.
    pub duplicates: f64,
    /// The longest a request could take.
    pub timeout_s: f64,
    /// The CPU of the generator.
    pub pin: Option<usize>,
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

    /// CPU time of the generator per request sent, in microseconds.
    #[must_use]
    pub fn cpu_us_per_request(&self) -> f64 {
        let sent = self.sent + self.copies.as_ref().map_or(0, |copies| copies.sent);
        (self.cpu_user_s + self.cpu_system_s) * 1e6 / sent.max(1) as f64
    }

    pub(crate) fn new(
        options: &Options,
        driver: Driver,
        planned: Planned,
        duration: Duration,
        cpu: CpuTime,
        record: Record,
    ) -> Self {
        let answered = record.statuses.values().sum::<u64>();
        let mut report = Self {
            options: Asked::new(options),
            driver: if driver == Driver::IoUring { "io_uring" } else { "epoll" },
            duration_s: duration.as_secs_f64(),
            planned: planned.updates,
            sent: record.sent,
            acknowledged: record.acknowledged,
            statuses: record.statuses,
            failures: record.failures,
            retries: record.retries.map(|retries| Retries {
                pending: planned.updates.saturating_sub(record.acknowledged),
                ..retries
            }),
            copies: record.copies.map(|copies| Copies { planned: planned.copies, ..copies }),
            rate_per_s: answered as f64 / duration.as_secs_f64().max(1e-9),
            bytes_sent: record.bytes_sent,
            bytes_received: record.bytes_received,
            connections: record.connections,
            handshakes_full: record.handshakes_full,
            handshakes_resumed: record.handshakes_resumed,
            cpu_user_s: cpu.user.as_secs_f64(),
            cpu_system_s: cpu.system.as_secs_f64(),
            latency_us: record.latency,
            send_to_answer_us: record.service,
            lateness_us: record.lateness,
            handshake_us: record.handshake,
            warnings: Vec::new(),
            ids: record.ids,
        };
        report.doubt(options.rate);
        report
    }

    /// Warns where the generator may have measured itself. In a closed loop it always does.
    fn doubt(&mut self, rate: Rate) {
        if rate == Rate::Max {
            return;
        }
        let (lateness, latency) = (self.lateness_us.quantile(0.99), self.latency_us.quantile(0.99));
        if lateness * 10 > latency {
            let (lateness, latency) = (Short(lateness), Short(latency));
            self.warnings.push(format!(
                "the generator itself was late: p99 {lateness} of a latency of p99 {latency}"
            ));
        }
        let share = (self.cpu_user_s + self.cpu_system_s) / self.duration_s.max(1e-9);
        if share > 0.9 {
            let percent = share * 100.0;
            self.warnings.push(format!(
                "the generator used {percent:.0} % of its CPU: it was the bottleneck"
            ));
        }
    }
}

impl Asked {
    fn new(options: &Options) -> Self {
        Self {
            target: options.target.to_string(),
            connections: options.connections,
            rate_per_s: match options.rate {
                Rate::Max => None,
                Rate::PerSecond(rate) => Some(rate),
            },
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
            date: options.payload.date,
            first_update_id: options.first_update_id,
            secret_token: options.secret_token.is_some(),
            tls: options.tls.map(|version| match version {
                TlsVersion::V1_2 => "1.2",
                TlsVersion::V1_3 => "1.3",
            }),
            resume: options.resume,
            churn: options.churn,
            retry_scale: options.retry.map(|retry| retry.scale),
            duplicates: options.duplicates,
            timeout_s: options.timeout.as_secs_f64(),
            pin: options.pin,
        }
    }
}
