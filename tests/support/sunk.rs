//! What a sink has got from servers that were killed, one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
};

use loadtest::{ChatKey, Expected, PayloadOptions, chat_of};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;

use super::PATIENCE;

/// Updates that a worker gives to a sink at once, at the most: so many may come twice for each
/// worker that is killed, because what a sink did with its last batch is unknown.
pub(crate) const BATCH: usize = 128;

/// The lines that a sink has got, life by life of the server.
#[derive(Default)]
pub(crate) struct Sunk {
    lives: Vec<Vec<Vec<u8>>>,
    /// Lines that a kill has torn, at the end of their lives.
    pub(crate) torn: usize,
}

impl Sunk {
    /// Takes what a server wrote in one life. If it was killed in the middle of a line, the rest of
    /// which will not come, that line does not count.
    pub(crate) fn add(&mut self, written: &[u8]) {
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (whole, torn) = written.split_at(whole);
        self.torn += usize::from(!torn.is_empty());
        let lines = whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        self.lives.push(lines.collect());
    }

    /// The different updates so far.
    #[track_caller]
    pub(crate) fn updates(&self) -> BTreeSet<u64> {
        self.ids().into_iter().flatten().collect()
    }

    /// The ids of each life, in the order in which they came.
    #[track_caller]
    pub(crate) fn ids(&self) -> Vec<Vec<u64>> {
        self.lives.iter().map(|life| life.iter().map(|line| id_of(line)).collect()).collect()
    }

    /// Asserts that all that is expected is there, unaltered; each chat in its order and nothing
    /// twice within a life; and nothing twice over the lives but what `workers` workers can have
    /// had in their hands when they were killed. For each life, how many updates came again after
    /// it.
    #[track_caller]
    pub(crate) fn check(&self, expected: Expected, workers: usize) -> Vec<usize> {
        let expected = Expected { once: false, ..expected };
        assert!(expected.ordered, "only a run that sends again keeps an order");
        let all = self.lives.iter().flatten().flatten().copied().collect::<Vec<u8>>();
        let verified = loadtest::verify(&expected, &*all).unwrap();
        assert!(verified.ok, "{verified}");
        self.check_doubles(&expected.payload, workers)
    }

    /// As [`check`](Self::check), but for whether it is all that was sent.
    #[track_caller]
    pub(crate) fn check_doubles(&self, payload: &PayloadOptions, workers: usize) -> Vec<usize> {
        let lives = self.ids();
        // Each update's last life so far.
        let mut last = BTreeMap::new();
        let mut again = vec![BTreeSet::new(); lives.len()];
        for (life, ids) in lives.iter().enumerate() {
            let mut newest: BTreeMap<ChatKey, u64> = BTreeMap::new();
            for id in ids {
                let chat = chat_of(payload, *id);
                if let Some(before) = newest.insert(chat, *id) {
                    assert!(before < *id, "life {life}, {chat:?}: {id} comes after {before}");
                }
                if let Some(before) = last.insert(*id, life) {
                    again[before].insert(*id);
                }
            }
        }
        for (life, again) in again.iter().enumerate() {
            let most = workers.saturating_mul(BATCH);
            let count = again.len();
            assert!(count <= most, "after life {life}, {count} come again: {again:?}");
            // One worker does one batch after the other, so it can only be the last.
            let settled = lives[life].len().saturating_sub(BATCH);
            let early = lives[life].iter().take(settled).find(|id| again.contains(id));
            assert!(workers > 1 || early.is_none(), "{early:?} comes again after life {life}");
        }
        again.iter().map(BTreeSet::len).collect()
    }
}

#[derive(Deserialize)]
struct Line {
    update_id: u64,
}

#[track_caller]
fn id_of(line: &[u8]) -> u64 {
    match serde_json::from_slice::<Line>(line) {
        Ok(line) => line.update_id,
        Err(error) => panic!("not a line of its own: {error}: {}", String::from_utf8_lossy(line)),
    }
}

