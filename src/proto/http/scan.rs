//! Finds the lines of a head, each byte looked at once however many pieces the head comes in.

use super::Status;

/// How far a head, whose first byte is the first unread one, has been looked through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    /// Where the second line begins; 0 while the first is not complete.
    first_line_end: usize,
    /// Where the first line that is not complete begins.
    line_start: usize,
    /// Complete lines after the first, the empty one not among them.
    fields: usize,
    /// Bytes that have been looked at.
    scanned: usize,
}

impl HeadScan {
    /// The next line without its CR LF; `None` where it is not complete.
    ///
    /// # Errors
    ///
    /// 400 for a line that ends with a bare LF. RFC 9112 section 2.2 allows it, and two readers
    /// that differ on it see different requests.
    #[inline]
    pub(super) fn next_line<'a>(&mut self, input: &'a [u8]) -> Result<Option<&'a [u8]>, Status> {
        let unseen = input.get(self.scanned..).unwrap_or_default();
        let Some(offset) = memchr::memchr(b'\n', unseen) else {
            self.scanned = self.scanned.max(input.len());
            return Ok(None);
        };
        let line_feed = self.scanned.saturating_add(offset);
        let line = input.get(self.line_start..line_feed).unwrap_or_default();
        let line = line.strip_suffix(b"\r").ok_or(Status::BadRequest)?;
        self.scanned = line_feed.saturating_add(1);
        self.line_start = self.scanned;
        if self.first_line_end == 0 {
            self.first_line_end = self.scanned;
        } else if !line.is_empty() {
            self.fields = self.fields.saturating_add(1);
        }
        Ok(Some(line))
    }

    /// The complete first line of `input` without its CR LF.
    pub(super) fn first_line<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        input.get(..self.first_line_end.saturating_sub(2)).unwrap_or_default()
    }

    /// What comes after the first line of `input`, up to the end of the last complete line.
    pub(super) fn after_first_line<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        input.get(self.first_line_end..self.line_start).unwrap_or_default()
    }

    /// Lines that are header fields or mean to be.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }

    /// True where no byte of a head has been seen.
    pub(super) fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// True where the first line is not complete.
    pub(super) fn is_in_first_line(&self) -> bool {
        self.first_line_end == 0
    }

    /// Where the last complete line ended: after the empty one, the length of the head.
    pub(super) fn position(&self) -> usize {
        self.line_start
    }
}
