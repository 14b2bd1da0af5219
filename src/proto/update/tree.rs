//! A text and the tape that points into it, kept together: the one place of this folder where a
//! borrow is declared longer than the compiler can see.

use std::slice;

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape, fill_tape_padded};

use super::Value;

/// A text and its parsed form, in memory that is used again: [`read`](Self::read) fills it,
/// [`clear`](Self::clear) forgets the text.
///
/// The tape's strings point into the memory that `text` owns on the heap. That memory stays where
/// it is when the tree moves, also to another thread. As long as there is a node on the tape,
/// nothing touches the text: every method that changes it empties the tape first, and a borrow from
/// the tape borrows the tree.
pub(super) struct Tree {
    /// One node per value and key. Before the text, so that it is dropped first.
    tape: Tape<'static>,
    /// As the parser left it, with its padding.
    text: Vec<u8>,
}

impl Tree {
    pub(super) const fn new() -> Self {
        Self { tape: Tape(Vec::new()), text: Vec::new() }
    }

    /// Parses a copy of `text`.
    ///
    /// # Errors
    /// Those of simd-json; then the tree is empty.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        buffers: &mut Buffers,
    ) -> Result<(), simd_json::Error> {
        self.clear();
        self.text.reserve(text.len() + INPUT_PADDING);
        self.text.extend_from_slice(text);
        self.text.resize(text.len() + INPUT_PADDING, 0);
        // SAFETY: the slice is the whole content of a `Vec` that this tree owns, so it is valid
        // and has no other user, and its memory lies at the same address until the `Vec` is changed
        // or dropped. It is used by the parser, in this call, and through the nodes that the parser
        // puts on `self.tape`. These leave the tree only by `root`, which gives them the tree's own
        // lifetime. Before the `Vec` is changed, in `clear` and `shrink`, the tape is cleared; when
        // the tree is dropped, the tape goes before it. A panic of the parser leaves text and tape
        // in the tree, to which the same applies.
        let bytes: &'static mut [u8] =
            unsafe { slice::from_raw_parts_mut(self.text.as_mut_ptr(), self.text.len()) };
        let outcome = fill_tape_padded(bytes, text.len(), buffers, &mut self.tape);
        if outcome.is_err() {
            self.clear();
        }
        outcome
    }

    /// The value; null before a text has been read.
    pub(super) fn root(&self) -> Value<'_> {
        const NULL: &[Node<'static>] = &[Node::Static(StaticNode::Null)];
        match self.tape.0.as_slice() {
            [] => Value::new(NULL),
            nodes => Value::new(nodes),
        }
    }

    /// Forgets the text and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.tape.0.clear();
        self.text.clear();
    }

    /// Forgets the text, and frees what has more memory than this.
    pub(super) fn shrink(&mut self, bytes: usize, nodes: usize) {
        self.clear();
        if self.text.capacity() > bytes.saturating_add(INPUT_PADDING) {
            self.text = Vec::new();
        }
        if self.tape.0.capacity() > nodes {
            self.tape = Tape(Vec::new());
        }
    }

    /// Bytes of memory held.
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity() + self.tape.0.capacity() * size_of::<Node<'static>>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use super::*;

    const TEXT: &str =
        r#"{"update_id":7,"message":{"chat":{"id":5},"text":"caf\u00e9 \"x\"","n":[1,{"k":"v"}]}}"#;

    fn read(tree: &mut Tree, text: &str) -> bool {
        tree.read(text.as_bytes(), &mut Buffers::with_max_depth(0, 128)).is_ok()
    }

    fn text_of(tree: &Tree) -> Option<String> {
        Some(tree.root().get("message")?.get("text")?.as_str()?.to_owned())
    }

    /// Of interest where addresses are watched: everything that is pointed to has to be alive.
    #[test]
    fn strings_outlive_moves_between_places_and_threads() {
        let mut tree = Tree::new();
        assert!(read(&mut tree, TEXT));
        let boxed = Box::new(tree);
        let moved = *boxed;
        let mut many = vec![moved, Tree::new()];
        many.reserve(100);
        let back = thread::spawn(move || many.swap_remove(0)).join().unwrap();
        assert_eq!(text_of(&back).as_deref(), Some("café \"x\""));
    }

    #[test]
    fn the_next_text_shows_nothing_of_the_last_one() {
        let mut tree = Tree::new();
        for round in 0..20 {
            assert!(read(&mut tree, TEXT));
            assert_eq!(text_of(&tree).as_deref(), Some("café \"x\""));
            // The old text is gone with this, and what pointed into it before.
            assert!(read(&mut tree, &format!(r#"{{"message":{{"text":"{round}"}}}}"#)));
            assert_eq!(text_of(&tree), Some(round.to_string()));
            for wrong in ["{\"a\":\"b\",", "{\"update_id\":", "", "\"\\ud800\""] {
                assert!(!read(&mut tree, wrong));
                assert!(tree.root().is_null() && tree.text.is_empty());
            }
        }
    }

    #[test]
    fn a_cleared_one_holds_memory_and_no_content() {
        let mut tree = Tree::new();
        assert!(read(&mut tree, TEXT));
        let capacity = tree.capacity();
        tree.clear();
        assert!(tree.root().is_null() && tree.text.is_empty());
        assert_eq!(tree.capacity(), capacity);
        tree.shrink(TEXT.len(), 1);
        assert!((TEXT.len()..capacity).contains(&tree.capacity()), "the text's is kept");
    }
}
