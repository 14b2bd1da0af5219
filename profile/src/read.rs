//! Reading `.hlog` files.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};

/// A whole interval log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// In the order of the file.
    pub intervals: Vec<Interval>,
    /// When it began, since 1970; `None` where it does not say.
    pub start: Option<Duration>,
}

/// One histogram of an interval log.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Of nanoseconds.
    pub histogram: Histogram<u64>,
    /// How long it took.
    pub length: Duration,
    /// When it began, since the log's start.
    pub since_start: Duration,
    /// What it is of; empty where it has no tag.
    pub tag: String,
}

/// What is wrong with an interval log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// The histogram of the interval of this number, from 0, is damaged.
    Histogram(usize),
    /// The line that begins at this byte is none of an interval log.
    Line(usize),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Histogram(number) => write!(f, "the histogram of interval {number} is damaged"),
            Self::Line(at) => write!(f, "no line of an interval log at byte {at}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads an interval log.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read_log(bytes: &[u8]) -> Result<Log, ReadError> {
    let mut log = Log::default();
    let mut base = Duration::ZERO;
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(bytes) {
        match entry {
            Ok(LogEntry::StartTime(time)) => log.start = Some(time),
            Ok(LogEntry::BaseTime(time)) => base = time,
            Ok(LogEntry::Interval(interval)) => {
                let damaged = || ReadError::Histogram(log.intervals.len());
                let encoded = STANDARD.decode(interval.encoded_histogram());
                let encoded = encoded.map_err(|_| damaged())?;
                let histogram = deserializer.deserialize(&mut &*encoded).map_err(|_| damaged())?;
                let at = base + interval.start_timestamp();
                log.intervals.push(Interval {
                    histogram,
                    length: interval.duration(),
                    since_start: at.saturating_sub(log.start.unwrap_or(base)),
                    tag: interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
                });
            }
            Err(hdrhistogram::serialization::interval_log::LogIteratorError::ParseError {
                offset,
            }) => return Err(ReadError::Line(offset)),
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, time::SystemTime};

    use super::*;
    use crate::IntervalLog;

    #[test]
    fn gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.hlog");
        let mut log = IntervalLog::create(&path, "two\nlines", SystemTime::now()).unwrap();
        let second = Duration::from_secs(1);
        for round in 0..3_u32 {
            let mut a = Histogram::new_with_bounds(1, (1 << 40) - 1, 2).unwrap();
            let mut b = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
            a.record_n(1234, u64::from(round)).unwrap();
            b.record_n(5_000_000_000, 7).unwrap();
            log.append(second * round, second, [("a", &a), ("b", &b)]).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let maxima = text.lines().filter(|line| line.starts_with("Tag=b,"));
        // For people, in milliseconds.
        assert!(maxima.clone().all(|line| line.split(',').nth(3) == Some("5003.805")), "{text}");
        assert_eq!((maxima.count(), text.matches("MaxValueDivisor").count()), (3, 1));
        let log = read_log(text.as_bytes()).unwrap();
        assert!(log.start.is_some());
        let told: Vec<_> = log
            .intervals
            .iter()
            .map(|it| (&*it.tag, it.since_start.as_secs(), it.histogram.len(), it.histogram.max()))
            .collect();
        let b = 5_003_804_671;
        assert_eq!(
            told,
            [
                ("a", 0, 0, 0),
                ("b", 0, 7, b),
                ("a", 1, 1, 1239),
                ("b", 1, 7, b),
                ("a", 2, 2, 1239),
                ("b", 2, 7, b)
            ]
        );
    }

    #[test]
    fn damage_is_named() {
        let line = b"Tag=a,0.000,1.000,0.000,AAAA\n";
        assert_eq!(read_log(line).unwrap_err(), ReadError::Histogram(0));
        assert_eq!(read_log(b"#x\nnonsense\n").unwrap_err(), ReadError::Line(3));
        assert_eq!(read_log(b"#x\n0.0,1.0,1.0,abc").unwrap_err(), ReadError::Line(3));
    }
}
