//! The files of a journal, as the rest of the journal sees them: a directory, or a simulated disk
//! that loses what was not synced.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, IoSlice, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::FlockOperation;

/// The file that a process locks for as long as it owns the directory.
const LOCK: &str = "lock";
/// Zeros written at once.
const ZEROS: usize = 1 << 20;

/// How a new file gets its room on the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Room {
    /// It grows as it is written.
    Grow,
    /// So many bytes are set aside: quick, but the first write to each block costs the file system
    /// a change of its own records.
    Reserve(u64),
    /// So many zeros are written and synced, so that later writes change nothing but data. For
    /// threads that nobody waits for.
    Zero(u64),
}

/// A place for files, all in one directory.
pub(crate) trait Storage: fmt::Debug + Send + Sync {
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes the file `name`, empty but for its room; one of that name is replaced.
    fn create(&self, name: &str, room: Room) -> io::Result<Arc<dyn Stored>>;

    /// Opens a file that is there, for reading, and for writing where that is allowed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>>;

    /// Gives a file another name; one that has it is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that is not there is removed already.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are and what they are called.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub(crate) trait Stored: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// True where the file still has a name, so that another process would find it.
    fn is_linked(&self) -> bool;

    /// Where from `offset` on the next bytes are that may have been written; `None` where there are
    /// none up to the end. Space that was only reserved reads as zeros, and need not be read.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }

    /// Reads from `offset` on as much as there is, up to the length of `buffer`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes durable what was written.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Writes all of `parts`, one behind the other, from `offset` on.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
}

/// A directory that one process owns.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// `None` where it is only looked into.
    lock: Option<Mutex<File>>,
}

impl Directory {
    /// Takes the directory at `path`, which is made with mode 0700 where there is none.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where another process has it; else why it cannot
    /// be made or locked.
    pub(crate) fn own(path: &Path) -> io::Result<Self> {
        let lock = lock(path)?;
        Ok(Self { path: path.to_owned(), lock: Some(Mutex::new(lock)) })
    }

    /// The directory at `path`, to be looked into and left as it is.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn look_into(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        Ok(Self { path: path.to_owned(), lock: None })
    }

    /// Makes the directory and its lock anew where somebody has removed them, or moved them away:
    /// without a lock, a second process would take the directory for its own.
    fn restore(&self) -> io::Result<()> {
        let Some(held) = &self.lock else { return Err(io::ErrorKind::PermissionDenied.into()) };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = held.metadata()?;
        let there = fs::metadata(self.path.join(LOCK));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(());
        }
        *held = lock(&self.path)?;
        Ok(())
    }

    fn create_file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        options.open(self.path.join(name))
    }
}

/// Makes the directory where there is none, and locks it.
fn lock(path: &Path) -> io::Result<File> {
    let missing = path.ancestors().take_while(|dir| !dir.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // What is synced in it is of no use where a power cut takes the directory's own name, or that
    // of the data directory, which may have been made just before.
    for parent in path.ancestors().skip(1).take(missing.max(2)) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // One that may not be read was not made by us.
        let _ = File::open(parent).and_then(|parent| parent.sync_all());
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path.join(LOCK))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // For people; the lock is what counts.
    file.set_len(0)?;
    let _ = writeln!(file, "{}", std::process::id());
    Ok(file)
}

impl Storage for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?;
        names
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn create(&self, name: &str, room: Room) -> io::Result<Arc<dyn Stored>> {
        self.restore()?;
        let file = self.create_file(name)?;
        let made = match room {
            Room::Grow => Ok(()),
            Room::Reserve(len) => reserve(&file, len),
            Room::Zero(len) => reserve(&file, len).and_then(|()| zero(&file, len)),
        };
        if let Err(error) = made {
            // Half of a file would only take away what room there is.
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(self.lock.is_some()).open(path)?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Sets room aside. File systems that cannot do that find it when it is needed.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(len),
        outcome => Ok(outcome?),
    }
}

fn zero(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut offset = 0;
    while offset < len {
        let part = zeros.get(..(len - offset).min(ZEROS as u64) as usize).unwrap_or_default();
        file.write_all_at(part, offset)?;
        offset += part.len() as u64;
    }
    file.sync_all()
}

impl Stored for File {
    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|file| file.len())
    }

    fn is_linked(&self) -> bool {
        rustix::fs::fstat(self).is_ok_and(|file| file.st_nlink > 0)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(self, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data.max(offset))),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            // A file system that does not know.
            Err(_) => Ok(Some(offset)),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            // The kernel takes 1,024 parts at the most.
            let now = parts.get(..parts.len().min(1024)).unwrap_or_default();
            match rustix::io::pwritev(self, now, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    IoSlice::advance_slices(&mut parts, n);
                    offset += n as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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
        // Somebody else was quicker.
        fs::remove_dir_all(&path).unwrap();
        let _other = Directory::own(&path).unwrap();
        let refused = owner.create("file", Room::Grow).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn parts_are_written_one_behind_the_other() {
        let parent = tempfile::tempdir().unwrap();
        let owner = Directory::own(parent.path()).unwrap();
        let file = owner.create("file", Room::Grow).unwrap();
        let many = vec![b"ab".to_vec(); 3000];
        let mut parts: Vec<_> = many.iter().map(|part| IoSlice::new(part)).collect();
        parts.insert(1, IoSlice::new(b""));
        file.write_at(&mut parts, 5).unwrap();
        assert_eq!(file.len().unwrap(), 6005);
        let mut read = vec![0; 7000];
        assert_eq!(file.read_at(&mut read, 5).unwrap(), 6000);
        assert!(read.get(..6000).unwrap().chunks(2).all(|pair| pair == b"ab"));
    }
}
