//! `--profile DIR`: interval logs of every stage while the server runs, percentile files and a
//! report at the end. A thread of its own takes them from the histograms that are there anyway; no
//! other thread knows of it.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use hdrprofile::{Histogram, IntervalLog, write_percentiles};

use crate::files::{Half, Over};
use ringhook::{
    Error, ErrorKind, Report, Stage,
    internals::{files::Dir, observe::metrics::Intervals},
};

/// Percentile files are in microseconds: in milliseconds the shorter stages would be all zeros.
const UNIT_NS: f64 = 1e3;

/// How long the end of a process waits for the last files.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// A profile that is being written.
pub(crate) struct Profiler {
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
}

enum Command {
    /// Write what there is now.
    Dump(Box<Report>),
    /// Write the rest, then end.
    Finish(Box<Report>),
}

impl Profiler {
    /// Makes `dir` and the log in it, and begins the first interval of `length`.
    ///
    /// # Errors
    /// The directory or the file in it cannot be made.
    pub(crate) fn start(dir: &Path, length: Duration, intervals: Intervals) -> Result<Self, Error> {
        let error = |source| {
            let message = format!("profile.dir = {}", dir.display());
            Error::with_source(ErrorKind::Config, message, source)
        };
        let place = Dir::make(dir, 0o777, None).map_err(error)?;
        let log = OsStr::new("server.hlog");
        // What an earlier run has left, perhaps the one that has just crashed, is kept once.
        match place.rename(log, "server.1.hlog".as_ref(), Over::Replace) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
            _ => {}
        }
        let comment = format!("ringhook {}: nanoseconds by stage", env!("CARGO_PKG_VERSION"));
        let start = (SystemTime::now(), Instant::now());
        let log = place.create_new(log, 0o666).map_err(error)?;
        let log = IntervalLog::begin(log, &comment, start.0).map_err(error)?;
        let (commands, received) = mpsc::channel();
        let profile = Profile {
            began: Duration::ZERO,
            dir: dir.to_owned(),
            intervals,
            is_failing: false,
            length,
            log,
            seen: [false; Stage::ALL.len()],
            start: start.1,
        };
        let thread = thread::Builder::new()
            .name("ringhook-prof".to_owned())
            .spawn(move || profile.run(&received))
            .map_err(|source| {
                Error::with_source(ErrorKind::Thread, "cannot start a thread", source)
            })?;
        Ok(Self { commands, thread })
    }

    /// Has the interval that is under way written, and with it the files of the whole so far.
    pub(crate) fn dump(&self, report: Report) {
        // A thread that has ended has said why.
        let _ = self.commands.send(Command::Dump(Box::new(report)));
    }

    /// Has the rest written, with the last report.
    pub(crate) fn finish(self, report: &Report) {
        self.finish_by(Instant::now() + FINISH_MAX, report);
    }

    fn finish_by(self, deadline: Instant, report: &Report) {
        let _ = self.commands.send(Command::Finish(Box::new(report.clone())));
        // A disk that does not answer is not waited for.
        if crate::process::threads::ended_in_time(vec![self.thread], deadline).is_empty() {
            tracing::warn!("the profile is not written to its end: its disk does not answer");
        }
    }
}

/// The thread's state.
struct Profile {
    /// When the interval began that is under way, since the start.
    began: Duration,
    dir: PathBuf,
    intervals: Intervals,
    /// Whether the last interval could not be written.
    is_failing: bool,
    length: Duration,
    log: IntervalLog,
    /// Stages that have been recorded; the others are left out of the log.
    seen: [bool; Stage::ALL.len()],
    start: Instant,
}

impl Profile {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let mut due = self.length;
        loop {
            match commands.recv_timeout(due.saturating_sub(self.start.elapsed())) {
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.end_interval();
                    // Where the disk held it up for longer, the next interval is as much shorter.
                    while due <= self.start.elapsed() {
                        due += self.length;
                    }
                }
                Ok(Command::Dump(report)) => self.dump(&report),
                Ok(Command::Finish(report)) => return self.dump(&report),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn dump(&mut self, report: &Report) {
        self.end_interval();
        if let Err(error) = self.write_files(report) {
            tracing::warn!(%error, dir = %self.dir.display(), "the profile could not be written");
        }
    }

    /// Writes the interval. Where that fails, its counts stay for the next one.
    fn end_interval(&mut self) {
        let now = self.start.elapsed();
        let stages = self.intervals.look();
        for (seen, (_, histogram)) in self.seen.iter_mut().zip(&stages) {
            *seen |= !histogram.is_empty();
        }
        let tagged = stages.iter().zip(self.seen).filter(|(_, seen)| *seen);
        let tagged = tagged.map(|((stage, histogram), _)| (stage.as_str(), histogram));
        match self.log.append(self.began, now.saturating_sub(self.began), tagged) {
            Ok(()) => {
                self.intervals.settle();
                self.began = now;
                if self.is_failing {
                    self.is_failing = false;
                    tracing::info!("the profile is written again");
                }
            }
            Err(error) => {
                self.intervals.lose();
                if !self.is_failing {
                    self.is_failing = true;
                    tracing::warn!(%error, "the profile's intervals cannot be written, serving goes on");
                }
            }
        }
    }

    /// The percentiles of every stage since the start, and the report.
    fn write_files(&self, report: &Report) -> io::Result<()> {
        for (stage, histogram) in self.intervals.whole() {
            if !histogram.is_empty() {
                let name = format!("server-{}.hgrm", stage.as_str());
                self.replace(&name, &percentiles(&histogram)?)?;
            }
        }
        let mut json = serde_json::to_vec_pretty(report).map_err(io::Error::from)?;
        json.push(b'\n');
        self.replace("server.json", &json)
    }

    /// A reader of the file gets the one before or this one, never a part.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (dir, name) = Dir::parent_of(&self.dir.join(name), None)?;
        Half::draft(dir, &name, 0o666, bytes)?.0.settle(Over::Replace)
    }
}

fn percentiles(histogram: &Histogram<u64>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    write_percentiles(histogram, UNIT_NS, &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use ringhook::internals::empty_report;

    #[test]
    fn a_disk_that_does_not_answer_is_not_waited_for() {
        let (commands, received) = mpsc::channel();
        let (held, hold) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            // As within a call of the kernel: no command is looked at.
            let _ = hold.recv();
            drop(received);
        });
        let report = empty_report();
        let (ended, has_ended) = mpsc::channel();
        thread::spawn(move || {
            Profiler { commands, thread }.finish_by(Instant::now(), &report);
            ended.send(()).unwrap();
        });
        has_ended.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(held);
    }
}
