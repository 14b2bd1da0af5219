//! The file that the next segment will be in, while nothing is in it.

use std::{
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::storage::Stored;

/// The place for one such file. The lock is not held over what the disk does: the committer must
/// not wait for the housekeeper's writes.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Place>);

#[derive(Debug, Default)]
enum Place {
    #[default]
    Empty,
    Ready(Arc<dyn Stored>),
    /// The committer renames it. Another file that got its old name meanwhile would be renamed in
    /// its place, and what is written would be in a file without a name.
    Leaving,
}

impl Spare {
    /// True where there is one to be taken.
    pub(super) fn is_ready(&self) -> bool {
        matches!(*self.place(), Place::Ready(_))
    }

    /// True where no file has its name, or only one that is of no use. That lasts until the
    /// housekeeper, the only one to call [`put`](Self::put), has put one there.
    pub(super) fn is_empty(&self) -> bool {
        matches!(*self.place(), Place::Empty)
    }

    /// Puts `file`, which has the name already, in the empty place.
    pub(super) fn put(&self, file: Arc<dyn Stored>) {
        *self.place() = Place::Ready(file);
    }

    /// Takes the file away, whose name `rename` changes; `None` where there is none, or that fails.
    pub(super) fn take(&self, rename: impl FnOnce() -> io::Result<()>) -> Option<Arc<dyn Stored>> {
        let file = {
            let mut place = self.place();
            match mem::take(&mut *place) {
                Place::Ready(file) => {
                    *place = Place::Leaving;
                    file
                }
                other => {
                    *place = other;
                    return None;
                }
            }
        };
        let is_taken = file.is_linked() && rename().is_ok();
        *self.place() = Place::Empty;
        is_taken.then_some(file)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::{
        config::Ack,
        journal::{
            Directory, Housekeeper, Journal, MaintenanceTask, Settings,
            housekeeper::SPARE,
            storage::{Room, Storage},
            tests::registry,
        },
    };

    /// A directory in which something else is done just before the spare file gets its next name.
    #[derive(Debug)]
    struct Interrupted {
        directory: Directory,
        housekeeper: Mutex<Option<Housekeeper>>,
    }

    impl Storage for Interrupted {
        fn names(&self) -> io::Result<Vec<String>> {
            self.directory.names()
        }

        fn is_ours(&self) -> io::Result<()> {
            self.directory.is_ours()
        }

        fn owns(&self, name: &str) -> io::Result<bool> {
            self.directory.owns(name)
        }

        fn create(&self, name: &str, room: Room) -> io::Result<Arc<dyn Stored>> {
            self.directory.create(name, room)
        }

        fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
            self.directory.open(name)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            let housekeeper = self.housekeeper.lock().unwrap().take();
            if let Some(mut housekeeper) = housekeeper.filter(|_| from == SPARE) {
                housekeeper.handle(MaintenanceTask::Prepare);
            }
            self.directory.rename(from, to)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.directory.remove(name)
        }

        fn sync(&self) -> io::Result<()> {
            self.directory.sync()
        }
    }

    #[test]
    fn a_file_that_is_being_taken_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::own(&dir.path().join("journal")).unwrap();
        let storage = Arc::new(Interrupted { directory, housekeeper: Mutex::default() });
        let settings = Settings {
            ack: Ack::Written,
            max_bytes: 1 << 30,
            segment_bytes: 10_000,
            sync_interval: Duration::from_secs(1),
        };
        let registry = registry(&["bot".to_owned()]);
        let (journal, _tasks) =
            Journal::new(Arc::clone(&storage) as _, settings, registry, Vec::new());
        let housekeeper = || Housekeeper::new(Arc::clone(&journal), Vec::new());
        housekeeper().handle(MaintenanceTask::Prepare);
        assert!(journal.spare.is_ready());
        *storage.housekeeper.lock().unwrap() = Some(housekeeper());
        let taken = journal.take_spare("segment").unwrap();
        assert!(storage.housekeeper.lock().unwrap().is_none(), "it was interrupted");
        assert!(taken.is_linked());
        taken.write_at(&mut [io::IoSlice::new(b"here")], 0).unwrap();
        let mut found = [0; 4];
        storage.open("segment").unwrap().read_at(&mut found, 0).unwrap();
        assert_eq!(&found, b"here");
        assert!(journal.spare.is_empty());
        housekeeper().handle(MaintenanceTask::Prepare);
        assert!(journal.spare.is_ready(), "the next one is made");
    }
}
