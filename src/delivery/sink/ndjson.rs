//! Newline-delimited JSON: one update a line, equal in value to what came in.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{BotNames, Sink, SinkWriter, lines::Lines};
use crate::{
    error::Error,
    proto::update::{Update, Value},
};

/// Writes lines to a file or a pipe.
///
/// Lines are whole: a batch that was written in part goes on where it stopped before anything else
/// is written. A file that is renamed or removed loses none: that is noticed before a batch counts as
/// written, and the batch is written again to the file that is opened then.
#[derive(Clone, Debug)]
pub struct NdjsonSink {
    has_meta: bool,
    lines: Arc<Lines>,
}

/// A line that tells more than the update does.
#[derive(Serialize)]
struct WithMeta<'a> {
    bot: &'a str,
    kind: &'a str,
    received: Moment,
    update: Value<'a>,
}

struct Moment(SystemTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

impl NdjsonSink {
    /// Lines to standard output.
    ///
    /// # Errors
    /// Where the process has no standard output.
    pub fn stdout() -> Result<Self, Error> {
        Lines::stdout().map(Self::from)
    }

    /// Lines appended to the file at `path`, which is made with mode 0600 where there is none:
    /// updates are private messages.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn file(path: &Path) -> Result<Self, Error> {
        Lines::file(path, "sink ndjson:").map(Self::from)
    }

    /// Lines appended to the file at `path`, as by [`file`](Self::file); each batch is synced to the
    /// disk before its updates count as handled, so that a power cut cannot take them.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn synced_file(path: &Path) -> Result<Self, Error> {
        Lines::synced_file(path, "sink ndjson:").map(Self::from)
    }

    /// With `has_meta`, a line is not the update alone but
    /// `{"bot":"shop","kind":"message","received":"2027-01-31T12:00:00.250Z","update":{...}}`: the
    /// bot's name, the update's kind and when it came in. Without, two bots' updates look alike.
    #[must_use]
    pub fn with_meta(self, has_meta: bool) -> Self {
        Self { has_meta, ..self }
    }

    /// Lines to any writer. Its errors make a batch wait, not fail.
    #[must_use]
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Lines::to(writer).into()
    }
}

impl From<Lines> for NdjsonSink {
    fn from(lines: Lines) -> Self {
        Self { has_meta: false, lines: Arc::new(lines) }
    }
}

impl Sink for NdjsonSink {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        self.writer_for(&BotNames::default())
    }

    fn writer_for(&self, bots: &BotNames) -> Result<Box<dyn SinkWriter>, Error> {
        let meta = self.has_meta.then(|| Meta { bots: bots.clone(), clock: Clock::read() });
        Ok(Box::new(NdjsonWriter { batch: Vec::new(), lines: Arc::clone(&self.lines), meta }))
    }

    fn reopen(&self) -> io::Result<()> {
        self.lines.reopen()
    }
}

struct NdjsonWriter {
    batch: Vec<u8>,
    lines: Arc<Lines>,
    /// What lines have beside the update, where they have it.
    meta: Option<Meta>,
}

struct Meta {
    bots: BotNames,
    clock: Clock,
}

/// Both clocks at one moment, by which a moment of the one is one of the other.
struct Clock {
    instant: Instant,
    time: SystemTime,
}

impl Clock {
    fn read() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    fn time_of(&self, instant: Instant) -> SystemTime {
        let time = match self.instant.checked_duration_since(instant) {
            Some(ago) => self.time.checked_sub(ago),
            None => self.time.checked_add(instant.saturating_duration_since(self.instant)),
        };
        // A clock that stands before 1970 has no such form.
        time.unwrap_or(self.time).max(SystemTime::UNIX_EPOCH)
    }
}

impl Meta {
    fn of<'a>(&'a self, update: &'a Update) -> WithMeta<'a> {
        WithMeta {
            bot: self.bots.get(update.bot()).unwrap_or_default(),
            kind: update.kind().as_str(),
            received: Moment(self.clock.time_of(update.received_at())),
            update: update.root(),
        }
    }
}

impl SinkWriter for NdjsonWriter {
    fn write(&mut self, update: &Update) {
        let start = self.batch.len();
        let written = match &mut self.meta {
            None => serde_json::to_writer(&mut self.batch, &update.root()),
            Some(meta) => {
                // Once for a batch: the clock may have been set since.
                if start == 0 {
                    meta.clock = Clock::read();
                }
                serde_json::to_writer(&mut self.batch, &meta.of(update))
            }
        };
        // Writing a parsed value to memory has no way to fail; should a change bring one, half a
        // line must not stay.
        if written.is_err() {
            self.batch.truncate(start);
        } else {
            self.batch.push(b'\n');
        }
    }

    fn pending_bytes(&self) -> usize {
        self.batch.len()
    }

    fn commit(&mut self) -> io::Result<()> {
        self.lines.commit(&mut self.batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        os::unix::fs::PermissionsExt as _,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Instant,
    };

    use super::*;
    use crate::{
        bots::BotId,
        error::ErrorKind,
        proto::update::{UpdateBody, UpdateParser},
    };

    fn update(json: &str) -> Update {
        UpdateParser::default()
            .parse(UpdateBody::from(json.as_bytes().to_vec()), BotId::new(0), Instant::now())
            .unwrap()
    }

    /// Takes `room` bytes, then has no space until more room is given.
    #[derive(Clone, Default)]
    struct Disk {
        room: Arc<AtomicUsize>,
        bytes: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = self.room.load(Ordering::Relaxed).min(bytes.len()).min(7);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room.fetch_sub(n, Ordering::Relaxed);
            self.bytes.lock().unwrap().extend_from_slice(bytes.get(..n).unwrap());
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_delays_lines_and_neither_loses_nor_mixes_them() {
        let disk = Disk::default();
        let sink = NdjsonSink::to(disk.clone());
        let (mut one, mut two) = (sink.writer().unwrap(), sink.writer().unwrap());
        one.write(&update("{\"update_id\":1,\n\"text\":\"a\\nb\"}"));
        two.write(&update("{\"update_id\":2}"));
        disk.room.store(10, Ordering::Relaxed);
        assert_eq!(one.commit().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(two.commit().unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.room.store(1000, Ordering::Relaxed);
        two.commit().unwrap();
        one.commit().unwrap();
        let text = String::from_utf8(disk.bytes.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "{\"update_id\":1,\"text\":\"a\\nb\"}\n{\"update_id\":2}\n");
    }

    #[test]
    fn a_file_is_private_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updates.ndjson");
        for (id, open) in [(1, NdjsonSink::file as fn(&Path) -> _), (2, NdjsonSink::synced_file)] {
            let mut writer = open(&path).unwrap().writer().unwrap();
            writer.write(&update(&format!("{{\"update_id\":{id}}}")));
            writer.commit().unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"update_id\":1}\n{\"update_id\":2}\n");
        let error = NdjsonSink::file(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sink);
    }

    /// As a writer leaves it that was killed.
    #[test]
    fn half_a_line_is_ended_before_the_next_and_a_whole_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("updates.ndjson");
        let one = "{\"update_id\":1}\n";
        for (before, after) in [
            ("", one.to_owned()),
            ("{}\n", format!("{{}}\n{one}")),
            ("{}\n{\"upd", format!("{{}}\n{{\"upd\n{one}")),
        ] {
            std::fs::write(&path, before).unwrap();
            let mut writer = NdjsonSink::file(&path).unwrap().writer().unwrap();
            writer.write(&update(one));
            writer.commit().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
