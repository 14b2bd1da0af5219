//! A directory as it was opened, and the files in it.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
    process::{Gid, Uid},
};

use super::{FileId, LOCK, id_of, lock::Lock};
use crate::files;

/// A directory as it was opened.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    pub(super) dir: OwnedFd,
    pub(super) id: FileId,
    pub(super) lock: Option<Lock>,
    /// The user who gets the files that root makes in a directory of another user.
    pub(super) owner: Option<(Uid, Gid)>,
}

impl OpenDirectory {
    /// Opens the directory that was found.
    pub(super) fn open(found: &files::Dir) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = found.run(|found| Ok(rustix::fs::openat(found, ".", flags, Mode::empty())?))?;
        let stat = rustix::fs::fstat(&dir)?;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        // A link of the user's may have led there, and root works in it with its own rights.
        if found.actor().is_some_and(|user| user.uid != uid) {
            return Err(denied(
                "the path leads through a directory of another user than its owner",
            ));
        }
        let owner = Some((uid, gid)).filter(|_| is_root() && !uid.is_root());
        Ok(Self { dir, id: id_of(&stat), lock: None, owner })
    }

    /// Makes the file `name`, which must not be there.
    pub(super) fn make(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(rustix::fs::openat(&self.dir, name, flags, mode)?);
        if let Some((uid, gid)) = self.owner {
            // The server, which runs as the directory's owner, has to be able to open it.
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        Ok(file)
    }

    /// Opens the file `name`, which must be one: no link, no pipe, no device.
    pub(super) fn find(&self, name: &str, is_writable: bool) -> io::Result<(File, Stat)> {
        let access = if is_writable { OFlags::RDWR } else { OFlags::RDONLY };
        // Opening something else, such as a pipe, may block.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Err(Errno::LOOP) => return Err(denied("it is a link, no file")),
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&file)?;
        if !is_regular(&stat) {
            return Err(denied("it is no regular file"));
        }
        if let Some((uid, _)) = self.owner.filter(|_| is_writable) {
            // A second name could lead root to a file of another user.
            let is_roots = stat.st_uid == 0 && stat.st_nlink == 1;
            if stat.st_uid != uid.as_raw() && !is_roots {
                return Err(denied("it does not belong to the owner of the directory"));
            }
        }
        Ok((File::from(file), stat))
    }

    /// Makes the lock file, which must not be there, and locks it.
    pub(super) fn make_lock(&self) -> io::Result<Lock> {
        let file = self.make(LOCK)?;
        let stat = rustix::fs::fstat(&file)?;
        Lock::take(file, &stat)
    }

    /// Locks the lock file that is there.
    pub(super) fn find_lock(&self) -> io::Result<Lock> {
        let (file, stat) = self.find(LOCK, true)?;
        Lock::take(file, &stat)
    }

    /// True where the name of the lock leads to the file that this process has locked.
    pub(super) fn has_lock(&self) -> bool {
        let there = rustix::fs::statat(&self.dir, LOCK, AtFlags::SYMLINK_NOFOLLOW);
        let ours = self.lock.as_ref().map(|lock| lock.id);
        there.is_ok_and(|there| Some(id_of(&there)) == ours)
    }

    /// Writes the process's number into the lock, for operators; the lock is what counts.
    pub(super) fn sign(&self) {
        if let Some(Lock { file: Some(file), .. }) = &self.lock {
            let _ = file.set_len(0);
            let _ = file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0);
        }
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn denied(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
