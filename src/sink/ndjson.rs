//! Newline-delimited JSON: one update a line, equal in value to what came in.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Sink, SinkWriter};
use crate::{
    error::{Error, ErrorKind},
    update::Update,
};

/// A batch buffer larger than this is given back after its commit.
const BUFFER_KEPT_BYTES: usize = 256 * 1024;

/// Writes lines to a file or a pipe.
///
/// Lines are whole: a batch is written under one lock, and a batch that was written in part goes on
/// where it stopped before anything else is written.
#[derive(Clone)]
pub struct NdjsonSink {
    output: Arc<Mutex<Output>>,
}

/// The destination, and what an interrupted commit still owes it.
struct Output {
    writer: Box<dyn Write + Send>,
    /// Whole lines that are being written.
    owed: Vec<u8>,
    /// How many bytes of `owed` have been written.
    written: usize,
}

impl NdjsonSink {
    /// Lines to standard output.
    ///
    /// # Errors
    /// Where the process has no standard output.
    pub fn stdout() -> Result<Self, Error> {
        // A descriptor of our own: the standard library's handle would keep a buffer of its own.
        let output = io::stdout().as_fd().try_clone_to_owned().map_err(|source| {
            Error::with_source(ErrorKind::Sink, "sink ndjson:- (standard output)", source)
        })?;
        Ok(Self::to(File::from(output)))
    }

    /// Lines appended to the file at `path`, which is made with mode 0600 where there is none:
    /// updates are private messages.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn file(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(
            |source| {
                let message = format!("sink ndjson:{}", path.display());
                Error::with_source(ErrorKind::Sink, message, source)
            },
        )?;
        Ok(Self::to(file))
    }

    /// Lines to any writer. Its errors make a batch wait, not fail.
    #[must_use]
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        let output = Output { writer: Box::new(writer), owed: Vec::new(), written: 0 };
        Self { output: Arc::new(Mutex::new(output)) }
    }
}

impl fmt::Debug for NdjsonSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NdjsonSink").finish_non_exhaustive()
    }
}

impl Sink for NdjsonSink {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(NdjsonWriter { output: Arc::clone(&self.output), lines: Vec::new() }))
    }
}

struct NdjsonWriter {
    output: Arc<Mutex<Output>>,
    lines: Vec<u8>,
}

impl SinkWriter for NdjsonWriter {
    fn write(&mut self, update: &Update) {
        let start = self.lines.len();
        // Writing a parsed value to memory has no way to fail; should a change bring one, half a
        // line must not stay.
        if serde_json::to_writer(&mut self.lines, &update.root()).is_err() {
            self.lines.truncate(start);
        } else {
            self.lines.push(b'\n');
        }
    }

    fn pending_bytes(&self) -> usize {
        self.lines.len()
    }

    fn commit(&mut self) -> io::Result<()> {
        // A poisoned lock means that a foreign writer panicked; the lines it owes are still there.
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.settle()?;
        mem::swap(&mut output.owed, &mut self.lines);
        output.settle()
    }
}

impl Output {
    /// Writes what is owed. Where that fails in the middle of a line, the next call goes on with
    /// the rest of that line, whichever worker makes it.
    fn settle(&mut self) -> io::Result<()> {
        while let Some(rest) = self.owed.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.writer.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.writer.flush()?;
        self.owed.clear();
        self.owed.shrink_to(BUFFER_KEPT_BYTES);
        self.written = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        os::unix::fs::PermissionsExt as _,
        sync::atomic::{AtomicUsize, Ordering},
        time::Instant,
    };

    use super::*;
    use crate::update::{BotId, UpdateBody, UpdateParser};

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
        for id in 1..3 {
            let mut writer = NdjsonSink::file(&path).unwrap().writer().unwrap();
            writer.write(&update(&format!("{{\"update_id\":{id}}}")));
            writer.commit().unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"update_id\":1}\n{\"update_id\":2}\n");
        let error = NdjsonSink::file(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sink);
    }
}
