//! A report: the sums of all threads at one moment, as a table and as JSON.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{
    Counter, EXPIRING, JournalReport, LatencyHistogram, Metrics, OutputReport, PollReport,
    SlowReport, Stage, WebhookReport, histogram, process,
};
use crate::{
    config::DriverKind,
    control::operation::Step,
    outcome::{CloseReason, Forbidden, Refusal, TurnedAway},
    proto::{http::Status, update::UpdateKind},
    tls::TlsConfig,
};

/// Counters and latencies of a server since its start.
///
/// Each sum is read while its threads go on, so sums may be a few events apart until the server
/// has stopped.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The driver of the shards.
    pub driver: DriverKind,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// CPU time of the whole process, in user mode and in the kernel, in seconds.
    pub cpu_s: f64,
    /// The most memory that the process has had resident, in bytes; `None` where `/proc` is not
    /// there.
    pub memory_peak_bytes: Option<u64>,
    /// Shard threads.
    pub shards: usize,
    /// The CPU that each of them is pinned to.
    pub shard_cpus: Vec<usize>,
    /// Worker threads.
    pub workers: usize,
    /// The CPU that each of them is pinned to.
    pub worker_cpus: Vec<usize>,
    /// Connections taken from the listening socket.
    pub connections_accepted: u64,
    /// Ended connections by reason.
    pub connections_closed: BTreeMap<CloseReason, u64>,
    /// Accepted connections that were closed at once, in all.
    pub connections_refused: u64,
    /// These by cause.
    pub connections_refused_by: BTreeMap<TurnedAway, u64>,
    /// Times that accepting paused because no file descriptor was left.
    pub accept_paused: u64,
    /// Configurations that were put in force while the server ran.
    pub config_reloads: u64,
    /// Configurations that were not, because something in them was wrong: the one before stayed.
    pub config_reload_failures: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// TLS handshakes with certificate.
    pub handshakes_full: u64,
    /// TLS handshakes that resumed a session.
    pub handshakes_resumed: u64,
    /// Certificates replaced while the server ran.
    pub certificate_reloads: u64,
    /// Certificates that were to be replaced and could not be: the one before is still served.
    pub certificate_reload_failures: u64,
    /// Whole days until the first certificate expires; below 0 where one has, `None` where none can
    /// be read.
    pub certificate_expires_in_days: Option<i64>,
    /// Updates parsed and known to be for a bot.
    pub updates_received: u64,
    /// Updates fed in again by the program ([`Server::feed`](crate::Server::feed)).
    pub updates_fed: u64,
    /// Updates that the program has brought
    /// ([`Server::deliver`](crate::Server::deliver)), such as polled ones.
    pub updates_delivered: u64,
    /// Updates whose 200 was handed to the kernel.
    pub updates_acknowledged: u64,
    /// Updates answered with 503 because a limit was reached, by the limit.
    pub updates_refused: BTreeMap<Refusal, u64>,
    /// Updates that had been accepted before: answered with 200 and not handled again.
    pub updates_duplicate: u64,
    /// Updates skipped because they had waited longer than Telegram takes an answer, by kind.
    pub updates_expired: BTreeMap<UpdateKind, u64>,
    /// Updates whose handler said `Done`.
    pub updates_handled: u64,
    /// Updates whose handler said `Failed` or panicked.
    pub updates_failed: u64,
    /// Updates that went to no output, because their route says so.
    pub updates_dropped: u64,
    /// Deliveries to further outputs of updates that go to several: each counts as handled or
    /// failed by itself.
    pub updates_multiplied: u64,
    /// Updates not yet handled when the server stopped: its drain timeout was too short. 0 while it
    /// runs, and with a journal: that keeps them.
    pub updates_abandoned: u64,
    /// The first [`Report::ABANDONED_MAX`] of them: the bot's name and the update's id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub abandoned: Vec<(String, i64)>,
    /// The outputs, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputReport>,
    /// Calls of a handler that ended in `Retry`.
    pub handler_retries: u64,
    /// Panics caught in a handler.
    pub handler_panics: u64,
    /// Times that something of the server had not returned for long, by what it was: as the
    /// incidents of the kind `hang` name it.
    pub hangs: BTreeMap<Step, u64>,
    /// Requests not answered with 200, by status.
    pub requests_rejected: BTreeMap<u16, u64>,
    /// Those answered 403, by cause.
    pub requests_forbidden_by: BTreeMap<Forbidden, u64>,
    /// The journal; `None` where updates are kept in memory only.
    pub journal: Option<JournalReport>,
    /// How getUpdates went, for each bot that was polled for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub polls: Vec<PollReport>,
    /// Intervals of the latency profile that could not be written when they were due. Their counts
    /// are in the next one that could.
    pub profile_intervals_lost: u64,
    /// Lines for stderr that the command has dropped because stderr did not take them; 0 from the
    /// library, which writes none.
    pub stderr_lines_dropped: u64,
    /// The bots' webhooks from Telegram's side, by the names of the bots; empty where they are not
    /// watched.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub webhook: BTreeMap<String, WebhookReport>,
    /// The slowest requests; `None` unless [`Profile::slow`](crate::Profile::slow) says what is
    /// slow.
    pub slow: Option<SlowReport>,
    /// Microseconds by stage.
    #[serde(serialize_with = "by_stage")]
    pub latency_us: Vec<(Stage, Percentiles)>,
}

