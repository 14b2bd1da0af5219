//! The chunked transfer coding (RFC 9112 section 7.1), one byte of framing after the other.

use crate::proto::update::UpdateBody;

use super::{
    HttpLimits, Status,
    body::Progress,
    syntax::{hex_value, is_token_byte, is_value_byte},
};

/// Digits of a chunk size, leading zeros among them: as many as 64 bits can have.
const SIZE_DIGITS_MAX: u8 = 16;

/// A reader of a chunked body.
///
/// Framing is read bytewise by a machine whose state is all it remembers, so that a cut may fall
/// anywhere; content is moved in as few pieces as it arrives in.
#[derive(Debug)]
pub(super) struct ChunkedReader {
    state: ChunkState,
    /// The size being read; then the bytes of this chunk that are still to come.
    size: u64,
    /// Digits of the size read so far.
    digits: u8,
    /// Bytes of content that the limit leaves for later chunks.
    body_room: u64,
    /// Bytes of extensions that the limit leaves.
    extension_room: usize,
    /// Bytes of trailers that the limit leaves.
    trailer_room: usize,
}

/// What the next byte has to be.
#[derive(Clone, Copy, Debug)]
enum ChunkState {
    /// A digit of the size, or what may follow it.
    Size,
    /// A blank before a semicolon, or that.
    Blank,
    /// A byte of the extensions, or CR.
    Extension,
    /// The LF after size and extensions.
    SizeLineFeed,
    /// Content.
    Content,
    /// The CR after content.
    ContentCarriageReturn,
    /// The LF after content.
    ContentLineFeed,
    /// The first byte of a trailer's name, or the CR of the empty line.
    TrailerStart,
    /// A byte of a trailer's name, or the colon.
    TrailerName,
    /// A byte of a trailer's value, or CR.
    TrailerValue,
    /// The LF after a trailer.
    TrailerLineFeed,
    /// The LF of the empty line.
    LastLineFeed,
}

impl ChunkedReader {
    /// A reader at the first size.
    pub(super) fn new(limits: &HttpLimits) -> Self {
        Self {
            state: ChunkState::Size,
            size: 0,
            digits: 0,
            body_room: limits.body_bytes as u64,
            extension_room: limits.extension_bytes,
            trailer_room: limits.trailer_bytes,
        }
    }

    /// Moves content from `input` to `body`, if there is one, and returns how many bytes it used.
    pub(super) fn read(
        &mut self,
        input: &[u8],
        mut body: Option<&mut UpdateBody>,
    ) -> (usize, Progress) {
        let mut rest = input;
        let progress = loop {
            if let ChunkState::Content = self.state {
                let wanted = usize::try_from(self.size).unwrap_or(usize::MAX);
                let (content, after) = rest.split_at_checked(wanted).unwrap_or((rest, &[]));
                if let Some(body) = body.as_deref_mut() {
                    body.extend(content);
                }
                rest = after;
                self.size = self.size.saturating_sub(content.len() as u64);
                if self.size > 0 {
                    break Progress::NeedMore;
                }
                self.state = ChunkState::ContentCarriageReturn;
            }
            let Some((byte, after)) = rest.split_first() else {
                break Progress::NeedMore;
            };
            rest = after;
            match self.step(*byte) {
                Ok(Some(next)) => self.state = next,
                Ok(None) => break Progress::Complete,
                Err(status) => break Progress::Reject(status),
            }
        };
        (input.len().saturating_sub(rest.len()), progress)
    }

    /// The state after one byte of framing; `None` after the last.
    ///
    /// # Errors
    ///
    /// 400 for a byte that may not stand here and for too long extensions, 413 for a chunk that
    /// would exceed the body's limit, 431 for too long trailers.
    fn step(&mut self, byte: u8) -> Result<Option<ChunkState>, Status> {
        let next = match (self.state, byte) {
            (ChunkState::Size, _) => self.size(byte)?,
            (ChunkState::Blank, b' ' | b'\t') => self.extension(ChunkState::Blank)?,
            (ChunkState::Blank, b';') => self.extension(ChunkState::Extension)?,
            (ChunkState::Extension, b'\r') => ChunkState::SizeLineFeed,
            // Strings in quotes need no care: neither CR nor LF can be in one.
            (ChunkState::Extension, _) if is_value_byte(byte) => {
                self.extension(ChunkState::Extension)?
            }
            (ChunkState::SizeLineFeed, b'\n') => self.chunk()?,
            (ChunkState::ContentCarriageReturn, b'\r') => ChunkState::ContentLineFeed,
            (ChunkState::ContentLineFeed, b'\n') => ChunkState::Size,
            (ChunkState::TrailerStart, b'\r') => ChunkState::LastLineFeed,
            (ChunkState::TrailerStart | ChunkState::TrailerName, _) if is_token_byte(byte) => {
                self.trailer(ChunkState::TrailerName)?
            }
            (ChunkState::TrailerName, b':') => self.trailer(ChunkState::TrailerValue)?,
            (ChunkState::TrailerValue, b'\r') => self.trailer(ChunkState::TrailerLineFeed)?,
            (ChunkState::TrailerValue, _) if is_value_byte(byte) => {
                self.trailer(ChunkState::TrailerValue)?
            }
            (ChunkState::TrailerLineFeed, b'\n') => self.trailer(ChunkState::TrailerStart)?,
            (ChunkState::LastLineFeed, b'\n') => return Ok(None),
            _ => return Err(Status::BadRequest),
        };
        Ok(Some(next))
    }

    /// A byte of the size line before its extensions.
    fn size(&mut self, byte: u8) -> Result<ChunkState, Status> {
        if let Some(value) = hex_value(byte) {
            if self.digits == SIZE_DIGITS_MAX {
                return Err(Status::BadRequest);
            }
            self.digits = self.digits.saturating_add(1);
            self.size = self.size << 4 | u64::from(value);
            return Ok(ChunkState::Size);
        }
        match byte {
            _ if self.digits == 0 => Err(Status::BadRequest),
            b'\r' => Ok(ChunkState::SizeLineFeed),
            b';' => self.extension(ChunkState::Extension),
            b' ' | b'\t' => self.extension(ChunkState::Blank),
            _ => Err(Status::BadRequest),
        }
    }

    /// The end of the size line.
    fn chunk(&mut self) -> Result<ChunkState, Status> {
        self.digits = 0;
        if self.size == 0 {
            return Ok(ChunkState::TrailerStart);
        }
        self.body_room = self.body_room.checked_sub(self.size).ok_or(Status::PayloadTooLarge)?;
        Ok(ChunkState::Content)
    }

    /// One more byte of extensions.
    fn extension(&mut self, next: ChunkState) -> Result<ChunkState, Status> {
        self.extension_room = self.extension_room.checked_sub(1).ok_or(Status::BadRequest)?;
        Ok(next)
    }

    /// One more byte of trailers.
    fn trailer(&mut self, next: ChunkState) -> Result<ChunkState, Status> {
        self.trailer_room = self.trailer_room.checked_sub(1).ok_or(Status::HeaderTooLarge)?;
        Ok(next)
    }
}
