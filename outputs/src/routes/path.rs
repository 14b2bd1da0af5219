//! A path from the root of an update to a value.

use std::fmt;

use ringhook::update::{Update, UpdateKind, Value};

use super::KindSet;

/// A path from the root of an update to a value: keys with dots in between, elements of arrays by
/// their numbers from 0, such as `message.photo.0.file_id`.
///
/// A path that begins with the name of a kind leads somewhere in updates of that kind only. This is
/// how the Bot API makes updates: they have one such field. What is null counts as not there. Of
/// several entries with one key the first counts.
#[derive(Clone)]
pub struct Path {
    text: Box<str>,
    /// The kind whose name the path begins with.
    kind: Option<UpdateKind>,
    /// What leads on from the payload where there is a kind, from the root where there is none.
    steps: Box<[Step]>,
}

/// One key.
#[derive(Clone)]
struct Step {
    key: Box<str>,
    /// Its number, where it is one and may name an element.
    index: Option<usize>,
}

impl Path {
    /// What a path looks like, for messages.
    pub(super) const EXPECTED: &str =
        "a path like \"message.photo\": keys with dots in between, from the root of the update";

    /// Reads a path; `None` where a key is empty or has white space.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = |key: &str| !key.is_empty() && !key.contains(char::is_whitespace);
        if !text.split('.').all(is_key) {
            return None;
        }
        let mut keys = text.split('.');
        let kind = UpdateKind::from_key(keys.clone().next()?);
        if kind.is_some() {
            keys.next();
        }
        Some(Self { text: text.into(), kind, steps: keys.map(Step::new).collect() })
    }

    /// The value that the path leads to, unless it is null.
    #[must_use]
    pub fn find<'a>(&self, update: &'a Update) -> Option<Value<'a>> {
        let start = match self.kind {
            None => update.root(),
            Some(kind) if kind == update.kind() => update.payload()?,
            Some(_) => return None,
        };
        let found = self.steps.iter().try_fold(start, |value, step| step.find(value))?;
        (!found.is_null()).then_some(found)
    }

    /// In updates of which kinds the path may lead to a value.
    pub(super) fn kinds(&self) -> KindSet {
        self.kind.map_or(KindSet::ANY, |kind| KindSet::new(&[kind]))
    }

    /// The key at the root, where it is none that this version knows.
    pub(super) fn unknown_root(&self) -> Option<&str> {
        let first = self.steps.first().filter(|_| self.kind.is_none())?;
        Some(&*first.key).filter(|key| *key != "update_id")
    }

    /// Whether the value is a word of the Bot API's own, which may be shown.
    pub(super) fn names_a_type(&self) -> bool {
        let last = self.steps.last().map(|step| &*step.key);
        matches!(last, Some("chat_type" | "status" | "type"))
    }
}

impl Step {
    fn new(key: &str) -> Self {
        let is_number = key.bytes().all(|byte| byte.is_ascii_digit());
        let index = key.parse().ok().filter(|_| is_number);
        Self { key: key.into(), index }
    }

    fn find<'a>(&self, value: Value<'a>) -> Option<Value<'a>> {
        match self.index {
            Some(index) if value.is_array() => value.index(index),
            _ => value.get(&self.key),
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
