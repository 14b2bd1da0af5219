//! The memory of an update that is done with.

use simd_json::Tape;

use super::UpdateBody;

/// The memory of an update that is done with, empty, on its way from a worker to a shard's
/// [`UpdateParser`](super::UpdateParser). Dropping it frees the memory.
#[derive(Debug)]
pub struct Recycled {
    body: UpdateBody,
    tape: Tape<'static>,
}

impl Recycled {
    pub(super) fn new(body: UpdateBody, tape: Tape<'static>) -> Self {
        Self { body, tape }
    }

    /// Bytes of memory held, body and tape together.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let tape = self.tape.0.capacity() * size_of::<simd_json::Node<'static>>();
        self.body.capacity() + tape
    }

    pub(super) fn into_parts(self) -> (UpdateBody, Tape<'static>) {
        (self.body, self.tape)
    }
}
