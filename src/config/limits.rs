//! Every bound on what a peer or a slow handler can make the server hold or wait for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value::{duration, size};
use crate::error::Error;

/// Size of a fresh receive buffer: an ordinary request with its head fits. It grows by so much.
pub(crate) const RECEIVE_BYTES: usize = 4096;
/// The most that TLS holds of a connection, which is in TLS 1.2: a read of 16 KiB, what was left of
/// a record before it, as it came and decrypted, and a record to be written.
const TLS_BYTES: usize = 96 * 1024;

/// Bounds with their units and defaults; [`Limits::default`] suits Telegram's sender.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest request line plus headers, in bytes; 8 KiB. Telegram sends at most 4 KiB.
    /// A longer one is answered 431 (414 where the target alone is too long, which may have half of
    /// it).
    #[serde(with = "size")]
    pub head_bytes: usize,
    /// Largest body in bytes; 1 MiB. Telegram sends at most half of it. Larger: 413.
    #[serde(with = "size")]
    pub body_bytes: usize,
    /// Deepest nesting of a body's objects and arrays; 128. Deeper: 400.
    pub json_depth: usize,
    /// Time from accept to the end of the TLS handshake; 10 s. A slower one is cut off and counted
    /// as `handshake_timeout`.
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
    /// TLS handshakes in progress in each shard; 512. Beyond it a new connection waits for its
    /// handshake, in the order of arrival, and while one waits, handshakes that have taken longer
    /// than a second are cut off (`handshake_displaced`). The wait is a part of
    /// `handshake_timeout`.
    pub handshakes: usize,
    /// Connections of each shard that may wait for their handshake; 2,048. Beyond it a new one is
    /// closed at once (`handshakes`).
    pub handshakes_waiting: usize,
    /// Time from a request's first byte, or that of the TLS record it is in, to the end of its
    /// head; 10 s. A slower one is answered 408 and its connection closed (`head_timeout`).
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Time from the end of a request's head to the end of its body; 30 s. Slower: 408, likewise
    /// (`body_timeout`).
    /// Telegram gives up after 60 s for both and the answer.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// The least that a body must come to on average, in bytes a second, 0 for no bound; 500.
    /// Slower: 408, likewise (`body_rate`). A TLS record, of 16 KiB at the most, counts when it is
    /// whole.
    #[serde(with = "size")]
    pub body_bytes_per_second: usize,
    /// Time that a body has before `body_bytes_per_second` is asked for, and which does not count
    /// in the average; 5 s.
    #[serde(with = "duration")]
    pub body_grace: Duration,
    /// Time from a request's last byte until its peer has taken the answer, the journal's part
    /// included; 10 s. A peer that takes longer is cut off (`answer_timeout`).
    #[serde(with = "duration")]
    pub answer_timeout: Duration,
    /// How long a connection may stay silent between requests; 75 s. Then it is closed without an
    /// answer, since a 408 would be taken for the next request's (`idle_timeout`). Telegram closes
    /// its side after 60 s, so the server should wait longer than that.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Updates that may be under way between their 200 and the end of their handling; 65,536. Each
    /// takes about 5 KB of memory at 1.3 KB bodies. Beyond it, and beyond the next two, updates
    /// wait in the journal; without one the sender gets 503 and `Retry-After: 1`
    /// (`updates_refused`).
    pub queue_updates: usize,
    /// Bytes of the bodies of these updates, as received; 128 MiB. Parsed they take about three
    /// times as much memory. At least twice `body_bytes`: each shard keeps a little for its next
    /// updates, and the longest body has to fit beside that.
    #[serde(with = "size")]
    pub queue_bytes: usize,
    /// Updates of one chat that may wait for the one before them; 256. The other chats of the bot
    /// go on when one is at its limit. A few more get in until the workers have noticed.
    pub chat_updates: usize,
    /// Requests answered on one connection, 0 for no limit; 0. The last answer says `Connection:
    /// close` (`request_limit`). Telegram makes at most 20 new connections a second for each bot.
    pub requests_per_connection: u64,
    /// Connections at a time; 100,000. Beyond it a new one replaces the one that has been idle
    /// longest, for a second at least (`displaced`); where none has, the new one is closed at once
    /// (`connections`). Where the process may open fewer files, accepting pauses before.
    pub connections: usize,
    /// Connections of one address at a time, an IPv6 one standing for its /64, 0 for no limit; 0.
    /// Beyond it the new one is closed at once (`per_address`). Telegram has few addresses
    /// and opens up to 100 connections for each bot.
    pub connections_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            body_bytes: 1024 * 1024,
            json_depth: 128,
            handshake_timeout: Duration::from_secs(10),
            handshakes: 512,
            handshakes_waiting: 2048,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_bytes_per_second: 500,
            body_grace: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            queue_updates: 65_536,
            queue_bytes: 128 * 1024 * 1024,
            chat_updates: 256,
            requests_per_connection: 0,
            connections: 100_000,
            connections_per_address: 0,
        }
    }
}

