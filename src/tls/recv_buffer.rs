//! The receive buffer of a connection: what no request has taken yet, and records that are not
//! opened.

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use super::records::{HEADER, OpenedRecord, RECORD_MAX, Records, TlsError};
use crate::config::RECEIVE_BYTES;

/// Received bytes that no request has taken yet.
///
/// Records are opened where they lie, one at a time, and what was in them is looked at before the
/// next is opened or anything more is read. So what is left when more is read is a part of a head
/// and a part of a record, and the buffer is never larger than these two may be and
/// [`RECEIVE_BYTES`] beyond.
#[derive(Default)]
pub(crate) struct RecvBuffer {
    bytes: Vec<u8>,
    /// The first byte that no request has taken, and the end of these.
    start: usize,
    end: usize,
    /// The first byte of what is not opened, which goes on to the end of all; not before `end`.
    sealed: usize,
}

/// What is known of a wait for bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// For the next request of a peer whose requests come seldom: nothing is held meanwhile.
    Long,
    /// For the rest of a record with which a request may begin.
    Record,
    /// For the rest of a request.
    Request,
    /// For the next request of a peer that has just sent others: with a buffer at hand.
    Short,
}

impl Wait {
    /// How a wait ends early, where a part of a record is held or not; `None` where it goes on.
    pub(crate) fn ends_early(self, holds_part: bool) -> Option<Filled> {
        match self {
            Self::Long | Self::Short if holds_part => Some(Filled::Begun),
            Self::Record if !holds_part => Some(Filled::Nothing),
            _ => None,
        }
    }
}

/// The outcome of a wait for bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Filled {
    /// While the next request was waited for, a part of a record has come. It takes memory, so it
    /// must not take as long as that wait may.
    Begun,
    /// So many bytes more can be read by requests.
    Data(usize),
    /// The peer has sent a close_notify.
    End,
    /// A record that was [begun](Self::Begun) had no data in it.
    Nothing,
}

impl Filled {
    /// As reads return it: 0 is the end.
    pub(crate) fn from_count(bytes: usize) -> Self {
        if bytes == 0 { Self::End } else { Self::Data(bytes) }
    }
}

/// The outcome of opening the next record.
pub(crate) enum NextRecord {
    /// So many bytes more can be read by requests.
    Data(usize),
    /// The peer has sent a close_notify.
    End,
    /// At least so many bytes of a record are missing.
    Missing(usize),
}

impl RecvBuffer {
    /// Plain bytes that have come already.
    pub(crate) fn plain(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self { bytes, start: 0, end, sealed: end }
    }

    /// Records that have come already.
    pub(crate) fn sealed(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// What can be read by requests.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// True where no request has anything to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// The cursors are in order; what is lent meanwhile is checked when it comes back.
    fn check(&self) {
        debug_assert!(
            self.start <= self.end && self.end <= self.sealed && self.sealed <= self.bytes.len(),
            "{}..{} to be read, from {} on sealed, {} in all",
            self.start,
            self.end,
            self.sealed,
            self.bytes.len()
        );
    }

    /// A request has taken `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.bytes().len(), "{n} of {} bytes are taken", self.bytes().len());
        self.start = self.start.saturating_add(n).min(self.end);
        self.tidy();
    }

    /// Begins at the beginning again where nothing is held.
    fn tidy(&mut self) {
        if self.holds_nothing() {
            self.bytes.clear();
            (self.start, self.end, self.sealed) = (0, 0, 0);
        }
    }

    pub(crate) fn holds_nothing(&self) -> bool {
        self.is_empty() && self.sealed >= self.bytes.len()
    }

    /// Opens the next record, and puts what is in it behind what requests can read. Records without
    /// data are passed over.
    pub(crate) fn open(&mut self, records: &mut Records) -> Result<NextRecord, TlsError> {
        loop {
            let sealed = self.bytes.get_mut(self.sealed..).unwrap_or_default();
            let Some(length) = Records::length(sealed)? else {
                return Ok(NextRecord::Missing(HEADER - sealed.len().min(HEADER)));
            };
            let Some(record) = sealed.get_mut(..length) else {
                return Ok(NextRecord::Missing(length - sealed.len()));
            };
            let opened = records.open(record)?;
            let at = self.sealed;
            self.sealed += length;
            match opened {
                OpenedRecord::Data(range) => {
                    let length = range.len();
                    if self.is_empty() {
                        (self.start, self.end) = (at + range.start, at + range.end);
                    } else {
                        // The rest of a head; it has to be in one piece.
                        self.bytes.copy_within(at + range.start..at + range.end, self.end);
                        self.end += length;
                    }
                    self.check();
                    return Ok(NextRecord::Data(length));
                }
                OpenedRecord::End => {
                    self.sealed = self.bytes.len();
                    self.tidy();
                    return Ok(NextRecord::End);
                }
                OpenedRecord::Nothing => self.tidy(),
            }
        }
    }

