//! What became of the updates of each bot, and how many there were of each kind.

use std::array;

use super::Counter;
use crate::{
    bots::BotId,
    proto::update::{Update, UpdateKind},
};

/// Bots whose counters are made together.
const CHUNK: usize = 64;

/// One worker's counts. They grow with the highest number of a bot.
#[derive(Debug)]
pub(crate) struct FinishedCounts {
    bots: boxcar::Vec<Box<Chunk>>,
    /// By place in [`UpdateKind::ALL`], and the last for what is unknown.
    kinds: [Counter; UpdateKind::ALL.len() + 1],
}

/// As a worker's other counters it begins and ends with pairs of cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Chunk([BotCounts; CHUNK]);

#[derive(Debug, Default)]
struct BotCounts {
    finished: Counter,
    failed: Counter,
}

impl Default for FinishedCounts {
    fn default() -> Self {
        let (bots, kinds) = (boxcar::Vec::new(), array::from_fn(|_| Counter::default()));
        Self { bots, kinds }
    }
}

impl FinishedCounts {
    /// Counts an update that needs no further call.
    #[inline]
    pub(crate) fn finish(&self, update: &Update) {
        if let Some(counts) = self.of(update.bot()) {
            counts.finished.increment();
        }
        if let Some(count) = self.kinds.get(update.kind() as usize) {
            count.increment();
        }
    }

    /// Counts it as failed as well.
    #[cold]
    pub(crate) fn fail(&self, update: &Update) {
        if let Some(counts) = self.of(update.bot()) {
            counts.failed.increment();
        }
    }

    #[inline]
    fn of(&self, bot: BotId) -> Option<&BotCounts> {
        let bot = bot.index() as usize;
        if bot / CHUNK >= self.bots.count() {
            self.grow(bot / CHUNK);
        }
        self.bots.get(bot / CHUNK)?.0.get(bot % CHUNK)
    }

    /// Makes all chunks up to this one; only the one thread that counts does.
    #[cold]
    fn grow(&self, chunk: usize) {
        while self.bots.count() <= chunk {
            self.bots.push(Box::new(Chunk(array::from_fn(|_| BotCounts::default()))));
        }
    }

    /// How many updates of `bot` were finished, and how many of these failed.
    pub(crate) fn of_bot(&self, bot: usize) -> (u64, u64) {
        let counts = self.bots.get(bot / CHUNK).and_then(|chunk| chunk.0.get(bot % CHUNK));
        counts.map_or((0, 0), |counts| (counts.finished.get(), counts.failed.get()))
    }

    /// How many updates of `kind` were finished.
    pub(crate) fn of_kind(&self, kind: UpdateKind) -> u64 {
        self.kinds.get(kind as usize).map_or(0, Counter::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_its_place() {
        for (place, kind) in UpdateKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
        assert_eq!(UpdateKind::Unknown as usize, UpdateKind::ALL.len());
    }

    #[test]
    fn counts_of_bots_are_apart_however_far_their_numbers_are() {
        let counts = FinishedCounts::default();
        for bot in [0, 63, 64, 1_999] {
            for _ in 0..=bot {
                if let Some(counts) = counts.of(BotId::new(bot)) {
                    counts.finished.increment();
                }
            }
        }
        for bot in [0, 63, 64, 1_999] {
            assert_eq!(counts.of_bot(bot), (bot as u64 + 1, 0));
        }
        assert_eq!((counts.of_bot(1), counts.of_bot(100_000)), ((0, 0), (0, 0)));
    }
}
