//! The receive buffer: bytes that no request has taken yet.

use std::{cell::Cell, io};

use crate::{config::RECEIVE_BYTES, tls::session};

/// Received bytes that no request has taken yet.
///
/// What is left in it when more is read is a part of a head, since a body's bytes are taken as they
/// come and requests behind the first are looked at before anything is read. So it is never larger
/// than a head may be and [`RECEIVE_BYTES`] beyond.
pub(super) struct Unread {
    bytes: Vec<u8>,
    start: usize,
}

impl Unread {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), start: 0 }
    }

    /// Memory for them, of those who have none to keep: a shard's connections take turns with it.
    pub(super) fn memory() -> Vec<u8> {
        Vec::with_capacity(RECEIVE_BYTES)
    }

    /// What has come already.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start >= self.bytes.len()
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
            // A long head's memory is not kept for the short ones that follow.
            self.bytes.shrink_to(RECEIVE_BYTES);
        }
    }

    /// Reads once behind the unread bytes; 0 is the end. Where there are none, their memory waits in
    /// `spare` for whoever has some first.
    pub(super) async fn fill(
        &mut self,
        stream: &mut session::Stream,
        spare: &Cell<Vec<u8>>,
    ) -> io::Result<usize> {
        if self.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            if bytes.capacity() > 0 {
                spare.set(bytes);
            }
        } else {
            self.make_room();
        }
        let bytes = std::mem::take(&mut self.bytes);
        let take =
            || Some(spare.take()).filter(|bytes| bytes.capacity() > 0).unwrap_or_else(Self::memory);
        let (outcome, bytes) = stream.append(bytes, take).await;
        self.bytes = bytes;
        outcome
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve_exact(RECEIVE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;
    use crate::http::{ConnectionDirective, HttpLimits, HttpSession, Step};

    /// Reads all of `stream` in reads as large as the buffer has room, as a connection does. How many
    /// requests were answered, and the largest that the buffer was.
    fn read_through(stream: &[u8], limits: HttpLimits) -> (usize, usize) {
        let (mut unread, mut http) = (Unread::new(), HttpSession::new(limits));
        let (mut answered, mut largest) = (0, 0);
        let mut rest = stream;
        loop {
            let (consumed, step) = http.advance(unread.bytes());
            // The step borrows the buffer.
            let (is_head, is_complete, needs_more) =
                (matches!(step, Step::Head(_)), step == Step::Complete, step == Step::NeedMore);
            unread.consume(consumed);
            if is_head {
                http.accept_body(crate::update::UpdateBody::default());
            } else if is_complete {
                answered += 1;
                assert_eq!(http.directive(), ConnectionDirective::Persist);
            } else if needs_more && !rest.is_empty() {
                unread.make_room();
                let room = unread.bytes.capacity() - unread.bytes.len();
                largest = largest.max(unread.bytes.capacity());
                let (read, later) = rest.split_at(room.min(rest.len()));
                unread.bytes.extend_from_slice(read);
                rest = later;
            } else {
                return (answered, largest);
            }
        }
    }

    #[test]
    fn it_holds_a_head_and_a_read_whatever_comes() {
        let limits = HttpLimits::default();
        let post = |field: usize, body: usize| {
            let (field, body) = ("x".repeat(field), "y".repeat(body));
            let length = body.len();
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nA: {field}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let bound = limits.head_bytes + RECEIVE_BYTES;
        // Many small ones at once, long bodies, the longest heads, each in the middle of others.
        let small = post(1, 1).repeat(10_000);
        assert_eq!(read_through(small.as_bytes(), limits), (10_000, RECEIVE_BYTES));
        let (answered, largest) = read_through(
            (post(8_000, 9) + &post(1, 500_000) + &post(8_000, 7)).repeat(9).as_bytes(),
            limits,
        );
        assert_eq!(answered, 27);
        assert!((limits.head_bytes..=bound).contains(&largest), "{largest}");
        // A head without an end is refused before it takes more.
        let (answered, largest) = read_through(post(1_000_000, 1).as_bytes(), limits);
        assert_eq!(answered, 0);
        assert!(largest <= bound, "{largest}");
    }

    #[test]
    fn the_memory_of_a_long_head_is_given_back() {
        let mut unread = Unread::new();
        unread.bytes.extend_from_slice(&[b'x'; 9_000]);
        unread.consume(9_000);
        assert!(unread.bytes.capacity() < 2 * RECEIVE_BYTES);
    }
}
