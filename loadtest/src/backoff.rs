//! How long Telegram waits before it sends a refused update again.

/// The longest `Retry-After` that is honoured, in seconds.
const RETRY_AFTER_MAX_S: u32 = 3600;

/// The tries of one request that were in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Backoff {
    failures: u32,
    /// The last delay that the server did not choose, in seconds.
    delay_s: u32,
}

impl Backoff {
    /// Shortest and longest of what the delays are cut to, in seconds; chance says where.
    pub(crate) const CUT_S: (u64, u64) = (60, 120);

    /// How many tries were in vain.
    pub(crate) fn failures(self) -> u32 {
        self.failures
    }

    /// Counts another. How many seconds to wait for the next try: what the server asked for, else 0
    /// once and then twice as long as the time before, from 2 up to `cut_s`.
    pub(crate) fn fail(&mut self, retry_after_s: u32, cut_s: u32) -> u32 {
        let first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        if retry_after_s > 0 {
            return retry_after_s.min(RETRY_AFTER_MAX_S);
        }
        if first {
            return 0;
        }
        self.delay_s = (self.delay_s.max(1) * 2).min(cut_s);
        self.delay_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_the_second_failure_up_to_the_cut() {
        let mut backoff = Backoff::default();
        let delays: Vec<u32> =
            [90, 60, 60, 60, 60, 60, 63, 90, 120].map(|cut| backoff.fail(0, cut)).to_vec();
        assert_eq!(delays, [0, 2, 4, 8, 16, 32, 63, 90, 120]);
        assert_eq!(backoff.failures(), 9);
    }

    #[test]
    fn what_the_server_asks_for_counts_instead_and_doubles_nothing() {
        let mut backoff = Backoff::default();
        let asked = [(7, 7), (0, 2), (1, 1), (9999, 3600), (0, 4)];
        for (retry_after, delay) in asked {
            assert_eq!(backoff.fail(retry_after, 60), delay);
        }
    }
}
