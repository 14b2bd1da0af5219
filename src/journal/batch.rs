//! Batches of records, which go from a shard to the committer and back.

use std::time::Instant;

use super::record::{self, HEADER_BYTES, RecordHeader};
use crate::{bots::BotKey, proto::update::Update};

/// Memory for records that an empty batch keeps, in bytes.
const KEPT_BYTES: usize = 1024 * 1024;

/// The records that a shard has gathered, to be written together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The records, one behind the other.
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    /// The index of the shard or feeder to which it is returned.
    pub(super) batch_return: usize,
    /// Whether the records have been committed; false until they are.
    pub(super) is_committed: bool,
    pub(super) submitted_at: Instant,
}

/// One record of a batch.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where in the batch's bytes it begins.
    pub(super) at: usize,
    pub(super) is_fed: bool,
    /// The parsed form; taken when it goes to the workers.
    pub(super) update: Option<Update>,
    /// The ticket of the connection that waits for it.
    pub(super) ticket: usize,
}

/// A body that has been copied into a batch, to become a record or to be taken back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Staged {
    at: usize,
}

impl Batch {
    pub(crate) fn new(batch_return: usize) -> Self {
        Self {
            bytes: Vec::new(),
            entries: Vec::new(),
            batch_return,
            is_committed: false,
            submitted_at: Instant::now(),
        }
    }

    /// True where its records have been committed.
    pub(crate) fn is_committed(&self) -> bool {
        self.is_committed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the records so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets everything but the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.entries.clear();
        self.is_committed = false;
    }

    /// Copies `body` as it was received: the parser is about to rewrite it.
    pub(crate) fn stage(&mut self, body: &[u8]) -> Staged {
        let at = self.bytes.len();
        self.bytes.extend([0; HEADER_BYTES]);
        self.bytes.extend(body);
        Staged { at }
    }

    /// Removes a staged body that is no update.
    pub(super) fn discard(&mut self, staged: &Staged) {
        self.bytes.truncate(staged.at);
    }

    /// Makes the body that was staged last the record of `update`.
    pub(crate) fn push(
        &mut self,
        staged: &Staged,
        update: Update,
        bot: BotKey,
        received_us: i64,
        is_fed: bool,
        ticket: usize,
    ) {
        let (head, body) = self.bytes.split_at_mut(staged.at + HEADER_BYTES);
        let header = RecordHeader::new(bot, update.id(), received_us, is_fed, body);
        if let Some(place) = head.get_mut(staged.at..) {
            place.copy_from_slice(&header.to_bytes());
        }
        self.entries.push(Entry { at: staged.at, is_fed, update: Some(update), ticket });
    }

    /// Makes all records ones of `segment`.
    pub(super) fn seal(&mut self, segment: u32) {
        for entry in &self.entries {
            if let Some(record) = self.bytes.get_mut(entry.at..) {
                record::seal(record, segment);
            }
        }
    }
}
