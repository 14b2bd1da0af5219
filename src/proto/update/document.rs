//! A body with what is known of it, and its parsed form for those that ask for more.

use std::{
    cell::RefCell,
    mem,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use simd_json::{Buffers, DEFAULT_MAX_DEPTH};

use super::{BotId, ParseError, UpdateBody, Value, head::Head, scan::scan, tree::Tree};

/// Largest body after which a worker keeps its scratch memory, in bytes.
const SCRATCH_KEPT: usize = 64 * 1024;

thread_local! {
    /// Of a thread that asks for values.
    static SCRATCH: RefCell<Buffers> = RefCell::new(scratch(DEFAULT_MAX_DEPTH));
}

/// A body, as received, and what is known of it. Memory that is used for one update after the
/// other: [`read`](Self::read) fills it, [`empty`](Self::empty) forgets the update.
pub(super) struct Document {
    body: UpdateBody,
    head: Head,
    /// Whether a value has been asked for.
    is_asked: AtomicBool,
    /// Parsed by the first that asks.
    tree: OnceLock<Tree>,
    /// Memory for that.
    spare: Mutex<Tree>,
    pub(super) bot: BotId,
    pub(super) received_at: Instant,
}

impl Document {
    /// One without an update and without memory for one.
    pub(super) fn new(received_at: Instant) -> Self {
        Self {
            body: UpdateBody::default(),
            head: Head::NONE,
            is_asked: AtomicBool::new(false),
            tree: OnceLock::new(),
            spare: Mutex::new(Tree::new()),
            bot: BotId::new(0),
            received_at,
        }
    }

    /// Finds out that `body` is an update, and keeps it: parsed where `is_parsed`.
    ///
    /// # Errors
    /// What is wrong with the body, and its memory.
    pub(super) fn read(
        &mut self,
        body: UpdateBody,
        buffers: &mut Buffers,
        depth_max: usize,
        is_parsed: bool,
    ) -> Result<(), (ParseError, UpdateBody)> {
        self.empty();
        *self.is_asked.get_mut() = false;
        self.body = body;
        if !is_parsed && let Some(head) = scan(self.body.as_slice(), depth_max) {
            self.head = head;
            return Ok(());
        }
        let mut tree = self.take_spare();
        let head = tree
            .read(self.body.as_slice(), buffers)
            .map_err(|error| ParseError::from_simd_json(&error, depth_max))
            .and_then(|()| Head::read(tree.root()));
        match head {
            Ok(head) => {
                self.head = head;
                self.tree = OnceLock::from(tree);
                Ok(())
            }
            Err(error) => {
                self.keep_spare(tree);
                Err((error, self.take_body()))
            }
        }
    }

    /// What one pass over the body has found.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// The body as received.
    pub(super) fn body(&self) -> &[u8] {
        self.body.as_slice()
    }

    /// Whether anything asked for a value of the update that was the last one here.
    pub(super) fn was_asked(&self) -> bool {
        self.is_asked.load(Relaxed)
    }

    pub(super) fn root(&self) -> Value<'_> {
        self.is_asked.store(true, Relaxed);
        self.tree.get_or_init(|| self.parsed()).root()
    }

    pub(super) fn payload(&self) -> Option<Value<'_>> {
        // The first of its name, as when the kind was found.
        self.root().get(self.head.kind.field()?)
    }

    #[cold]
    fn parsed(&self) -> Tree {
        let mut tree = mem::replace(&mut *self.spare(), Tree::new());
        let body = self.body.as_slice();
        let mut read = |buffers: &mut Buffers| {
            let outcome = tree.read(body, buffers);
            // Scratch memory only ever grows.
            if body.len() > SCRATCH_KEPT {
                *buffers = scratch(DEFAULT_MAX_DEPTH);
            }
            outcome
        };
        let outcome = SCRATCH
            .try_with(|buffers| buffers.try_borrow_mut().ok().map(|mut it| read(&mut it)))
            .ok()
            .flatten()
            // The thread is at its end.
            .unwrap_or_else(|| read(&mut scratch(DEFAULT_MAX_DEPTH)));
        if outcome.is_err() {
            debug_assert!(false, "what the scan accepted is no JSON");
            tracing::error!(
                update_id = %self.head.id,
                "an update that was accepted cannot be read: its handler gets null"
            );
        }
        tree
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Tree> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_spare(&mut self) -> Tree {
        let spare = self.spare.get_mut().unwrap_or_else(PoisonError::into_inner);
        mem::replace(spare, Tree::new())
    }

    fn keep_spare(&mut self, mut tree: Tree) {
        tree.clear();
        *self.spare.get_mut().unwrap_or_else(PoisonError::into_inner) = tree;
    }

    /// Forgets the update and keeps the memory.
    pub(super) fn empty(&mut self) {
        if let Some(tree) = self.tree.take() {
            self.keep_spare(tree);
        }
        self.body.clear();
        self.head = Head::NONE;
    }

    /// Takes the body's memory out, empty; the document is empty as well.
    pub(super) fn take_body(&mut self) -> UpdateBody {
        self.empty();
        mem::take(&mut self.body)
    }

    /// Frees what an empty one holds beyond this: bytes of text, nodes of a tape.
    pub(super) fn shrink(&mut self, bytes: usize, nodes: usize) {
        self.spare.get_mut().unwrap_or_else(PoisonError::into_inner).shrink(bytes, nodes);
    }

    /// Bytes of memory held, the parsed form included.
    pub(super) fn capacity(&self) -> usize {
        let tree = self.tree.get().map_or(0, Tree::capacity);
        self.body.capacity() + self.spare().capacity() + tree
    }
}

/// Scratch memory of simd-json's, which grows with the first bodies.
pub(super) fn scratch(depth_max: usize) -> Buffers {
    Buffers::with_max_depth(0, depth_max)
}
