//! The bytes of one request body, padded so that simd-json can parse them where they lie.

/// Bytes that simd-json may read past the end of a document.
const PADDING: usize = simd_json::INPUT_PADDING;

/// One request body in memory of its own, followed by the padding that in-place parsing needs.
///
/// The buffer keeps its capacity over [`clear`](Self::clear), so bodies can be recycled.
#[derive(Debug, Default)]
pub struct UpdateBody {
    /// The content, then nothing: the padding is appended by [`padded_mut`](Self::padded_mut).
    bytes: Vec<u8>,
}

impl UpdateBody {
    /// An empty body whose buffer holds `capacity` bytes of content without growing.
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

    /// The content. After an in-place parse these are not the bytes that were received.
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