/// A file that servers append to, one after the other.
pub(crate) struct SinkFile {
    path: PathBuf,
    /// Where the lines of this life begin, or what a kill has left of a line before it.
    start: u64,
    torn: Vec<u8>,
    /// What this life has written so far, behind what was torn.
    written: Vec<u8>,
    lines: usize,
}

impl SinkFile {
    pub(crate) fn at(path: &Path) -> Self {
        let path = path.to_owned();
        Self { path, start: 0, torn: Vec::new(), written: Vec::new(), lines: 0 }
    }

    /// Lines in this life so far.
    pub(crate) fn lines(&mut self) -> usize {
        let known = self.written.len();
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => {
                let mut file = file.unwrap();
                file.seek(SeekFrom::Start(self.start + known as u64)).unwrap();
                file.read_to_end(&mut self.written).unwrap();
            }
        }
        self.lines += self.written[known..].iter().filter(|byte| **byte == b'\n').count();
        self.lines
    }

    /// Hands over what a server wrote that is no more.
    ///
    /// The half of a line that it may have left behind belongs to no line of the next server: that
    /// one either ends it with a line feed, so that it can be told apart, or takes it away. It must
    /// not go on behind it, which would spoil a whole line as well, for good.
    pub(crate) fn end_life(&mut self, sunk: &mut Sunk) {
        self.lines();
        let mut written = &self.written[..];
        let ended = [&self.torn[..], b"\n"].concat();
        if !self.torn.is_empty() && written.starts_with(&ended) {
            written = &written[ended.len()..];
        } else if written == self.torn {
            // It has written nothing.
            written = &[];
        }
        sunk.add(written);
        let whole = self.written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.start += whole as u64;
        self.torn = self.written.split_off(whole);
        self.written.clear();
        self.lines = 0;
    }
}

/// The reading end of a server's standard output: nothing flows but what the test takes.
pub(crate) struct Tap {
    reader: io::PipeReader,
    written: Vec<u8>,
    /// The ids of the whole lines in it, and where the last of these ends.
    ids: Vec<u64>,
    end: usize,
}

impl Tap {
    /// A pipe: this end, and the other for a server.
    pub(crate) fn new() -> (Self, Stdio) {
        let (reader, writer) = io::pipe().unwrap();
        (Self { reader, written: Vec::new(), ids: Vec::new(), end: 0 }, writer.into())
    }

    /// Takes lines until there are `count` since the beginning.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) {
        while self.ids.len() < count {
            assert!(self.take_some(), "the server ends with {} of {count} lines", self.ids.len());
        }
    }

    /// Takes lines until there are all of `updates` that no earlier life has written.
    #[track_caller]
    pub(crate) fn take_all(&mut self, updates: &BTreeSet<u64>, earlier: &Sunk) {
        let mut missing = updates - &earlier.updates();
        let mut seen = 0;
        loop {
            for id in &self.ids[seen..] {
                missing.remove(id);
            }
            seen = self.ids.len();
            if missing.is_empty() {
                return;
            }
            assert!(self.take_some(), "the server ends without {missing:?}");
        }
    }

    /// Takes all that is left of a server that ends, and hands over what it wrote.
    #[track_caller]
    pub(crate) fn end_life(mut self, sunk: &mut Sunk) {
        while self.take_some() {}
        sunk.add(&self.written);
    }

    /// Takes a little; false at the end.
    #[track_caller]
    fn take_some(&mut self) -> bool {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let ready = poll(&mut [PollFd::new(&self.reader, PollFlags::IN)], Some(&patience)).unwrap();
        assert!(ready > 0, "no line, and no end, for {PATIENCE:?}");
        let mut chunk = [0; 4096];
        let n = self.reader.read(&mut chunk).unwrap();
        self.written.extend_from_slice(&chunk[..n]);
        while let Some(length) = self.written[self.end..].iter().position(|byte| *byte == b'\n') {
            self.ids.push(id_of(&self.written[self.end..self.end + length]));
            self.end += length + 1;
        }
        n > 0
    }
}
