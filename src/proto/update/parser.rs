//! From a body to an update.

use std::{sync::Arc, time::Instant};

use simd_json::{Buffers, DEFAULT_MAX_DEPTH};

use super::{BotId, ParseError, Recycled, Rejected, Update, UpdateBody, spares::Spares};

/// What a parser takes and what it keeps; the defaults suit one shard of a busy server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ParserLimits {
    /// Largest body whose memory is kept for the next one, in bytes; default 64 KiB.
    ///
    /// Ordinary updates have a few KiB. Keeping more would let a few huge ones set the memory use
    /// for good.
    pub body_kept_max_bytes: usize,
    /// How deep arrays and objects may nest, the outermost object counted; default 128, at most
    /// 1,024.
    ///
    /// Telegram's updates stay far below: the message in a `reply_to_message` holds no further
    /// one. Reading a value recurses once per level.
    pub depth_max: usize,
    /// Whether an update keeps its body as received, beside the one that is parsed in place; false.
    pub keep_bodies: bool,
    /// How many bodies and how many tapes are kept; default 128 of each.
    ///
    /// With the other defaults that is at most 20 MiB per parser, and about 1 MiB with updates of
    /// 2 KiB.
    pub spares_max: usize,
    /// Largest tape whose memory is kept, in nodes of 24 bytes; default 4,096.
    pub tape_kept_max_nodes: usize,
}

impl Default for ParserLimits {
    fn default() -> Self {
        Self {
            body_kept_max_bytes: 64 * 1024,
            depth_max: 128,
            keep_bodies: false,
            spares_max: 128,
            tape_kept_max_nodes: 4096,
        }
    }
}

/// Parses bodies into updates, with the memory of updates that are done with; one per shard.
///
/// A parser knows no clock and no socket. It is in the same state after every body, good or bad.
pub struct UpdateParser {
    /// simd-json's scratch memory: about 1.5 bytes per byte of the largest ordinary body so far,
    /// 9 bytes where a body is all brackets.
    buffers: Buffers,
    spares: Spares,
    limits: ParserLimits,
}

impl UpdateParser {
    /// A parser within `limits`; of `depth_max` at most 1,024 is used.
    #[must_use]
    pub fn new(limits: ParserLimits) -> Self {
        let limits = ParserLimits { depth_max: limits.depth_max.min(DEFAULT_MAX_DEPTH), ..limits };
        Self { buffers: fresh_buffers(limits), spares: Spares::new(limits), limits }
    }

    /// Changes how deep arrays and objects may nest, from the next body on; at most 1,024.
    pub fn set_depth_max(&mut self, depth_max: usize) {
        let depth_max = depth_max.min(DEFAULT_MAX_DEPTH);
        if depth_max != self.limits.depth_max {
            self.limits.depth_max = depth_max;
            self.buffers = fresh_buffers(self.limits);
        }
    }

    /// Sets whether updates keep their bodies as received, from the next one on.
    pub fn set_keep_bodies(&mut self, keep_bodies: bool) {
        self.limits.keep_bodies = keep_bodies;
    }

    /// An empty body with room for `capacity` bytes, from the spare ones if there are any.
    #[must_use]
    pub fn take_body(&mut self, capacity: usize) -> UpdateBody {
        let mut body = self.spares.take_body();
        body.reserve(capacity);
        body
    }

    /// Parses `body`, which came in for `bot` at `received_at`.
    ///
    /// The content is rewritten in place: a caller that needs the bytes as received copies them
    /// first, or has them [kept](ParserLimits::keep_bodies).
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the memory of the body.
    pub fn parse(
        &mut self,
        body: UpdateBody,
        bot: BotId,
        received_at: Instant,
    ) -> Result<Update, Rejected> {
        let oversized = body.len() > self.limits.body_kept_max_bytes;
        let mut document = self.spares.take_document(received_at);
        let ParserLimits { depth_max, keep_bodies, .. } = self.limits;
        let read = match Arc::get_mut(&mut document) {
            Some(sole) => {
                (sole.bot, sole.received_at) = (bot, received_at);
                sole.read(body, &mut self.buffers, depth_max, keep_bodies)
            }
            None => {
                debug_assert!(false, "a spare document has another owner");
                Err((ParseError::NotJson { offset: None }, body))
            }
        };
        // Scratch memory only ever grows.
        if oversized {
            self.buffers = fresh_buffers(self.limits);
        }
        match read {
            Ok(()) => Ok(Update::new(document)),
            Err((error, body)) => {
                self.spares.keep(document);
                Err(Rejected { error, body })
            }
        }
    }

    /// Takes the memory of an update that is done with; oversized memory is freed instead.
    pub fn keep(&mut self, recycled: Recycled) {
        if let Some(document) = recycled.into_document() {
            self.spares.keep(document);
        }
    }

    /// Takes the memory of a body that became no update, such as one of [`Rejected`].
    pub fn keep_body(&mut self, body: UpdateBody) {
        self.spares.keep_body(body);
    }

    /// How many spare bodies and how many spare tapes there are.
    #[must_use]
    pub fn spares(&self) -> (usize, usize) {
        self.spares.counts()
    }
}

impl Default for UpdateParser {
    fn default() -> Self {
        Self::new(ParserLimits::default())
    }
}

/// Scratch memory that grows with the first bodies.
fn fresh_buffers(limits: ParserLimits) -> Buffers {
    Buffers::with_max_depth(0, limits.depth_max)
}
