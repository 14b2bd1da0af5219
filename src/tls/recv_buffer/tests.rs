//! Tests of `recv_buffer`.

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
    format!("POST / HTTP/1.1\r\nHost: a\r\nA: {field}\r\nContent-Length: {length}\r\n\r\n{body}")
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
                    NextRecord::Data(_) => return true,
                    NextRecord::End => return false,
                    NextRecord::Missing(missing) => missing,
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
            } else if !needs_more || !self.fill(if http.is_idle() { wait } else { Wait::Request }) {
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
    let stream = (post(8_000, 9) + &post(1, 100_000) + &post(8_000, 7) + &post(1, 1_300)).repeat(3);
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
