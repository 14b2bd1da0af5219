//! `[profile]`: latency profiles and slow requests.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::Span;
use crate::{config::Profile, error::Error};

/// As typed: see [`Profile`] for `slow`; the rest is about files, which the library does not write.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfileSection {
    /// Where interval logs, percentile files and the last report go.
    pub(crate) dir: Option<PathBuf>,
    /// How long an interval takes.
    pub(crate) interval: Option<Span>,
    pub(crate) slow: Option<Span>,
}

impl ProfileSection {
    /// One second: what HdrHistogram's tools plot best.
    const INTERVAL: Span = Span(Duration::from_secs(1));

    pub(super) fn to_profile(&self) -> Result<Profile, Error> {
        let range = Duration::from_millis(10)..=Duration::from_secs(3600);
        let interval = self.interval();
        if !range.contains(&interval) {
            let interval = humantime::format_duration(interval);
            return Err(Error::config("profile.interval", interval, "10ms to 1h"));
        }
        Ok(Profile { slow: self.slow.map(|span| span.0) })
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(Self::INTERVAL).0
    }

    /// With every value written out.
    pub(super) fn effective(self) -> Self {
        Self { interval: Some(self.interval.unwrap_or(Self::INTERVAL)), ..self }
    }
}
