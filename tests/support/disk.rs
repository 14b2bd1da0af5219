//! Small disks of a test's own, which can be filled, torn away and made to fail.
//!
//! They are mounted where no other process sees them: on a thread that has left the others' mounts,
//! and in the processes that it starts. With the last of these they are gone, however they end.

use std::{
    fs::{self, File},
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::{
    fs::{FallocateFlags, IFlags, fallocate, ioctl_getflags, ioctl_setflags, statvfs},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::external::{succeed, talk};

/// Says that a test is skipped, and why. Where `RINGHOOK_TEST_DISKS` is set it must not be: so CI
/// cannot pass by skipping.
#[track_caller]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("RINGHOOK_TEST_DISKS").is_none(), "a disk is required: {why}");
    eprintln!("skipped: {why}");
}

/// Runs `test` where it can mount things; where it cannot, that is said and `test` is skipped.
pub(crate) fn with_mounts(test: impl FnOnce() + Send) {
    try_mounts(|why_not| match why_not {
        None => test(),
        Some(why) => skip(&why),
    });
}

/// Runs `test` where it can mount things, or with the reason why it cannot.
pub(crate) fn try_mounts(test: impl FnOnce(Option<String>) + Send) {
    let run = || {
        // SAFETY: descriptors stay shared; it is mounts, and the working directory, that are this
        // thread's own from now on.
        let left = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        let outcome = left.and_then(|()| mount_change("/", private));
        let why = |error| format!("no mounts of our own: {error}: root may have them");
        test(outcome.err().map(why));
    };
    thread::scope(|scope| {
        // The error is the panic's.
        scope.spawn(run).join().unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// A file system that is mounted.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// One in memory, without a disk below it.
    #[track_caller]
    pub(crate) fn in_memory(mib: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount("tmpfs", dir.path(), c"tmpfs", MountFlags::empty(), &*options(mib)).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes away all its room but so many bytes, until the ballast is dropped.
    pub(crate) fn fill_up_to(&self, left: u64) -> Ballast {
        let path = self.path().join("ballast");
        let file = File::create(&path).unwrap();
        // As much as it takes: a file system needs some for its own records.
        let mut length = 0;
        let mut step = self.room();
        while step >= 4096 {
            if self.room() >= left + step
                && fallocate(&file, FallocateFlags::empty(), length, step).is_ok()
            {
                length += step;
            } else {
                step /= 2;
            }
        }
        Ballast(path)
    }

    /// Bytes that it has room for.
    pub(crate) fn room(&self) -> u64 {
        let stat = statvfs(self.path()).unwrap();
        stat.f_bfree * stat.f_frsize
    }
}

fn options(mib: u64) -> std::ffi::CString {
    std::ffi::CString::new(format!("size={mib}m,mode=700")).unwrap()
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

/// What fills a disk until it is dropped.
pub(crate) struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// A file system on a block device that is a file in memory: its writes can fail after the program
/// has been told that they are done, and its syncs with them.
pub(crate) struct BlockDisk {
    /// The file system.
    pub(crate) fs: Disk,
    /// The disk below, whose room the device's blocks need.
    pub(crate) below: Disk,
    options: String,
}

impl BlockDisk {
    /// An ext4 of so many MiB, made and mounted with these flags and options; `None`, which has
    /// been said, where that is not to be had.
    pub(crate) fn ext4(mib: u64, flags: &[&str], options: &str) -> Option<Self> {
        let below = Disk::in_memory(2 * mib);
        let image = below.path().join("image");
        let whole = File::create(&image).unwrap();
        fallocate(&whole, FallocateFlags::empty(), 0, mib << 20).unwrap();
        let mut make = Command::new("mkfs.ext4");
        // Of the size of a page, so that a block is written whole or not at all.
        make.args(["-q", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0"]).args(flags);
        match make.arg(&image).output() {
            Ok(output) if output.status.success() => {}
            outcome => {
                skip(&format!("no ext4: {outcome:?}"));
                return None;
            }
        }
        let fs = Disk { dir: tempfile::tempdir().unwrap() };
        let disk = Self { fs, below, options: options.to_owned() };
        let said = talk(&mut disk.mounting(), b"");
        if !said.status.success() {
            skip(&format!("no loop device: {}", said.stderr.trim()));
            return None;
        }
        disk.write_block_by_block();
        Some(disk)
    }

    /// Gives the device's unused blocks back, so that they need room again when they are used.
    #[track_caller]
    pub(crate) fn give_back_unused_blocks(&self) {
        succeed(Command::new("fstrim").arg(self.fs.path()));
    }

    /// Makes the file system believe that its device is broken: it allows no more writes, to files
    /// that are open neither.
    #[track_caller]
    pub(crate) fn break_down(&self) {
        fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", self.device()), "1").unwrap();
    }

    /// Has all that is written and synced wait until the result is dropped, without any error.
    #[track_caller]
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        succeed(Command::new("fsfreeze").arg("-f").arg(self.fs.path()));
        Frozen(self.fs.path())
    }

    /// Unmounts and mounts it again, as after a power cut: what is not on the device is lost. No
    /// process may use it.
    #[track_caller]
    pub(crate) fn mount_again(&self) {
        unmount(self.fs.path(), UnmountFlags::empty()).unwrap();
        succeed(&mut self.mounting());
        self.write_block_by_block();
    }

    fn mounting(&self) -> Command {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("loop,{}", self.options)]);
        command.arg(self.below.path().join("image")).arg(self.fs.path());
        command
    }

    /// A loop device takes a write of several blocks for done of which the file below took only the
    /// first.
    fn write_block_by_block(&self) {
        fs::write(format!("/sys/block/{}/queue/max_sectors_kb", self.device()), "4").unwrap();
    }

    /// The name of the device.
    fn device(&self) -> String {
        let said = succeed(Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.fs.path()));
        said.stdout.trim().strip_prefix("/dev/").unwrap().to_owned()
    }
}

/// A file system that does not answer.
pub(crate) struct Frozen<'a>(&'a Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.0).status();
    }
}

/// A directory in which no name can be made, removed or changed. What is open stays as it is.
///
/// Not a mount over it, which who has it open does not see.
pub(crate) struct ReadOnly(File);

impl ReadOnly {
    /// `None`, with the reason said, where the file system cannot do that.
    #[track_caller]
    pub(crate) fn make(dir: &Path) -> Option<Self> {
        let read_only = Self(File::open(dir).unwrap());
        match read_only.change(|flags| flags | IFlags::IMMUTABLE) {
            Ok(()) => Some(read_only),
            Err(error) => {
                skip(&format!("no directory can be made immutable: {error}"));
                None
            }
        }
    }

    fn change(&self, change: impl FnOnce(IFlags) -> IFlags) -> rustix::io::Result<()> {
        ioctl_setflags(&self.0, change(ioctl_getflags(&self.0)?))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = self.change(|flags| flags - IFlags::IMMUTABLE);
    }
}
