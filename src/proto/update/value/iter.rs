//! Iterators over arrays and objects.

use std::{fmt, iter::FusedIterator};

use simd_json::Node;

use super::Value;

/// The elements of an array, in order; made by [`Value::elements`].
#[derive(Clone)]
pub struct Elements<'a> {
    /// The nodes of the elements to come.
    rest: &'a [Node<'a>],
    left: usize,
}

impl<'a> Elements<'a> {
    pub(super) fn new(rest: &'a [Node<'a>], left: usize) -> Self {
        Self { rest, left }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (value, rest) = Value::split_first(self.rest)?;
        self.rest = rest;
        self.left = self.left.saturating_sub(1);
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Elements<'_> {}

impl FusedIterator for Elements<'_> {}

impl fmt::Debug for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.left)
    }
}

/// The keys and values of an object, in order; made by [`Value::entries`].
#[derive(Clone)]
pub struct Entries<'a> {
    /// The nodes of the entries to come: a key, then its value.
    rest: &'a [Node<'a>],
    left: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(rest: &'a [Node<'a>], left: usize) -> Self {
        Self { rest, left }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = Value::split_first(self.rest)?;
        let key = key.as_str()?;
        let (value, rest) = Value::split_first(rest)?;
        self.rest = rest;
        self.left = self.left.saturating_sub(1);
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

impl FusedIterator for Entries<'_> {}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.left)
    }
}
