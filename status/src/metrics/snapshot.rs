//! Everything that a scrape shows, gathered at one moment.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use ringhook::{
    Config, Hang, OutputState, QueueSize, Report, ServedCertificate, ServerView, Stage,
    StageBuckets, update::UpdateKind,
};
use ringhook_outputs::{forward::ForwardStatus, getupdates::GetUpdatesStatus};

use super::{
    bots,
    families::Families,
    getupdates, health, journal,
    lag::{self, Lag},
    outputs, peers, traffic,
};
use crate::Program;

/// The bounds of the stages' histograms, in microseconds.
const BOUNDS_US: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// A scrape's content.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) bots: Vec<(String, u64, u64)>,
    pub(super) certificates: Vec<ServedCertificate>,
    pub(super) config: Config,
    pub(super) forwards: Vec<(String, ForwardStatus)>,
    pub(super) getupdates: Vec<(String, GetUpdatesStatus)>,
    pub(super) hangs: Vec<Hang>,
    pub(super) incidents: Vec<(&'static str, u64)>,
    pub(super) incidents_dropped: u64,
    pub(super) is_healthy: bool,
    pub(super) is_ready: bool,
    pub(super) kinds: Vec<(UpdateKind, u64)>,
    pub(super) lag: Duration,
    pub(super) now: SystemTime,
    pub(super) outputs: Vec<OutputNow>,
    pub(super) report: Report,
    pub(super) shards_silent_for: Vec<Option<Duration>>,
    pub(super) stages: Vec<(Stage, StageBuckets)>,
    pub(super) stderr_lines_dropped: u64,
    pub(super) unsettled: u64,
    pub(super) version: &'static str,
}

/// An output's state and queue.
#[derive(Debug)]
pub(super) struct OutputNow {
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) queue: Option<QueueSize>,
}

impl Snapshot {
    pub(super) fn new(
        server: &ServerView,
        program: &dyn Program,
        lag: &Lag,
        version: &'static str,
    ) -> Self {
        let (report, forwards) = (server.report(), program.forwards());
        let (accepted, settled) = lag::accepted_and_settled(&report);
        let bounds = BOUNDS_US.map(Duration::from_micros);
        let mut queues = server.queues().into_iter();
        let output = |state: &std::sync::Arc<OutputState>| OutputNow {
            name: state.name().to_owned(),
            is_up: state.down().is_none(),
            queue: queues.next(),
        };
        let bots = server.bots().into_iter();
        Self {
            bots: bots
                .map(|(name, finished, failed)| (name.to_owned(), finished, failed))
                .collect(),
            certificates: server.certificates(),
            config: server.config(),
            getupdates: program.getupdates(),
            hangs: server.hangs(),
            incidents: server.incident_counts(),
            incidents_dropped: server.incidents_dropped(),
            is_healthy: server.failure().is_none(),
            is_ready: server.obstacles().is_empty(),
            kinds: server.kinds(),
            lag: lag.of(Instant::now(), &report, &forwards),
            forwards,
            now: SystemTime::now(),
            outputs: server.outputs().map(output).collect(),
            shards_silent_for: server.shards_silent_for(),
            stages: Stage::ALL.map(|stage| (stage, server.stage(stage, &bounds))).into(),
            stderr_lines_dropped: program.stderr_lines_dropped(),
            unsettled: accepted.saturating_sub(settled),
            report,
            version,
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = &mut Families(encoder);
        traffic::write(self, &BOUNDS_US, families)?;
        bots::write(self, families)?;
        journal::write(self, families)?;
        peers::write(self, families)?;
        outputs::write(self, families)?;
        getupdates::write(self, families)?;
        health::write(self, families)
    }
}
