//! How a route is called in messages.

use std::fmt;

use serde::Serialize;

/// A route's number, counted from 1, and its name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RouteLabel {
    /// Its place among the routes, counted from 1.
    pub number: usize,
    /// Its name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl RouteLabel {
    pub(super) fn new(index: usize, name: Option<&str>) -> Self {
        Self { number: index.saturating_add(1), name: name.map(str::to_owned) }
    }
}

impl fmt::Display for RouteLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}", self.number)?;
        match &self.name {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}
