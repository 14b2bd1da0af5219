//! The record of what was asked.

use std::{collections::BTreeMap, time::Instant};

/// One call of a method.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it had come in full.
    pub(crate) at: Instant,
    /// `GET` or `POST`.
    pub(crate) verb: String,
    /// As it came; empty where there was none.
    pub(crate) token: String,
    /// As it came.
    pub(crate) method: String,
    /// Of query and body, all as text; lists as their JSON.
    pub(crate) parameters: BTreeMap<String, String>,
    /// What was uploaded, by the field's name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// `None` while it waits for its answer.
    pub(crate) status: Option<u16>,
}

impl Call {
    /// A parameter; empty where it was not given.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// A whole number as the server reads it: `default` where it was not given, 0 where it is none,
    /// and within `min` and `max` at any rate.
    pub(super) fn number(&self, name: &str, default: i64, min: i64, max: i64) -> i64 {
        let text = self.text(name);
        let digits = |(at, byte): (usize, u8)| byte.is_ascii_digit() || (at == 0 && byte == b'-');
        let end = text.bytes().enumerate().take_while(|it| digits(*it)).count();
        let given = if text.is_empty() { default } else { text[..end].parse().unwrap_or(0) };
        given.clamp(min, max)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name).trim().to_lowercase().as_str(), "true" | "yes" | "1")
    }
}
