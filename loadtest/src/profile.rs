//! `--profile DIR`: the generator's interval log and percentile files.
//!
//! At the end of a second the generator's thread copies its histograms for a thread that compresses
//! and writes what is new in them. Requests are recorded as without a profile.

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

use crate::{Error, Latencies, Report, clock::Nanos, record::Record};

/// Percentile files are in microseconds.
const UNIT_NS: f64 = 1e3;

/// The latencies of a run up to some moment, as in [`Record`].
pub(crate) struct Snapshot {
    latency: Latencies,
    service: Latencies,
    lateness: Latencies,
}

impl Snapshot {
    fn new() -> Self {
        Self { latency: Latencies::new(), service: Latencies::new(), lateness: Latencies::new() }
    }

    /// Becomes what `record` holds now.
    fn take(&mut self, record: &Record) {
        self.latency.set_to(&record.latency);
        self.service.set_to(&record.service);
        self.lateness.set_to(&record.lateness);
    }

    /// What has come since `earlier`, by tag.
    fn since(&self, earlier: &Self) -> [(&'static str, Latencies); 3] {
        [
            ("latency", self.latency.since(&earlier.latency)),
            ("service", self.service.since(&earlier.service)),
            ("lateness", self.lateness.since(&earlier.lateness)),
        ]
    }
}

/// The generator's side.
pub(crate) struct Intervals {
    /// When the last interval ended.
    ended: Nanos,
    snapshots: mpsc::Sender<(Box<Snapshot>, Nanos)>,
    spare: mpsc::Receiver<Box<Snapshot>>,
}

impl Intervals {
    /// Ends an interval, so much time after the start. It takes as long as copying 800 KiB.
    pub(crate) fn end(&mut self, record: &Record, elapsed: Nanos) {
        if elapsed <= self.ended {
            return;
        }
        self.ended = elapsed;
        let mut snapshot = self.spare.try_recv().unwrap_or_else(|_| Box::new(Snapshot::new()));
        snapshot.take(record);
        // Where the writer has ended, it has told why.
        let _ = self.snapshots.send((snapshot, elapsed));
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
        let (snapshots, taken) = mpsc::channel();
        let (give_back, spare) = mpsc::channel();
        // Begun by a thread that is on no CPU of the generator's yet.
        let thread = thread::Builder::new()
            .name("loadtest-profile".to_owned())
            .spawn(move || write(log, &taken, &give_back))
            .map_err(Error::Runtime)?;
        let intervals = Intervals { ended: 0, snapshots, spare };
        Ok((Self { dir: dir.to_owned(), thread }, intervals))
    }

    /// Waits until all intervals are written, and writes the distributions of the whole run. What
    /// of it failed, for people.
    pub(crate) fn finish(self, report: &Report) -> Option<String> {
        let lost = self.thread.join().unwrap_or(1);
        let whole = [
            ("latency", &report.latency_us),
            ("service", &report.send_to_answer_us),
            ("lateness", &report.lateness_us),
            ("handshake", &report.handshake_us),
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

/// Writes intervals until there are no more; how many could not be written when they were due. The
/// next one has their counts.
fn write(
    mut log: IntervalLog,
    snapshots: &mpsc::Receiver<(Box<Snapshot>, Nanos)>,
    give_back: &mpsc::Sender<Box<Snapshot>>,
) -> u64 {
    // Up to where the log goes.
    let (mut before, mut began) = (Box::new(Snapshot::new()), 0);
    let mut lost = 0;
    for (snapshot, end) in snapshots {
        let tagged = snapshot.since(&before);
        let tagged = tagged.iter().map(|(tag, latencies)| (*tag, latencies.histogram()));
        let (start, length) = (Duration::from_nanos(began), Duration::from_nanos(end - began));
        let spare = match log.append(start, length, tagged) {
            Ok(()) => {
                began = end;
                std::mem::replace(&mut before, snapshot)
            }
            Err(_) => {
                lost += 1;
                snapshot
            }
        };
        // The generator has ended if it does not want it.
        let _ = give_back.send(spare);
    }
    lost
}
