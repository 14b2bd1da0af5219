//! A simulated disk in memory that shows a program all that a disk may do.
//!
//! What is written or renamed is seen at once, as through a page cache, and is durable when the
//! file or the directory is synced. A `kill -9` leaves what is seen; a power cut leaves what is
//! durable, and of each change that is not, at random, all, nothing or a part.
//!
//! A test chooses the point at which a crash comes: before an operation, or in the middle of a
//! write. From there on nothing is changed any more and each operation fails, so the program runs
//! on without effect until the test ends it, without a panic that would have to be caught.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard},
};

use fastrand::Rng;

use crate::journal::{
    directory::lost,
    storage::{Room, Storage, Stored},
};

/// What a disk writes in one go.
const SECTOR: usize = 512;

/// How a process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Crash {
    Kill,
    PowerCut,
}

/// An operation that may fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Create,
    Read,
    Remove,
    Rename,
    Sync,
    SyncDir,
    Truncate,
    Write,
}

/// How likely faults are.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    /// By [`Op`], in 256.
    pub(super) chances: [u64; 8],
    /// Nothing can be changed.
    pub(super) is_read_only: bool,
}

/// The disk. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct SimDisk(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    /// Point at which the process ends.
    crash_at: Option<u64>,
    /// Changes of names since the directory was synced.
    changes: Vec<DirChange>,
    durable: BTreeMap<String, usize>,
    /// Name of a file that cannot be opened.
    broken: String,
    /// Names of files on which something has failed by a fault.
    failed: BTreeSet<String>,
    /// Syncs of files that have failed.
    failed_syncs: u64,
    files: Vec<Inode>,
    is_crashed: bool,
    /// Whether the directory has been removed.
    is_gone: bool,
    /// Whether another process has it then.
    is_taken: bool,
    names: BTreeMap<String, usize>,
    points: u64,
    rng: Rng,
    trace: String,
    weather: Weather,
}

#[derive(Debug, Default)]
struct Inode {
    /// What is read.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What is between them.
    changes: Vec<Change>,
    name: String,
}

#[derive(Clone, Debug)]
enum Change {
    Len(usize),
    Write { at: usize, bytes: Vec<u8> },
}

#[derive(Clone, Debug)]
enum DirChange {
    /// The file gets this name, and has no other.
    Named(String, usize),
    Removed(String),
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

fn write(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Len(len) => to.resize(*len, 0),
            Self::Write { at, bytes } => write(to, *at, bytes),
        }
    }

    /// What a power cut leaves of it.
    fn apply_some(&self, to: &mut Vec<u8>, rng: &mut Rng) {
        match (rng.u64(..6), self) {
            (0 | 1, _) => {}
            (2, Self::Write { at, bytes }) => {
                write(to, *at, &bytes[..rng.usize(..=bytes.len())]);
            }
            (3, Self::Write { at, bytes }) => {
                let mut from = *at;
                while from < at + bytes.len() {
                    let end = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
                    if rng.bool() {
                        write(to, from, &bytes[from - at..end - at]);
                    }
                    from = end;
                }
            }
            _ => self.apply(to),
        }
    }
}

impl DirChange {
    fn apply(&self, to: &mut BTreeMap<String, usize>) {
        match self {
            Self::Named(name, inode) => {
                to.retain(|_, other| other != inode);
                to.insert(name.clone(), *inode);
            }
            Self::Removed(name) => drop(to.remove(name)),
        }
    }
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            crash_at: None,
            changes: Vec::new(),
            durable: BTreeMap::new(),
            broken: String::new(),
            failed: BTreeSet::new(),
            failed_syncs: 0,
            files: Vec::new(),
            is_crashed: false,
            is_gone: false,
            is_taken: false,
            names: BTreeMap::new(),
            points: 0,
            rng: Rng::with_seed(seed),
            trace: String::new(),
            weather: Weather::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Lets the process end when so many more points have been passed.
    pub(super) fn crash_in(&self, points: u64) {
        let mut disk = self.lock();
        disk.crash_at = Some(disk.points + points);
    }

    /// Takes back what [`crash_in`](Self::crash_in) has set.
    pub(super) fn crash_never(&self) {
        self.lock().crash_at = None;
    }

    pub(super) fn is_crashed(&self) -> bool {
        self.lock().is_crashed
    }

    /// Syncs of files that have failed so far.
    pub(super) fn failed_syncs(&self) -> u64 {
        self.lock().failed_syncs
    }

    /// Points at which a crash could have come so far.
    pub(super) fn points(&self) -> u64 {
        self.lock().points
    }

