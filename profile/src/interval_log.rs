//! Writing `.hlog` files.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
    time::{Duration, SystemTime},
};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};

/// `Interval_Max` is for people, who think of latencies in milliseconds; so is it in Java's logs.
const MAX_DIVISOR: f64 = 1e6;
/// The line with the names of the columns.
const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

/// An interval log that is being written.
///
/// An interval is in the file as a whole or not at all: where the disk takes only a part of it, the
/// file is cut back, so that what is there can always be read.
pub struct IntervalLog {
    buffer: Vec<u8>,
    file: File,
    /// Of what is whole.
    length: u64,
    serializer: V2DeflateSerializer,
}

impl IntervalLog {
    /// Makes the file, or empties it, and writes the head: `comment`, one line or more, and the
    /// time from which intervals are counted.
    ///
    /// # Errors
    /// The file cannot be made, or nothing can be written to it.
    pub fn create(path: &Path, comment: &str, start: SystemTime) -> io::Result<Self> {
        Self::begin(File::create(path)?, comment, start)
    }

    /// The same in a `file` that is open and empty.
    ///
    /// # Errors
    /// Nothing can be written to it.
    pub fn begin(file: File, comment: &str, start: SystemTime) -> io::Result<Self> {
        let mut log =
            Self { buffer: Vec::new(), file, length: 0, serializer: V2DeflateSerializer::new() };
        IntervalLogWriterBuilder::new()
            .add_comment(comment)
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(start)
            .with_base_time(start)
            .with_max_value_divisor(MAX_DIVISOR)
            .begin_log_with(&mut log.buffer, &mut log.serializer)?;
        log.buffer.extend_from_slice(LEGEND.as_bytes());
        log.flush()?;
        Ok(log)
    }

    /// Writes an interval that began `since_start` after the log's start and took `length`: for
    /// each tag its histogram, empty ones included, so that a reader can tell silence from a gap.
    ///
    /// # Errors
    /// The disk does not take it, or a tag has a comma, a space or a line break in it; the file is
    /// as it was before then.
    pub fn append<'a>(
        &mut self,
        since_start: Duration,
        length: Duration,
        histograms: impl IntoIterator<Item = (&'a str, &'a Histogram<u64>)>,
    ) -> io::Result<()> {
        self.buffer.clear();
        let mut builder = IntervalLogWriterBuilder::new();
        let mut writer = builder
            .with_max_value_divisor(MAX_DIVISOR)
            .begin_log_with(&mut self.buffer, &mut self.serializer)?;
        for (tag, histogram) in histograms {
            let tag = Tag::new(tag).ok_or(io::ErrorKind::InvalidInput)?;
            writer
                .write_histogram(histogram, since_start, length, Some(tag))
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        // The writer begins with a line of its own, which the file has at its head already.
        let head = self.buffer.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.buffer.drain(..head);
        self.flush()
    }

    /// Writes what is in the buffer, all or nothing.
    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        match written {
            Ok(()) => self.length += self.buffer.len() as u64,
            Err(_) => {
                // Where this fails too, the next interval begins where the last whole one ends all
                // the same, since it is written there.
                let _ = self.file.set_len(self.length);
                self.file.seek(SeekFrom::Start(self.length))?;
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;
    use crate::read_log;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1 << 40, 2).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn a_tag_that_would_break_the_line_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.hlog");
        let mut log = IntervalLog::create(&path, "a test", SystemTime::now()).unwrap();
        let before = fs::read(&path).unwrap();
        for tag in ["a,b", "a b", "a\nb"] {
            let ok = histogram([1]);
            log.append(Duration::ZERO, Duration::ZERO, [("ok", &ok), (tag, &ok)]).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), before, "{tag:?}");
        }
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = IntervalLog::create(Path::new("/dev/full"), "a test", SystemTime::now());
        assert_eq!(full.err().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn an_interval_that_did_not_fit_is_cut_off_and_the_next_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.hlog");
        let mut log = IntervalLog::create(&path, "a test", SystemTime::now()).unwrap();
        let second = Duration::from_secs(1);
        log.append(Duration::ZERO, second, [("a", &histogram(0..100))]).unwrap();
        // What a disk that fills up leaves: a part of the line, and an error.
        let whole = log.length;
        log.file.write_all(b"Tag=a,1.000,1.000,0.0").unwrap();
        let file = std::mem::replace(&mut log.file, File::open("/dev/full").unwrap());
        log.append(second, second, [("a", &histogram(0..100))]).unwrap_err();
        log.file = file;
        log.file.set_len(whole).unwrap();
        log.file.seek(SeekFrom::Start(whole)).unwrap();
        log.append(second * 2, second, [("a", &histogram(0..7))]).unwrap();
        let read = read_log(&fs::read(&path).unwrap()).unwrap();
        let counts: Vec<_> = read.intervals.iter().map(|it| it.histogram.len()).collect();
        assert_eq!(counts, [100, 7]);
    }
}
