//! Which requests a server records as slow.

use std::time::Duration;

use crate::error::Error;

/// Which requests are kept as slow ones.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Profile {
    /// A request one of whose stages takes longer is kept in the report with its id, its bot and
    /// the time of each stage, as far as it is among the slowest. `None`: none is.
    pub slow: Option<Duration>,
}

impl Profile {
    /// Nothing is kept but what took longer than `slow`.
    #[must_use]
    pub fn slow(slow: Duration) -> Self {
        Self { slow: Some(slow) }
    }

    pub(super) fn validate(self) -> Result<(), Error> {
        let range = Duration::from_micros(1)..=Duration::from_secs(3600);
        if let Some(slow) = self.slow.filter(|slow| !range.contains(slow)) {
            let slow = humantime::format_duration(slow);
            return Err(Error::config("profile.slow", slow, "1us to 1h"));
        }
        Ok(())
    }
}
