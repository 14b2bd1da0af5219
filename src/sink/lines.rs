//! Lines to a file or a pipe, whole whatever happens in between.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    mem,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::{
    error::{Error, ErrorKind},
    rights::{self, How},
};

/// A batch buffer larger than this is given back after its commit.
const BUFFER_KEPT_BYTES: usize = 256 * 1024;

/// A destination of lines that several threads share.
///
/// A batch is written under one lock, and a batch that was written in part goes on where it stopped
/// before anything else is written.
pub(crate) struct Lines(Mutex<Output>);

struct Output {
    /// The file, where each batch is to be on the disk before it counts as written.
    synced: Option<File>,
    writer: Box<dyn Write + Send>,
    /// Whole lines that are being written.
    owed: Vec<u8>,
    /// How many bytes of `owed` have been written.
    written: usize,
}

impl Lines {
    pub(crate) fn to(writer: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Output::new(Box::new(writer))))
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
    /// Where the file cannot be opened; the message is the path behind `what`. A named pipe needs a
    /// reader: waiting for one would look as if the program hung.
    pub(crate) fn file(path: &Path, what: &str) -> Result<Self, Error> {
        let open = || {
            let file = rights::open(path, How::Append)?;
            // Writes wait: the worker has nothing else to do.
            rustix::io::ioctl_fionbio(&file, false)?;
            let mut output = Output::new(Box::new(file));
            // Owed like a line: the disk may be as full as it was when the line was cut off.
            output.owed.extend(ends_within_a_line(path).then_some(b'\n'));
            io::Result::Ok(Self(Mutex::new(output)))
        };
        open().map_err(|source| {
            let is_pipe = source.raw_os_error() == Some(libc::ENXIO);
            let advice =
                if is_pipe { " (a pipe that nobody reads: start its reader first)" } else { "" };
            let message = format!("{what}{}{advice}", path.display());
            Error::with_source(ErrorKind::Sink, message, source)
        })
    }

    /// The same, with every batch synced to the disk. What is no file has nothing to sync.
    ///
    /// # Errors
    /// Where the file cannot be opened a second time.
    pub(crate) fn synced_file(path: &Path, what: &str) -> Result<Self, Error> {
        let lines = Self::file(path, what)?;
        if fs::metadata(path).is_ok_and(|file| file.is_file()) {
            let file = File::options().append(true).open(path);
            let file = file.map_err(|source| {
                let message = format!("{what}{}", path.display());
                Error::with_source(ErrorKind::Sink, message, source)
            })?;
            // Its name is to outlive a power cut as well. A directory that may not be read was not
            // made for it just now.
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = File::open(dir.unwrap_or(Path::new(".")));
            let _ = dir.and_then(|dir| dir.sync_all());
            lines.0.lock().unwrap_or_else(PoisonError::into_inner).synced = Some(file);
        }
        Ok(lines)
    }

    /// Writes `batch`, which is empty afterwards unless somebody else's lines could not be written.
    ///
    /// # Errors
    /// The destination does not take it now. Nothing is lost: the next call goes on, whoever makes
    /// it.
    pub(crate) fn commit(&self, batch: &mut Vec<u8>) -> io::Result<()> {
        // A poisoned lock means that a foreign writer panicked; the lines it owes are still there.
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.settle()?;
        mem::swap(&mut output.owed, batch);
        output.settle()
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// True for a file whose last byte is no line feed. What cannot be read is none of our files.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || {
        // Opening a pipe would wait for its writer.
        let len = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len().checked_sub(1)?;
        let mut last = [0];
        File::open(path).ok()?.read_exact_at(&mut last, len).ok()?;
        Some(last)
    };
    last().is_some_and(|last| last != [b'\n'])
}

impl Output {
    fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { synced: None, writer, owed: Vec::new(), written: 0 }
    }

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
        if let Some(file) = &self.synced
            && !self.owed.is_empty()
        {
            // The kernel says once that it has lost something, and that all is well if it is asked
            // again: the lines have to be written again.
            file.sync_data().inspect_err(|_| self.written = 0)?;
        }
        self.owed.clear();
        self.owed.shrink_to(BUFFER_KEPT_BYTES);
        self.written = 0;
        Ok(())
    }
}
