//! The file behind a path: opening it, and noticing that the path leads to another file.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, renameat},
    io::Errno,
};

use crate::{
    error::{Error, ErrorKind},
    files::{self, Dir, How},
};

/// How often opening is tried again where the file is renamed meanwhile.
const LOOKS: u32 = 3;

/// A file, or a pipe, socket or device, that lines are appended to.
pub(super) struct Destination {
    file: File,
    /// `None` where it is no regular file: it is neither synced nor opened again.
    regular: Option<Regular>,
}

struct Regular {
    /// Device and inode.
    id: (u64, u64),
    /// A descriptor to look at the end of the file just before the first write, not sooner: until
    /// then a server before this one may be killed within a line, while this one waits for the
    /// journal. `None` once that has been done, or where the file may not be read.
    unseen: Option<File>,
    /// True until the line feed is written that ends what a killed writer has left.
    is_within_line: bool,
    /// False on a file system that reports another inode for the same file each time.
    is_steady: bool,
    is_synced: bool,
    path: PathBuf,
}

impl Destination {
    /// The end of the file at `path`, made with mode 0600 where there is none; with `is_synced`,
    /// its name and what is written outlive a power cut.
    ///
    /// # Errors
    /// Where it cannot be opened; the message is the path behind `what`.
    pub(super) fn open(path: &Path, what: &str, is_synced: bool) -> Result<Self, Error> {
        Self::at(path, is_synced).or_else(|source| {
            let is_refused = source.raw_os_error() == Some(libc::ENXIO);
            let mut advice = "";
            if is_refused {
                // Linux opens no socket by its path.
                let socket = fs::metadata(path).ok().filter(|to| to.file_type().is_socket());
                advice = match socket.map(|socket| own_descriptor(&socket)) {
                    Some(Some(own)) => return Ok(Self { file: own.into(), regular: None }),
                    Some(None) => {
                        " (a socket cannot be opened: have it as standard output and write ndjson:-)"
                    }
                    None => " (a pipe without a reader: start its reader first)",
                };
            }
            let message = format!("{what}{}{advice}", path.display());
            Err(Error::with_source(ErrorKind::Sink, message, source))
        })
    }

    fn at(path: &Path, is_synced: bool) -> io::Result<Self> {
        // It may be renamed between being opened and being looked at.
        for _ in 0..LOOKS {
            let opened = Self::once(path, is_synced)?;
            if opened.is_in_place() {
                return Ok(opened);
            }
        }
        let mut opened = Self::once(path, is_synced)?;
        if let Some(regular) = &mut opened.regular {
            regular.is_steady = false;
        }
        Ok(opened)
    }

