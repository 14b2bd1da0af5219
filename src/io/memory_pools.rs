//! The memory of a shard: what requests and updates are read into, and comes back from the workers.

use std::{cell::RefCell, time::Instant};

use crossbeam_channel::Receiver;

use super::config_snapshot::ConfigSnapshot;
use crate::{
    bots::BotId,
    proto::update::{
        ParseError, ParserLimits, Recycled, Rejected, Update, UpdateBody, UpdateParser,
    },
    tls::recv_buffer::BufferPool,
};

/// Memory taken back from the workers at once, where the parser has none left.
const RECLAIM_UPDATES: usize = 64;

/// Memory that connections borrow.
pub(crate) struct MemoryPools {
    /// For received bytes that no request has taken yet, between two connections.
    pub(crate) buffers: BufferPool,
    parser: RefCell<UpdateParser>,
    /// Memory that comes back from the workers.
    returns: Receiver<Recycled>,
}

impl MemoryPools {
    /// Of a parser by `snapshot`.
    pub(crate) fn new(snapshot: &ConfigSnapshot, returns: Receiver<Recycled>) -> Self {
        let parser = UpdateParser::new(ParserLimits {
            depth_max: snapshot.limits.json_depth,
            keep_bodies: snapshot.keep_bodies,
            ..ParserLimits::default()
        });
        Self { buffers: BufferPool::default(), parser: RefCell::new(parser), returns }
    }

    /// Parses from now on by `snapshot`.
    pub(crate) fn apply(&self, snapshot: &ConfigSnapshot) {
        let mut parser = self.parser.borrow_mut();
        parser.set_depth_max(snapshot.limits.json_depth);
        parser.set_keep_bodies(snapshot.keep_bodies);
    }

    /// An empty body: one that has come back, or a new one.
    pub(crate) fn take_body(&self) -> UpdateBody {
        let mut parser = self.parser.borrow_mut();
        if parser.spares().0 == 0 {
            for recycled in self.returns.try_iter().take(RECLAIM_UPDATES) {
                parser.keep(recycled);
            }
        }
        parser.take_body(0)
    }

    /// Takes back a body that became no update.
    pub(crate) fn keep_body(&self, body: UpdateBody) {
        self.parser.borrow_mut().keep_body(body);
    }

    /// Takes back the memory of an update.
    pub(crate) fn keep(&self, recycled: Recycled) {
        self.parser.borrow_mut().keep(recycled);
    }

    /// Parses `body` in place.
    ///
    /// # Errors
    /// Where it is no update; its memory has been kept.
    pub(crate) fn parse(
        &self,
        body: UpdateBody,
        bot: BotId,
        received_at: Instant,
    ) -> Result<Update, ParseError> {
        let mut parser = self.parser.borrow_mut();
        parser.parse(body, bot, received_at).map_err(|Rejected { error, body, .. }| {
            parser.keep_body(body);
            error
        })
    }
}
