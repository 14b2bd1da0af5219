//! A body and the tape that points into it, kept together.

use self_cell::{MutBorrow, self_cell};
use simd_json::{Buffers, Tape, fill_tape_padded};

use super::{ParseError, UpdateBody, Value, head::Head};

/// The parsed form of a body that it borrows.
pub(super) struct Document<'a> {
    /// One node per value and key; strings point into the body.
    tape: Tape<'a>,
    pub(super) head: Head,
    /// Length of the body as received, in bytes.
    pub(super) byte_len: usize,
}

impl<'a> Document<'a> {
    pub(super) fn root(&self) -> Value<'_> {
        Value::new(&self.tape.0)
    }

    pub(super) fn payload(&self) -> Option<Value<'_>> {
        Value::first_of(self.tape.0.get(self.head.payload_at?..)?)
    }

    /// Parses `body` in place onto `tape`; where that fails, `tape` comes back empty.
    fn read(
        body: &'a mut UpdateBody,
        mut tape: Tape<'a>,
        buffers: &mut Buffers,
        depth_max: usize,
    ) -> Result<Self, (ParseError, Tape<'static>)> {
        let (bytes, byte_len) = body.padded_mut();
        let head = fill_tape_padded(bytes, byte_len, buffers, &mut tape)
            .map_err(|error| ParseError::from_simd_json(&error, depth_max))
            .and_then(|()| Head::read(Value::new(&tape.0)));
        match head {
            Ok(head) => Ok(Self { tape, head, byte_len }),
            Err(error) => Err((error, tape.reset())),
        }
    }
}

self_cell!(
    /// A body with its [`Document`]. It costs one allocation, which gives both an address that
    /// stays when an update moves between threads.
    pub(super) struct OwnedDocument {
        owner: MutBorrow<UpdateBody>,

        #[covariant]
        dependent: Document,
    }
);

impl OwnedDocument {
    /// Parses `body`, using the memory of `tape`, which is empty.
    ///
    /// # Errors
    ///
    /// What is wrong with the body, and the memory of body and tape, both empty.
    pub(super) fn parse(
        body: UpdateBody,
        tape: Tape<'static>,
        buffers: &mut Buffers,
        depth_max: usize,
    ) -> Result<Self, (ParseError, UpdateBody, Tape<'static>)> {
        Self::try_new_or_recover(MutBorrow::new(body), |body| {
            Document::read(body.borrow_mut(), tape, buffers, depth_max)
        })
        .map_err(|(body, (error, tape))| {
            let mut body = body.into_inner();
            body.clear();
            (error, body, tape)
        })
    }

    /// Takes the memory back, body and tape both empty.
    pub(super) fn into_parts(mut self) -> (UpdateBody, Tape<'static>) {
        let tape = self.with_dependent_mut(|_, document| {
            std::mem::replace(&mut document.tape, Tape(Vec::new())).reset()
        });
        let mut body = self.into_owner().into_inner();
        body.clear();
        (body, tape)
    }
}