    /// Removes the directory.
    pub(super) fn remove_directory(&self) {
        let mut disk = self.lock();
        disk.names.clear();
        disk.durable.clear();
        disk.changes.clear();
        disk.is_gone = true;
    }

    /// Removes the directory, and another process makes one of its own.
    pub(super) fn take_directory(&self) {
        self.remove_directory();
        self.lock().is_taken = true;
    }

    /// From now on the file `name` cannot be opened.
    pub(super) fn break_file(&self, name: &str) {
        name.clone_into(&mut self.lock().broken);
    }

    /// True where another process has the directory.
    pub(super) fn is_taken(&self) -> bool {
        self.lock().is_taken
    }

    /// Puts a file into the directory that is not of the journal.
    pub(super) fn plant(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.lock();
        if disk.names.contains_key(name) {
            return;
        }
        let bytes = bytes.to_vec();
        let (durable, name) = (bytes.clone(), name.to_owned());
        disk.files.push(Inode { bytes, durable, changes: Vec::new(), name: name.clone() });
        let inode = disk.files.len() - 1;
        disk.names.insert(name.clone(), inode);
        disk.durable.insert(name, inode);
    }

    /// Names of the files on which something has failed since this was asked last.
    pub(super) fn take_failed(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().failed)
    }

    /// What the program has done since this was asked last.
    pub(super) fn take_trace(&self) -> String {
        std::mem::take(&mut self.lock().trace)
    }

    /// The names of all files, with what is in them.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.lock();
        let names = disk.names.iter();
        names.map(|(name, inode)| (name.clone(), disk.files[*inode].bytes.clone())).collect()
    }

    /// Makes the disk what it is for the next process.
    pub(super) fn restart(&self, crash: Crash) {
        let mut disk = self.lock();
        let disk = &mut *disk;
        disk.is_crashed = false;
        disk.crash_at = None;
        disk.is_gone = false;
        if std::mem::take(&mut disk.is_taken) {
            // The other process ends, and its directory with it.
            assert!(disk.names.is_empty() && disk.durable.is_empty(), "of another: {disk:?}");
        }
        if crash == Crash::Kill {
            return;
        }
        // All or nothing is as likely as something in between.
        let mode = disk.rng.u64(..4);
        for inode in &mut disk.files {
            for change in inode.changes.drain(..) {
                match mode {
                    0 => {}
                    1 => change.apply(&mut inode.durable),
                    _ => change.apply_some(&mut inode.durable, &mut disk.rng),
                }
            }
            inode.bytes.clone_from(&inode.durable);
        }
        let mode = disk.rng.u64(..4);
        for change in disk.changes.drain(..) {
            if mode == 1 || (mode > 1 && disk.rng.bool()) {
                change.apply(&mut disk.durable);
            }
        }
        disk.names.clone_from(&disk.durable);
    }
}

impl Disk {
    /// Passes a point at which the process may end.
    fn point(&mut self) -> io::Result<()> {
        if !self.is_crashed {
            self.is_crashed = self.crash_at == Some(self.points);
            self.points += 1;
            if self.is_crashed {
                self.trace.push_str("    *crash*\n");
            }
        }
        if self.is_crashed { Err(io::Error::other("the process has ended")) } else { Ok(()) }
    }

    /// Begins an operation on the file called `name`: false where it is to fail.
    fn begin(&mut self, op: Op, name: &str, what: u64) -> io::Result<bool> {
        // Before a read is as good as before the next change.
        match op {
            Op::Read if self.is_crashed => return Err(broken()),
            Op::Read => {}
            _ => self.point()?,
        }
        let is_fault = self.weather.is_read_only && op != Op::Read
            || self.rng.u64(..256) < self.weather.chances[op as usize];
        if op != Op::Read {
            let outcome = if is_fault { " FAILS" } else { "" };
            let _ = writeln!(self.trace, "    {op:?} {name} {what}{outcome}");
        }
        if is_fault && op != Op::Read {
            self.failed.insert(name.to_owned());
        }
        Ok(!is_fault)
    }

    fn change(&mut self, inode: usize, change: Change) {
        let inode = &mut self.files[inode];
        change.apply(&mut inode.bytes);
        inode.changes.push(change);
    }

    fn change_dir(&mut self, change: DirChange) {
        change.apply(&mut self.names);
        if let DirChange::Named(name, inode) = &change {
            self.files[*inode].name.clone_from(name);
        }
        self.changes.push(change);
    }

    fn sync_file(&mut self, inode: usize) {
        let inode = &mut self.files[inode];
        for change in inode.changes.drain(..) {
            change.apply(&mut inode.durable);
        }
    }
}

/// A full disk, a quota, or a limit on the size of files.
fn no_room(rng: &mut Rng) -> io::Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    [FileTooLarge, QuotaExceeded, StorageFull][rng.usize(..3)].into()
}

