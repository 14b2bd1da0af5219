//! What pages of a program can be told of the running server.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    bots::BotRegistry,
    config::{Config, DriverKind},
    control::{OutputState, operation::Step},
    dispatch::{OutputQueue, Outputs},
    io::cpu_affinity::Placement,
    observe::{
        incidents::{Incident, Incidents},
        metrics::{Intervals, Metrics, OutputReport, Report, SlowReport, Stage, StageBuckets},
        recent::{RecentQuery, RecentRequest, RecentRequests},
    },
    server::health::Health,
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
    pub(crate) outputs: Outputs,
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
        Report { outputs: self.output_reports(), slow, shard_cpus, worker_cpus, ..report }
    }

    /// The outputs' parts of the report, where there are several.
    fn output_reports(&self) -> Vec<OutputReport> {
        let queues = &self.outputs.queues;
        let states = self.health.outputs().filter(|_| queues.len() > 1);
        let mut workers = &*self.metrics.workers;
        let report = |(state, queue): (&Arc<OutputState>, &OutputQueue)| {
            // The workers of the outputs follow each other.
            let (own, others) = workers.split_at(queue.inboxes.len().min(workers.len()));
            workers = others;
            let down = state.down().map(|_| state.to_string());
            OutputReport::new(state.name(), down, own)
        };
        states.zip(queues).map(report).collect()
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
