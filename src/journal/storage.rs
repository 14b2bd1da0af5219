//! The files of a journal, as the rest of the journal sees them: a directory, or a simulated disk
//! that loses what was not synced.

use std::{
    fmt,
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// How a new file gets its room on the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Room {
    /// It grows as it is written.
    Grow,
    /// So many bytes are set aside: quick, but the first write to each block costs the file system
    /// a change of its own records.
    Reserve(u64),
    /// So many zeros are written and synced, so that later writes change nothing but data. For
    /// threads that hold up no update.
    Zero(u64),
}

/// A directory of files, real or simulated.
pub trait Storage: fmt::Debug + Send + Sync {
    /// The names of all files. They count as this process's from then on.
    fn names(&self) -> io::Result<Vec<String>>;

    /// True where all of it is still this process's, so that another process finds what is written.
    fn is_ours(&self) -> io::Result<()>;

    /// True where `name` leads to the file that this process knows by it.
    ///
    /// # Errors
    /// The directory is not this process's any more, or is not to be found.
    fn owns(&self, name: &str) -> io::Result<bool>;

    /// Makes the file `name`, empty but for its room.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) where there is one of that name: it is left
    /// as it is.
    fn create(&self, name: &str, room: Room) -> io::Result<Arc<dyn Stored>>;

    /// Opens a file that is there, for reading, and for writing where that is allowed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>>;

    /// Gives a file another name.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) where another file has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that is not there, or not this process's any more, is removed already.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are and what they are called.
    fn sync(&self) -> io::Result<()>;
}

impl dyn Storage + '_ {
    /// Makes the file `name` in place of one of this process that an earlier failure has left.
    ///
    /// # Errors
    /// As for [`create`](Storage::create).
    pub(super) fn create_anew(&self, name: &str, room: Room) -> io::Result<Arc<dyn Stored>> {
        match self.create(name, room) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(name)?;
                self.create(name, room)
            }
            created => created,
        }
    }

    /// Gives a file that is not understood a name under which nothing reads or removes it, and
    /// returns that name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub(super) fn put_aside(&self, name: &str, aside: &str) -> io::Result<String> {
        let mut copies = 1;
        loop {
            let to = if copies == 1 { aside.to_owned() } else { format!("{aside}.{copies}") };
            match self.rename(name, &to) {
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && copies < ASIDE_MAX =>
                {
                    copies += 1;
                }
                outcome => return outcome.map(|()| to),
            }
        }
    }
}

/// Files that are kept under one name and a number.
const ASIDE_MAX: u32 = 1000;

/// An open file.
pub trait Stored: fmt::Debug + Send + Sync {
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

/// True where an error says that there is no room for so much: a full disk, a quota, or a limit on
/// the size of files.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
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

    use super::{super::Directory, *};

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
