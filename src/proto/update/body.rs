//! The bytes of one request body, in memory that is used again.

use std::fmt;

/// One request body in memory of its own.
///
/// The buffer keeps its capacity over [`clear`](Self::clear), so bodies can be recycled. `Debug`
/// shows lengths only: the content is users' messages.
#[derive(Default)]
pub struct UpdateBody {
    bytes: Vec<u8>,
}

impl UpdateBody {
    /// An empty body whose buffer holds `capacity` bytes without growing.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// Appends `bytes`; the caller has checked the limit on the body's size.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for `additional` more bytes.
    pub fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional);
    }

    /// The content as it was received.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True where there is no content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of memory this body holds on to.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl From<Vec<u8>> for UpdateBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
}

impl fmt::Debug for UpdateBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateBody")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}
