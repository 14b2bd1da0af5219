//! The content of one request: finds its end, keeps or drops its bytes.

use crate::proto::update::UpdateBody;

use super::{Framing, HttpLimits, Status, chunked::ChunkedReader};

/// How far the content of one request has been read.
#[derive(Debug)]
pub(super) enum BodyReader {
    /// Chunks and trailers.
    Chunked(ChunkedReader),
    /// This many bytes are still to come.
    Length(usize),
}

/// What reading came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// All content has been read, and nothing after it.
    Complete,
    /// All bytes have been read and more belong to the content.
    NeedMore,
    /// The content breaks a rule; where it ends is not known.
    Reject(Status),
}

impl BodyReader {
    /// A reader at the first byte of content.
    pub(super) fn new(framing: Framing, limits: &HttpLimits) -> Self {
        match framing {
            Framing::Chunked => Self::Chunked(ChunkedReader::new(limits)),
            Framing::Length(length) => Self::Length(length),
            Framing::None => Self::Length(0),
        }
    }

    /// Moves content from `input` to `body`, if there is one, and returns how many bytes it used.
    #[inline]
    pub(super) fn read(
        &mut self,
        input: &[u8],
        body: Option<&mut UpdateBody>,
    ) -> (usize, Progress) {
        match self {
            Self::Chunked(reader) => reader.read(input, body),
            Self::Length(left) => {
                let content = input.get(..*left).unwrap_or(input);
                if let Some(body) = body {
                    body.extend(content);
                }
                *left = left.saturating_sub(content.len());
                let progress = if *left == 0 { Progress::Complete } else { Progress::NeedMore };
                (content.len(), progress)
            }
        }
    }
}
