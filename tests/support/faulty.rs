//! A disk that fails as it is told, and whose power can be cut: a file system in memory, spoken to
//! by the kernel (FUSE).
//!
//! It keeps what a program sees apart from what is on the disk. A sync brings the one to the other;
//! a sync that fails does not, and the kernel forgets then that there was something to bring, so
//! the next one says that all is well. Names are on the disk once their directory was synced. A
//! power cut leaves what is on the disk and, as it happens, some of the pages and the first of the
//! names that were on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use libc::{EEXIST, EINVAL, EIO, ENOENT, ENOSYS, ENOTEMPTY, EROFS};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{chance::Chance, disk::skip};

const PAGE: usize = 4096;
/// The longest write that the kernel may send at once.
const MAX_WRITE: usize = 1 << 20;
const ROOT: u64 = 1;
/// What the kernel may keep for ever, since nothing else changes the files.
const FOR_EVER: u64 = 1 << 30;

/// The disk, and its file system while it is mounted.
pub(crate) struct Faulty {
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

/// What is on the disk, and what is on its way.
struct State {
    nodes: BTreeMap<u64, Node>,
    /// Syncs that fail from now on, of files whose names end so.
    failing_syncs: (usize, &'static str),
    is_read_only: bool,
}

struct Node {
    mode: u32,
    body: Body,
}

enum Body {
    Directory(Directory),
    File(Content),
}

#[derive(Default)]
struct Directory {
    names: BTreeMap<String, u64>,
    on_disk: BTreeMap<String, u64>,
    /// Changes that are not on the disk, in their order: a name, and what it means from then on.
    pending: Vec<Vec<(String, Option<u64>)>>,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    on_disk: Vec<u8>,
    /// Pages that a sync is to bring to the disk.
    dirty: BTreeSet<usize>,
    /// Whether the length is on its way.
    is_resized: bool,
}

impl Faulty {
    /// An empty disk, mounted; `None`, which has been said, where there is no FUSE.
    pub(crate) fn new() -> Option<Self> {
        let root =
            Node { mode: libc::S_IFDIR | 0o700, body: Body::Directory(Directory::default()) };
        let state =
            State { nodes: [(ROOT, root)].into(), failing_syncs: (0, ""), is_read_only: false };
        let dir = tempfile::tempdir().unwrap();
        let disk = Self { dir, state: Arc::new(Mutex::new(state)) };
        disk.mount().then_some(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the next `count` syncs fail of files whose names end with `ending`.
    pub(crate) fn fail_syncs(&self, count: usize, ending: &'static str) {
        self.state().failing_syncs = (count, ending);
    }

    /// How many of these syncs are still to come.
    pub(crate) fn failing_syncs(&self) -> usize {
        self.state().failing_syncs.0
    }

    /// Refuses every change, or takes them again. Open files are no exception.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    /// Whether all files that are meant are on the disk, with their names.
    pub(crate) fn has(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        let state = self.state();
        let is_on_disk = |node| match state.nodes.get(node).map(|node| &node.body) {
            Some(Body::File(content)) => content.dirty.is_empty() && !content.is_resized,
            _ => true,
        };
        state.nodes.values().all(|node| match &node.body {
            Body::Directory(directory) => {
                directory.names.iter().filter(|(name, _)| is_meant(name)).all(|(name, node)| {
                    directory.on_disk.get(name) == Some(node) && is_on_disk(node)
                })
            }
            Body::File(_) => true,
        })
    }

    /// Cuts the power and mounts what is left. No process may use it.
    pub(crate) fn cut_power(&self, chance: &mut Chance) {
        unmount(self.path(), UnmountFlags::empty()).unwrap();
        self.state().cut_power(chance);
        assert!(self.mount());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn mount(&self) -> bool {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let mounted = device.and_then(|device| {
            let fd = device.as_raw_fd();
            let options = format!("fd={fd},rootmode=40700,user_id=0,group_id=0");
            let options = CString::new(options).unwrap();
            mount("faulty", self.path(), c"fuse", MountFlags::empty(), &*options)?;
            Ok(device)
        });
        match mounted {
            Err(error) => {
                skip(&format!("no FUSE: {error}"));
                false
            }
            Ok(device) => {
                let state = Arc::clone(&self.state);
                thread::spawn(move || serve(device, &state));
                true
            }
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

impl State {
    fn cut_power(&mut self, chance: &mut Chance) {
        for node in self.nodes.values_mut() {
            match &mut node.body {
                Body::Directory(directory) => {
                    let reached = chance.between(0, directory.pending.len() as u64) as usize;
                    for change in directory.pending.drain(..).take(reached) {
                        apply(&mut directory.on_disk, change);
                    }
                    directory.pending.clear();
                    directory.names = directory.on_disk.clone();
                }
                Body::File(content) => {
                    if content.is_resized && chance.between(0, 1) == 1 {
                        content.on_disk.resize(content.bytes.len(), 0);
                    }
                    for page in std::mem::take(&mut content.dirty) {
                        if chance.between(0, 1) == 1 {
                            content.write_back(page);
                        }
                    }
                    content.is_resized = false;
                    content.bytes = content.on_disk.clone();
                }
            }
        }
        // What no name leads to any more is gone.
        let mut known = BTreeSet::from([ROOT]);
        let mut new = vec![ROOT];
        while let Some(node) = new.pop() {
            if let Some(Body::Directory(directory)) = self.nodes.get(&node).map(|node| &node.body) {
                new.extend(directory.names.values().filter(|node| known.insert(**node)));
            }
        }
        self.nodes.retain(|node, _| known.contains(node));
    }

    fn directory(&mut self, node: u64) -> Result<&mut Directory, i32> {
        match self.nodes.get_mut(&node).map(|node| &mut node.body) {
            Some(Body::Directory(directory)) => Ok(directory),
            _ => Err(ENOENT),
        }
    }

    fn content(&mut self, node: u64) -> Result<&mut Content, i32> {
        match self.nodes.get_mut(&node).map(|node| &mut node.body) {
            Some(Body::File(content)) => Ok(content),
            _ => Err(ENOENT),
        }
    }

    fn find(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        self.directory(parent)?.names.get(name).copied().ok_or(ENOENT)
    }

    /// Makes a node and its name.
    fn make(&mut self, parent: u64, name: String, mode: u32, body: Body) -> Result<u64, i32> {
        let number = self.nodes.keys().last().map_or(ROOT, |last| last + 1);
        let directory = self.directory(parent)?;
        if directory.names.contains_key(&name) {
            return Err(EEXIST);
        }
        directory.change(vec![(name, Some(number))]);
        self.nodes.insert(number, Node { mode, body });
        Ok(number)
    }

    fn rename(&mut self, from: (u64, String), to: (u64, String)) -> Result<(), i32> {
        let node = self.find(from.0, &from.1)?;
        if from.0 == to.0 {
            // All or nothing.
            self.directory(from.0)?.change(vec![(from.1, None), (to.1, Some(node))]);
        } else {
            self.directory(to.0)?.change(vec![(to.1, Some(node))]);
            self.directory(from.0)?.change(vec![(from.1, None)]);
        }
        Ok(())
    }

    fn sync(&mut self, node: u64) -> Result<(), i32> {
        let (left, ending) = self.failing_syncs;
        let fails = left > 0 && self.is_called(node, ending);
        self.failing_syncs.0 -= usize::from(fails);
        match &mut self.nodes.get_mut(&node).ok_or(ENOENT)?.body {
            Body::Directory(directory) if !fails => {
                for change in std::mem::take(&mut directory.pending) {
                    apply(&mut directory.on_disk, change);
                }
            }
            Body::Directory(_) => {}
            Body::File(content) => {
                let dirty = std::mem::take(&mut content.dirty);
                content.is_resized = false;
                if !fails {
                    content.on_disk.resize(content.bytes.len(), 0);
                    dirty.into_iter().for_each(|page| content.write_back(page));
                }
            }
        }
        if fails { Err(EIO) } else { Ok(()) }
    }

    /// Whether some name of a node ends so.
    fn is_called(&self, number: u64, ending: &str) -> bool {
        self.nodes.values().any(|node| match &node.body {
            Body::Directory(directory) => directory
                .names
                .iter()
                .any(|(name, named)| *named == number && name.ends_with(ending)),
            Body::File(_) => false,
        })
    }

    fn attributes(&self, number: u64) -> Result<Vec<u8>, i32> {
        let node = self.nodes.get(&number).ok_or(ENOENT)?;
        let len = match &node.body {
            Body::Directory(_) => 0,
            Body::File(content) => content.bytes.len() as u64,
        };
        let is_named = |node: &Node| match &node.body {
            Body::Directory(directory) => directory.names.values().any(|named| *named == number),
            Body::File(_) => false,
        };
        let links = u32::from(number == ROOT || self.nodes.values().any(is_named));
        let mut out = Out::default();
        out.u64(number).u64(len).u64(len.div_ceil(512)).u64(0).u64(0).u64(0);
        out.u32(0).u32(0).u32(0).u32(node.mode).u32(links);
        out.u32(0).u32(0).u32(0).u32(PAGE as u32).u32(0);
        Ok(out.0)
    }

    /// What the kernel wants to know of a node that it has asked for by name.
    fn entry(&self, number: u64) -> Result<Vec<u8>, i32> {
        let mut out = Out::default();
        out.u64(number).u64(0).u64(FOR_EVER).u64(0).u32(0).u32(0);
        out.0.extend(self.attributes(number)?);
        Ok(out.0)
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: Vec<(String, Option<u64>)>) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name, node),
            None => names.remove(&name),
        };
    }
}

impl Directory {
    fn change(&mut self, change: Vec<(String, Option<u64>)>) {
        apply(&mut self.names, change.clone());
        self.pending.push(change);
    }
}

impl Content {
    fn resize(&mut self, len: usize) {
        if len != self.bytes.len() {
            // Behind the shorter end are zeros from now on, whatever was there once.
            let changed = len.min(self.bytes.len()) / PAGE;
            self.bytes.resize(len, 0);
            self.dirty.retain(|page| page * PAGE < len);
            self.dirty.extend(changed..len.div_ceil(PAGE));
            self.is_resized = true;
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            self.resize(end);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / PAGE..end.div_ceil(PAGE));
    }

    /// Brings a page to the disk, as far as the file's length there reaches.
    fn write_back(&mut self, page: usize) {
        let end = ((page + 1) * PAGE).min(self.bytes.len()).min(self.on_disk.len());
        if page * PAGE < end {
            self.on_disk[page * PAGE..end].copy_from_slice(&self.bytes[page * PAGE..end]);
        }
    }
}

/// Answers the kernel until it is unmounted.
fn serve(mut device: File, state: &Mutex<State>) {
    let mut buffer = vec![0; MAX_WRITE + 2 * PAGE];
    // It ends with an error.
    while let Ok(length) = device.read(&mut buffer) {
        let request = In(&buffer[..length]);
        let (opcode, unique, node) = (request.u32(4), request.u64(8), request.u64(16));
        let outcome = answer(&mut state.lock().unwrap(), opcode, node, &In(&request.0[40..]));
        let Some(outcome) = outcome.transpose() else { continue };
        let (error, body) = match outcome {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut out = Out::default();
        out.u32(16 + body.len() as u32).u32(error.cast_unsigned()).u64(unique);
        out.0.extend(body);
        // Who has asked may be gone.
        let _ = device.write(&out.0);
    }
}

/// The operations, by their numbers in linux/fuse.h.
fn answer(
    state: &mut State,
    opcode: u32,
    node: u64,
    body: &In<'_>,
) -> Result<Option<Vec<u8>>, i32> {
    let open = || {
        let mut out = Out::default();
        out.u64(0).u32(0).u32(0);
        out.0
    };
    // SETATTR, MKDIR, UNLINK, RMDIR, RENAME, WRITE, CREATE, FALLOCATE, RENAME2.
    if state.is_read_only && [4, 9, 10, 11, 12, 16, 35, 43, 45].contains(&opcode) {
        return Err(EROFS);
    }
    let out = match opcode {
        // LOOKUP
        1 => {
            let found = state.find(node, &body.name(0))?;
            state.entry(found)?
        }
        // FORGET, INTERRUPT, BATCH_FORGET: no answer is expected.
        2 | 36 | 42 => return Ok(None),
        // GETATTR
        3 => attributes_out(&state.attributes(node)?),
        // SETATTR: of the mode, of the size
        4 => {
            if body.u32(0) & 1 != 0
                && let Some(node) = state.nodes.get_mut(&node)
            {
                node.mode = node.mode & libc::S_IFMT | body.u32(68) & 0o7777;
            }
            if body.u32(0) & 8 != 0 {
                state.content(node)?.resize(body.u64(16) as usize);
            }
            attributes_out(&state.attributes(node)?)
        }
        // MKDIR
        9 => {
            let mode = libc::S_IFDIR | body.u32(0) & !body.u32(4) & 0o7777;
            let directory = Body::Directory(Directory::default());
            let made = state.make(node, body.name(8), mode, directory)?;
            state.entry(made)?
        }
        // UNLINK, RMDIR
        10 | 11 => {
            let found = state.find(node, &body.name(0))?;
            if state.directory(found).is_ok_and(|directory| !directory.names.is_empty()) {
                return Err(ENOTEMPTY);
            }
            state.directory(node)?.change(vec![(body.name(0), None)]);
            Vec::new()
        }
        // RENAME, RENAME2
        12 | 45 => {
            let start = if opcode == 12 { 8 } else { 16 };
            if opcode == 45 && body.u32(8) != 0 {
                return Err(EINVAL);
            }
            let from = body.name(start);
            let to = body.name(start + from.len() + 1);
            state.rename((node, from), (body.u64(0), to))?;
            Vec::new()
        }
        // OPEN, OPENDIR
        14 | 27 => open(),
        // READ
        15 => {
            let content = state.content(node)?;
            let start = (body.u64(8) as usize).min(content.bytes.len());
            let end = (start + body.u32(16) as usize).min(content.bytes.len());
            content.bytes[start..end].to_vec()
        }
        // WRITE
        16 => {
            let length = body.u32(16);
            let bytes = &body.0[40..40 + length as usize];
            state.content(node)?.write(body.u64(8) as usize, bytes);
            let mut out = Out::default();
            out.u32(length).u32(0);
            out.0
        }
        // STATFS
        17 => {
            let mut out = Out::default();
            out.u64(1 << 20).u64(1 << 20).u64(1 << 20).u64(1 << 20).u64(1 << 20);
            out.u32(PAGE as u32).u32(255).u32(PAGE as u32).u32(0);
            out.0.extend([0; 24]);
            out.0
        }
        // RELEASE, FLUSH, RELEASEDIR
        18 | 25 | 29 => Vec::new(),
        // FSYNC, FSYNCDIR
        20 | 30 => {
            state.sync(node)?;
            Vec::new()
        }
        // INIT
        26 => {
            // Version 7.31: writes of many pages.
            let mut out = Out::default();
            out.u32(7).u32(31).u32(body.u32(8)).u32(1 << 5 | 1 << 22).u32(0);
            out.u32(MAX_WRITE as u32).u32(1).u32((MAX_WRITE / PAGE) as u32).u32(0);
            out.0.resize(64, 0);
            out.0
        }
        // READDIR
        28 => {
            let start = body.u64(8) as usize;
            let most = body.u32(16) as usize;
            let mut out = Out::default();
            for (index, (name, number)) in state.directory(node)?.names.iter().enumerate() {
                if index >= start && out.0.len() + 24 + name.len().next_multiple_of(8) <= most {
                    out.u64(*number).u64(index as u64 + 1).u32(name.len() as u32).u32(0);
                    out.0.extend(name.bytes());
                    out.0.resize(out.0.len().next_multiple_of(8), 0);
                }
            }
            out.0
        }
        // CREATE
        35 => {
            let mode = libc::S_IFREG | body.u32(4) & !body.u32(8) & 0o7777;
            let made = state.make(node, body.name(16), mode, Body::File(Content::default()))?;
            [state.entry(made)?, open()].concat()
        }
        // FALLOCATE: room that reads as zeros
        43 if body.u32(24) == 0 => {
            let content = state.content(node)?;
            let end = (body.u64(8) + body.u64(16)) as usize;
            content.resize(end.max(content.bytes.len()));
            Vec::new()
        }
        43 => return Err(libc::EOPNOTSUPP),
        _ => return Err(ENOSYS),
    };
    Ok(Some(out))
}

fn attributes_out(attributes: &[u8]) -> Vec<u8> {
    // They are asked for each time: a removed file has to be seen to be removed.
    let mut out = Out::default();
    out.u64(0).u32(0).u32(0);
    out.0.extend(attributes);
    out.0
}

/// A part of a request.
struct In<'a>(&'a [u8]);

impl In<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// The name from `at` on.
    fn name(&self, at: usize) -> String {
        let bytes = self.0[at..].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

/// A part of an answer.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend(number.to_ne_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_ne_bytes());
        self
    }
}
