//! The bytes of one request body, in memory that simd-json can parse where they lie.

use std::fmt;

/// Bytes that simd-json may read past the end of a document.
const PADDING: usize = simd_json::INPUT_PADDING;

/// One request body in memory of its own.
///
/// The padding that in-place parsing needs is no part of the content: it is appended right before
/// the parse, and [`with_capacity`](Self::with_capacity) and [`reserve`](Self::reserve) count it
/// in, so a body filled within its reservation is parsed without being moved.
///
/// The buffer keeps its capacity over [`clear`](Self::clear), so bodies can be recycled. `Debug`
/// shows lengths only: the content is users' messages.
#[derive(Default)]
pub struct UpdateBody {
    /// The content, and nothing else until [`padded_mut`](Self::padded_mut).
    bytes: Vec<u8>,
}

impl UpdateBody {
    /// An empty body whose buffer holds `capacity` bytes of content and the padding without
    /// growing.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity.saturating_add(PADDING)) }
    }

    /// Appends `bytes`; the caller has checked the limit on the body's size.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for `additional` more bytes of content and the padding.
    pub fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional.saturating_add(PADDING));
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

    /// Bytes of memory this body holds on to, padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends the padding and lends out content and padding, with the content's length in bytes.
    ///
    /// What follows is a parse that rewrites the content, so the body is of no further use as a
    /// body until [`clear`](Self::clear). The memory moves only where the padding was not
    /// reserved, as in a body made from a plain `Vec`.
    pub(super) fn padded_mut(&mut self) -> (&mut [u8], usize) {
        let content_len = self.bytes.len();
        self.bytes.resize(content_len.saturating_add(PADDING), 0);
        (&mut self.bytes, content_len)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_reservation_is_padded_where_it_lies() {
        let mut body = UpdateBody::with_capacity(1000);
        body.extend(&[b'x'; 1000]);
        let before = body.capacity();
        let (padded, content_len) = body.padded_mut();
        assert_eq!((padded.len(), content_len), (1000 + PADDING, 1000));
        assert_eq!(body.capacity(), before);
    }

    #[test]
    fn reserve_counts_the_padding_in() {
        let mut body = UpdateBody::default();
        body.extend(b"{}");
        body.reserve(98);
        body.extend(&[b' '; 98]);
        // An allocator may grow memory where it lies, so the capacity is checked, not the address.
        let before = body.capacity();
        body.padded_mut();
        assert_eq!(body.capacity(), before);
    }
}
