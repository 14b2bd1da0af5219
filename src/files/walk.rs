//! The walk of root along a path, directory by directory.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, Stat, fstat, fstatfs, openat, readlinkat},
    io::Errno,
};

use super::user::{User, is_ours};

/// Links that may follow one another, as for the kernel.
const LINKS_MAX: u32 = 40;
/// Permissions by which others than the owner may make and exchange what is in a directory.
const SHARED: u32 = 0o022;
/// By which they may do that with their own alone.
const STICKY: u32 = 0o1000;

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Walk {
    /// To a directory of another user's, or through it and into none of root's: that user decides
    /// where the rest leads.
    Foreign { dir: OwnedFd, owner: User, rest: PathBuf },
    /// Through directories of root's, and by no link but root's.
    Ours {
        dir: OwnedFd,
        /// Whether others may exchange a directory of the path, so that the path itself may lead
        /// elsewhere by now.
        is_exposed: bool,
        /// Whether others may make and exchange what is in `dir`.
        is_shared: bool,
        end: End,
    },
}

/// What is at the end of the path in the last directory.
#[derive(Debug)]
pub(super) enum End {
    /// The path leads to the directory itself.
    Here,
    /// A file that is no link.
    Entry(OsString),
    /// A link of procfs, which leads to an open file whatever its text says.
    Magic(OsString),
    /// These, one in the other, are not there.
    Missing(Vec<OsString>),
}

impl Walk {
    /// Follows `path`. To be called by root.
    ///
    /// # Errors
    /// Those of open, and `PermissionDenied` for another user's link in a directory of root's.
    pub(super) fn to(path: &Path) -> io::Result<Self> {
        let mut left = VecDeque::new();
        let mut dir = start(path)?;
        push(&mut left, path);
        let (mut links, mut is_exposed) = (0, false);
        loop {
            let found = fstat(&dir)?;
            let is_shared = found.st_mode & SHARED != 0;
            if let Some(owner) = User::owner(&found) {
                match through(&dir, &left)? {
                    // A user who may move it cannot change what is in it.
                    Some((ours, steps)) => {
                        dir = ours;
                        left.drain(..steps);
                        is_exposed = true;
                        continue;
                    }
                    None => {
                        let rest = left.iter().collect();
                        return Ok(Self::Foreign { dir, owner, rest });
                    }
                }
            }
            let ours = |dir, end| Ok(Self::Ours { dir, is_exposed, is_shared, end });
            let Some(name) = left.pop_front() else { return ours(dir, End::Here) };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let entry = match openat(&dir, &name, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    left.push_front(name);
                    return ours(dir, End::Missing(left.into()));
                }
                entry => entry?,
            };
            let is_sticky = found.st_mode & STICKY != 0;
            let found = fstat(&entry)?;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => {
                    is_exposed |= is_shared && !is_sticky;
                    dir = entry;
                }
                FileType::Symlink if fstatfs(&entry)?.f_type == PROC_SUPER_MAGIC => {
                    if left.is_empty() {
                        return ours(dir, End::Magic(name));
                    }
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    dir = openat(&dir, &name, flags, Mode::empty())?;
                }
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    check_link(&found, is_shared)?;
                    let target = readlinkat(&entry, "", Vec::new())?.into_bytes();
                    let target = PathBuf::from(OsString::from_vec(target));
                    if target.is_absolute() {
                        dir = start(&target)?;
                    }
                    push(&mut left, &target);
                }
                _ if left.is_empty() => return ours(dir, End::Entry(name)),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
    }
}

/// The first directory of root's alone to which `left` leads from `dir`, by no link, and the number
/// of steps to it.
fn through(dir: &OwnedFd, left: &VecDeque<OsString>) -> io::Result<Option<(OwnedFd, usize)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut next: Option<OwnedFd> = None;
    for (step, name) in left.iter().enumerate() {
        let entry = match openat(next.as_ref().unwrap_or(dir), name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            entry => entry?,
        };
        let found = fstat(&entry)?;
        if is_ours(&found) && found.st_mode & SHARED == 0 {
            return Ok(Some((entry, step + 1)));
        }
        next = Some(entry);
    }
    Ok(None)
}

/// Opens the directory `path`, seen from `dir`, to go on from there.
pub(super) fn enter(dir: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(dir, path, flags, Mode::empty())?)
}

/// As [`enter`], by no link.
pub(super) fn descend(dir: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    path.components().try_fold(dir.try_clone()?, |dir, step| {
        Ok(openat(&dir, step.as_os_str(), flags, Mode::empty())?)
    })
}

/// Where the first step of `path` is made from.
fn start(path: &Path) -> io::Result<OwnedFd> {
    enter(CWD, Path::new(if path.is_absolute() { "/" } else { "." }))
}

/// Puts the steps of `path` in front.
fn push(left: &mut VecDeque<OsString>, path: &Path) {
    for step in path.components().rev() {
        match step {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front(OsStr::new("..").to_owned()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

/// A link is followed where root alone can have put it there.
fn check_link(link: &Stat, is_shared: bool) -> io::Result<()> {
    // A link with a second name may have been made for another place.
    if is_ours(link) && (!is_shared || link.st_nlink == 1) {
        return Ok(());
    }
    let message = format!(
        "a symbolic link of the path belongs to user {}, and root follows no other user's",
        link.st_uid
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}
