//! The directory of a journal, which one process owns at a time.
//!
//! Everything is done through the descriptor of the directory that was opened, never by a path: if
//! the directory is moved or replaced, the files of the one that has taken its place are out of
//! reach. Root opens it through [`files`](crate::files): no link of another user's leads it into a
//! directory that is not that user's. The lock file decides which process owns the directory.
//! Before a name in it is changed, the name of the lock must still lead to the file that this
//! process has locked: a server that starts after the lock was removed makes a lock of its own
//! first, and only then other files.

mod lock;
mod opened;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    error, fmt,
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, RenameFlags, Stat},
    io::Errno,
};

pub(crate) use self::lock::is_held_here;
use self::{lock::at_lock, opened::OpenDirectory};
use super::storage::{Room, Storage, Stored};
use crate::files;

/// The file that a process locks for as long as it owns the directory.
const LOCK: &str = "lock";
/// Permissions of the directory and of missing directories above it.
const MODE: u32 = 0o700;
/// Zeros written at once.
const ZEROS: usize = 1 << 20;
/// How often a start tries again to lock a file that was replaced meanwhile.
const LOCK_TRIES: usize = 16;

/// Device and inode of a file.
type FileId = (u64, u64);

/// A directory that one process owns, or looks into.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    lock_path: PathBuf,
    /// False where it is only looked into.
    is_owned: bool,
    /// Held for no longer than it takes to clone what is in it.
    place: Mutex<Arc<OpenDirectory>>,
    /// Held while the directory or its lock is made anew.
    reclaiming: Mutex<()>,
    /// The files that this process has made, or found when it listed the directory that it owns.
    own: Mutex<HashMap<String, FileId>>,
}

/// The directory at the path is not the one that this process owns, or another process has its
/// lock.
#[derive(Debug)]
struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the directory was replaced, or has a lock of another process")
    }
}

impl error::Error for Lost {}

/// A name in a directory that was lost counts as not there.
pub(super) fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, Lost)
}

/// True where the directory was lost to another process, or replaced.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Lost>())
}

// The types differ between architectures.
#[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
fn id_of(stat: &Stat) -> FileId {
    (stat.st_dev as u64, stat.st_ino as u64)
}

