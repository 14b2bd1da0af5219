//! What the page is made of: reports of runs, and what servers have written beside them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use hdrprofile::{Histogram, Log, read_log};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::Error;

/// One run as its report tells of it. Reports of older versions lack some of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Run {
    /// What it is called on the page.
    #[serde(skip)]
    pub(super) label: String,
    #[serde(skip)]
    pub(super) server: Option<ServerSide>,
    pub(super) started_at: String,
    pub(super) command: Vec<String>,
    pub(super) machine: Machine,
    pub(super) plan: Option<Plan>,
    pub(super) options: Map<String, Value>,
    pub(super) driver: String,
    pub(super) duration_s: f64,
    pub(super) planned: u64,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) statuses: BTreeMap<String, u64>,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) rate_asked_per_s: Option<f64>,
    pub(super) rate_per_s: f64,
    pub(super) cpu_user_s: f64,
    pub(super) cpu_system_s: f64,
    /// For scripts that measure servers which do not measure themselves.
    pub(super) server_cpu_us_per_update: Option<f64>,
    /// The same of the most memory that they had resident.
    pub(super) server_memory_peak_bytes: Option<u64>,
    pub(super) latency_us: Latency,
    pub(super) send_to_answer_us: Latency,
    pub(super) lateness_us: Latency,
    pub(super) handshake_us: Latency,
    pub(super) series: Vec<Second>,
    pub(super) expectations: Vec<Expectation>,
    pub(super) warnings: Vec<String>,
    pub(super) retries: Option<Map<String, Value>>,
    pub(super) copies: Option<Map<String, Value>>,
    pub(super) slow_peers: Option<Map<String, Value>>,
    /// What getWebhookInfo would say of each bot.
    pub(super) telegram: Option<Vec<Map<String, Value>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cpus: usize,
    pub(super) kernel: String,
    pub(super) memory_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) about: String,
}

