//! The receive buffer of a connection: what no request has taken yet, and records that are not opened.

use std::cell::RefCell;

use super::records::{HEADER, Opened, RECORD_MAX, Records, TlsError};
use crate::config::RECEIVE_BYTES;

/// Received bytes that no request has taken yet.
///
/// Records are opened where they lie, one at a time, and what was in them is looked at before the next
/// is opened or anything more is read. So what is left when more is read is a part of a head and a part of
/// a record, and the buffer is never larger than these two may be and [`RECEIVE_BYTES`] beyond.
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
    /// What has to be told of a wait that goes on, where a part of a record is held or not.
    pub(crate) fn told(self, holds_part: bool) -> Option<Filled> {
        match self {
            Self::Long | Self::Short if holds_part => Some(Filled::Begun),
            Self::Record if !holds_part => Some(Filled::Nothing),
            _ => None,
        }
    }
}

/// What a wait for bytes came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Filled {
    /// While the next request was waited for, a part of a record has come. It takes memory, so it must
    /// not take as long as that wait may.
    Begun,
    /// So many bytes more can be read by requests.
    Data(usize),
    /// The peer has said goodbye.
    End,
    /// A record that was [begun](Self::Begun) had no data in it.
    Nothing,
}

impl Filled {
    /// As reads tell it: 0 is the end.
    pub(crate) fn from_count(bytes: usize) -> Self {
        if bytes == 0 { Self::End } else { Self::Data(bytes) }
    }
}

/// What opening the next record came to.
pub(crate) enum Next {
    /// So many bytes more can be read by requests.
    Data(usize),
    /// The peer has said goodbye.
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

