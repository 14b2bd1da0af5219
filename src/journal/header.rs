//! The head of a segment's file: which one it is, and where its predecessor ended.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..12 | version of the format |
//! | 12..16 | length of the head in bytes; records follow |
//! | 16..20 | number of this segment |
//! | 20..24 | number of the segment before it, 0 for none |
//! | 24..32 | where the records of that one end, in bytes |
//! | 32..40 | when this segment was begun, in microseconds since 1970 |
//! | 40..n-4 | the names of the bots, a JSON array, for people |
//! | n-4..n | CRC32C of everything before |

use super::record::take;

/// How every segment begins.
const MAGIC: [u8; 8] = *b"ringhook";
/// The format that this program writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes before the names.
const FIXED: usize = 40;
/// Longest head that is believed, in bytes.
pub(super) const HEAD_MAX: usize = 1 << 20;

/// What the head of a segment says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SegmentHeader {
    /// Names of the bots of the server that wrote it.
    pub(crate) bots: Vec<String>,
    pub(crate) created_us: i64,
    /// Where the records begin.
    pub(crate) len: u32,
    pub(crate) number: u32,
    /// The segment before this one and the length of what was acknowledged in it.
    pub(crate) previous: Option<(u32, u64)>,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HeaderError {
    /// There is nothing yet.
    Blank,
    /// It is not whole.
    Damaged,
    /// It is none.
    Foreign,
    /// It was written by a later ringhook.
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn new(
        number: u32,
        previous: Option<(u32, u64)>,
        created_us: i64,
        bots: &[String],
    ) -> Self {
        let mut header = Self { bots: bots.to_vec(), created_us, len: 0, number, previous };
        header.len = header.to_bytes().len() as u32;
        header
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut names = serde_json::to_vec(&self.bots).unwrap_or_default();
        if FIXED + names.len() + 4 > HEAD_MAX {
            names = b"[]".to_vec();
        }
        let len = FIXED + names.len() + 4;
        let (previous, end) = self.previous.unwrap_or_default();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((len as u32).to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(previous.to_le_bytes());
        bytes.extend(end.to_le_bytes());
        bytes.extend(self.created_us.to_le_bytes());
        bytes.extend(names);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the head at the start of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        let damaged = HeaderError::Damaged;
        let number_at = |at| take(bytes, at).map(u32::from_le_bytes).ok_or(damaged);
        let wide_at = |at| take(bytes, at).map(u64::from_le_bytes).ok_or(damaged);
        if bytes.iter().take(FIXED).all(|byte| *byte == 0) {
            return Err(HeaderError::Blank);
        }
        if !bytes.starts_with(&MAGIC) {
            // One that was not all written ends with zeros.
            let begun = bytes.iter().zip(MAGIC).take_while(|(byte, magic)| *byte == magic).count();
            let rest = bytes.iter().take(MAGIC.len()).skip(begun);
            let is_begun = rest.into_iter().all(|byte| *byte == 0);
            return Err(if is_begun { damaged } else { HeaderError::Foreign });
        }
        let len = number_at(12)? as usize;
        if !(FIXED + 4..=HEAD_MAX).contains(&len) {
            return Err(damaged);
        }
        let checked = bytes.get(..len - 4).ok_or(damaged)?;
        if number_at(len - 4)? != crc32c::crc32c(checked) {
            return Err(damaged);
        }
        let version = number_at(8)?;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let previous = Some((number_at(20)?, wide_at(24)?)).filter(|(number, _)| *number > 0);
        let names = checked.get(FIXED..).unwrap_or_default();
        Ok(Self {
            bots: serde_json::from_slice(names).map_err(|_| damaged)?,
            created_us: wide_at(32)?.cast_signed(),
            len: len as u32,
            number: number_at(16)?,
            previous,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;

    #[test]
    fn comes_back_as_written_and_nothing_else_does() {
        let bots = ["shop".to_owned(), "Ж \"quoted\"".to_owned()];
        for previous in [None, Some((6, 1 << 33))] {
            let header = SegmentHeader::new(7, previous, -5, &bots);
            let bytes = header.to_bytes();
            assert_eq!(bytes.len(), header.len as usize);
            assert_eq!(SegmentHeader::read(&bytes), Ok(header));
            assert_eq!(SegmentHeader::read(&[]), Err(HeaderError::Blank));
            for end in 1..bytes.len() {
                assert_eq!(SegmentHeader::read(&bytes[..end]), Err(HeaderError::Damaged));
            }
            for bit in 0..8 * bytes.len() {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let error =
                    if bit < 8 * MAGIC.len() { HeaderError::Foreign } else { HeaderError::Damaged };
                assert_eq!(SegmentHeader::read(&bytes), Err(error), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = SegmentHeader::new(1, None, 0, &[]).to_bytes();
        bytes[8] = 2;
        let end = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::read(&bytes), Err(HeaderError::Version(2)));
    }
}
