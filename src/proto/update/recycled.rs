//! The memory of an update that is done with.

use std::{fmt, sync::Arc};

use super::document::Document;

/// The memory of an update that is done with, empty, which a worker returns to a shard's
/// [`UpdateParser`](super::UpdateParser). Dropping it frees the memory.
pub struct Recycled {
    /// No other owner has it. `None` where one has: then nothing is kept.
    document: Option<Arc<Document>>,
}

impl Recycled {
    pub(super) fn new(mut document: Arc<Document>) -> Self {
        // Of two outputs that give it up at the same time both may find the other one here: then
        // its memory is freed.
        let is_sole = Arc::get_mut(&mut document).map(Document::empty).is_some();
        Self { document: is_sole.then_some(document) }
    }

    /// Bytes of memory held, body and tape together.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.document.as_ref().map_or(0, |document| document.capacity())
    }

    pub(super) fn into_document(self) -> Option<Arc<Document>> {
        self.document
    }
}

impl fmt::Debug for Recycled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recycled").field("capacity", &self.capacity()).finish()
    }
}
