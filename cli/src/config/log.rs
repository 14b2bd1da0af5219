//! `[log]`: what is written to standard error.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

use ringhook::Error;

/// How lines look and which are written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSection {
    /// What a line of the log looks like. `text` is in colours on a terminal.
    pub(crate) format: LogFormat,
    /// The least important lines that are written.
    pub(crate) level: LogLevel,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// An object of JSON.
    Json,
    /// For people; in colours on a terminal.
    #[default]
    Text,
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(Error::config("log.format", text, "text or json")),
        }
    }
}

/// The least important lines that are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Debug,
    Error,
    #[default]
    Info,
    Off,
    Trace,
    Warn,
}

impl LogLevel {
    pub(crate) fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Error => LevelFilter::ERROR,
            Self::Info => LevelFilter::INFO,
            Self::Off => LevelFilter::OFF,
            Self::Trace => LevelFilter::TRACE,
            Self::Warn => LevelFilter::WARN,
        }
    }
}

impl FromStr for LogLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "debug" => Ok(Self::Debug),
            "error" => Ok(Self::Error),
            "info" => Ok(Self::Info),
            "off" => Ok(Self::Off),
            "trace" => Ok(Self::Trace),
            "warn" => Ok(Self::Warn),
            _ => Err(Error::config("log.level", text, "off, error, warn, info, debug or trace")),
        }
    }
}
