//! What pages of a program can be told of the running server.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    bots::BotRegistry,
    config::{Config, DriverKind},
    control::{OutputState, operation::Step},
    dispatch::{Measure, OutputQueue},
    io::cpu_affinity::Placement,
    observe::{
        incidents::{Incident, Incidents},
        metrics::{Intervals, Metrics, Report, SlowReport, Stage, StageBuckets},
        recent::{RecentQuery, RecentRequest, RecentRequests},
    },
    proto::update::UpdateKind,
    server::{health::Health, outputs::RunningOutputs},
    tls::ServedCertificate,
};

/// The running server as the pages of its program see it: see [`AdminPages`](crate::AdminPages).
///
/// No method waits for a thread that serves, and none takes a lock that such a thread takes for an
/// update.
#[derive(Debug)]
pub struct ServerView {
    pub(crate) driver: DriverKind,
    pub(crate) health: Arc<Health>,
    pub(crate) incidents: Arc<Incidents>,
    pub(crate) metrics: Metrics,
    pub(super) running: Arc<RunningOutputs>,
    pub(crate) placement: Placement,
    pub(crate) recent: Arc<RecentRequests>,
    pub(crate) registry: Arc<BotRegistry>,
    pub(crate) settings: Arc<Mutex<Config>>,
    pub(crate) started_at: Instant,
}

/// Something that has not returned for long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Hang {
    /// What it is.
    pub step: Step,
    /// How many threads are in it.
    pub threads: usize,
    /// For how long the first of them has been.
    pub longest: Duration,
}

/// How much of the limits `queue_updates` and `queue_bytes` is taken for one output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct QueueSize {
    /// Updates.
    pub updates: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl ServerView {
    /// Counters and latencies so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report_of(false)
    }

    /// The same of a server that has stopped, or not.
    pub(crate) fn report_of(&self, stopped: bool) -> Report {
        let uptime = self.started_at.elapsed();
        let report = Report::new(&self.metrics, self.driver, uptime, stopped);
        let slow = SlowReport::new(&self.metrics, &self.registry, self.started_at);
        let Placement { shards: shard_cpus, workers: worker_cpus } = self.placement.clone();
        Report { outputs: self.running.reports(), slow, shard_cpus, worker_cpus, ..report }
    }

    /// Of each bot since the server's start, in the order of their first appearance in the
    /// configuration: its name, how many of its updates need no further call, and how many of these
    /// failed. One that went to several outputs counts for each of them.
    #[must_use]
    pub fn bots(&self) -> Vec<(&str, u64, u64)> {
        let workers = &self.metrics.workers;
        let counts = |(number, name)| {
            let each = workers.iter().map(|worker| worker.finished.of_bot(number));
            let (finished, failed) = each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            (name, finished, failed)
        };
        self.registry.names().enumerate().map(counts).collect()
    }

    /// How many updates of each kind need no further call, those of 0 included; each counts for
    /// every output that it went to.
    #[must_use]
    pub fn kinds(&self) -> Vec<(UpdateKind, u64)> {
        let kinds = UpdateKind::ALL.iter().copied().chain([UpdateKind::Unknown]);
        let workers = &self.metrics.workers;
        let of = |kind| workers.iter().map(|worker| worker.finished.of_kind(kind)).sum();
        kinds.map(|kind| (kind, of(kind))).collect()
    }

    /// What is under way between the wire and the end of each output's calls, in the outputs'
    /// order. It includes what the threads hold in reserve.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueSize> {
        let used = |queue: &OutputQueue| {
            let [updates, bytes] = [Measure::Updates, Measure::Bytes];
            QueueSize { updates: queue.budget.used(updates), bytes: queue.budget.used(bytes) }
        };
        let queues = self.running.outputs.queues.iter();
        queues.map(|(_, queue)| used(queue)).collect()
    }

    /// How many durations of `stage` are within each of `bounds`, which are in ascending order.
    #[must_use]
    pub fn stage(&self, stage: Stage, bounds: &[Duration]) -> StageBuckets {
        StageBuckets::new(&self.metrics.stage(stage), bounds)
    }

    /// Why the server is broken for good, in one line, as `/healthz` says it; `None` where it is
    /// not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.health.failure(Instant::now())
    }

    /// Why the server takes no updates now, each reason in one line, as `/readyz` says it; empty
    /// where it does.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        self.health.obstacles(Instant::now())
    }

    /// What hangs, or takes nothing, although updates are taken, each in one line.
    #[must_use]
    pub fn asides(&self) -> Vec<String> {
        self.health.asides(Instant::now())
    }

    /// What hangs now, in the order of the steps' names.
    #[must_use]
    pub fn hangs(&self) -> Vec<Hang> {
        let hanging = self.health.hanging(Instant::now()).into_iter();
        let hang = |it: super::health::Hanging| Hang {
            step: it.step,
            threads: it.count,
            longest: it.longest,
        };
        hanging.map(hang).collect()
    }

    /// The time since each shard's last sign of life, which it gives once a second; `None` for one
    /// that has ended.
    #[must_use]
    pub fn shards_silent_for(&self) -> Vec<Option<Duration>> {
        self.health.shards_silent_for(Instant::now())
    }

    /// The states of the outputs, in their order.
    pub fn outputs(&self) -> impl Iterator<Item = &Arc<OutputState>> {
        self.health.outputs()
    }

    /// The last `limit` incidents, the newest first, and how many were dropped in all because a
    /// reader was in their way.
    #[must_use]
    pub fn incidents(&self, limit: usize) -> (Vec<Incident>, u64) {
        self.incidents.latest(limit)
    }

    /// The last requests, at most `limit`, the newest first, and how many were dropped in all
    /// because a reader was in their way.
    #[must_use]
    pub fn requests(&self, limit: usize) -> (Vec<RecentRequest>, u64) {
        self.recent.latest(RecentQuery { limit: Some(limit), ..RecentQuery::default() })
    }

    /// The stages' histograms, interval by interval.
    #[doc(hidden)]
    #[must_use]
    pub fn intervals(&self) -> Intervals {
        self.metrics.intervals()
    }

    /// How many incidents there were of each kind, by its name, those of 0 included.
    #[must_use]
    pub fn incident_counts(&self) -> Vec<(&'static str, u64)> {
        self.incidents.counts()
    }

    /// How many incidents were dropped in all because a reader was in their way.
    #[must_use]
    pub fn incidents_dropped(&self) -> u64 {
        self.incidents.dropped()
    }

    /// The certificates that are served now, the default one first; empty without TLS.
    #[must_use]
    pub fn certificates(&self) -> Vec<ServedCertificate> {
        self.metrics.tls.as_ref().map(|tls| tls.certificates()).unwrap_or_default()
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which CPU each thread is pinned to.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// When the server was started.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        SystemTime::now().checked_sub(self.started_at.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}
