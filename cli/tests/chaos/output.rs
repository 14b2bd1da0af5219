//! The file that servers put updates out to, followed as a reader follows it that rotates it.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::ledger::Lines;

/// An output file, what it was renamed to before, and what has come so far.
pub(crate) struct Output {
    pub(crate) path: PathBuf,
    pub(crate) lines: Lines,
    /// Where the file that has the name is read on.
    offset: u64,
    /// Files that had the name, the oldest first.
    moved: Vec<Moved>,
    count: u32,
}

struct Moved {
    path: PathBuf,
    offset: u64,
    /// Where it ended when it was removed: what comes behind that is in no file that
    /// another program could read.
    end: u64,
}

/// A line, with an update by itself or in something that tells its bot.
#[derive(Deserialize)]
struct Line {
    update_id: Option<i64>,
    update: Option<Id>,
}

#[derive(Deserialize)]
struct Id {
    update_id: i64,
}

impl Output {
    pub(crate) fn at(path: &Path) -> Self {
        let lines = Lines::default();
        Self { path: path.to_owned(), lines, offset: 0, moved: Vec::new(), count: 0 }
    }

    /// Takes what has come; how many lines there are by now.
    pub(crate) fn look(&mut self) -> usize {
        for moved in &mut self.moved {
            read_on(&moved.path, &mut moved.offset, moved.end, &mut self.lines);
        }
        read_on(&self.path, &mut self.offset, u64::MAX, &mut self.lines);
        self.lines.len()
    }

    /// Gives the file another name.
    pub(crate) fn rename(&mut self) {
        let to = self.next_name();
        if fs::rename(&self.path, &to).is_ok() {
            self.forget(to, None);
        }
    }

    /// Removes the file. Its lines up to then count; later ones do not.
    pub(crate) fn remove(&mut self) {
        let kept = self.next_name();
        if fs::hard_link(&self.path, &kept).is_ok() {
            fs::remove_file(&self.path).unwrap();
            let end = fs::metadata(&kept).unwrap().len();
            self.forget(kept, Some(end));
        }
    }

    /// Takes the room back of what was read; nothing may be written meanwhile.
    pub(crate) fn tidy(&mut self) {
        self.look();
        for moved in self.moved.drain(..) {
            fs::remove_file(&moved.path).unwrap();
        }
        let Ok(file) = File::options().write(true).open(&self.path) else { return };
        if file.metadata().unwrap().len() == self.offset {
            file.set_len(0).unwrap();
            self.offset = 0;
        }
    }

    fn next_name(&mut self) -> PathBuf {
        self.count += 1;
        self.path.with_extension(self.count.to_string())
    }

    fn forget(&mut self, path: PathBuf, end: Option<u64>) {
        self.moved.push(Moved { path, offset: self.offset, end: end.unwrap_or(u64::MAX) });
        self.offset = 0;
    }
}

/// Takes the whole lines of a file from `offset` up to `end`.
fn read_on(path: &Path, offset: &mut u64, end: u64, lines: &mut Lines) {
    let Ok(mut file) = File::open(path) else { return };
    let length = file.metadata().unwrap().len().min(end);
    assert!(length >= *offset, "{} has been cut", path.display());
    file.seek(SeekFrom::Start(*offset)).unwrap();
    let mut text = Vec::new();
    file.take(length - *offset).read_to_end(&mut text).unwrap();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    *offset += whole as u64;
    for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = serde_json::from_slice::<Line>(line).ok();
        let id = line.and_then(|line| line.update_id.or(line.update.map(|it| it.update_id)));
        match id {
            Some(id) => lines.push(id.cast_unsigned()),
            None => lines.push_torn(),
        }
    }
}
