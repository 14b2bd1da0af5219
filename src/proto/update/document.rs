//! A body and the tape that points into it, kept together: the one place of this folder where a
//! borrow is declared longer than the compiler can see.

use std::{slice, time::Instant};

use simd_json::{Buffers, Tape, fill_tape_padded};

use super::{BotId, ParseError, UpdateBody, Value, head::Head};

/// A body, its parsed form, and what is known of both. Memory that is used for one update after
/// the other: [`read`](Self::read) fills it, [`empty`](Self::empty) forgets the update.
///
/// The tape's strings point into the memory that `body` owns on the heap. That memory stays where
/// it is when the document moves, also to another thread. As long as there is a node on the tape,
/// nothing touches the body: every method that changes it empties the tape first, and a borrow from
/// the tape borrows the document.
pub(super) struct Document {
    /// One node per value and key. Before the body, so that it is dropped first.
    tape: Tape<'static>,
    body: UpdateBody,
    head: Head,
    /// The body as received, before the parser rewrote it; empty where it is not kept.
    received: Vec<u8>,
    /// Length of the body as received, in bytes.
    byte_len: usize,
    pub(super) bot: BotId,
    pub(super) received_at: Instant,
}

impl Document {
    /// One without an update and without memory for one.
    pub(super) fn new(received_at: Instant) -> Self {
        Self {
            tape: Tape(Vec::new()),
            body: UpdateBody::default(),
            head: Head::NONE,
            received: Vec::new(),
            byte_len: 0,
            bot: BotId::new(0),
            received_at,
        }
    }

    /// Parses `body` in place and keeps it, and where `is_received_kept` a copy of it as it is now.
    ///
    /// # Errors
    /// What is wrong with the body, and its memory.
    pub(super) fn read(
        &mut self,
        body: UpdateBody,
        buffers: &mut Buffers,
        depth_max: usize,
        is_received_kept: bool,
    ) -> Result<(), (ParseError, UpdateBody)> {
        self.empty();
        if is_received_kept {
            self.received.extend_from_slice(body.as_slice());
        }
        self.body = body;
        let (bytes, byte_len) = self.body.padded_mut();
        // SAFETY: the slice is the whole content of a `Vec` that this document owns, so it is valid
        // and has no other user, and its memory lies at the same address until the `Vec` is changed
        // or dropped. It is used by the parser, in this call, and through the nodes that the parser
        // puts on `self.tape`. These leave the document only by `tape`, which gives them the
        // document's own lifetime. Before the `Vec` is changed, in `empty` and `take_body`, the
        // tape is cleared; when the document is dropped, the tape goes before it. A panic of the
        // parser leaves body and tape in the document, to which the same applies.
        let bytes: &'static mut [u8] =
            unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr(), bytes.len()) };
        let head = fill_tape_padded(bytes, byte_len, buffers, &mut self.tape)
            .map_err(|error| ParseError::from_simd_json(&error, depth_max))
            .and_then(|()| Head::read(self.root()));
        match head {
            Ok(head) => {
                (self.head, self.byte_len) = (head, byte_len);
                Ok(())
            }
            Err(error) => Err((error, self.take_body())),
        }
    }

    /// What one pass over the update's keys has found.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// The body as received; empty where it is not kept.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Frees the memory for bodies as received where it has more than `max` bytes.
    pub(super) fn shrink_received(&mut self, max: usize) {
        if self.received.capacity() > max {
            self.received = Vec::new();
        }
    }

    /// The nodes, which live no longer than this borrow of the document.
    fn tape(&self) -> &Tape<'_> {
        &self.tape
    }

    pub(super) fn root(&self) -> Value<'_> {
        Value::new(&self.tape().0)
    }

    pub(super) fn payload(&self) -> Option<Value<'_>> {
        Value::first_of(self.tape().0.get(self.head.payload_at?..)?)
    }

    /// Forgets the update and keeps the memory.
    pub(super) fn empty(&mut self) {
        self.tape.0.clear();
        self.body.clear();
        self.received.clear();
        self.head = Head::NONE;
        self.byte_len = 0;
    }

    /// Takes the body's memory out, empty; the document is empty as well.
    pub(super) fn take_body(&mut self) -> UpdateBody {
        self.empty();
        std::mem::take(&mut self.body)
    }

    /// Nodes for which the tape has memory.
    pub(super) fn tape_nodes(&self) -> usize {
        self.tape.0.capacity()
    }

    /// Bytes of memory held, body and tape together.
    pub(super) fn capacity(&self) -> usize {
        let tape = self.tape_nodes() * size_of::<simd_json::Node<'static>>();
        self.body.capacity() + self.received.capacity() + tape
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use super::*;

    const TEXT: &str =
        r#"{"update_id":7,"message":{"chat":{"id":5},"text":"caf\u00e9 \"x\"","n":[1,{"k":"v"}]}}"#;

    fn body(text: &str) -> UpdateBody {
        UpdateBody::from(text.as_bytes().to_vec())
    }

    fn read(document: &mut Document, text: &str) -> Result<(), ParseError> {
        let buffers = &mut Buffers::with_max_depth(0, 128);
        document.read(body(text), buffers, 128, true).map_err(|(error, _)| error)
    }

    fn text_of(document: &Document) -> Option<String> {
        Some(document.payload()?.get("text")?.as_str()?.to_owned())
    }

    /// Of interest where addresses are watched: everything that is pointed to has to be alive.
    #[test]
    fn strings_outlive_moves_between_places_and_threads() {
        let mut document = Document::new(Instant::now());
        read(&mut document, TEXT).unwrap();
        let boxed = Box::new(document);
        let moved = *boxed;
        let mut many = vec![moved, Document::new(Instant::now())];
        many.reserve(100);
        let back = thread::spawn(move || many.swap_remove(0)).join().unwrap();
        assert_eq!(text_of(&back).as_deref(), Some("café \"x\""));
        assert_eq!(back.byte_len(), TEXT.len());
        assert_eq!(back.received(), TEXT.as_bytes(), "the parser has not rewritten it");
    }

    #[test]
    fn the_next_update_shows_nothing_of_the_last_one() {
        let mut document = Document::new(Instant::now());
        for round in 0..20 {
            read(&mut document, TEXT).unwrap();
            assert_eq!(text_of(&document).as_deref(), Some("café \"x\""));
            // The old body is gone with this, and what pointed into it before.
            let other = format!(r#"{{"update_id":{round},"message":{{"text":"{round}"}}}}"#);
            read(&mut document, &other).unwrap();
            assert_eq!(text_of(&document), Some(round.to_string()));
            for wrong in ["{\"a\":\"b\",", "[]", "{\"update_id\":\"\\u00e9\"}", "", "\"\\ud800\""] {
                assert!(read(&mut document, wrong).is_err());
                assert_eq!((document.byte_len(), document.body.capacity()), (0, 0));
                assert!(document.received().is_empty());
                assert!(document.tape().0.is_empty() && document.payload().is_none());
            }
        }
    }

    #[test]
    fn an_emptied_one_holds_memory_and_no_content() {
        let mut document = Document::new(Instant::now());
        read(&mut document, TEXT).unwrap();
        let nodes = document.tape_nodes();
        document.empty();
        assert!(document.tape().0.is_empty() && document.body.is_empty());
        assert!(document.received().is_empty());
        assert_eq!(document.tape_nodes(), nodes);
        let body = document.take_body();
        assert!(body.capacity() >= TEXT.len());
        drop(document);
        assert!(body.is_empty());
    }
}
