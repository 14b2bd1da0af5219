//! Numbers of our own for updates: each is above all that were given before.

/// The largest number that every library can hold.
const MAX: i64 = i32::MAX as i64;
/// From here on numbering begins anew when a client does.
const HIGH: i64 = 1 << 30;

/// The numbers of one consumer.
pub(super) struct Numbers {
    next: i64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { next: 1 }
    }
}

impl Numbers {
    /// Takes the offset of a poll, while so many updates are handed out. Gives the first number of
    /// those where numbering begins anew.
    pub(super) fn hear(&mut self, offset: i64, handed_out: usize) -> Option<i64> {
        let handed_out = i64::try_from(handed_out).unwrap_or(MAX);
        let is_new_client = offset <= 0;
        if (is_new_client && self.next > HIGH) || self.next >= MAX {
            self.next = 1_i64.saturating_add(handed_out);
            return Some(1);
        }
        // This process has begun after the client, which takes nothing below its offset.
        if offset > self.next && offset < MAX {
            self.next = offset;
        }
        None
    }

    pub(super) fn next(&mut self) -> i64 {
        let next = self.next;
        self.next += 1;
        next
    }
}
