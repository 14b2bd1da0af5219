//! The table and the file.

use std::{collections::BTreeMap, fmt, fs};

use serde_json::json;

use crate::{Asked, echo::Sample, requests::Requests};

/// Pieces besides the echo, in the order of the path.
const PIECES: [&str; 3] = ["aes-gcm", "httparse", "simd-json"];

/// What has been measured so far, in microseconds per exchange.
pub(crate) struct FloorReport {
    body_mean: f64,
    request_mean: f64,
    answer: usize,
    suite: String,
    rounds: usize,
    seconds: f64,
    echoes: BTreeMap<&'static str, Vec<Sample>>,
    pieces: BTreeMap<&'static str, Vec<f64>>,
}

/// The lowest and the median of some figures.
#[derive(Clone, Copy)]
struct Figure {
    min: f64,
    median: f64,
}

impl Figure {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Self { min: values.first().copied().unwrap_or(f64::NAN), median }
    }
}

impl FloorReport {
    pub(crate) fn new(requests: &Requests, asked: &Asked) -> Self {
        let (body_mean, request_mean) = requests.means();
        Self {
            body_mean,
            request_mean,
            answer: requests.answer_record,
            suite: format!("{:?}", requests.suite),
            rounds: asked.rounds,
            seconds: asked.span.as_secs_f64(),
            echoes: BTreeMap::new(),
            pieces: BTreeMap::new(),
        }
    }

    pub(crate) fn echo(&mut self, name: &'static str, sample: Sample) {
        self.echoes.entry(name).or_default().push(sample);
    }

    pub(crate) fn piece(&mut self, name: &'static str, us: f64) {
        self.pieces.entry(name).or_default().push(us);
    }

    /// The echo with the lowest median, and its figures.
    fn best(&self) -> Option<(&'static str, Figure)> {
        let figures = self.echoes.iter().map(|(name, samples)| (*name, cpu(samples)));
        figures.min_by(|one, other| one.1.median.total_cmp(&other.1.median))
    }

    fn piece_figure(&self, name: &str) -> Figure {
        Figure::new(self.pieces.get(name).into_iter().flatten().copied())
    }

    fn floor(&self) -> Figure {
        let mut floor =
            self.best().map_or(Figure { min: f64::NAN, median: f64::NAN }, |best| best.1);
        for name in PIECES {
            let piece = self.piece_figure(name);
            floor.min += piece.min;
            floor.median += piece.median;
        }
        floor
    }

    pub(crate) fn to_json(&self) -> String {
        let figure = |Figure { min, median }| json!({ "min": min, "median": median });
        let mut pieces = serde_json::Map::new();
        if let Some((name, best)) = self.best() {
            let mut piece = figure(best);
            piece["way"] = name.into();
            pieces.insert("echo".to_owned(), piece);
        }
        for name in PIECES {
            pieces.insert(name.to_owned(), figure(self.piece_figure(name)));
        }
        let echoes: serde_json::Map<_, _> = self
            .echoes
            .iter()
            .map(|(name, samples)| {
                let mut echo = figure(cpu(samples));
                echo["busy"] = busy(samples).into();
                echo["per_second"] = per_second(samples).into();
                ((*name).to_owned(), echo)
            })
            .collect();
        let report = json!({
            "unit": "us of CPU per exchange",
            "kernel": kernel(),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "body_bytes_mean": self.body_mean,
            "request_bytes_mean": self.request_mean,
            "answer_bytes": self.answer,
            "suite": self.suite,
            "floor": figure(self.floor()),
            "pieces": pieces,
            "echoes": echoes,
        });
        serde_json::to_string_pretty(&report).unwrap() + "\n"
    }
}

fn cpu(samples: &[Sample]) -> Figure {
    Figure::new(samples.iter().map(|sample| sample.cpu_us))
}

fn busy(samples: &[Sample]) -> f64 {
    Figure::new(samples.iter().map(|sample| sample.busy)).median
}

fn per_second(samples: &[Sample]) -> f64 {
    Figure::new(samples.iter().map(|sample| sample.per_second)).median
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

impl fmt::Display for FloorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answer, body_mean, request_mean, rounds, seconds, suite, .. } = self;
        writeln!(
            f,
            "Linux {}, {rounds} rounds, {seconds} s for each echo; {suite}; body {body_mean:.0} \
             bytes on\naverage, record in {request_mean:.0}, record out {answer}. CPU time in us per \
             exchange.\n",
            kernel()
        )?;
        writeln!(
            f,
            "{:<44} {:>6} {:>7} {:>6} {:>9}",
            "TCP echo", "min", "median", "busy", "per s"
        )?;
        for (name, samples) in &self.echoes {
            let Figure { min, median } = cpu(samples);
            let (busy, rate) = (100.0 * busy(samples), per_second(samples));
            writeln!(f, "{name:<44} {min:>6.2} {median:>7.2} {busy:>5.0}% {rate:>9.0}")?;
        }
        writeln!(f, "\n{:<44} {:>6} {:>7}", "floor", "min", "median")?;
        let mut row =
            |name: &str, Figure { min, median }| writeln!(f, "{name:<44} {min:>6.2} {median:>7.2}");
        if let Some((_, best)) = self.best() {
            row("best TCP echo", best)?;
        }
        for name in PIECES {
            row(name, self.piece_figure(name))?;
        }
        row("sum", self.floor())
    }
}
