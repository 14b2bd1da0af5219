//! A directory in which files are made.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, chmodat, chownat, fchown, fstat,
        mkdirat, openat, renameat, renameat_with, statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

use super::{
    User, split,
    walk::{End, Walk, descend, enter},
};

/// What is done where a file is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// It stays, and that is an error of kind `AlreadyExists`.
    Keep,
    /// The file that is there is replaced.
    Replace,
}

/// A directory, found without following a link that another user has made for root, and the rights
/// with which it is worked in. All names are of what is in the directory itself.
#[derive(Debug)]
pub struct Dir {
    /// Whose rights; `None` for those of the process.
    actor: Option<User>,
    fd: OwnedFd,
    /// The user who gets what root makes.
    heir: Option<User>,
    /// Whether the path may lead elsewhere by now.
    is_exposed: bool,
    /// Whether others may exchange what is in it, in which root works with its own rights.
    is_shared: bool,
}

impl Dir {
    /// The directory at `path`. What root makes in it belongs to `heir`, where there is one.
    ///
    /// # Errors
    /// Those of open, and `PermissionDenied` for another user's link in a directory of root's.
    pub fn find(path: &Path, heir: Option<&User>) -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self::plain(enter(CWD, path)?));
        }
        match Walk::to(path)? {
            Walk::Foreign { dir, owner, rest } => {
                match Self::within(&dir, heir, &owner, &rest, None) {
                    Some(found) => found,
                    None => Self::by_no_link(dir, &rest, None),
                }
            }
            Walk::Ours { dir, is_exposed, is_shared, end: End::Here } => {
                Ok(Self { is_exposed, ..Self::ours(dir, is_shared, heir) })
            }
            Walk::Ours { end: End::Missing(_), .. } => Err(Errno::NOENT.into()),
            Walk::Ours { .. } => Err(Errno::NOTDIR.into()),
        }
    }

    /// As [`find`](Self::find); missing directories of the path are made, with `mode`.
    ///
    /// # Errors
    /// Those of `find` and mkdir.
    pub fn make(path: &Path, mode: u32, heir: Option<&User>) -> io::Result<Self> {
        if !geteuid().is_root() {
            make_all(CWD, path, mode)?;
            return Self::find(path, None);
        }
        match Walk::to(path)? {
            Walk::Foreign { dir, owner, rest } => {
                match Self::within(&dir, heir, &owner, &rest, Some(mode)) {
                    Some(made) => made,
                    None => Self::by_no_link(dir, &rest, Some(mode)),
                }
            }
            Walk::Ours { dir, is_exposed, is_shared, end: End::Missing(names) } => {
                if names.iter().any(|name| name == "..") {
                    return Err(Errno::NOENT.into());
                }
                let place = Self { is_exposed, ..Self::ours(dir, is_shared, heir) };
                names.iter().try_fold(place, |place, name| place.make_dir(name, mode))
            }
            Walk::Ours { .. } => Self::find(path, heir),
        }
    }

    /// As [`make`](Self::make), for what is root's own; the directory itself must not be there.
    ///
    /// # Errors
    /// Those of `make`, and `AlreadyExists`.
    pub(crate) fn make_new(path: &Path, mode: u32) -> io::Result<Self> {
        let (parent, name) = split(path)?;
        Self::make(parent, mode, None)?.make_dir(name, mode)
    }

    /// The directory of the file at `path`, and the file's name in it.
    ///
    /// # Errors
    /// Those of [`find`](Self::find), or that `path` names no file.
    pub fn parent_of(path: &Path, heir: Option<&User>) -> io::Result<(Self, OsString)> {
        let (dir, name) = split(path)?;
        Ok((Self::find(dir, heir)?, name.to_owned()))
    }

    /// A directory of root's that only root may write to; what is made in it is for `heir`.
    pub(super) fn given_to(fd: OwnedFd, heir: &User) -> Self {
        Self::ours(fd, false, Some(heir))
    }

    fn ours(fd: OwnedFd, is_shared: bool, heir: Option<&User>) -> Self {
        // In a shared one, what was made could be another file by the time it is given away.
        let (actor, heir) = if is_shared { (heir.cloned(), None) } else { (None, heir.cloned()) };
        Self { actor, heir, is_shared, ..Self::plain(fd) }
    }

    fn plain(fd: OwnedFd) -> Self {
        Self { actor: None, fd, heir: None, is_exposed: false, is_shared: false }
    }

    /// What is found in `dir` with the rights of `heir`, or else of its owner, and made where there
    /// is a `mode`; `None` where root cannot act as the owner, as in a container without
    /// CAP_SETUID.
    fn within(
        dir: &OwnedFd,
        heir: Option<&User>,
        owner: &User,
        rest: &Path,
        mode: Option<u32>,
    ) -> Option<io::Result<Self>> {
        let actor = heir.unwrap_or(owner);
        let acted = actor.act(|| {
            if let Some(mode) = mode {
                make_all(dir.as_fd(), rest, mode)?;
            }
            enter(dir, rest)
        });
        match acted {
            Ok(fd) => Some(fd.map(|fd| Self { actor: Some(actor.clone()), ..Self::plain(fd) })),
            Err(_) if heir.is_none() => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The same with root's own rights, where all of `rest` are directories and no links.
    fn by_no_link(dir: OwnedFd, rest: &Path, mode: Option<u32>) -> io::Result<Self> {
        let place = Self { is_exposed: true, is_shared: true, ..Self::plain(dir) };
        rest.components().try_fold(place, |place, step| {
            let step = step.as_os_str();
            match (descend(&place.fd, Path::new(step)), mode) {
                (Err(error), Some(mode)) if error.kind() == io::ErrorKind::NotFound => {
                    place.make_dir(step, mode)
                }
                (fd, _) => Ok(Self { fd: fd?, ..place }),
            }
        })
    }

    /// Makes the directory `name`, which is not there yet, as the next step of a walk.
    fn make_dir(self, name: &OsStr, mode: u32) -> io::Result<Self> {
        self.run(|fd| Ok(mkdirat(fd, name, Mode::from_raw_mode(mode))?))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.run(|fd| Ok(openat(fd, name, flags, Mode::empty())?))?;
        match self.heir {
            Some(heir) => {
                // Only root could have put another one in its place.
                fchown(&fd, Some(heir.uid), Some(heir.gid))?;
                Ok(Self { actor: Some(heir), ..Self::plain(fd) })
            }
            None => {
                let is_exposed = self.is_exposed || self.is_shared;
                Ok(Self { fd, is_exposed, is_shared: false, ..self })
            }
        }
    }

    /// Calls `work` for the directory with the rights that are to be had in it.
    ///
    /// # Errors
    /// That of `work`, or that the rights cannot be had.
    pub fn run<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        match &self.actor {
            // A process that has given up being root has no other rights.
            Some(actor) if geteuid().is_root() => actor.act(|| work(self.fd.as_fd()))?,
            _ => work(self.fd.as_fd()),
        }
    }

    /// A path of the directory, for calls that take no descriptor, where it was found at `path`.
    pub fn path(&self, path: &Path) -> PathBuf {
        match self.is_exposed && geteuid().is_root() {
            true => format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into(),
            false => path.to_owned(),
        }
    }

    /// A path of `name` for calls that take no descriptor, where that of the directory's file is
    /// `path`.
    pub(crate) fn path_of(&self, path: &Path, name: &OsStr) -> PathBuf {
        match self.is_exposed && geteuid().is_root() {
            true => Path::new(&format!("/proc/self/fd/{}", self.fd.as_raw_fd())).join(name),
            false => path.with_file_name(name),
        }
    }

    /// The user with whose rights things are done in it; `None` where they are the process's own.
    pub(crate) fn actor(&self) -> Option<&User> {
        self.actor.as_ref().filter(|_| geteuid().is_root())
    }

    /// The user who is to get what root makes here.
    pub(crate) fn heir(&self) -> Option<&User> {
        self.heir.as_ref().filter(|_| geteuid().is_root())
    }

    /// Makes the file `name`, which is not there yet, not even as a link.
    ///
    /// # Errors
    /// Those of open and chown.
    pub fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let mode = Mode::from_raw_mode(mode);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = self.run(|fd| Ok(openat(fd, name, flags, mode)?))?.into();
        if let Some(heir) = self.heir()
            && let Err(error) = fchown(&file, Some(heir.uid), Some(heir.gid))
        {
            let _ = self.remove(name);
            return Err(error.into());
        }
        Ok(file)
    }

    /// Sets the permissions and the owner of the socket `name`, which was made just now.
    ///
    /// # Errors
    /// Those of chmod and chown; `PermissionDenied` where it is another one by now.
    pub(crate) fn set_mode(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        if !self.is_shared || self.actor.is_some() || !geteuid().is_root() {
            self.run(|fd| Ok(chmodat(fd, name, mode, AtFlags::empty())?))?;
            if let Some(heir) = self.heir() {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                chownat(&self.fd, name, Some(heir.uid), Some(heir.gid), flags)?;
            }
            return Ok(());
        }
        // Others may have put a link there, or another name of any file.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = openat(&self.fd, name, flags, Mode::empty())?;
        let found = fstat(&entry)?;
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        if !is_socket || found.st_uid != 0 || found.st_nlink != 1 {
            return Err(Errno::ACCESS.into());
        }
        // chmod takes no descriptor that was opened so.
        let entry = format!("/proc/self/fd/{}", entry.as_raw_fd());
        Ok(chmodat(CWD, entry, mode, AtFlags::empty())?)
    }

    /// True where there is something at `name`, or where the link that is there leads to.
    pub fn has(&self, name: &OsStr) -> bool {
        self.run(|fd| Ok(statat(fd, name, AtFlags::empty())?)).is_ok()
    }

    /// The metadata of `name` itself.
    ///
    /// # Errors
    /// Those of stat.
    pub(crate) fn look_at(&self, name: &OsStr) -> io::Result<Stat> {
        self.run(|fd| Ok(statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Gives the file `from` the name `to`.
    ///
    /// # Errors
    /// Those of rename.
    pub fn rename(&self, from: &OsStr, to: &OsStr, over: Over) -> io::Result<()> {
        if over == Over::Replace {
            return self.run(|fd| Ok(renameat(fd, from, fd, to)?));
        }
        let kept = |fd: BorrowedFd<'_>| Ok(renameat_with(fd, from, fd, to, RenameFlags::NOREPLACE));
        match self.run(kept)? {
            // A file system that cannot promise it.
            Err(Errno::INVAL | Errno::NOSYS) if self.look_at(to).is_err() => {
                self.rename(from, to, Over::Replace)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            outcome => outcome.map_err(io::Error::from),
        }
    }

    /// Removes the file `name`.
    ///
    /// # Errors
    /// Those of unlink.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.run(|fd| Ok(unlinkat(fd, name, AtFlags::empty())?))
    }

    /// Makes durable what is in it, by name.
    ///
    /// # Errors
    /// Those of open and fsync.
    pub fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = self.run(|fd| Ok(openat(fd, ".", flags, Mode::empty())?))?;
        File::from(dir).sync_all()
    }
}

/// Makes the directory `path`, seen from `dir`, with all that lead to it.
fn make_all(dir: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<()> {
    let is_there = |path: &Path| path.as_os_str().is_empty() || enter(dir, path).is_ok();
    let missing: Vec<_> = path.ancestors().take_while(|path| !is_there(path)).collect();
    for path in missing.into_iter().rev() {
        match mkdirat(dir, path, Mode::from_raw_mode(mode)) {
            // Another one was quicker, or it is spelled twice; what it is shows when it is entered.
            Err(Errno::EXIST) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}
