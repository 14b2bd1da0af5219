//! Opening and making files with the rights that their directories ask for.
//!
//! Root may open everything, so a directory of another user's must not choose what root opens: a
//! link there, or a directory that is exchanged for one, would have root write, make or give away a
//! file of its own. As long as every directory of a path is root's, root walks it with its own
//! rights. From the first one on that belongs to another user, all is done with that user's rights,
//! who gains nothing then. Where the process is not root, this makes no difference.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | opening files |
//! | `walk` | the walk along a path, and where it ends |
//! | `dir` | a directory in which files are made |
//! | `user` | acting with the rights of another user |
//! | `watch` | detecting changes of files |
//! | `text_file` | reading small files of text |

mod dir;
#[cfg(test)]
mod tests;
pub mod text_file;
mod user;
mod walk;
pub mod watch;

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat},
    io::{Errno, retry_on_intr},
    process::geteuid,
};

pub use self::{
    dir::{Dir, Over},
    user::User,
};
use self::{
    user::is_ours,
    walk::{End, Walk},
};
use crate::error::Error;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// To write at its end; made with mode 0600 where it is not there.
    Append,
    /// To read, as it is.
    Read,
    /// To read, without a wait for a writer where it is a pipe.
    ReadFile,
    /// To write it anew; made with mode 0666 less the umask where it is not there. A pipe has to
    /// have its reader.
    Replace,
}

impl How {
    fn flags(self) -> OFlags {
        OFlags::CLOEXEC
            | match self {
                Self::Append => OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK,
                Self::Read => OFlags::RDONLY,
                Self::ReadFile => OFlags::RDONLY | OFlags::NONBLOCK,
                Self::Replace => OFlags::WRONLY | OFlags::NONBLOCK,
            }
    }

    fn mode(self) -> Mode {
        Mode::from_raw_mode(if self == Self::Append { 0o600 } else { 0o666 })
    }

    fn makes(self) -> bool {
        !matches!(self, Self::Read | Self::ReadFile)
    }

    /// Opens what is there, or with [`CREATE`](OFlags::CREATE) in `more` also what is not.
    fn open(self, dir: impl AsFd, name: impl AsRef<Path>, more: OFlags) -> io::Result<File> {
        let (name, flags) = (name.as_ref(), self.flags() | more);
        let opened = retry_on_intr(|| openat(dir.as_fd(), name, flags, self.mode()))?;
        Ok(opened.into())
    }

    fn creating(self) -> OFlags {
        if self.makes() { OFlags::CREATE } else { OFlags::empty() }
    }

    /// What is left to do with an open file.
    fn finish(self, file: File) -> io::Result<File> {
        if self == Self::Replace {
            if is_regular(&file)? {
                file.set_len(0)?;
            } else {
                rustix::io::ioctl_fionbio(&file, false)?;
            }
        }
        Ok(file)
    }
}

/// Opens the file at `path`. Root opens what a directory of another user's leads to with that
/// user's rights. Beyond them it opens a file of root's itself, with one name, in the very place
/// that `path` names. In such a place a pipe without a reader or writer is not waited for.
///
/// # Errors
/// Those of open; `PermissionDenied` where the path leads through a link of another user's.
pub fn open(path: &Path, how: How) -> io::Result<File> {
    if !geteuid().is_root() {
        return how.finish(how.open(CWD, path, how.creating())?);
    }
    let file = match Walk::to(path)? {
        Walk::Foreign { dir, owner, rest } => {
            let more = how.creating() | OFlags::NONBLOCK;
            match owner.act(|| how.open(&dir, &rest, more)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                    open_own(&dir, &rest, how, is_ours).map_err(|_| error)?
                }
                // As in a container without CAP_SETUID.
                Err(error) => open_own(&dir, &rest, how, |_| true).map_err(|_| error)?,
                Ok(outcome) => outcome?,
            }
        }
        Walk::Ours { dir, is_shared, end, .. } => open_ours(dir, is_shared, end, how)?,
    };
    how.finish(file)
}

