//! What is wrong with a setting of routes or fields, and what is odd about one.

use std::{error, fmt};

use ringhook::{Error, ErrorKind};

use super::RouteLabel;

/// A setting of routes or fields that is wrong: one line with its place, its key, its value and
/// what was expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteError {
    /// Such as `route 3 (photos)`.
    place: String,
    key: String,
    value: String,
    expected: String,
}

impl RouteError {
    pub(super) fn new(
        place: impl fmt::Display,
        key: impl Into<String>,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        let place = place.to_string();
        Self { place, key: key.into(), value: value.into(), expected: expected.into() }
    }

    /// The key whose value is wrong, such as `to` or `where."message.text"`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, value, expected } = self;
        write!(f, "{place}: {key} = {value}: expected {expected}")
    }
}

impl error::Error for RouteError {}

impl From<RouteError> for Error {
    fn from(error: RouteError) -> Self {
        Self::new(ErrorKind::Config, error.to_string())
    }
}

/// A route that can be compiled and is not what was meant, probably. `Display` is one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteWarning {
    /// The route.
    pub route: RouteLabel,
    /// What is odd about it.
    pub message: String,
}

impl fmt::Display for RouteWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.route, self.message)
    }
}
