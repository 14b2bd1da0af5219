//! `[profile]`: latency profiles and slow requests.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use ringhook::{
    Error,
    internals::config::value::{duration, optional_duration},
};

/// What is written about latencies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProfileSection {
    /// Where interval logs, percentile files and the last report go. Without it none is written.
    pub(crate) dir: Option<PathBuf>,
    /// How long an interval takes.
    #[serde(with = "duration")]
    pub(crate) interval: Duration,
    /// A request one of whose stages takes longer is named in the report. Without it none is.
    #[serde(with = "optional_duration")]
    pub(crate) slow: Option<Duration>,
}

impl Default for ProfileSection {
    fn default() -> Self {
        // What HdrHistogram's tools plot best.
        Self { dir: None, interval: Duration::from_secs(1), slow: None }
    }
}

impl ProfileSection {
    pub(super) fn check(&self) -> Result<(), Error> {
        let range = Duration::from_millis(10)..=Duration::from_secs(3600);
        if !range.contains(&self.interval) {
            let interval = humantime::format_duration(self.interval);
            return Err(Error::config("profile.interval", interval, "10ms to 1h"));
        }
        Ok(())
    }
}