impl Directory {
    /// Takes the directory at `path`, which is made with mode 0700 where there is none.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where another process has it, or this one, as
    /// `is_held_here` returns; else why it cannot be made or locked.
    pub fn own(path: &Path) -> io::Result<Self> {
        for _ in 0..LOCK_TRIES {
            let missing = missing(path);
            let dir = files::Dir::make(path, MODE, None)?;
            sync_parents(path, missing);
            let mut place = OpenDirectory::open(&dir)?;
            let lock = match place.make_lock() {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => place.find_lock(),
                made => made,
            };
            let lock = lock.map_err(at_lock);
            match lock {
                // It was removed between two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => place.lock = Some(lock?),
            }
            let directory = Self::new(path, place, true);
            // The directory or the lock may have been replaced before it was locked.
            if let Ok(place) = directory.check() {
                place.sign();
                return Ok(directory);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// The directory at `path`, to be looked into and left as it is.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    pub fn look_into(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path, OpenDirectory::open(&files::Dir::find(path, None)?)?, false))
    }

    fn new(path: &Path, place: OpenDirectory, is_owned: bool) -> Self {
        Self {
            path: path.to_owned(),
            lock_path: path.join(LOCK),
            is_owned,
            place: Mutex::new(Arc::new(place)),
            reclaiming: Mutex::default(),
            own: Mutex::default(),
        }
    }

    fn place(&self) -> Arc<OpenDirectory> {
        Arc::clone(&self.place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn own_files(&self) -> MutexGuard<'_, HashMap<String, FileId>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory, if it is still where it was and has this process's lock.
    fn check(&self) -> io::Result<Arc<OpenDirectory>> {
        if !self.is_owned {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let place = self.place();
        let is_there = rustix::fs::stat(&self.path).is_ok_and(|dir| id_of(&dir) == place.id);
        match is_there && place.has_lock() {
            true => Ok(place),
            false => Err(lost()),
        }
    }

    /// The directory; it or its lock is made anew where one has vanished and nothing has taken its
    /// place: without a lock, a second process would take the directory for its own.
    fn checked_or_reclaimed(&self) -> io::Result<Arc<OpenDirectory>> {
        if !self.is_owned {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if let Ok(place) = self.check() {
            return Ok(place);
        }
        let _reclaiming = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = self.check() {
            return Ok(place);
        }
        let before = self.place();
        let (dir, is_new) = match fs::symlink_metadata(&self.path) {
            Ok(_) => (files::Dir::find(&self.path, None)?, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = missing(&self.path);
                // Not one that another process has made meanwhile.
                let made = files::Dir::make_new(&self.path, MODE).map_err(taken)?;
                sync_parents(&self.path, missing);
                (made, true)
            }
            Err(error) => return Err(error),
        };
        let mut place = OpenDirectory::open(&dir)?;
        if !is_new && place.id != before.id {
            return Err(lost());
        }
        // A lock that is there is one of another process, even if that has ended.
        place.lock = Some(place.make_lock().map_err(taken)?);
        place.sign();
        if is_new {
            self.own_files().clear();
        }
        let place = Arc::new(place);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&place);
        let dir = self.path.display();
        tracing::warn!(%dir, "the journal's directory or its lock has vanished and is made anew");
        Ok(place)
    }

    /// Whether `name` leads to the file that this process knows by it.
    fn is_own(&self, place: &OpenDirectory, name: &str) -> io::Result<bool> {
        let known = self.own_files().get(name).copied();
        let Some(known) = known else { return Ok(false) };
        let there = rustix::fs::statat(&place.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(id_of(&there) == known)
    }
}

/// A name that was to be made and is there was made by another process.
fn taken(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::WouldBlock => lost(),
        _ => error,
    }
}

/// A sync of a directory is of no use where a power cut takes the directory's own name, or that of
/// the data directory, which may have been made just before.
fn sync_parents(path: &Path, missing: usize) {
    for parent in path.ancestors().skip(1).take(missing.max(2)) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // One that may not be read was not made by this process.
        let _ = files::Dir::find(parent, None).and_then(|parent| parent.sync());
    }
}

/// How many directories at the end of `path` are not there.
fn missing(path: &Path) -> usize {
    path.ancestors().take_while(|dir| !dir.exists()).count()
}

impl Storage for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let place = if self.is_owned { self.check()? } else { self.place() };
        let mut names = Vec::new();
        for entry in Dir::read_from(&place.dir)? {
            let entry = entry?;
            // A file with another name is not the journal's.
            let Some(name) = entry.file_name().to_str().ok().filter(|it| !it.starts_with('.'))
            else {
                continue;
            };
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            if self.is_owned
                && let Ok(there) = rustix::fs::statat(&place.dir, name, flags)
            {
                self.own_files().insert(name.to_owned(), id_of(&there));
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    fn is_ours(&self) -> io::Result<()> {
        // One look that follows the path: it notices a directory that was moved as well.
        let ours = self.place().lock.as_ref().map(|lock| lock.id);
        let there = rustix::fs::statat(CWD, &self.lock_path, AtFlags::SYMLINK_NOFOLLOW);
        match there.is_ok_and(|there| Some(id_of(&there)) == ours) {
            true => Ok(()),
            false => Err(lost()),
        }
    }

    fn owns(&self, name: &str) -> io::Result<bool> {
        let place = self.check()?;
        match self.is_own(&place, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            is_own => is_own,
        }
    }

    fn create(&self, name: &str, room: Room) -> io::Result<Arc<dyn Stored>> {
        let place = self.checked_or_reclaimed()?;
        let file = place.make(name)?;
        self.own_files().insert(name.to_owned(), id_of(&rustix::fs::fstat(&file)?));
        let made = match room {
            Room::Grow => Ok(()),
            Room::Reserve(len) => reserve(&file, len),
            Room::Zero(len) => reserve(&file, len).and_then(|()| zero(&file, len)),
        };
        if let Err(error) = made {
            // Half of a file would only take room.
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let place = match self.is_owned {
            true => self.check()?,
            false => self.place(),
        };
        Ok(Arc::new(place.find(name, self.is_owned)?.0))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let place = self.check()?;
        if !self.is_own(&place, from)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&place.dir, from, &place.dir, to, flags) {
            // A file system that does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::statat(&place.dir, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => {
                        rustix::fs::renameat(&place.dir, from, &place.dir, to)?;
                    }
                    outcome => return outcome.and(Err(Errno::EXIST)).map_err(Into::into),
                }
            }
            outcome => outcome?,
        }
        let mut own = self.own_files();
        if let Some(id) = own.remove(from) {
            own.insert(to.to_owned(), id);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let place = match self.check() {
            // There is nothing of ours in what has taken its place.
            Err(error) if is_lost(&error) => return Ok(()),
            place => place?,
        };
        let removed = match self.is_own(&place, name) {
            Ok(true) => {
                rustix::fs::unlinkat(&place.dir, name, AtFlags::empty()).map_err(Into::into)
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.own_files().remove(name);
                Ok(())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.check()?.dir.as_fd())?)
    }
}

/// Sets room aside. File systems that cannot do that find it when it is needed.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
        outcome => Ok(outcome?),
    }
}

fn zero(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut offset = 0;
    while offset < len {
        let part = zeros.get(..(len - offset).min(ZEROS as u64) as usize).unwrap_or_default();
        file.write_all_at(part, offset)?;
        offset += part.len() as u64;
    }
    file.sync_all()
}
