//! The settings of the journal: what an update's 200 promises, and where it is kept meanwhile.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::value::{duration, size};
use crate::error::Error;

/// Most segments that fit into a journal: each needs two descriptors.
const SEGMENTS_MAX: u64 = 4096;

/// The journal: where updates are kept between their 200 and the end of their handling.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(default = "Journal::of_file", deny_unknown_fields)]
pub struct Journal {
    /// What a 200 promises: that the update is in a queue ([`Ack::Memory`]), written to a file,
    /// which outlives the process ([`Ack::Written`]), or synced to the disk, which outlives a power
    /// cut ([`Ack::Synced`]).
    pub ack: Ack,
    /// Its directory, which is made with mode 0700 and belongs to one process at a time. Needed
    /// unless `ack` is [`Ack::Memory`].
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// How long a start waits for another process to release the directory; 0 s.
    /// New connections wait in the kernel meanwhile.
    #[serde(with = "duration")]
    pub lock_wait: Duration,
    /// How large it may become, in bytes; 4 GiB. Beyond it, senders get 503 and `Retry-After: 1`.
    /// Beside it there is one more segment at the most, which is being prepared, and a few bytes
    /// for each update.
    #[serde(with = "size")]
    pub max_bytes: u64,
    /// Size of a segment in bytes; 64 MiB. A segment goes when all updates in it are settled.
    #[serde(with = "size")]
    pub segment_bytes: u64,
    /// With [`Ack::Written`], how long an update may take to reach the disk; 100 ms. Also how
    /// long the notes on settled updates may be, which after a power cut decide how many come
    /// twice.
    #[serde(with = "duration")]
    pub sync_interval: Duration,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            ack: Ack::Memory,
            dir: None,
            lock_wait: Duration::ZERO,
            max_bytes: 4 << 30,
            segment_bytes: 64 << 20,
            sync_interval: Duration::from_millis(100),
        }
    }
}

impl Journal {
    /// A journal in `dir` with the promise of `ack`.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>, ack: Ack) -> Self {
        Self { ack, dir: Some(dir.into()), ..Self::default() }
    }

    /// The defaults of a config file. A directory is given elsewhere, so updates are written.
    #[doc(hidden)]
    pub fn of_file() -> Self {
        Self { ack: Ack::Written, ..Self::default() }
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.ack == Ack::Memory {
            return Ok(());
        }
        if self.dir.is_none() {
            return Err(Error::config("journal.dir", "(none)", "a directory"));
        }
        let segments = 1 << 20..=2 << 30;
        if !segments.contains(&self.segment_bytes) {
            let expected = format!("{} to {}", segments.start(), segments.end());
            return Err(Error::config("journal.segment_bytes", self.segment_bytes, &expected));
        }
        let (least, most) = (2 * self.segment_bytes, SEGMENTS_MAX * self.segment_bytes);
        if !(least..=most).contains(&self.max_bytes) {
            let expected = format!("{least} to {most}, which is 2 to {SEGMENTS_MAX} segments");
            return Err(Error::config("journal.max_bytes", self.max_bytes, &expected));
        }
        if self.lock_wait > Duration::from_secs(3600) {
            let wait = humantime::format_duration(self.lock_wait);
            return Err(Error::config("journal.lock_wait", wait, "at most 1h"));
        }
        let intervals = Duration::from_millis(1)..=Duration::from_secs(60);
        if !intervals.contains(&self.sync_interval) {
            let interval = humantime::format_duration(self.sync_interval);
            return Err(Error::config("journal.sync_interval", interval, "1ms to 1m"));
        }
        Ok(())
    }
}

/// What has happened to an update before its sender gets 200.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ack {
    /// It is in a queue: it is lost with the process.
    #[default]
    Memory,
    /// It is synced to the disk: it outlives a power cut.
    Synced,
    /// It is written to a file: it outlives the process, however that ends.
    Written,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Synced => "synced",
            Self::Written => "written",
        })
    }
}

impl FromStr for Ack {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Memory, Self::Written, Self::Synced]
            .into_iter()
            .find(|ack| ack.to_string() == text)
            .ok_or_else(|| Error::config("journal.ack", text, "memory, written or synced"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn mistakes_name_the_key() {
        Journal::default().validate().unwrap();
        let good = Journal::at("x", Ack::Synced);
        good.validate().unwrap();
        for (bad, key) in [
            (Journal { dir: None, ..good.clone() }, "journal.dir = (none)"),
            (Journal { segment_bytes: 1, ..good.clone() }, "journal.segment_bytes = 1"),
            (Journal { max_bytes: 1 << 20, ..good.clone() }, "journal.max_bytes = 1048576"),
            (
                Journal { lock_wait: Duration::from_secs(3601), ..good.clone() },
                "journal.lock_wait = 1h 1s",
            ),
            (Journal { sync_interval: Duration::ZERO, ..good }, "journal.sync_interval = 0s"),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: expected")), "{error}");
        }
        assert_eq!("synced".parse::<Ack>().unwrap(), Ack::Synced);
        assert!("disk".parse::<Ack>().is_err());
    }
}