/// All of the text in the file at `path`, as [`open`] opens it.
///
/// # Errors
/// Those of `open`, or that it cannot be read or is not in UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    io::read_to_string(open(path, How::Read)?)
}

/// Opens a file that lies in a directory of another user's, by no link at all; `is_meant` has to be
/// true of it.
fn open_own(
    dir: &OwnedFd,
    rest: &Path,
    how: How,
    is_meant: impl Fn(&Stat) -> bool,
) -> io::Result<File> {
    let name = rest.file_name().ok_or(Errno::ACCESS)?;
    let parent = walk::descend(dir, rest.parent().unwrap_or(Path::new("")))?;
    let file = how.open(parent, name, OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let found = fstat(&file)?;
    // What has another name may be any file, which the directory's owner has linked to.
    match is_regular(&file)? && found.st_nlink == 1 && is_meant(&found) {
        true => Ok(file),
        false => Err(Errno::ACCESS.into()),
    }
}

/// Opens what is in a directory of root's own.
fn open_ours(dir: OwnedFd, is_shared: bool, end: End, how: How) -> io::Result<File> {
    // Others may make and exchange what is in a shared one.
    let more = if is_shared { OFlags::NOFOLLOW | OFlags::NONBLOCK } else { OFlags::NOFOLLOW };
    let file = match end {
        End::Here => how.open(dir, ".", more)?,
        End::Magic(name) => how.open(dir, name, OFlags::empty())?,
        // As if it were to be made: then the kernel refuses what other users have put into a sticky
        // directory (fs.protected_regular, fs.protected_fifos).
        End::Entry(name) => how.open(dir, name, more | how.creating())?,
        End::Missing(names) => match (&names[..], how.makes()) {
            ([name], true) => how.open(dir, name, more | OFlags::CREATE | OFlags::EXCL)?,
            _ => return Err(Errno::NOENT.into()),
        },
    };
    if is_shared && is_regular(&file)? && fstat(&file)?.st_nlink > 1 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the file has several names, in a directory where other users may make them",
        ));
    }
    Ok(file)
}

fn is_regular(file: &File) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::RegularFile)
}

/// Calls `open`, which opens the file at `path` by its name, with the rights that the place asks
/// for.
///
/// # Errors
/// That of `open`, or that the rights cannot be had.
pub fn at<T>(path: &Path, open: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    if geteuid().is_root()
        && let Ok(Walk::Foreign { owner, .. }) = Walk::to(path)
        && let Ok(outcome) = owner.act(&open)
        && !outcome.as_ref().is_err_and(is_denied)
    {
        return outcome;
    }
    // Where the owner may not, it is for `self::open` to decide.
    open()
}

/// As [`at`], for a server that is about to become `user`: with the user's rights. A file that is
/// not there is made for the user where only root may make it. One that only root may open is
/// opened by root where no other user can change what the path leads to.
///
/// # Errors
/// That of `open`, or that the rights cannot be had.
pub fn for_user<T>(
    user: &User,
    path: &Path,
    open: impl Fn() -> Result<T, Error>,
) -> Result<T, Error> {
    let act = || {
        let denied = |source| {
            let path = path.display().to_string();
            Error::with_source(crate::error::ErrorKind::Privileges, path, source)
        };
        user.act(&open).map_err(denied)?
    };
    let outcome = act();
    if !outcome.as_ref().is_err_and(is_denied) {
        return outcome;
    }
    match Walk::to(path) {
        Ok(Walk::Ours { dir, is_shared: false, end: End::Missing(names), .. }) => {
            match &names[..] {
                [name] if Dir::given_to(dir, user).create_new(name, 0o600).is_ok() => act(),
                _ => outcome,
            }
        }
        Ok(Walk::Ours { is_shared: false, .. }) => open(),
        _ => outcome,
    }
}

fn is_denied(error: &Error) -> bool {
    error.io().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Directory and name of a file.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(Errno::ISDIR)?;
    Ok((path.parent().unwrap_or(Path::new("")), name))
}