    /// Takes all that has come for plain.
    pub(crate) fn take_plain(&mut self) {
        self.end = self.bytes.len();
        self.sealed = self.end;
    }

    /// Gets ready for a wait: true where it is to be done without a buffer, which is given to
    /// `pool`.
    pub(crate) fn prepare(&mut self, wait: Wait, pool: &BufferPool) -> bool {
        if !self.holds_nothing() {
            return false;
        }
        self.tidy();
        // The memory of a long record or head is not kept for the short ones that follow.
        let is_long = self.bytes.capacity() >= LONG;
        if wait == Wait::Long || wait == Wait::Short && is_long {
            pool.give(std::mem::take(&mut self.bytes));
        }
        wait == Wait::Long
    }

    /// Makes room for `missing` bytes, or for some of them as long as few have come: an announced
    /// length alone takes no memory. `missing` is 0 where it is not known.
    pub(crate) fn make_room(&mut self, missing: usize, pool: &BufferPool) {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take(RECEIVE_BYTES);
            return;
        }
        self.close_gaps();
        let (length, room) = (self.bytes.len(), self.bytes.capacity() - self.bytes.len());
        if room > 0 && (missing <= room || length < RECEIVE_BYTES / 2) {
            return;
        }
        if missing == 0 {
            self.bytes.reserve_exact(RECEIVE_BYTES);
            return;
        }
        let mut longer = pool.take(length.saturating_add(missing).max(RECORD_MAX));
        longer.extend_from_slice(&self.bytes);
        pool.give(std::mem::replace(&mut self.bytes, longer));
    }

    /// Moves what is held to the front.
    fn close_gaps(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.sealed > self.end {
            let rest = self.bytes.len().saturating_sub(self.sealed);
            self.bytes.copy_within(self.sealed.., self.end);
            self.bytes.truncate(self.end + rest);
            self.sealed = self.end;
        }
        self.check();
    }

    /// Lends the memory to a read, which puts bytes behind those there are.
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes back what was lent.
    pub(crate) fn take_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.check();
    }

    /// As a read of as many of `bytes` as there is room for; how many.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> usize {
        let room = self.bytes.capacity() - self.bytes.len();
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(bytes);
        bytes.len()
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Puts as many of `plain` bytes behind those there are as there is room for, and returns how
    /// many.
    pub(crate) fn put(&mut self, plain: &[u8]) -> usize {
        let taken = self.receive(plain);
        self.take_plain();
        taken
    }
}

/// Memory that a shard's connections share: a connection has a buffer only while it reads, or where
/// requests come one after the other.
#[derive(Default)]
pub(crate) struct BufferPool {
    long: RefCell<Vec<Vec<u8>>>,
    short: RefCell<Vec<Vec<u8>>>,
}

/// From this length on, a buffer is not kept for the short requests that most are.
const LONG: usize = 2 * RECEIVE_BYTES;
/// Buffers of each kind that are kept: 64 KiB of the short ones, as much of the long ones.
const SHORT_MAX: usize = 16;
const LONG_MAX: usize = 4;
/// Longer ones, of long heads in long records, are not kept.
const KEPT_MAX: usize = 2 * RECORD_MAX;

impl BufferPool {
    /// An empty one with room for `length` bytes.
    fn take(&self, length: usize) -> Vec<u8> {
        let kept = if length > RECEIVE_BYTES { &self.long } else { &self.short };
        let mut buffer = kept.borrow_mut().pop().unwrap_or_default();
        buffer.clear();
        buffer.reserve_exact(length);
        buffer
    }

    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let (kept, most) = match buffer.capacity() {
            RECORD_MAX..=KEPT_MAX => (&self.long, LONG_MAX),
            RECEIVE_BYTES..LONG => (&self.short, SHORT_MAX),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < most {
            kept.push(buffer);
        }
    }
}
