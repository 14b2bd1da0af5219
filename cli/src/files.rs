//! Files that are made once and hold keys: whole or not there, and readable by their owner alone
//! from their first byte on.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

pub(super) use ringhook::internals::files::Over;
use ringhook::internals::files::{Dir, User};

/// A file that is whole, but has another name yet. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Half {
    dir: Dir,
    name: OsString,
    /// Its name now; `None` where it has its own.
    now: Option<OsString>,
}

/// Writes `text` to `path` with `mode`, for `owner` where it is not who writes.
pub(super) fn write(
    path: &Path,
    mode: u32,
    owner: Option<&User>,
    text: &str,
    over: Over,
) -> io::Result<()> {
    let (dir, name) = Dir::parent_of(path, owner)?;
    Half::write(dir, &name, mode, text.as_bytes())?.settle(over)
}

impl Half {
    /// Writes what is to become `name` in `dir`.
    pub(super) fn write(dir: Dir, name: &OsStr, mode: u32, text: &[u8]) -> io::Result<Self> {
        let (half, file) = Self::draft(dir, name, mode, text)?;
        file.sync_all()?;
        Ok(half)
    }

    /// The same for what may be lost in a power cut; the file is open still.
    pub(super) fn draft(
        dir: Dir,
        name: &OsStr,
        mode: u32,
        text: &[u8],
    ) -> io::Result<(Self, File)> {
        // No other process has a file of that name, and none is opened that is there.
        let now: OsString = format!(".ringhook-{:016x}.new", random()?).into();
        let mut file = dir.create_new(&now, mode)?;
        let half = Self { dir, name: name.to_owned(), now: Some(now) };
        file.write_all(text)?;
        Ok((half, file))
    }

    /// Gives it its name.
    pub(super) fn settle(mut self, over: Over) -> io::Result<()> {
        if let Some(now) = &self.now {
            self.dir.rename(now, &self.name, over)?;
        }
        self.now = None;
        Ok(())
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(now) = &self.now {
            let _ = self.dir.remove(now);
        }
    }
}

/// True where both name one file, however they are spelled.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        // One that is not there yet is known by its name alone.
        let dir = fs::canonicalize(dir).or_else(|_| std::path::absolute(dir));
        (dir.ok(), path.file_name().map(ToOwned::to_owned))
    };
    place(one) == place(other)
}

/// True where it is a directory, or spelled as one.
pub(super) fn is_directory(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let is_spelled = text.ends_with(b"/") || text.ends_with(b"/.") || path.file_name().is_none();
    is_spelled || path.is_dir()
}

fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|source| io::Error::other(source.to_string()))
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
        let foreign = dir.path().join("key.pem.new");
        fs::write(&foreign, "foreign").unwrap();
        write(&path, 0o600, None, "one", Over::Keep).unwrap();
        let error = write(&path, 0o600, None, "two", Over::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, 0o600, None, "three", Over::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(foreign).unwrap(), "foreign");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing half is left");
    }

    #[test]
    fn a_file_is_known_by_any_spelling() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::os::unix::fs::symlink(".", dir.join("link")).unwrap();
        for (other, is_one) in [
            ("x.pem", true),
            ("./x.pem", true),
            ("link/x.pem", true),
            ("link/../x.pem", false),
            ("y.pem", false),
            ("none/x.pem", false),
        ] {
            assert_eq!(is_same(&dir.join("x.pem"), &dir.join(other)), is_one, "{other}");
        }
        assert!(is_same(&dir.join("none/x.pem"), &dir.join("./none/./x.pem")));
        assert!(is_same(Path::new("x.pem"), Path::new("./x.pem")));
        for directory in ["", "none/", "none/.", "link", "..", "/"] {
            assert!(is_directory(&dir.join(directory)), "{directory}");
        }
        assert!(!is_directory(&dir.join("x.pem")));
    }
}