fn broken() -> io::Error {
    io::Error::other("the disk is broken")
}

impl Storage for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut disk = self.lock();
        match disk.begin(Op::Read, "", 0)? {
            true => Ok(disk.names.keys().cloned().collect()),
            false => Err(broken()),
        }
    }

    fn is_ours(&self) -> io::Result<()> {
        let disk = self.lock();
        if disk.is_gone || disk.is_taken { Err(lost()) } else { Ok(()) }
    }

    fn owns(&self, name: &str) -> io::Result<bool> {
        self.is_ours()?;
        Ok(self.lock().names.contains_key(name))
    }

    fn create(&self, name: &str, room: Room) -> io::Result<Arc<dyn Stored>> {
        let mut disk = self.lock();
        let len = match room {
            Room::Grow => 0,
            Room::Reserve(len) | Room::Zero(len) => len,
        };
        if !disk.begin(Op::Create, name, len)? {
            return Err(no_room(&mut disk.rng));
        }
        if disk.is_taken {
            return Err(lost());
        }
        disk.is_gone = false;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.files.push(Inode::default());
        let inode = disk.files.len() - 1;
        disk.change_dir(DirChange::Named(name.to_owned(), inode));
        if room != Room::Grow {
            // Named, and without its room.
            disk.point()?;
            disk.change(inode, Change::Len(len as usize));
        }
        if matches!(room, Room::Zero(_)) {
            disk.sync_file(inode);
        }
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let mut disk = self.lock();
        let is_healthy = disk.begin(Op::Read, name, 0)? && disk.broken != name;
        match (is_healthy, disk.names.get(name)) {
            (true, Some(inode)) => Ok(Arc::new(SimFile { disk: self.clone(), inode: *inode })),
            (true, None) => Err(io::ErrorKind::NotFound.into()),
            (false, _) => Err(broken()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.lock();
        if !disk.begin(Op::Rename, &format!("{from} to {to}"), 0)? {
            return Err(broken());
        }
        if disk.is_taken {
            return Err(lost());
        }
        let inode = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if disk.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.change_dir(DirChange::Named(to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.lock();
        if !disk.begin(Op::Remove, name, 0)? {
            return Err(broken());
        }
        if disk.names.contains_key(name) {
            disk.change_dir(DirChange::Removed(name.to_owned()));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.lock();
        let disk = &mut *disk;
        if !disk.begin(Op::SyncDir, "", 0)? {
            return Err(broken());
        }
        if disk.is_gone || disk.is_taken {
            return Err(lost());
        }
        for change in disk.changes.drain(..) {
            change.apply(&mut disk.durable);
        }
        Ok(())
    }
}

impl Stored for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut disk = self.disk.lock();
        match disk.begin(Op::Read, "", 0)? {
            true => Ok(disk.files[self.inode].bytes.len() as u64),
            false => Err(broken()),
        }
    }

    fn is_linked(&self) -> bool {
        self.disk.lock().names.values().any(|inode| *inode == self.inode)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        if !disk.begin(Op::Read, "", 0)? {
            return Err(broken());
        }
        let bytes = disk.files[self.inode].bytes.get(offset as usize..).unwrap_or_default();
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let disk = &mut *disk;
        let name = disk.files[self.inode].name.clone();
        if disk.begin(Op::Sync, &name, 0)? {
            disk.sync_file(self.inode);
            return Ok(());
        }
        disk.failed_syncs += 1;
        // What was not written is forgotten: the next sync does not try it again.
        let inode = &mut disk.files[self.inode];
        for change in inode.changes.drain(..) {
            change.apply_some(&mut inode.durable, &mut disk.rng);
        }
        Err(broken())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let name = disk.files[self.inode].name.clone();
        if !disk.begin(Op::Truncate, &name, len)? {
            return Err(broken());
        }
        disk.change(self.inode, Change::Len(len as usize));
        Ok(())
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut disk = self.disk.lock();
        let name = disk.files[self.inode].name.clone();
        let is_whole = disk.begin(Op::Write, &name, offset)?;
        let some = disk.rng.usize(..=bytes.len());
        let at = offset as usize;
        let part = || Change::Write { at, bytes: bytes[..some].to_vec() };
        if let Err(end) = disk.point() {
            disk.change(self.inode, part());
            return Err(end);
        }
        if !is_whole {
            disk.change(self.inode, part());
            let is_full = disk.rng.bool();
            return Err(if is_full { no_room(&mut disk.rng) } else { broken() });
        }
        disk.change(self.inode, Change::Write { at, bytes });
        Ok(())
    }
}