    /// A request has taken `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
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
    pub(crate) fn open(&mut self, records: &mut Records) -> Result<Next, TlsError> {
        loop {
            let sealed = self.bytes.get_mut(self.sealed..).unwrap_or_default();
            let Some(length) = Records::length(sealed)? else {
                return Ok(Next::Missing(HEADER - sealed.len().min(HEADER)));
            };
            let Some(record) = sealed.get_mut(..length) else {
                return Ok(Next::Missing(length - sealed.len()));
            };
            let opened = records.open(record)?;
            let at = self.sealed;
            self.sealed += length;
            match opened {
                Opened::Data(range) => {
                    let length = range.len();
                    if self.is_empty() {
                        (self.start, self.end) = (at + range.start, at + range.end);
                    } else {
                        // The rest of a head; it has to be in one piece.
                        self.bytes.copy_within(at + range.start..at + range.end, self.end);
                        self.end += length;
                    }
                    return Ok(Next::Data(length));
                }
                Opened::End => {
                    self.sealed = self.bytes.len();
                    self.tidy();
                    return Ok(Next::End);
                }
                Opened::Nothing => self.tidy(),
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

    /// Makes room for `missing` bytes, or for some of them as long as few have come: what is promised
    /// takes no memory. 0 where nobody knows how many are missing.
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
    }

    /// Lends the memory to a read, which puts bytes behind those there are.
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes back what was lent.
    pub(crate) fn take_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
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

    /// Puts as many of `plain` bytes behind those there are as there is room for, and tells how many.
    pub(crate) fn put(&mut self, plain: &[u8]) -> usize {
        let taken = self.receive(plain);
        self.take_plain();
        taken
    }
}

/// Memory that a shard's connections take turns with: a connection has its own only while it reads, or
/// where requests come one after the other.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;
    use crate::{
        proto::http::{ConnectionDirective, HttpLimits, HttpSession, Step},
        tls::records::{Direction, Secret, Suite},
    };

    fn records() -> Records {
        let direction = || {
            let secret = Secret::new(&[7; 32]).unwrap();
            Direction::of_secret(Suite::Aes128Gcm, secret).unwrap()
        };
        Records::new(direction(), direction())
    }

    fn post(field: usize, body: usize) -> String {
        let (field, body) = ("x".repeat(field), "y".repeat(body));
        let length = body.len();
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nA: {field}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    /// A connection that reads all of `stream`, in reads of `piece` bytes or as many as there is room
    /// for.
    struct Reader<'a> {
        stream: &'a [u8],
        piece: usize,
        records: Option<Records>,
        received: RecvBuffer,
        pool: BufferPool,
        /// The largest that the buffer was.
        largest: usize,
    }

    impl<'a> Reader<'a> {
        fn new(stream: &'a [u8], piece: usize, records: Option<Records>) -> Self {
            let (received, pool) = (RecvBuffer::default(), BufferPool::default());
            Self { stream, piece, records, received, pool, largest: 0 }
        }

        /// As a stream's `fill`: false at the end of all.
        fn fill(&mut self, wait: Wait) -> bool {
            loop {
                let missing = match &mut self.records {
                    Some(records) => match self.received.open(records).unwrap() {
                        Next::Data(_) => return true,
                        Next::End => return false,
                        Next::Missing(missing) => missing,
                    },
                    None => 0,
                };
                if self.stream.is_empty() {
                    return false;
                }
                assert_eq!(self.received.prepare(wait, &self.pool), {
                    wait == Wait::Long && self.received.holds_nothing()
                });
                self.received.make_room(missing, &self.pool);
                let mut bytes = self.received.lend();
                self.largest = self.largest.max(bytes.capacity());
                let room = bytes.capacity() - bytes.len();
                assert!(room > 0);
                let length = room.min(self.piece).min(self.stream.len());
                let (read, later) = self.stream.split_at(length);
                bytes.extend_from_slice(read);
                self.stream = later;
                self.received.take_back(bytes);
                if self.records.is_none() {
                    self.received.take_plain();
                    return true;
                }
            }
        }

        /// How many requests were answered.
        fn serve(&mut self, wait: Wait) -> usize {
            let mut http = HttpSession::new(HttpLimits::default());
            let mut answered = 0;
            loop {
                let (consumed, step) = http.advance(self.received.bytes());
                // The step borrows the buffer.
                let (is_head, is_complete, needs_more) =
                    (matches!(step, Step::Head(_)), step == Step::Complete, step == Step::NeedMore);
                self.received.consume(consumed);
                if is_head {
                    http.accept_body(crate::proto::update::UpdateBody::default());
                } else if is_complete {
                    answered += 1;
                    assert_eq!(http.directive(), ConnectionDirective::Persist);
                } else if !needs_more
                    || !self.fill(if http.is_idle() { wait } else { Wait::Request })
                {
                    return answered;
                }
            }
        }
    }

    /// `plain` as records of `length` bytes each.
    fn sealed(plain: &[u8], length: usize) -> Vec<u8> {
        let (mut records, mut out) = (records(), Vec::new());
        for part in plain.chunks(length) {
            records.seal(part, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn it_holds_a_head_and_a_read_whatever_comes() {
        let limits = HttpLimits::default();
        let bound = limits.head_bytes + RECEIVE_BYTES;
        let serve = |stream: &str| {
            let mut reader = Reader::new(stream.as_bytes(), usize::MAX, None);
            (reader.serve(Wait::Short), reader.largest)
        };
        // Many small ones at once, long bodies, the longest heads, each in the middle of others.
        assert_eq!(serve(&post(1, 1).repeat(10_000)), (10_000, RECEIVE_BYTES));
        let (answered, largest) =
            serve(&(post(8_000, 9) + &post(1, 500_000) + &post(8_000, 7)).repeat(9));
        assert_eq!(answered, 27);
        assert!((limits.head_bytes..=bound).contains(&largest), "{largest}");
        // A head without an end is refused before it takes more.
        let (answered, largest) = serve(&post(1_000_000, 1));
        assert_eq!(answered, 0);
        assert!(largest <= bound, "{largest}");
    }

    #[test]
    fn it_holds_a_head_and_a_record_whatever_comes_in_tls() {
        let limits = HttpLimits::default();
        let bound = limits.head_bytes + RECORD_MAX;
        let stream =
            (post(8_000, 9) + &post(1, 100_000) + &post(8_000, 7) + &post(1, 1_300)).repeat(3);
        for length in [1, 100, 1_000, 5_000, 16_384] {
            let stream = sealed(stream.as_bytes(), length);
            for piece in [1, 7, 1_448, usize::MAX] {
                if length == 1 && piece == 1 {
                    continue; // for nothing but time
                }
                let mut reader = Reader::new(&stream, piece, Some(records()));
                assert_eq!(reader.serve(Wait::Short), 12, "{length} {piece}");
                assert!(reader.largest <= bound, "{}", reader.largest);
                if length < 1_000 {
                    assert!(reader.largest <= limits.head_bytes + 2 * RECORD_MAX);
                }
            }
        }
    }

    #[test]
    fn what_is_promised_takes_no_memory() {
        // Headers of the longest record, and some of it.
        for come in [1, 5, 6, 1_000, 2_000] {
            let mut stream = vec![0; come];
            let header = [23, 3, 3, 0x41, 0];
            let length = come.min(5);
            stream[..length].copy_from_slice(&header[..length]);
            let mut reader = Reader::new(&stream, usize::MAX, Some(records()));
            assert!(!reader.fill(Wait::Short));
            assert_eq!(reader.largest, RECEIVE_BYTES);
        }
        let mut stream = vec![0; 9_000];
        stream[..5].copy_from_slice(&[23, 3, 3, 0x41, 0]);
        let mut reader = Reader::new(&stream, usize::MAX, Some(records()));
        assert!(!reader.fill(Wait::Short));
        assert_eq!(reader.largest, RECORD_MAX);
    }

    #[test]
    fn records_may_be_cut_anywhere() {
        let plain = post(50, 100) + &post(1, 1);
        for length in [9, 61, 400] {
            let stream = sealed(plain.as_bytes(), length);
            for cut in 0..stream.len() {
                let mut reader = Reader::new(&stream[..cut], usize::MAX, Some(records()));
                let mut read = Vec::new();
                while reader.fill(Wait::Request) {
                    read.extend_from_slice(reader.received.bytes());
                    reader.received.consume(reader.received.bytes().len());
                }
                reader.stream = &stream[cut..];
                while reader.fill(Wait::Long) {
                    read.extend_from_slice(reader.received.bytes());
                    reader.received.consume(reader.received.bytes().len());
                }
                assert_eq!(read, plain.as_bytes(), "cut at {cut}");
                assert!(reader.received.holds_nothing());
            }
        }
    }

    #[test]
    fn memory_goes_from_one_to_the_next() {
        let pool = BufferPool::default();
        let mut received = RecvBuffer::default();
        assert!(received.prepare(Wait::Long, &pool));
        assert_eq!(received.bytes.capacity(), 0);
        received.make_room(5, &pool);
        let memory = received.bytes.as_ptr();
        assert_eq!(received.put(&[1; 100]), 100);
        received.consume(100);
        assert!(!received.prepare(Wait::Short, &pool));
        assert_eq!((received.bytes.as_ptr(), received.bytes.capacity()), (memory, RECEIVE_BYTES));
        assert!(received.prepare(Wait::Long, &pool));
        assert_eq!(received.bytes.capacity(), 0);
        let mut other = RecvBuffer::default();
        other.make_room(5, &pool);
        assert_eq!(other.bytes.as_ptr(), memory);
        // A long record's is given back before the next request.
        assert_eq!(other.put(&[1; RECEIVE_BYTES]), RECEIVE_BYTES);
        other.make_room(10_000, &pool);
        assert_eq!(other.bytes.capacity(), RECORD_MAX);
        let long = other.bytes.as_ptr();
        assert!(!other.prepare(Wait::Long, &pool), "it holds something");
        other.consume(RECEIVE_BYTES);
        assert!(!other.prepare(Wait::Request, &pool));
        assert_eq!(other.bytes.capacity(), RECORD_MAX);
        assert!(!other.prepare(Wait::Short, &pool));
        other.make_room(5, &pool);
        assert_eq!(other.bytes.as_ptr(), memory);
        let last = pool.take(RECORD_MAX);
        assert_eq!(last.as_ptr(), long);
    }

    #[test]
    fn only_so_much_memory_is_kept() {
        let pool = BufferPool::default();
        for length in [1, 100, RECEIVE_BYTES, LONG - 1, LONG, RECORD_MAX, KEPT_MAX, KEPT_MAX + 1] {
            for _ in 0..100 {
                pool.give(Vec::with_capacity(length));
            }
        }
        assert_eq!(pool.short.borrow().len(), SHORT_MAX);
        assert_eq!(pool.long.borrow().len(), LONG_MAX);
    }
}
