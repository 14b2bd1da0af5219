//! The settings of the hand-off: order, attempts and what becomes of updates that failed.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::value::duration;
use crate::error::Error;

/// Order, attempts and leftovers of the hand-off to the handler.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct Dispatch {
    /// Where updates go that finally failed: NDJSON, mode 0600. Without it they are counted and
    /// logged.
    pub dead_letters: Option<PathBuf>,
    /// Whether updates are skipped to which Telegram takes no answer any more: callback, shipping
    /// and pre-checkout queries after 150 s of waiting, inline queries after 30 s; false.
    pub drop_expired: bool,
    /// How often a handler gets an update that it asks to have again; 10.
    pub max_attempts: u32,
    /// Whether messages of one album (`media_group_id`) are handled together: how long the next one
    /// is waited for, such as 800 ms. Without it each comes by itself.
    #[serde(with = "media_groups")]
    pub media_groups: Option<Duration>,
    /// What is kept in order: the updates of one chat ([`Order::Chat`]), or nothing
    /// ([`Order::None`]).
    pub order: Order,
}

/// In a file the wait stands in a table of its own: `{ wait = "800ms" }`.
mod media_groups {
    use super::{Deserialize, Duration, Serialize, duration};

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct MediaGroups {
        #[serde(with = "duration")]
        wait: Duration,
    }

    pub(super) fn deserialize<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        MediaGroups::deserialize(deserializer).map(|groups| Some(groups.wait))
    }

    pub(super) fn serialize<S>(wait: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        wait.map(|wait| MediaGroups { wait }).serialize(serializer)
    }
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            dead_letters: None,
            drop_expired: false,
            max_attempts: 10,
            media_groups: None,
            order: Order::Chat,
        }
    }
}

impl Dispatch {
    /// Longest time after which a handler can ask for an update again; longer ones are cut.
    pub const RETRY_MAX: Duration = Duration::from_secs(24 * 3600);

    pub(super) fn validate(&self) -> Result<(), Error> {
        if !(1..=1_000_000).contains(&self.max_attempts) {
            return Err(Error::config("dispatch.max_attempts", self.max_attempts, "1 to 1000000"));
        }
        if let Some(wait) = self.media_groups {
            let range = Duration::from_millis(1)..=Duration::from_secs(60);
            if !range.contains(&wait) {
                let wait = humantime::format_duration(wait);
                return Err(Error::config("dispatch.media_groups.wait", wait, "1ms to 1m"));
            }
            if self.order == Order::None {
                let expected = "order = \"chat\" beside it";
                return Err(Error::config("dispatch.media_groups", "(set)", expected));
            }
        }
        Ok(())
    }
}

/// Which updates reach the handler one at a time and in the order in which they were accepted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Order {
    /// Those of one chat (see [`ChatKey`](crate::proto::update::ChatKey)) of one bot.
    #[default]
    Chat,
    /// None: every update may be handled beside any other.
    None,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "chat",
            Self::None => "none",
        })
    }
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Chat, Self::None]
            .into_iter()
            .find(|order| order.to_string() == text)
            .ok_or_else(|| Error::config("dispatch.order", text, "chat or none"))
    }
}
