//! Files that are made once and hold keys: whole or not there, and readable by nobody else from their
//! first byte on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::privileges::Identity;

/// What is done where the file is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Over {
    /// It stays, and that is an error of kind `AlreadyExists`.
    Keep,
    Replace,
}

/// Writes `text` to `path` with `mode`, for `owner` where it is not who writes.
pub(super) fn write(
    path: &Path,
    mode: u32,
    owner: Option<&Identity>,
    text: &str,
    over: Over,
) -> io::Result<()> {
    let half = half(path);
    // One that was left by a crash may have another mode.
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&half)?;
    let written = fill(&file, owner, text).and_then(|()| settle(&half, path, over));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written
}

/// The name under which it is written, in the same directory.
fn half(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn fill(mut file: &File, owner: Option<&Identity>, text: &str) -> io::Result<()> {
    if let Some(owner) = owner {
        owner.own(file)?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn settle(half: &Path, path: &Path, over: Over) -> io::Result<()> {
    if over == Over::Replace {
        return fs::rename(half, path);
    }
    match renameat_with(CWD, half, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it.
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(path).is_err() => {
            fs::rename(half, path)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        outcome => outcome.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_there_stays_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        fs::write(half(&path), "left by a crash, for all to read").unwrap();
        write(&path, 0o600, None, "one", Over::Keep).unwrap();
        let error = write(&path, 0o600, None, "two", Over::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, 0o600, None, "three", Over::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half is left");
    }
}