impl Limits {
    /// The most bytes that the server holds for one connection of what its peer has sent: in TLS,
    /// in the receive buffer, which a head has to fit, and in the body under way, whose memory may
    /// be twice its length while it grows. What a peer sends beyond that, pipelined requests for
    /// example, stays with the kernel until those before are answered.
    #[must_use]
    pub const fn connection_bytes(&self) -> usize {
        let (head, body) = (self.head_bytes, self.body_bytes.saturating_mul(2));
        TLS_BYTES.saturating_add(RECEIVE_BYTES).saturating_add(head).saturating_add(body)
    }

    /// The shortest of the timeouts.
    pub(crate) fn shortest_timeout(&self) -> Duration {
        self.timeouts().into_iter().map(|(_, timeout)| timeout).min().unwrap_or_default()
    }

    fn timeouts(&self) -> [(&'static str, Duration); 6] {
        [
            ("limits.handshake_timeout", self.handshake_timeout),
            ("limits.head_timeout", self.head_timeout),
            ("limits.body_timeout", self.body_timeout),
            ("limits.body_grace", self.body_grace),
            ("limits.answer_timeout", self.answer_timeout),
            ("limits.idle_timeout", self.idle_timeout),
        ]
    }

    /// Checks each bound against the range in which the server works.
    ///
    /// # Errors
    /// A [`Config`](crate::ErrorKind::Config) error that names the key, its value and the range.
    pub fn validate(&self) -> Result<(), Error> {
        let size = |key: &str, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::config(key, value, &format!("{min} to {max}")))
        };
        size("limits.head_bytes", self.head_bytes, 512, 64 * 1024)?;
        size("limits.body_bytes", self.body_bytes, 1024, 64 * 1024 * 1024)?;
        size("limits.json_depth", self.json_depth, 8, 1024)?;
        size("limits.handshakes", self.handshakes, 1, 1 << 20)?;
        size("limits.handshakes_waiting", self.handshakes_waiting, 0, 1 << 20)?;
        size("limits.body_bytes_per_second", self.body_bytes_per_second, 0, 1 << 30)?;
        size("limits.queue_updates", self.queue_updates, 1, 1 << 24)?;
        size("limits.queue_bytes", self.queue_bytes, 2 * self.body_bytes, usize::MAX / 2)?;
        size("limits.chat_updates", self.chat_updates, 1, 1 << 20)?;
        size("limits.connections", self.connections, 1, 1 << 24)?;
        let per_address = self.connections_per_address;
        size("limits.connections_per_address", per_address, 0, 1 << 24)?;
        let day = Duration::from_secs(24 * 3600);
        for (key, value) in self.timeouts() {
            if value < Duration::from_millis(10) || value > day {
                let value = humantime::format_duration(value);
                return Err(Error::config(key, value, "10ms to 24h"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn defaults_are_valid_and_errors_name_the_key() {
        Limits::default().validate().unwrap();
        let limits = Limits { head_bytes: 1, ..Limits::default() };
        let error = limits.validate().unwrap_err();
        assert!(error.is_usage());
        assert_eq!(error.to_string(), "limits.head_bytes = 1: expected 512 to 65536");
        let limits = Limits { idle_timeout: Duration::ZERO, ..Limits::default() };
        assert!(limits.validate().unwrap_err().to_string().contains("limits.idle_timeout"));
    }
}
