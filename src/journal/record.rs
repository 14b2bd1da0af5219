//! A record: one update's body as received, behind a header that can be checked by itself.
//!
//! | bytes | what |
//! |---|---|
//! | 0..3 | [`MARKER`]: bytes that are found in no UTF-8 text, so in no body |
//! | 3 | flags: 1 where the update was fed in on purpose |
//! | 4..8 | length of the body in bytes |
//! | 8..16 | `update_id` |
//! | 16..24 | when it was received, in microseconds since 1970 |
//! | 24..28 | the bot, as CRC32C of its name |
//! | 28..32 | CRC32C of the body |
//! | 32..36 | number of the segment |
//! | 36..40 | CRC32C of the 36 bytes before |
//!
//! Integers are little-endian. The number of the segment is part of what is checked, so a file that
//! is used again, with records of its former life in it, shows none of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{bots::BotKey, proto::update::UpdateId};

/// Length of a record's header in bytes.
pub(crate) const HEADER_BYTES: usize = 40;
/// Longest body in bytes: that of the largest `limits.body_bytes`.
pub(crate) const BODY_MAX: u32 = 64 << 20;
/// How a record begins. No JSON that the parser takes holds any of these bytes.
pub(super) const MARKER: [u8; 3] = [0xf8, 0xff, 0xfe];
/// The flag of an update that was fed in on purpose, although its id may have been seen.
const FED: u8 = 1;

/// Length of the record of a body of `body_len` bytes.
pub(crate) fn record_len(body_len: u64) -> u64 {
    HEADER_BYTES as u64 + body_len
}

/// What a record says about its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordHeader {
    /// The bot of the update.
    pub bot: BotKey,
    pub(crate) body_crc: u32,
    pub(crate) body_len: u32,
    /// Whether the update was fed in on purpose.
    pub is_fed: bool,
    /// Microseconds since 1970, UTC.
    pub received_us: i64,
    /// The update's id.
    pub update_id: UpdateId,
}

impl RecordHeader {
    /// The header of `body`.
    pub(crate) fn new(
        bot: BotKey,
        update_id: UpdateId,
        received_us: i64,
        is_fed: bool,
        body: &[u8],
    ) -> Self {
        Self {
            bot,
            body_crc: crc32c::crc32c(body),
            // A body is limited to 64 MiB.
            body_len: body.len() as u32,
            is_fed,
            received_us,
            update_id,
        }
    }

    /// Length of the whole record in bytes.
    pub fn record_len(&self) -> u64 {
        record_len(u64::from(self.body_len))
    }

    /// True where `body` is what was written.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        body.len() == self.body_len as usize && crc32c::crc32c(body) == self.body_crc
    }

    /// The header's bytes for a record of no segment yet; see [`seal`].
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, MARKER);
        put(&mut bytes, 3, [if self.is_fed { FED } else { 0 }]);
        put(&mut bytes, 4, self.body_len.to_le_bytes());
        put(&mut bytes, 8, self.update_id.get().to_le_bytes());
        put(&mut bytes, 16, self.received_us.to_le_bytes());
        put(&mut bytes, 24, self.bot.crc().to_le_bytes());
        put(&mut bytes, 28, self.body_crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of `bytes`; `None` where there is none of `segment`.
    pub(super) fn read(bytes: &[u8], segment: u32) -> Option<Self> {
        let (checked, _) = bytes.split_at_checked(36)?;
        let is_whole = checked.starts_with(&MARKER)
            && u32::from_le_bytes(take(bytes, 32)?) == segment
            && u32::from_le_bytes(take(bytes, 36)?) == crc32c::crc32c(checked);
        let body_len = u32::from_le_bytes(take(bytes, 4)?);
        // A forged header with a right checksum must not make the reader allocate that much.
        (is_whole && body_len <= BODY_MAX).then_some(())?;
        Some(Self {
            bot: BotKey::from_crc(u32::from_le_bytes(take(bytes, 24)?)),
            body_crc: u32::from_le_bytes(take(bytes, 28)?),
            body_len,
            is_fed: bytes.get(3)? & FED != 0,
            received_us: i64::from_le_bytes(take(bytes, 16)?),
            update_id: UpdateId::new(i64::from_le_bytes(take(bytes, 8)?)),
        })
    }
}

/// Makes the header at the start of `record` one of `segment`.
pub(crate) fn seal(record: &mut [u8], segment: u32) {
    let Some(header) = record.get_mut(..HEADER_BYTES) else { return };
    put(header, 32, segment.to_le_bytes());
    let crc = crc32c::crc32c(header.get(..36).unwrap_or_default());
    put(header, 36, crc.to_le_bytes());
}

/// Now, as records have it.
pub fn now_us() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}

/// The `N` bytes of `bytes` at `at`.
pub(super) fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn comes_back_as_written_and_no_bit_can_change(
            (bot, id, time) in any::<(u32, i64, i64)>(),
            (segment, other) in any::<(u32, u32)>(),
            is_fed in any::<bool>(),
            body in prop::collection::vec(any::<u8>(), 0..300),
            bit in any::<prop::sample::Index>(),
        ) {
            let header =
                RecordHeader::new(BotKey::from_crc(bot), UpdateId::new(id), time, is_fed, &body);
            let mut record = header.to_bytes().to_vec();
            record.extend(&body);
            prop_assert_eq!(RecordHeader::read(&record, 0), None, "not sealed yet");
            seal(&mut record, segment);
            let read = RecordHeader::read(&record, segment).unwrap();
            prop_assert_eq!(read, header);
            prop_assert!(read.fits(&record[HEADER_BYTES..]));
            prop_assert_eq!(read.record_len(), record.len() as u64);
            if other != segment {
                prop_assert_eq!(RecordHeader::read(&record, other), None);
            }
            let bit = bit.index(8 * record.len());
            record[bit / 8] ^= 1 << (bit % 8);
            let changed = RecordHeader::read(&record, segment);
            prop_assert!(changed.is_none_or(|header| !header.fits(&record[HEADER_BYTES..])));
        }
    }

    #[test]
    fn a_cut_header_is_none() {
        let header = RecordHeader::new(BotKey::from_crc(1), UpdateId::new(2), 3, false, b"{}");
        let mut record = header.to_bytes();
        seal(&mut record, 7);
        for end in 0..HEADER_BYTES {
            assert_eq!(RecordHeader::read(&record[..end], 7), None);
        }
    }
}