/// Where durations lie, in microseconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
    /// Shares from 0 to 1, and what they do not exceed.
    pub(super) curve: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Second {
    pub(super) at_s: f64,
    pub(super) due: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Expectation {
    pub(super) name: String,
    pub(super) bound: String,
    pub(super) value: String,
    pub(super) ok: bool,
}

/// What the server says of its side.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerSide {
    pub(super) driver: String,
    pub(super) shards: Option<u64>,
    pub(super) workers: Option<u64>,
    pub(super) updates_acknowledged: u64,
    pub(super) updates_duplicate: u64,
    pub(super) cpu_s: Option<f64>,
    pub(super) memory_peak_bytes: Option<u64>,
    /// By stage, in the order of an update's way.
    #[serde(deserialize_with = "in_order")]
    pub(super) latency_us: Vec<(String, Latency)>,
    pub(super) slow: Option<Slow>,
    /// By stage and interval: when it ended, in seconds, and its p99 in microseconds.
    #[serde(skip)]
    pub(super) over_time: Vec<(String, Vec<(f64, f64)>)>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slow {
    pub(super) bound_us: f64,
    pub(super) answered: u64,
    pub(super) handled: u64,
    pub(super) requests: Vec<SlowRequest>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlowRequest {
    pub(super) bot: String,
    pub(super) update_id: i64,
    pub(super) shard: Option<u64>,
    pub(super) received_s: f64,
    pub(super) stages_us: BTreeMap<String, f64>,
}

/// The share of updates dropped as copies above which the figures are doubted.
const COPIES_SHARE: f64 = 0.01;
/// The shortest part of a second that is shown by itself, in seconds.
const SHORTEST_S: f64 = 0.3;

/// The way of an update through ringhook. Stages of other servers come behind these.
const STAGES: [&str; 11] = [
    "accept_wait",
    "handshake_full",
    "handshake_resumed",
    "read",
    "parse",
    "commit",
    "answer",
    "queue_wait",
    "dispatch",
    "handler",
    "whole",
];

fn in_order<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, Latency)>, D::Error> {
    let mut stages: Vec<_> =
        BTreeMap::<String, Latency>::deserialize(deserializer)?.into_iter().collect();
    stages.sort_by_key(|(stage, _)| place(stage));
    Ok(stages)
}

fn place(stage: &str) -> usize {
    STAGES.iter().position(|known| *known == stage).unwrap_or(STAGES.len())
}

impl Run {
    /// Reads a report. A directory stands for what `--profile` has left in it: `client.json`, and
    /// `server.json` and `server.hlog` where they are.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let label = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        if !path.is_dir() {
            return Ok(Self { label, ..read_json(path)? });
        }
        let run: Self = read_json(&path.join("client.json"))?;
        let mut server: Option<ServerSide> = None;
        for name in ["server.json", "server.hlog"] {
            let file = path.join(name);
            if file.exists() {
                server = Some(ServerSide::read(&file, server)?);
            }
        }
        Ok(Self { label, server, ..run })
    }

    /// Joins what is left at the end of a run to the second before: percentiles of a few requests
    /// in a few milliseconds would stand as high as a stall.
    fn round_off(&mut self) {
        let ends = |second: Option<&Second>| second.map_or(0.0, |second| second.at_s);
        let before = self.series.len().checked_sub(2).and_then(|index| self.series.get(index));
        if ends(self.series.last()) - ends(before) >= SHORTEST_S || before.is_none() {
            return;
        }
        if let Some(rest) = self.series.pop()
            && let Some(last) = self.series.last_mut()
        {
            last.at_s = rest.at_s;
            last.due += rest.due;
            last.acknowledged += rest.acknowledged;
            last.refused += rest.refused;
            last.failed += rest.failed;
            last.max = last.max.max(rest.max);
        }
    }

    /// Warns where the server has dropped more updates as copies than the run has sent on purpose,
    /// and tried again: it had seen their ids before, and its handlers had less to do.
    fn doubt_copies(&mut self) {
        let Some(server) = &self.server else { return };
        let (taken, copies) = (server.updates_acknowledged, server.updates_duplicate);
        let count = |map: &Option<Map<String, Value>>, key: &str| {
            map.as_ref().and_then(|map| map.get(key)?.as_u64()).unwrap_or(0)
        };
        let again = count(&self.retries, "attempts").saturating_sub(self.planned);
        let meant = count(&self.copies, "planned") + again;
        let more = copies.saturating_sub(meant);
        if more as f64 > taken as f64 * COPIES_SHARE {
            let share = more as f64 * 100.0 / taken.max(1) as f64;
            self.warnings.push(format!(
                "the server has dropped {more} of {taken} updates ({share:.0} %) as copies, whose ids                  it had seen before: it was measured at dropping them. Each run against a server                  needs a --first-update-id of its own"
            ));
        }
    }

    /// CPU time of the server per update, in microseconds, where that is known.
    pub(super) fn server_cpu_us(&self) -> Option<f64> {
        let of_server = || {
            let server = self.server.as_ref()?;
            let updates =
                (server.updates_acknowledged > 0).then_some(server.updates_acknowledged)?;
            Some(server.cpu_s? * 1e6 / updates as f64)
        };
        self.server_cpu_us_per_update.or_else(of_server)
    }

    /// The most memory that the server had resident, in bytes, where that is known.
    pub(super) fn server_memory_peak(&self) -> Option<u64> {
        self.server_memory_peak_bytes.or_else(|| self.server.as_ref()?.memory_peak_bytes)
    }

    /// CPU time of the generator per request, in microseconds.
    pub(super) fn generator_cpu_us(&self) -> f64 {
        (self.cpu_user_s + self.cpu_system_s) * 1e6 / self.sent.max(1) as f64
    }

    /// Requests without an answer.
    pub(super) fn unanswered(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl ServerSide {
    /// Reads a server's report, or its interval log, into what is known of it already.
    pub(super) fn read(path: &Path, known: Option<Self>) -> Result<Self, Error> {
        if path.extension().is_none_or(|extension| extension != "hlog") {
            let over_time = known.map(|known| known.over_time).unwrap_or_default();
            return Ok(Self { over_time, ..read_json(path)? });
        }
        let bytes = fs::read(path).map_err(|error| unreadable(path, &error.to_string()))?;
        let log = read_log(&bytes).map_err(|error| unreadable(path, &error.to_string()))?;
        let mut server = known.unwrap_or_default();
        server.take(&log);
        Ok(server)
    }

    fn take(&mut self, log: &Log) {
        let mut sums: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
        let mut over_time: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for interval in &log.intervals {
            let histogram = &interval.histogram;
            let sum = sums.entry(&interval.tag).or_insert_with(|| Histogram::new_from(histogram));
            // Both have the same bounds, and where a log has others in between they are not summed.
            let _ = sum.add(histogram);
            if !histogram.is_empty() {
                let at = (interval.since_start + interval.length).as_secs_f64();
                let p99 = histogram.value_at_quantile(0.99) as f64 / 1e3;
                over_time.entry(&interval.tag).or_default().push((at, p99));
            }
        }
        if self.latency_us.is_empty() {
            let stages = sums.iter().filter(|(_, sum)| !sum.is_empty());
            self.latency_us =
                stages.map(|(stage, sum)| ((*stage).to_owned(), Latency::new(sum))).collect();
            self.latency_us.sort_by_key(|(stage, _)| place(stage));
        }
        self.over_time =
            over_time.into_iter().map(|(stage, points)| (stage.to_owned(), points)).collect();
        self.over_time.sort_by_key(|(stage, _)| place(stage));
    }
}

impl Latency {
    fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: histogram.len(),
            min: histogram.min() as f64 / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
            curve: Vec::new(),
        }
    }

    /// Points of the curve of percentiles: how many requests there are for one that is slower, and
    /// the microseconds. An older report has four percentiles only.
    pub(super) fn one_in(&self) -> Vec<(f64, f64)> {
        let count = self.count.max(1) as f64;
        let coarse = [(0.0, self.min), (0.5, self.p50), (0.9, self.p90), (0.99, self.p99)];
        let coarse = coarse.into_iter().chain([(0.999, self.p999), (1.0, self.max)]);
        let points: Vec<_> =
            if self.curve.is_empty() { coarse.collect() } else { self.curve.clone() };
        let mut curve: Vec<(f64, f64)> = Vec::with_capacity(points.len());
        for (quantile, us) in points {
            // Beyond the last request there is nothing to be said.
            let one_in = (1.0 / (1.0 - quantile).max(1e-12)).min(count.max(1.0));
            match curve.last_mut() {
                Some(last) if last.0 >= one_in => last.1 = last.1.max(us),
                _ => curve.push((one_in, us)),
            }
        }
        curve
    }

    /// What a share of `quantile` does not exceed, by the curve.
    pub(super) fn at(&self, quantile: f64) -> Option<f64> {
        // Of fewer requests there is no such percentile.
        if 1.0 / (1.0 - quantile) > self.count as f64 * 1.000_001 {
            return None;
        }
        self.curve.iter().find(|(share, _)| *share >= quantile).map(|(_, us)| *us)
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(|error| unreadable(path, &error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(path, &error.to_string()))
}

fn unreadable(path: &Path, reason: &str) -> Error {
    Error::Option(format!("cannot read {}: {reason}", path.display()))
}

/// What a page is to be made of.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Reports of runs, or directories of profiles.
    pub runs: Vec<PathBuf>,
    /// What the runs are called, in their order; the others are called as their files.
    pub labels: Vec<String>,
    /// The servers' reports or interval logs, in the order of the runs.
    pub servers: Vec<PathBuf>,
}

/// Reads everything.
pub(super) fn read(inputs: &Inputs) -> Result<Vec<Run>, Error> {
    let wrong = |message: &str| Err(Error::Option(message.to_owned()));
    if inputs.runs.is_empty() {
        return wrong("a report needs at least one run");
    }
    if inputs.labels.len() > inputs.runs.len() || inputs.servers.len() > inputs.runs.len() {
        return wrong("there are more labels or servers than runs");
    }
    let mut runs = inputs.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>, _>>()?;
    runs.iter_mut().for_each(Run::round_off);
    for (run, label) in runs.iter_mut().zip(&inputs.labels) {
        run.label.clone_from(label);
    }
    for (run, path) in runs.iter_mut().zip(&inputs.servers) {
        run.server = Some(ServerSide::read(path, run.server.take())?);
    }
    runs.iter_mut().for_each(Run::doubt_copies);
    Ok(runs)
}
