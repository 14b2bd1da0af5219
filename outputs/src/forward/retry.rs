//! When a request that failed is made again.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use ringhook::update::{BotId, UpdateId};

/// The longest step of the ladder, in its units: 0, 1, 2, 4, 8, 16, 32, 60, 60 and so on.
const LADDER_MAX: u32 = 60;
/// The longest `Retry-After` that is honoured; longer ones are cut.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// The most updates whose failures are remembered.
const REMEMBERED_MAX: usize = 65_536;
/// How long failures are remembered of an update that is due and does not come: the server has
/// given it up.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Which update: the first one where an album is delivered as a whole.
pub(super) type UpdateKey = (BotId, UpdateId);

/// The wait after the `failures`-th failure, counted from 1, in units of `unit`.
pub(super) fn ladder(failures: u32, unit: Duration) -> Duration {
    let steps = match failures {
        0 | 1 => 0,
        _ => 1_u32.checked_shl(failures - 2).unwrap_or(LADDER_MAX),
    };
    unit * steps.min(LADDER_MAX)
}

/// What the value of `Retry-After` asks for: seconds or a date. `None` where it is neither.
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// What is remembered of updates that come again, since a
/// [`PendingUpdate`](ringhook::PendingUpdate) does not tell its attempt.
///
/// An entry goes when its update is settled. The server does not tell which updates it gave up, so
/// entries also go by age and by number. An update that is forgotten begins the ladder anew.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashMap<UpdateKey, Entry>,
    /// In the order of their dates of death. An entry that has been renewed stands in it several
    /// times; the last one counts.
    ends: VecDeque<(UpdateKey, u64)>,
    entered: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    /// Updates of an album that have been delivered, so that they do not go out again.
    delivered: usize,
    /// Which entry in `ends` is its own.
    number: u64,
    forget_at: Instant,
}

impl Memory {
    /// Counts a failure of an update that comes again after a wait which `wait` tells for the
    /// number of failures; gives that wait.
    pub(super) fn fail(
        &mut self,
        key: UpdateKey,
        delivered: usize,
        now: Instant,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Duration {
        let failures = self.entries.get(&key).map_or(0, |entry| entry.failures).saturating_add(1);
        let wait = wait(failures);
        self.entered += 1;
        let forget_at = now + wait + REMEMBERED_FOR;
        self.entries.insert(key, Entry { failures, delivered, number: self.entered, forget_at });
        self.ends.push_back((key, self.entered));
        if self.entries.len() > REMEMBERED_MAX || self.ends.len() > 2 * REMEMBERED_MAX {
            self.drop_oldest();
        }
        wait
    }

    /// Updates of the album that went out before.
    pub(super) fn delivered(&self, key: UpdateKey) -> usize {
        self.entries.get(&key).map_or(0, |entry| entry.delivered)
    }

    pub(super) fn forget(&mut self, key: UpdateKey) {
        self.entries.remove(&key);
    }

    /// Forgets what does not come any more.
    pub(super) fn sweep(&mut self, now: Instant) {
        // Waits differ, so that one entry may stay behind another one for up to an hour.
        while let Some((key, number)) = self.ends.front() {
            match self.entries.get(key) {
                Some(entry) if entry.number == *number && entry.forget_at > now => break,
                _ => self.drop_oldest(),
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn drop_oldest(&mut self) {
        if let Some((key, number)) = self.ends.pop_front()
            && self.entries.get(&key).is_some_and(|entry| entry.number == number)
        {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_ladder_grows_to_a_minute() {
        let steps: Vec<_> = (1..=10).map(|n| ladder(n, Duration::from_secs(1)).as_secs()).collect();
        assert_eq!(steps, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(ladder(u32::MAX, Duration::from_secs(1)).as_secs(), 60);
        assert_eq!(ladder(3, Duration::from_millis(1)), Duration::from_millis(2));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_an_hour_at_the_most() {
        let now = httpdate::parse_http_date("Tue, 01 Dec 2026 03:00:00 GMT").unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("99999", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Tue, 01 Dec 2026 03:00:09 GMT", Some(9)),
            ("Tue, 01 Dec 2026 02:00:00 GMT", Some(0)),
            ("Wed, 02 Dec 2026 03:00:00 GMT", Some(3600)),
            ("", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn failures_are_counted_until_an_update_is_settled() {
        let key = |id| (BotId::new(0), UpdateId::new(id));
        let (mut memory, now) = (Memory::default(), Instant::now());
        let mut fail =
            |id| memory.fail(key(id), 0, now, |n| Duration::from_secs(n.into())).as_secs();
        assert_eq!([fail(1), fail(1), fail(2), fail(1)], [1, 2, 1, 3]);
        memory.forget(key(1));
        assert_eq!(memory.fail(key(1), 2, now, |n| Duration::from_secs(n.into())).as_secs(), 1);
        assert_eq!((memory.delivered(key(1)), memory.delivered(key(3))), (2, 0));
        memory.sweep(now + REMEMBERED_FOR);
        assert_eq!(memory.len(), 2);
        memory.sweep(now + REMEMBERED_FOR + Duration::from_secs(1));
        assert_eq!((memory.len(), memory.ends.len()), (0, 0));
    }

    #[test]
    fn only_so_many_updates_are_remembered() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        for id in 0..3 * i64::try_from(REMEMBERED_MAX).unwrap() {
            memory.fail((BotId::new(0), UpdateId::new(id)), 0, now, |_| Duration::ZERO);
        }
        assert_eq!((memory.len(), memory.ends.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
