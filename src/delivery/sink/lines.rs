//! Lines to a file or a pipe: each is written whole, also across errors and renames.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    mem,
    os::fd::AsFd as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::file::Destination;
use crate::error::{Error, ErrorKind};

/// A batch buffer larger than this is freed after its commit.
const BUFFER_KEPT_BYTES: usize = 256 * 1024;
/// How often a batch is written again because its file was renamed meanwhile, before an error is
/// returned to the writer.
const RENEWALS: u32 = 3;

/// A destination of lines that several threads share.
///
/// A batch is written under one lock, and a batch that was written in part goes on where it stopped
/// before anything else is written. A file that was renamed or removed is noticed before a batch
/// counts as written, and the batch is written again to the file that is opened then.
pub(crate) struct Lines(Mutex<Output>);

struct Output {
    /// Whole lines that are being written.
    owed: Vec<u8>,
    target: Target,
    /// How many bytes of `owed` have been written.
    written: usize,
    /// When the file is moved aside; `None` where it never is.
    rotation: Option<Rotation>,
    /// How often it could not be.
    rotations_failed: u64,
}

/// How large a file may become, and how many older ones are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    /// In bytes.
    pub(super) size: u64,
    pub(super) keep: u32,
}

enum Target {
    Path(Destination),
    Writer(Box<dyn Write + Send>),
}

impl Lines {
    pub(crate) fn to(writer: impl Write + Send + 'static) -> Self {
        Self::into_target(Target::Writer(Box::new(writer)))
    }

