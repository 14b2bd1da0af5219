//! `[sink]`: where the updates go.

use serde::{Deserialize, Serialize};

/// The destination of the updates and the form of its lines.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SinkSection {
    /// `ndjson:-` for standard output, `ndjson:FILE`, or `null`.
    pub(crate) to: String,
    /// Whether a line has bot, kind and time beside the update. Without it, where there is more
    /// than one bot.
    pub(crate) meta: Option<bool>,
}

impl Default for SinkSection {
    fn default() -> Self {
        Self { to: "ndjson:-".to_owned(), meta: None }
    }
}
