//! Detects changes of files, however they are replaced: written in place, renamed over, or behind a
//! symbolic link that is replaced, as certbot and Kubernetes do. It polls: an inotify watch sees a
//! file, not what a chain of links and renames leads to tomorrow.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

/// After so many looks a file that changes without end is reported as changed all the same.
const RESTLESS: u32 = 4;

/// Some files and how they were when they were last looked at.
#[derive(Debug)]
pub struct Watch {
    files: Vec<(PathBuf, Option<FileStamp>)>,
    /// Looks since a change that has not been reported yet.
    unsettled: Option<u32>,
}

/// What is different in a file after any change: where it is, how long, and when it was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileStamp {
    changed: (i64, i64),
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl FileStamp {
    /// `None` for a file that is not there, or out of reach.
    fn new(path: &PathBuf) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
        })
    }
}

impl Watch {
    /// Watches `paths` from now on. A path need not be there.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut watch = Self { files: Vec::new(), unsettled: None };
        watch.set_paths(paths.into_iter().collect());
        watch
    }

    /// True where the last look has found a change that was not reported yet.
    pub fn is_restless(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Takes the files as they are now: changes until now are not reported.
    pub fn rebase(&mut self) {
        for (path, state) in &mut self.files {
            *state = FileStamp::new(path);
        }
        self.unsettled = None;
    }

    /// Watches `paths` instead; what has changed in those that stay is not forgotten. False where
    /// they are the same as before.
    pub fn set_paths(&mut self, paths: Vec<PathBuf>) -> bool {
        if self.files.iter().map(|(path, _)| path).eq(&paths) {
            return false;
        }
        let known = |path: &PathBuf| self.files.iter().find(|(known, _)| known == path);
        let files = paths.into_iter().map(|path| {
            let state = known(&path).map_or_else(|| FileStamp::new(&path), |(_, state)| *state);
            (path, state)
        });
        self.files = files.collect();
        true
    }

    /// True once for each change: at the second look in a row that finds the same, so that the
    /// writer has had time to end, and a write in the same tick of the clock is not missed.
    pub fn poll(&mut self) -> bool {
        let mut has_changed = false;
        for (path, state) in &mut self.files {
            let now = FileStamp::new(path);
            has_changed |= *state != now;
            *state = now;
        }
        match (self.unsettled, has_changed) {
            (None, false) => false,
            (None, true) => {
                self.unsettled = Some(1);
                false
            }
            (Some(looks), true) if looks < RESTLESS => {
                self.unsettled = Some(looks + 1);
                false
            }
            (Some(_), true) => {
                // Reported, and still changing.
                self.unsettled = Some(1);
                true
            }
            (Some(_), false) => {
                self.unsettled = None;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{os::unix::fs::symlink, path::Path};

    use super::*;

    /// Polls until the change is reported.
    fn is_reported(watch: &mut Watch) -> bool {
        (0..3).any(|_| watch.poll())
    }

    /// Replaces the link `link` by one to `target`, as `ln -sfn` does.
    fn relink(link: &Path, target: &str) {
        let new = link.parent().unwrap().join("turning");
        symlink(target, &new).unwrap();
        fs::rename(new, link).unwrap();
    }

    #[test]
    fn every_way_to_replace_a_file_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "one").unwrap();
        let mut watch = Watch::new([at("file")]);
        assert!(!is_reported(&mut watch));
        let mut sees = |what: &str| {
            assert!(is_reported(&mut watch), "{what}");
            assert!(!is_reported(&mut watch), "{what} twice");
        };
        fs::write(at("file"), "longer").unwrap();
        sees("written in place");
        fs::write(at("other"), "longer").unwrap();
        fs::rename(at("other"), at("file")).unwrap();
        sees("renamed over");
        fs::remove_file(at("file")).unwrap();
        sees("removed");
        fs::create_dir_all(at("archive")).unwrap();
        fs::write(at("archive/file1"), "x").unwrap();
        fs::write(at("archive/file2"), "x").unwrap();
        symlink("archive/file1", at("file")).unwrap();
        sees("made again, as a link");
        relink(&at("file"), "archive/file2");
        sees("a link turned, as certbot does");
    }

    #[test]
    fn a_link_of_a_directory_on_the_way_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), "same length").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let mut watch = Watch::new([at("tls.crt")]);
        assert!(!is_reported(&mut watch));
        relink(&at("..data"), "..2");
        assert!(is_reported(&mut watch));
    }

    #[test]
    fn it_waits_for_a_writer_but_not_for_ever() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watch = Watch::new([file.path().to_owned()]);
        let mut text = String::new();
        let mut reported = 0;
        for _ in 0..10 {
            text.push('x');
            fs::write(file.path(), &text).unwrap();
            reported += u32::from(watch.poll());
        }
        assert_eq!(reported, 2, "every fourth look of ten, and one until it has begun");
        assert!(is_reported(&mut watch), "and what came last");
    }

    #[test]
    fn paths_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut watch = Watch::new([a.clone()]);
        fs::write(&a, "a").unwrap();
        assert!(watch.set_paths(vec![b.clone(), a.clone()]));
        assert!(!watch.set_paths(vec![b.clone(), a]));
        assert!(is_reported(&mut watch), "the change of a is not forgotten");
        fs::write(&b, "b").unwrap();
        assert!(is_reported(&mut watch));
    }
}