/// Where the values of one stage lie, in microseconds, each within 0.8 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Percentiles {
    /// Values recorded.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// Nine of ten are not above it.
    pub p90: f64,
    /// 99 of 100 are not above it.
    pub p99: f64,
    /// 999 of 1,000 are not above it.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Report {
    /// How many abandoned updates are listed.
    pub const ABANDONED_MAX: usize = 10_000;

    /// Sums `metrics`. What a stopped server has not handled, it has abandoned.
    pub(crate) fn new(
        metrics: &Metrics,
        driver: DriverKind,
        uptime: Duration,
        stopped: bool,
    ) -> Self {
        let shards = |pick: fn(&super::ShardMetrics) -> &Counter| {
            metrics.shards.iter().map(|shard| pick(shard).get()).sum()
        };
        let workers = |pick: fn(&super::WorkerMetrics) -> &Counter| {
            metrics.workers.iter().map(|worker| pick(worker).get()).sum()
        };
        let received: u64 = shards(|shard| &shard.received);
        let duplicates: u64 = workers(|worker| &worker.duplicates);
        let refused_by = refused(metrics);
        let expired_by = expired(metrics);
        let turned_away = turned_away(metrics);
        let refused: u64 = refused_by.values().sum();
        let expired: u64 = expired_by.values().sum();
        let handled: u64 = workers(|worker| &worker.handled);
        let failed: u64 = workers(|worker| &worker.failed);
        let (delivered, fed) = (metrics.feeder.delivered.get(), metrics.feeder.fed.get());
        let journal = JournalReport::new(metrics, uptime);
        let tls = metrics.tls.as_ref();
        let (reloads, reload_failures) = tls.map_or((0, 0), TlsConfig::reloads);
        let expires_at = tls.and_then(TlsConfig::expires_at);
        let (dropped, further) = (metrics.outputs.dropped(), metrics.outputs.further());
        let left = (received + delivered + fed + further)
            .saturating_sub(refused + duplicates + expired + handled + failed + dropped);
        Self {
            driver,
            uptime_s: (uptime.as_secs_f64() * 1e3).round() / 1e3,
            cpu_s: process::cpu_s(),
            memory_peak_bytes: process::memory_peak_bytes(),
            shards: metrics.shards.len(),
            // Known to the server alone.
            shard_cpus: Vec::new(),
            workers: metrics.workers.len(),
            worker_cpus: Vec::new(),
            connections_accepted: metrics.acceptor.accepted.get(),
            connections_closed: closed(metrics),
            connections_refused: turned_away.values().sum(),
            connections_refused_by: turned_away,
            accept_paused: metrics.acceptor.paused.get(),
            config_reloads: metrics.reloads.get(),
            config_reload_failures: metrics.reload_failures.get(),
            handshakes_failed: shards(|shard| &shard.handshakes_failed),
            handshakes_full: shards(|shard| &shard.handshakes_full),
            handshakes_resumed: shards(|shard| &shard.handshakes_resumed),
            certificate_reloads: reloads,
            certificate_reload_failures: reload_failures,
            certificate_expires_in_days: expires_at.map(days_until),
            updates_received: received,
            updates_fed: fed,
            updates_delivered: delivered,
            updates_acknowledged: shards(|shard| &shard.acknowledged),
            updates_refused: refused_by,
            updates_duplicate: duplicates,
            updates_expired: expired_by,
            updates_handled: handled,
            updates_failed: failed,
            updates_dropped: dropped,
            updates_multiplied: further,
            updates_abandoned: if stopped && journal.is_none() { left } else { 0 },
            abandoned: Vec::new(),
            // Known to the server alone.
            outputs: Vec::new(),
            handler_retries: workers(|worker| &worker.retried),
            handler_panics: workers(|worker| &worker.panicked),
            hangs: metrics.hangs.report(),
            requests_rejected: rejected(metrics),
            requests_forbidden_by: forbidden(metrics),
            journal,
            polls: metrics.polls.report(),
            profile_intervals_lost: metrics.profile_lost.get(),
            stderr_lines_dropped: 0,
            webhook: webhooks(metrics),
            slow: None,
            latency_us: Stage::ALL
                .into_iter()
                .filter_map(|stage| Some((stage, Percentiles::new(metrics, stage)?)))
                .collect(),
        }
    }

    /// The percentiles of `stage`; `None` where nothing was recorded.
    #[must_use]
    pub fn latency(&self, stage: Stage) -> Option<Percentiles> {
        self.latency_us.iter().find(|(of, _)| *of == stage).map(|(_, percentiles)| *percentiles)
    }
}

