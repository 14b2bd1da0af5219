//! `[[output]]`: where updates go.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// One destination of updates. Without any there is one named `default` to `ndjson:-`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputSection {
    /// Its name in logs, reports and the journal.
    pub(crate) name: String,
    /// `ndjson:-` for lines of JSON on standard output, `ndjson:FILE`, or `null`.
    pub(crate) to: String,
    /// Whether a line has bot, kind and time beside the update. Without it, where there is more
    /// than one bot.
    pub(crate) meta: Option<bool>,
    /// When a file of lines is renamed to `FILE.1`, that one to `FILE.2` and so on, such as
    /// `{ size = "256MiB", keep = 8 }`. Without it never.
    pub(crate) rotate: Option<RotateTable>,
}

/// How large a file of lines may become, and how many older ones are kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateTable {
    /// The size at which it is renamed, in bytes, or as text such as `256MiB`.
    pub(crate) size: ByteSize,
    /// How many renamed ones are kept; 8.
    #[serde(default = "kept")]
    pub(crate) keep: u32,
}

fn kept() -> u32 {
    8
}

impl OutputSection {
    /// The one that is there where none is configured, with another destination.
    pub(crate) fn default_to(to: &str) -> Self {
        Self { name: "default".to_owned(), to: to.to_owned(), ..Self::default() }
    }
}
