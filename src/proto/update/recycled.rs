//! The memory of an update that is done with.

use std::fmt;

use super::document::Document;

/// The memory of an update that is done with, empty, which a worker returns to a shard's
/// [`UpdateParser`](super::UpdateParser). Dropping it frees the memory.
pub struct Recycled {
    document: Box<Document>,
}

impl Recycled {
    pub(super) fn new(mut document: Box<Document>) -> Self {
        document.empty();
        Self { document }
    }

    /// Bytes of memory held, body and tape together.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.document.capacity()
    }

    pub(super) fn into_document(self) -> Box<Document> {
        self.document
    }
}

impl fmt::Debug for Recycled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recycled").field("capacity", &self.capacity()).finish()
    }
}
