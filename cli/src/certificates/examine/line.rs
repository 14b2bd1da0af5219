//! One thing that was looked at, and how much it matters.

use serde::Serialize;

use ringhook::FindingKind;

/// How much something matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) level: Level,
    /// In one word.
    pub(crate) check: &'static str,
    pub(crate) what: String,
    /// What to do, where there is something.
    pub(crate) fix: Option<String>,
}

impl Line {
    pub(crate) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, what: what.into(), fix: None }
    }

    pub(crate) fn warn(check: &'static str, what: impl Into<String>, fix: &str) -> Self {
        Self { level: Level::Warn, check, what: what.into(), fix: Some(fix.to_owned()) }
    }

    pub(crate) fn fail(check: &'static str, what: impl Into<String>, fix: &str) -> Self {
        Self { level: Level::Fail, check, what: what.into(), fix: Some(fix.to_owned()) }
    }

    pub(super) fn new(level: Level, check: &'static str, kind: &FindingKind) -> Self {
        Self { level, check, what: kind.what(), fix: Some(kind.fix()) }
    }
}
