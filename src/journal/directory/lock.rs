//! The lock file, by which one process owns a directory.

use std::{
    error, fmt,
    fs::File,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{FlockOperation, Stat},
    io::Errno,
};

use super::{FileId, LOCK, id_of};

/// Lock files that this process holds.
static HELD: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

/// A lock file that this process has locked.
#[derive(Debug)]
pub(super) struct Lock {
    /// `None` once it is released.
    pub(super) file: Option<File>,
    pub(super) id: FileId,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the list says so: another thread that finds it locked must find it in the list.
        drop(self.file.take());
        let mut held = held();
        if let Some(index) = held.iter().position(|id| *id == self.id) {
            held.swap_remove(index);
        }
    }
}

/// The lock is held by this very process.
#[derive(Debug)]
struct HeldHere;

impl fmt::Display for HeldHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this process has locked it already")
    }
}

impl error::Error for HeldHere {}

/// True where this process itself has the lock that is asked for.
pub(crate) fn is_held_here(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<HeldHere>())
}

fn held() -> MutexGuard<'static, Vec<FileId>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lock {
    pub(super) fn take(file: File, stat: &Stat) -> io::Result<Self> {
        let id = id_of(stat);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if held().contains(&id) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, HeldHere));
            }
            outcome => outcome?,
        }
        held().push(id);
        Ok(Self { file: Some(file), id })
    }
}

/// Names the lock file in an error, unless the error is about which process owns the directory.
pub(super) fn at_lock(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock => error,
        kind => io::Error::new(kind, format!("its file {LOCK}: {error}")),
    }
}
