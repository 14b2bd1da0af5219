//! From a body to an update.

use std::{sync::Arc, time::Instant};

use simd_json::{Buffers, DEFAULT_MAX_DEPTH};

use super::{
    BotId, ParseError, Recycled, Rejected, Update, UpdateBody, document::scratch, spares::Spares,
};

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
    /// How many bodies and how many tapes are kept; default 128 of each.
    ///
    /// With the other defaults that is at most 28 MiB per parser, and about 1 MiB with updates of
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
    /// Whether a value was asked for of the update that came back last. Then one of the next will
    /// be asked for as well, so it is parsed at once, and not scanned before.
    are_values_asked: bool,
    spares: Spares,
    limits: ParserLimits,
}

impl UpdateParser {
    /// A parser within `limits`; of `depth_max` at most 1,024 is used.
    #[must_use]
    pub fn new(limits: ParserLimits) -> Self {
        let limits = ParserLimits { depth_max: limits.depth_max.min(DEFAULT_MAX_DEPTH), ..limits };
        Self {
            buffers: scratch(limits.depth_max),
            are_values_asked: false,
            spares: Spares::new(limits),
            limits,
        }
    }

    /// Changes how deep arrays and objects may nest, from the next body on; at most 1,024.
    pub fn set_depth_max(&mut self, depth_max: usize) {
        let depth_max = depth_max.min(DEFAULT_MAX_DEPTH);
        if depth_max != self.limits.depth_max {
            self.limits.depth_max = depth_max;
            self.buffers = scratch(depth_max);
        }
    }

    /// An empty body with room for `capacity` bytes, from the spare ones if there are any.
    #[must_use]
    pub fn take_body(&mut self, capacity: usize) -> UpdateBody {
        let mut body = self.spares.take_body();
        body.reserve(capacity);
        body
    }

    /// Makes an update of `body`, which came in for `bot` at `received_at`.
    ///
    /// The body stays as it is. It is proved to be JSON here. Its values are parsed here as well
    /// where they were asked for of the last update that came back, else by the first that asks.
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
        let read = match Arc::get_mut(&mut document) {
            Some(sole) => {
                (sole.bot, sole.received_at) = (bot, received_at);
                let depth_max = self.limits.depth_max;
                sole.read(body, &mut self.buffers, depth_max, self.are_values_asked)
            }
            None => {
                debug_assert!(false, "a spare document has another owner");
                Err((ParseError::NotJson { offset: None }, body))
            }
        };
        // Scratch memory only ever grows.
        if oversized {
            self.buffers = scratch(self.limits.depth_max);
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
            self.are_values_asked = document.was_asked();
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
