//! What root follows and what not. Without root there is nothing to test.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::PathBuf,
};

use rustix::{
    fs::{FileType, mknodat},
    process::{Gid, Uid},
};

use super::*;

/// A user that no machine has a name for.
const UID: u32 = 4_000_000_003;

/// A directory of root's, in it one of the user's, `theirs`, and another one of root's, `ours`,
/// with a file; `None` where the test is not run by root.
fn scene() -> Option<tempfile::TempDir> {
    if !geteuid().is_root() {
        eprintln!("skipped: only root has anything to lose");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["ours", "theirs"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    chown(dir.path().join("theirs"), Some(UID), Some(UID)).unwrap();
    private(&dir.path().join("ours/file"));
    Some(dir)
}

fn private(path: &Path) {
    fs::write(path, "root's").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn user() -> User {
    User::new(Uid::from_raw(UID), Gid::from_raw(UID), vec![Gid::from_raw(UID)])
}

fn denied<T>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[test]
fn only_roots_own_links_are_followed() {
    let Some(dir) = scene() else { return };
    let at = |name: &str| dir.path().join(name);
    symlink(at("ours"), at("link")).unwrap();
    symlink("ours/../ours/file", at("file")).unwrap();
    for path in ["ours/file", "link/file", "file", "./ours/../link/./file"] {
        let mut text = String::new();
        open(&at(path), How::Read).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "root's", "{path}");
    }
    symlink(at("ours/file"), at("theirs/file")).unwrap();
    symlink(at("ours"), at("theirs/dir")).unwrap();
    symlink(at("theirs"), at("way")).unwrap();
    let hows = [How::Read, How::ReadFile, How::Append, How::Replace];
    for path in ["theirs/file", "theirs/dir/file", "way/file", "way/dir/file"] {
        assert!(hows.into_iter().all(|how| denied(open(&at(path), how))), "{path}");
    }
    fs::hard_link(at("ours/file"), at("theirs/hard")).unwrap();
    assert!(hows.into_iter().all(|how| denied(open(&at("theirs/hard"), how))));
    for path in ["theirs/dir/new", "way/dir/new", "theirs/dir/new/other"] {
        assert!(denied(Dir::make(&at(path), 0o700, None)), "{path}");
        assert!(denied(Dir::make(&at(path), 0o700, Some(&user()))), "{path}");
        assert!(open(&at(path), How::Append).is_err(), "{path}");
    }
    assert_eq!(fs::read_to_string(at("ours/file")).unwrap(), "root's");
    assert_eq!(fs::read_dir(at("ours")).unwrap().count(), 1);
}

#[test]
fn in_a_directory_for_all_only_what_root_has_put_there_is_opened() {
    let Some(dir) = scene() else { return };
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("all")).unwrap();
    fs::set_permissions(at("all"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink(at("ours/file"), at("all/theirs")).unwrap();
    std::os::unix::fs::lchown(at("all/theirs"), Some(UID), Some(UID)).unwrap();
    symlink(at("ours/file"), at("all/ours")).unwrap();
    open(&at("all/ours"), How::Read).unwrap();
    assert!(denied(open(&at("all/theirs"), How::Replace)));
    fs::hard_link(at("ours/file"), at("all/hard")).unwrap();
    assert!(denied(open(&at("all/hard"), How::Replace)));
    assert_eq!(fs::read_to_string(at("ours/file")).unwrap(), "root's");
    drop(open(&at("all/new"), How::Replace).unwrap());
    // What is for the user there is made by the user: nothing is given away that may be exchanged.
    let made = Dir::make(&at("all/dir"), 0o700, Some(&user())).unwrap();
    drop(made.create_new("file".as_ref(), 0o600).unwrap());
    for path in ["all/dir", "all/dir/file"] {
        assert_eq!(fs::metadata(at(path)).unwrap().uid(), UID);
    }
}

/// The kernel itself refuses that where `fs.protected_regular` is set, as it is on most machines.
#[test]
fn what_another_has_put_into_a_sticky_directory_is_not_written_to() {
    let Some(dir) = scene() else { return };
    let is_protected = fs::read_to_string("/proc/sys/fs/protected_regular");
    if is_protected.is_ok_and(|it| it.trim() == "0") {
        eprintln!("skipped: fs.protected_regular is off");
        return;
    }
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("all")).unwrap();
    fs::set_permissions(at("all"), fs::Permissions::from_mode(0o1777)).unwrap();
    for name in ["ours", "theirs"] {
        fs::write(at("all").join(name), name).unwrap();
    }
    chown(at("all/theirs"), Some(UID), Some(UID)).unwrap();
    for how in [How::Append, How::Replace] {
        assert!(denied(open(&at("all/theirs"), how)), "{how:?}");
        drop(open(&at("all/ours"), how).unwrap());
    }
    assert_eq!(fs::read_to_string(at("all/theirs")).unwrap(), "theirs");
    drop(open(&at("all/theirs"), How::Read).unwrap());
}

#[test]
fn what_is_made_is_for_whom_it_is_meant_and_nothing_else_changes_hands() {
    let Some(dir) = scene() else { return };
    let at = |name: &str| dir.path().join(name);
    let owner = |path: &str| fs::symlink_metadata(at(path)).unwrap().uid();
    drop(Dir::make(&at("ours/a/b"), 0o700, Some(&user())).unwrap());
    drop(Dir::make(&at("theirs/a/b"), 0o700, None).unwrap());
    drop(Dir::make(&at("ours/own"), 0o700, None).unwrap());
    let owners = ["ours", "ours/a", "ours/a/b", "theirs/a", "theirs/a/b", "ours/own"].map(owner);
    assert_eq!(owners, [0, UID, UID, UID, UID, 0]);
    // Again: all of it is there.
    let found = Dir::make(&at("ours/own"), 0o700, Some(&user())).unwrap();
    assert_eq!(owner("ours/own"), 0);
    drop(found.create_new("new".as_ref(), 0o600).unwrap());
    assert!(found.create_new("new".as_ref(), 0o600).is_err());
    symlink(at("ours/missing"), at("ours/own/link")).unwrap();
    assert!(found.create_new("link".as_ref(), 0o600).is_err());
    assert_eq!(owner("ours/own/new"), UID);
    let opened = |path: PathBuf| {
        for_user(&user(), &path, || {
            let failed = |error| Error::with_source(crate::ErrorKind::Sink, "x", error);
            open(&path, How::Append).map_err(failed)
        })
    };
    drop(opened(at("ours/made")).unwrap());
    assert_eq!(owner("ours/made"), UID);
    // Root has named what only root may open, and no other user can change what it is.
    drop(opened(at("ours/file")).unwrap());
    assert_eq!(owner("ours/file"), 0);
    symlink(at("ours/file"), at("theirs/link")).unwrap();
    symlink(at("ours/none"), at("theirs/dangling")).unwrap();
    assert!(opened(at("theirs/link")).is_err() && opened(at("theirs/dangling")).is_err());
    assert!(!at("ours/none").exists());
}

#[test]
fn a_file_of_roots_in_anothers_directory_is_still_roots_to_open() {
    let Some(dir) = scene() else { return };
    let at = |name: &str| dir.path().join(name);
    private(&at("theirs/own"));
    fs::create_dir(at("theirs/dir")).unwrap();
    private(&at("theirs/dir/own"));
    for path in ["theirs/own", "theirs/dir/own"] {
        let mut text = String::new();
        open(&at(path), How::Read).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "root's");
        drop(open(&at(path), How::Append).unwrap());
    }
    // A pipe is not waited for.
    mknodat(CWD, at("theirs/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    drop(open(&at("theirs/pipe"), How::Read));
    assert!(open(&at("theirs/pipe"), How::Replace).is_err());
}

#[test]
fn roots_rights_come_back_also_from_a_panic() {
    let Some(dir) = scene() else { return };
    let file = dir.path().join("ours/file");
    assert!(user().act(|| fs::read(&file)).unwrap().is_err());
    let panicked = std::panic::catch_unwind(|| {
        let _ = user().act(|| std::panic::resume_unwind(Box::new(())));
    });
    assert!(panicked.is_err());
    assert_eq!(fs::read(&file).unwrap(), b"root's");
    assert!(geteuid().is_root());
}