    fn once(path: &Path, is_synced: bool) -> io::Result<Self> {
        let file = open(path)?;
        // Writes block: the worker has nothing else to do.
        rustix::io::ioctl_fionbio(&file, false)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Self { file, regular: None });
        }
        if is_synced {
            // Its name is to outlive a power cut as well. A directory that may not be read was not
            // made for it just now.
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            // Only a directory is opened: opening a pipe would block.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(dir.unwrap_or(Path::new(".")), flags, Mode::empty());
            let _ = dir.and_then(rustix::fs::fsync);
        }
        let unseen = to_be_read(&file, path);
        let id = id_of(&metadata);
        let path = path.to_owned();
        let (is_steady, is_within_line) = (true, false);
        let regular = Regular { id, unseen, is_steady, is_within_line, is_synced, path };
        Ok(Self { file, regular: Some(regular) })
    }

    /// Writes some of `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(regular) = &mut self.regular
            && let Some(file) = regular.unseen.take()
        {
            regular.is_within_line = ends_within_a_line(&file);
        }
        if let Some(regular) = self.regular.as_mut().filter(|regular| regular.is_within_line) {
            // The disk may be as full as it was when the line was cut off.
            if (&self.file).write(b"\n")? == 0 {
                return Ok(0);
            }
            regular.is_within_line = false;
        }
        (&self.file).write(bytes)
    }

    /// Where it is to be so, what is written is on the disk.
    ///
    /// # Errors
    /// What was written may be lost. A power cut can leave zeros in its place, which end no line,
    /// so what is written next begins one.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(regular) = self.regular.as_mut().filter(|regular| regular.is_synced) else {
            return Ok(());
        };
        self.file.sync_data().inspect_err(|_| regular.is_within_line = true)
    }

    /// Bytes in the file; 0 where it is no regular file.
    pub(super) fn len(&self) -> io::Result<u64> {
        match &self.regular {
            Some(_) => Ok(self.file.metadata()?.len()),
            None => Ok(0),
        }
    }

    /// Renames the file to `NAME.1`, the one of that name to `NAME.2` and so on, and opens a new
    /// one. Of those that were renamed `keep` are kept.
    ///
    /// # Errors
    /// One cannot be renamed, or the new one not be opened. What is open then is written to as
    /// before.
    pub(super) fn rotate(&mut self, keep: u32) -> io::Result<()> {
        let Some(Regular { path, .. }) = &self.regular else { return Ok(()) };
        let (dir, name) = Dir::parent_of(path, None)?;
        let numbered = |number: u32| {
            let mut numbered = name.clone();
            match number {
                0 => {}
                _ => numbered.push(format!(".{number}")),
            }
            numbered
        };
        dir.run(|dir| {
            for number in (0..keep.max(1)).rev() {
                match renameat(dir, numbered(number), dir, numbered(number + 1)) {
                    Err(Errno::NOENT) => {}
                    outcome => outcome?,
                }
            }
            Ok(())
        })?;
        self.renew()
    }

    /// False where its path leads to another file or to none: it was renamed or removed, and what
    /// is written to it may never be read.
    pub(super) fn is_in_place(&self) -> bool {
        let Some(regular) = &self.regular else { return true };
        match fs::metadata(&regular.path) {
            Ok(metadata) => !regular.is_steady || id_of(&metadata) == regular.id,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => false,
                // The path may be behind a directory that the process may not enter any more. A
                // file that has a name is then as good as before.
                _ => self.file.metadata().map_or(true, |metadata| metadata.nlink() > 0),
            },
        }
    }

    /// Opens what its path leads to by now, with the rights that the process has by now.
    ///
    /// # Errors
    /// Where that cannot be opened; it stays as it is.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        let Some(Regular { path, is_synced, .. }) = &self.regular else { return Ok(()) };
        *self = Self::at(path, *is_synced).map_err(|source| {
            let path = path.display();
            let what = format!("{path} was renamed or removed and cannot be opened anew: {source}");
            io::Error::new(source.kind(), what)
        })?;
        Ok(())
    }
}

/// Opens the file at `path` to append to it. All files of lines that are written are opened here. A
/// named pipe needs a reader: waiting for one would look as if the program hung.
fn open(path: &Path) -> io::Result<File> {
    files::open(path, How::Append)
}

/// The standard descriptor of the process that refers to `file`, duplicated.
fn own_descriptor(file: &Metadata) -> Option<OwnedFd> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let of = |fd: rustix::fd::BorrowedFd<'_>| {
        let fd = File::from(fd.try_clone_to_owned().ok()?);
        (id_of(&fd.metadata().ok()?) == id_of(file)).then(|| OwnedFd::from(fd))
    };
    of(stdout.as_fd()).or_else(|| of(stderr.as_fd()))
}

fn id_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// `file` once more, to be read: not a file that has come to its path meanwhile.
fn to_be_read(file: &File, path: &Path) -> Option<File> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(own).or_else(|_| files::open(path, How::ReadFile)).ok()
}

/// True for a file whose last byte is no line feed. False where it cannot be read.
fn ends_within_a_line(file: &File) -> bool {
    let last = || {
        let len = file.metadata().ok()?.len().checked_sub(1)?;
        let mut last = [0];
        file.read_exact_at(&mut last, len).ok()?;
        Some(last)
    };
    last().is_some_and(|last| last != [b'\n'])
}