/// The sums of counters by what they belong to, those of zero left out.
fn by_key<'a, K: Ord>(counters: impl Iterator<Item = (K, &'a Counter)>) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (key, counter) in counters.filter(|(_, counter)| counter.get() > 0) {
        *sums.entry(key).or_default() += counter.get();
    }
    sums
}

fn closed(metrics: &Metrics) -> BTreeMap<CloseReason, u64> {
    by_key(metrics.shards.iter().flat_map(|shard| CloseReason::ALL.into_iter().zip(&shard.closed)))
}

fn turned_away(metrics: &Metrics) -> BTreeMap<TurnedAway, u64> {
    let all = || TurnedAway::ALL.into_iter();
    let acceptor = all().zip(&metrics.acceptor.refused);
    by_key(acceptor.chain(metrics.shards.iter().flat_map(|shard| all().zip(&shard.turned_away))))
}

fn forbidden(metrics: &Metrics) -> BTreeMap<Forbidden, u64> {
    by_key(metrics.shards.iter().flat_map(|shard| Forbidden::ALL.into_iter().zip(&shard.forbidden)))
}

/// Whole days from now, rounded down.
fn days_until(time: SystemTime) -> i64 {
    const DAY: i64 = 24 * 3600;
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::now()) {
        Ok(left) => seconds(left) / DAY,
        Err(past) => -1 - seconds(past.duration()) / DAY,
    }
}

fn refused(metrics: &Metrics) -> BTreeMap<Refusal, u64> {
    by_key(metrics.shards.iter().flat_map(|shard| Refusal::ALL.into_iter().zip(&shard.refused)))
}

fn expired(metrics: &Metrics) -> BTreeMap<UpdateKind, u64> {
    by_key(metrics.workers.iter().flat_map(|worker| EXPIRING.iter().copied().zip(&worker.expired)))
}

fn webhooks(metrics: &Metrics) -> BTreeMap<String, WebhookReport> {
    let mut reports = metrics.webhooks.report(SystemTime::now());
    for poll in metrics.polls.report() {
        if let Some(report) = reports.get_mut(&poll.bot) {
            report.polled = poll.updates;
        }
    }
    reports
}

fn rejected(metrics: &Metrics) -> BTreeMap<u16, u64> {
    let codes = || Status::ALL.iter().map(|status| status.code());
    by_key(metrics.shards.iter().flat_map(|shard| codes().zip(&shard.rejected)))
}

impl Percentiles {
    fn new(metrics: &Metrics, stage: Stage) -> Option<Self> {
        let mut sum = histogram::empty().ok()?;
        for histogram in metrics.stage(stage) {
            histogram.add_to(&mut sum);
        }
        Self::scaled(&sum, 1e3)
    }

    /// Of one histogram, in microseconds.
    pub(super) fn of_latency(histogram: &LatencyHistogram) -> Option<Self> {
        let mut sum = histogram::empty().ok()?;
        histogram.add_to(&mut sum);
        Self::scaled(&sum, 1e3)
    }

    /// Of one histogram whose values are no times.
    pub(super) fn of_counts(histogram: &LatencyHistogram) -> Option<Self> {
        let mut sum = histogram::empty().ok()?;
        histogram.add_to(&mut sum);
        Self::scaled(&sum, 1.0)
    }