    /// Standard output, without the buffer that the standard library's handle has.
    ///
    /// # Errors
    /// Where the process has none.
    pub(crate) fn stdout() -> Result<Self, Error> {
        let output = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::with_source(ErrorKind::Sink, "standard output", source))?;
        Ok(Self::to(File::from(output)))
    }

    /// The end of the file at `path`, which is made with mode 0600 where there is none: updates are
    /// private messages. Where it ends within a line, because its writer was killed, that line is
    /// ended before the next one.
    ///
    /// # Errors
    /// Where the file cannot be opened; the message is the path behind `what`.
    pub(crate) fn file(path: &Path, what: &str) -> Result<Self, Error> {
        Destination::open(path, what, false).map(|file| Self::into_target(Target::Path(file)))
    }

    /// The same, with every batch synced to the disk. What is no file has nothing to sync.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(crate) fn synced_file(path: &Path, what: &str) -> Result<Self, Error> {
        Destination::open(path, what, true).map(|file| Self::into_target(Target::Path(file)))
    }

    fn into_target(target: Target) -> Self {
        Self(Mutex::new(Output {
            owed: Vec::new(),
            target,
            written: 0,
            rotation: None,
            rotations_failed: 0,
        }))
    }

    /// Moves the file aside when it has become as large as `rotation` says, or never.
    pub(super) fn set_rotation(&self, rotation: Option<Rotation>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rotation = rotation;
    }

    /// Writes `batch`, which is empty afterwards unless another writer's lines could not be
    /// written.
    ///
    /// # Errors
    /// The destination does not take it now. Nothing is lost: the next call, by any writer, goes
    /// on.
    pub(crate) fn commit(&self, batch: &mut Vec<u8>) -> io::Result<()> {
        // A poisoned lock means that a foreign writer panicked; the lines that are owed are still
        // there.
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.settle()?;
        mem::swap(&mut output.owed, batch);
        output.settle()?;
        output.rotate();
        Ok(())
    }

    /// Opens the file anew where its path leads to another one by now, or to none. Waits for a
    /// batch that is being written.
    ///
    /// # Errors
    /// Where it cannot be opened. The next commit tries again.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).follow().map(drop)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl Output {
    fn settle(&mut self) -> io::Result<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        for _ in 0..RENEWALS {
            self.write_owed()?;
            if !self.follow()? {
                self.owed.clear();
                self.owed.shrink_to(BUFFER_KEPT_BYTES);
                self.written = 0;
                return Ok(());
            }
        }
        Err(io::Error::other("its file is renamed or removed again and again"))
    }

    /// Moves the file aside if it is large enough. A failure is logged where the count has doubled:
    /// what was written is in the file in any case.
    fn rotate(&mut self) {
        let (Some(Rotation { size, keep }), Target::Path(file)) = (self.rotation, &mut self.target)
        else {
            return;
        };
        let outcome = match file.len() {
            Ok(len) if len >= size => file.rotate(keep),
            outcome => outcome.map(drop),
        };
        if let Err(error) = outcome {
            self.rotations_failed += 1;
            let failed = self.rotations_failed;
            if failed.is_power_of_two() {
                tracing::warn!(%error, failed, "a file of lines cannot be rotated, it grows");
            }
        }
    }

    fn write_owed(&mut self) -> io::Result<()> {
        while let Some(rest) = self.owed.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.target.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match &mut self.target {
            // After an error the kernel reports success to the next sync although the data may be
            // lost: the lines have to be written again.
            Target::Path(file) => file.sync().inspect_err(|_| self.written = 0),
            Target::Writer(writer) => writer.flush(),
        }
    }

    /// Opens the file anew where its path leads elsewhere: true where that was so. Owed lines are
    /// written from their beginning then, since a file that was moved may have been read to its
    /// end.
    fn follow(&mut self) -> io::Result<bool> {
        let Target::Path(file) = &mut self.target else { return Ok(false) };
        if file.is_in_place() {
            return Ok(false);
        }
        file.renew()?;
        self.written = 0;
        Ok(true)
    }
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Path(file) => file.write(bytes),
            Self::Writer(writer) => writer.write(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn commit(lines: &Lines, text: &str) -> io::Result<()> {
        lines.commit(&mut text.as_bytes().to_vec())
    }

    #[test]
    fn a_batch_is_in_the_file_that_has_the_name_when_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let read = |name: &str| fs::read_to_string(at(name)).unwrap();
        for open in [Lines::file as fn(&Path, &str) -> _, Lines::synced_file] {
            let lines = open(&at("out"), "").unwrap();
            commit(&lines, "1\n").unwrap();
            fs::rename(at("out"), at("moved")).unwrap();
            lines.reopen().unwrap();
            commit(&lines, "2\n").unwrap();
            assert_eq!((read("moved"), read("out")), ("1\n".to_owned(), "2\n".to_owned()));
            // No error reports it; what is in the moved file may not be read any more.
            fs::rename(at("out"), at("moved")).unwrap();
            commit(&lines, "3\n").unwrap();
            assert_eq!((read("moved"), read("out")), ("2\n3\n".to_owned(), "3\n".to_owned()));
            fs::remove_file(at("out")).unwrap();
            commit(&lines, "4\n").unwrap();
            // Replaced by one that was left within a line.
            fs::write(at("new"), "half").unwrap();
            fs::rename(at("new"), at("out")).unwrap();
            commit(&lines, "5\n").unwrap();
            commit(&lines, "6\n").unwrap();
            assert_eq!(read("out"), "half\n5\n6\n");
            // Emptied where it is.
            File::create(at("out")).unwrap();
            commit(&lines, "7\n").unwrap();
            assert_eq!(read("out"), "7\n");
            // Behind a link that is replaced.
            symlink(at("one"), at("link")).unwrap();
            let lines = open(&at("link"), "").unwrap();
            fs::remove_file(at("link")).unwrap();
            symlink(at("two"), at("link")).unwrap();
            commit(&lines, "8\n").unwrap();
            assert_eq!(read("two"), "8\n");
            for name in ["link", "one", "two", "out", "moved"] {
                fs::remove_file(at(name)).unwrap();
            }
        }
    }

    /// As by the server before, which is killed once this one waits for its journal.
    #[test]
    fn a_line_that_is_cut_off_after_the_file_was_opened_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        for open in [Lines::file as fn(&Path, &str) -> _, Lines::synced_file] {
            fs::write(&path, "1\n").unwrap();
            let (before, lines) = (Lines::file(&path, "").unwrap(), open(&path, "").unwrap());
            commit(&before, "2\nhal").unwrap();
            commit(&lines, "3\n").unwrap();
            commit(&lines, "4\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\nhal\n3\n4\n");
        }
    }

    #[test]
    fn what_cannot_be_opened_anew_is_owed_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let lines = Lines::file(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for text in ["1\n", "2\n"] {
            let error = commit(&lines, text).unwrap_err().to_string();
            assert!(error.contains("cannot be opened anew"), "{error}");
            assert!(lines.reopen().is_err());
        }
        fs::remove_dir(&path).unwrap();
        // The second batch is still its writer's.
        commit(&lines, "2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
    }

    #[test]
    fn a_pipe_is_never_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let _reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let lines = Lines::file(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
        lines.reopen().unwrap();
        commit(&lines, "1\n").unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_large_enough_is_moved_aside_and_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let lines = Lines::file(&path, "").unwrap();
        lines.set_rotation(Some(Rotation { size: 6, keep: 2 }));
        for text in ["1\n", "22\n", "3333\n", "4\n", "55555\n", "666666\n", "7\n"] {
            commit(&lines, text).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert_eq!(read("out"), "7\n");
        assert_eq!(read("out.1"), "666666\n");
        assert_eq!(read("out.2"), "4\n55555\n", "1 and 22 and 3333 went with out.3");
        assert!(!dir.path().join("out.3").exists());
        // A directory in the way: lines go on to the file that is there.
        fs::create_dir(dir.path().join("out.3")).unwrap();
        fs::remove_file(dir.path().join("out.1")).unwrap();
        fs::create_dir(dir.path().join("out.1")).unwrap();
        fs::create_dir(dir.path().join("out.1/in")).unwrap();
        commit(&lines, "88888888\n").unwrap();
        commit(&lines, "9\n").unwrap();
        assert_eq!(read("out"), "7\n88888888\n9\n");
    }
}
