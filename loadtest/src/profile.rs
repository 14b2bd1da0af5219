//! `--profile DIR`: the generator's interval log and percentile files.
//!
//! The generator's thread only records; at the end of a second it hands its histograms to a thread
//! that compresses and writes them, and goes on with empty ones.

use std::{
    fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use hdrprofile::{IntervalLog, write_percentiles};

use crate::{Error, Latencies, clock::Nanos, record::Record};

/// Percentile files are in microseconds.
const UNIT_NS: f64 = 1e3;

/// The latencies of one interval, as those of a whole run in [`Record`].
pub(crate) struct Interval {
    pub(crate) latency: Latencies,
    pub(crate) service: Latencies,
    pub(crate) lateness: Latencies,
}

impl Interval {
    fn new() -> Self {
        Self { latency: Latencies::new(), service: Latencies::new(), lateness: Latencies::new() }
    }

    fn tagged(&self) -> [(&'static str, &Latencies); 3] {
        [("latency", &self.latency), ("service", &self.service), ("lateness", &self.lateness)]
    }

    fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.service.add(&other.service);
        self.lateness.add(&other.lateness);
    }

    fn clear(&mut self) {
        self.latency.clear();
        self.service.clear();
        self.lateness.clear();
    }
}

/// The generator's side: what is recorded now.
pub(crate) struct Intervals {
    pub(crate) current: Box<Interval>,
    full: mpsc::Sender<(Box<Interval>, Nanos)>,
    spare: mpsc::Receiver<Box<Interval>>,
}

impl Intervals {
    /// Ends an interval, so much time after the start.
    pub(crate) fn end(&mut self, elapsed: Nanos) {
        let next = self.spare.try_recv().unwrap_or_else(|_| Box::new(Interval::new()));
        let interval = std::mem::replace(&mut self.current, next);
        // Where the writer has ended, it has told why.
        let _ = self.full.send((interval, elapsed));
    }
}

/// The files, and the thread that writes them.
pub(crate) struct Profile {
    dir: PathBuf,
    thread: JoinHandle<u64>,
}

impl Profile {
    /// Makes `dir` and the log in it.
    ///
    /// # Errors
    /// If that is not to be had.
    pub(crate) fn start(dir: &Path) -> Result<(Self, Intervals), Error> {
        let failed = |error: io::Error| {
            Error::Option(format!("cannot write a profile to {}: {error}", dir.display()))
        };
        fs::create_dir_all(dir).map_err(failed)?;
        let version = env!("CARGO_PKG_VERSION");
        let comment = format!("loadtest {version}: nanoseconds by kind of latency");
        let log = IntervalLog::create(&dir.join("client.hlog"), &comment, SystemTime::now());
        let log = log.map_err(failed)?;
        let (full, intervals) = mpsc::channel();
        let (give_back, spare) = mpsc::channel();
        // Begun by a thread that is on no CPU of the generator's yet.
        let thread = thread::Builder::new()
            .name("loadtest-profile".to_owned())
            .spawn(move || write(log, &intervals, &give_back))
            .map_err(Error::Runtime)?;
        let intervals = Intervals { current: Box::new(Interval::new()), full, spare };
        Ok((Self { dir: dir.to_owned(), thread }, intervals))
    }

    /// Waits until all intervals are written, and writes the distributions of the whole run. What of
    /// it failed, for people.
    pub(crate) fn finish(self, record: &Record) -> Option<String> {
        let lost = self.thread.join().unwrap_or(1);
        let whole = [
            ("latency", &record.latency),
            ("service", &record.service),
            ("lateness", &record.lateness),
            ("handshake", &record.handshake),
        ];
        let write = |(name, latencies): (&str, &Latencies)| {
            let mut file =
                io::BufWriter::new(File::create(self.dir.join(format!("client-{name}.hgrm")))?);
            write_percentiles(latencies.histogram(), UNIT_NS, &mut file)?;
            io::Write::flush(&mut file)
        };
        let written = whole.into_iter().filter(|(_, it)| it.count() > 0).try_for_each(write);
        match (written, lost) {
            (Ok(()), 0) => None,
            (Ok(()), lost) => Some(format!(
                "the profile's disk did not take {lost} intervals when they were due; those after \
                 them hold their counts"
            )),
            (Err(error), _) => Some(format!("the profile is not whole: {error}")),
        }
    }
}

/// Writes intervals until there are no more; how many could not be written when they were due.
fn write(
    mut log: IntervalLog,
    intervals: &mpsc::Receiver<(Box<Interval>, Nanos)>,
    give_back: &mpsc::Sender<Box<Interval>>,
) -> u64 {
    // What is not in the log yet: the interval that came, and those before it that did not fit.
    let mut carried = Interval::new();
    let (mut began, mut lost) = (0, 0);
    for (mut interval, end) in intervals {
        carried.add(&interval);
        interval.clear();
        // The generator has ended if it does not want it.
        let _ = give_back.send(interval);
        let tagged = carried.tagged().map(|(tag, latencies)| (tag, latencies.histogram()));
        let (start, length) = (Duration::from_nanos(began), Duration::from_nanos(end - began));
        match log.append(start, length, tagged) {
            Ok(()) => {
                carried.clear();
                began = end;
            }
            Err(_) => lost += 1,
        }
    }
    lost
}