    fn scaled(sum: &Histogram<u64>, unit: f64) -> Option<Self> {
        let scaled = |value: u64| value as f64 / unit;
        let at = |percentile| scaled(sum.value_at_percentile(percentile));
        (!sum.is_empty()).then(|| Self {
            count: sum.len(),
            min: scaled(sum.min()),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: scaled(sum.max()),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "updates      {} received, {} acknowledged, {} handled, {} failed, {} abandoned",
            self.updates_received,
            self.updates_acknowledged,
            self.updates_handled,
            self.updates_failed,
            self.updates_abandoned,
        )?;
        writeln!(
            f,
            "connections  {} accepted; handshakes {} full, {} resumed, {} failed",
            self.connections_accepted,
            self.handshakes_full,
            self.handshakes_resumed,
            self.handshakes_failed,
        )?;
        if self.certificate_reloads + self.certificate_reload_failures > 0 {
            writeln!(
                f,
                "certificates {} reloaded, {} not",
                self.certificate_reloads, self.certificate_reload_failures
            )?;
        }
        if self.connections_refused > 0 {
            let counts = self.connections_refused_by.iter().map(|(why, n)| format!("{n} ({why})"));
            writeln!(f, "turned away  {}", counts.collect::<Vec<_>>().join(", "))?;
        }
        let mut asides: Vec<String> = Vec::new();
        if self.updates_duplicate > 0 {
            asides.push(format!("{} duplicate", self.updates_duplicate));
        }
        asides.extend(self.updates_refused.iter().map(|(why, n)| format!("{n} refused ({why})")));
        asides.extend(self.updates_expired.iter().map(|(kind, n)| format!("{n} expired {kind}")));
        if !asides.is_empty() {
            writeln!(f, "             {}", asides.join(", "))?;
        }
        if !self.abandoned.is_empty() {
            let ids = self.abandoned.iter().take(20).map(|(bot, id)| format!("{bot}/{id}"));
            writeln!(f, "abandoned    {}", ids.collect::<Vec<_>>().join(" "))?;
        }
        if !self.requests_rejected.is_empty() {
            let counts = self.requests_rejected.iter().map(|(code, n)| format!("{code}: {n}"));
            writeln!(f, "rejected     {}", counts.collect::<Vec<_>>().join(", "))?;
        }
        if !self.hangs.is_empty() {
            let counts = self.hangs.iter().map(|(step, n)| format!("{n} ({step})"));
            writeln!(f, "hung         {}", counts.collect::<Vec<_>>().join(", "))?;
        }
        if self.stderr_lines_dropped > 0 {
            writeln!(f, "stderr       {} lines dropped", self.stderr_lines_dropped)?;
        }
        for poll in &self.polls {
            poll.fmt(f)?;
        }
        if let Some(journal) = &self.journal {
            journal.fmt(f)?;
        }
        for (bot, webhook) in &self.webhook {
            writeln!(f, "webhook      {bot}: {webhook}")?;
        }
        writeln!(
            f,
            "\n{:<18}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "latency", "count", "min", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (stage, p) in &self.latency_us {
            write!(f, "{:<18}{:>10}", stage.as_str(), p.count)?;
            for us in [p.min, p.p50, p.p90, p.p99, p.p999, p.max] {
                write!(f, "{:>12}", duration(us))?;
            }
            writeln!(f)?;
        }
        self.slow.as_ref().map_or(Ok(()), |slow| fmt_slow(f, slow))
    }
}

/// The first few slow requests; the JSON form has more.
fn fmt_slow(f: &mut fmt::Formatter<'_>, slow: &SlowReport) -> fmt::Result {
    let SlowReport { bound_us, answered, handled, requests } = slow;
    let bound = duration(*bound_us);
    writeln!(f, "\nslower than {bound}: {answered} answered, {handled} handled")?;
    for request in requests.iter().take(10) {
        write!(f, "  {}/{} at {:.3} s", request.bot, request.update_id, request.received_s)?;
        if let Some(shard) = request.shard {
            write!(f, ", shard {shard}")?;
        }
        for (index, (stage, us)) in request.stages_us.iter().enumerate() {
            let before = if index == 0 { ":" } else { "," };
            write!(f, "{before} {} {}", stage.as_str(), duration(*us))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// A duration in microseconds with the unit that fits it and three digits or more.
fn duration(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.1} us"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

fn by_stage<S: Serializer>(
    stages: &[(Stage, Percentiles)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(stages.len()))?;
    for (stage, percentiles) in stages {
        map.serialize_entry(stage.as_str(), percentiles)?;
    }
    map.end()
}
