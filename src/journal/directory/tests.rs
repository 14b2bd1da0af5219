//! Tests of `directory`.

#![allow(clippy::unwrap_used)]

use std::{
    io::IoSlice,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use rustix::fs::{FileType, Mode};

use super::{opened::is_root, *};

#[test]
fn a_directory_has_one_owner_and_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/journal");
    let owner = Directory::own(&path).unwrap();
    assert_eq!(Directory::own(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    owner.create("file", Room::Reserve(10)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("file"))), (0o700, 0o600));
    assert_eq!(mode(&path.join(LOCK)), 0o600);
    let looker = Directory::look_into(&path).unwrap();
    let refused = looker.create("other", Room::Grow).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    looker.open("file").unwrap();
    drop(owner);
    Directory::own(&path).unwrap();
}

#[test]
fn a_removed_directory_comes_back_with_its_lock() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("journal");
    let owner = Directory::own(&path).unwrap();
    let file = owner.create("file", Room::Grow).unwrap();
    assert!(file.is_linked());
    fs::remove_dir_all(&path).unwrap();
    assert!(!file.is_linked());
    owner.create("file", Room::Zero(3)).unwrap();
    assert_eq!(Directory::own(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(fs::read(path.join("file")).unwrap(), [0; 3]);
}

#[test]
fn a_lock_that_is_lost_is_taken_again() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("journal");
    let owner = Directory::own(&path).unwrap();
    fs::remove_file(path.join(LOCK)).unwrap();
    owner.create("file", Room::Grow).unwrap();
    assert_eq!(Directory::own(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    fs::rename(&path, parent.path().join("away")).unwrap();
    owner.create("file", Room::Grow).unwrap();
    assert_eq!(Directory::own(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(owner.is_ours().is_ok());
}

/// Another process owns the path: the one before touches nothing there.
#[test]
fn what_a_successor_has_made_is_out_of_reach() {
    type Take = fn(&Path);
    let ways: [Take; 3] = [
        |path| fs::remove_dir_all(path).unwrap(),
        |path| fs::rename(path, path.with_file_name("away")).unwrap(),
        |path| {
            fs::read_dir(path).unwrap().for_each(|file| {
                fs::remove_file(file.unwrap().path()).unwrap();
            })
        },
    ];
    for take in ways {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("journal");
        let owner = Directory::own(&path).unwrap();
        let names = ["one", "two", "three"];
        let files = names.map(|name| owner.create(name, Room::Grow).unwrap());
        take(&path);
        let other = Directory::own(&path).unwrap();
        for name in names {
            let file = other.create(name, Room::Grow).unwrap();
            file.write_at(&mut [IoSlice::new(b"other's")], 0).unwrap();
        }
        assert!(is_lost(&owner.is_ours().unwrap_err()));
        owner.remove("one").unwrap();
        assert!(is_lost(&owner.rename("two", "spare").unwrap_err()));
        assert!(is_lost(&owner.create("more", Room::Grow).unwrap_err()));
        assert!(is_lost(&owner.open("three").unwrap_err()));
        assert!(is_lost(&owner.sync().unwrap_err()));
        drop(owner);
        for name in names {
            assert_eq!(fs::read(path.join(name)).unwrap(), b"other's", "{name}");
        }
        assert_eq!(other.names().unwrap().len(), 4, "{:?}", other.names());
        other.is_ours().unwrap();
        drop(files);
    }
}

/// An operator has put another file in the place of one of ours.
#[test]
fn a_file_that_was_replaced_is_not_removed() {
    let parent = tempfile::tempdir().unwrap();
    let owner = Directory::own(parent.path()).unwrap();
    let _file = owner.create("file", Room::Grow).unwrap();
    fs::write(parent.path().join("other"), "other").unwrap();
    fs::rename(parent.path().join("other"), parent.path().join("file")).unwrap();
    owner.remove("file").unwrap();
    assert_eq!(fs::read(parent.path().join("file")).unwrap(), b"other");
    fs::write(parent.path().join("foreign"), "foreign").unwrap();
    owner.remove("foreign").unwrap();
    assert!(parent.path().join("foreign").exists(), "not of this process");
    let exists = |outcome: io::Result<Arc<dyn Stored>>| {
        outcome.unwrap_err().kind() == io::ErrorKind::AlreadyExists
    };
    assert!(exists(owner.create("file", Room::Grow)));
    owner.create("mine", Room::Grow).unwrap();
    let refused = owner.rename("mine", "file").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn no_link_and_no_pipe_is_followed() {
    let parent = tempfile::tempdir().unwrap();
    let (path, target) = (parent.path().join("journal"), parent.path().join("target"));
    fs::create_dir(&path).unwrap();
    fs::write(&target, "precious").unwrap();
    symlink(&target, path.join(LOCK)).unwrap();
    let refused = Directory::own(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
    // One that leads nowhere is not made there either.
    fs::remove_file(path.join(LOCK)).unwrap();
    symlink(parent.path().join("nowhere"), path.join(LOCK)).unwrap();
    Directory::own(&path).unwrap_err();
    assert!(!parent.path().join("nowhere").exists());
    fs::remove_file(path.join(LOCK)).unwrap();
    let owner = Directory::own(&path).unwrap();
    symlink(&target, path.join("link")).unwrap();
    owner.open("link").unwrap_err();
    owner.create("link", Room::Grow).unwrap_err();
    rustix::fs::mknodat(CWD, path.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    owner.open("pipe").unwrap_err();
    Directory::look_into(&path).unwrap().open("pipe").unwrap_err();
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

/// Root works in the directory of another user.
#[test]
fn what_root_makes_is_the_directorys_owners() {
    use std::os::unix::fs::{MetadataExt as _, chown};

    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("journal");
    fs::create_dir(&path).unwrap();
    chown(&path, Some(4321), Some(4322)).unwrap();
    let owner = Directory::own(&path).unwrap();
    owner.create("file", Room::Grow).unwrap();
    for name in [LOCK, "file"] {
        let file = fs::metadata(path.join(name)).unwrap();
        assert_eq!((file.uid(), file.gid()), (4321, 4322), "{name}");
    }
    // What belongs to a third one is not written to.
    fs::write(path.join("foreign"), "").unwrap();
    chown(path.join("foreign"), Some(5), Some(5)).unwrap();
    owner.open("foreign").unwrap_err();
    let of_root = parent.path().join("of root");
    fs::create_dir(&of_root).unwrap();
    let link = parent.path().join("link");
    symlink(&of_root, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(4321), Some(4322)).unwrap();
    Directory::own(&link).unwrap_err();
    assert_eq!(fs::read_dir(&of_root).unwrap().count(), 0);
}

#[test]
fn who_holds_the_lock_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let owner = Directory::own(parent.path()).unwrap();
    let refused = Directory::own(parent.path()).unwrap_err();
    assert!(refused.kind() == io::ErrorKind::WouldBlock && is_held_here(&refused));
    drop(owner);
    Directory::own(parent.path()).unwrap();
}
