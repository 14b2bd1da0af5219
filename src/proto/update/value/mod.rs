//! A read-only view of one JSON value.

mod de;
mod iter;
mod ser;

use std::fmt;

use serde::Deserialize;
use simd_json::{Node, StaticNode};

pub use de::DeserializeError;
pub use iter::{Elements, Entries};

/// One JSON value inside an [`Update`](super::Update): two words, `Copy`, borrowed from it.
///
/// Asking a value for what it is not gives `None`, no elements or a length of zero, never a panic.
/// Of several entries with one key, [`get`](Self::get) finds the first and
/// [`entries`](Self::entries) shows all. Strings are unescaped already. `Debug` shows type and
/// length, never the content.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// The value's own node, then the nodes of all that is inside it.
    nodes: &'a [Node<'a>],
}

impl<'a> Value<'a> {
    /// A view of `nodes`, which are one value from head to end.
    pub(super) fn new(nodes: &'a [Node<'a>]) -> Self {
        Self { nodes }
    }

    /// The value that begins with the first of `nodes`, and the nodes after it.
    fn split_first(nodes: &'a [Node<'a>]) -> Option<(Self, &'a [Node<'a>])> {
        let count = match nodes.first()? {
            Node::Array { count, .. } | Node::Object { count, .. } => count.saturating_add(1),
            Node::String(_) | Node::Static(_) => 1,
        };
        let (value, rest) = nodes.split_at_checked(count)?;
        Some((Self { nodes: value }, rest))
    }

    fn node(self) -> Node<'a> {
        // The invariant of `new` leaves no value without a node.
        self.nodes.first().copied().unwrap_or(Node::Static(StaticNode::Null))
    }

    /// The nodes inside the value.
    fn inner(self) -> &'a [Node<'a>] {
        self.nodes.get(1..).unwrap_or_default()
    }

    /// The string, unescaped.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        match self.node() {
            Node::String(string) => Some(string),
            _ => None,
        }
    }

    /// The integer, if it fits; a number with fraction or exponent (`1.0`, `1e3`) is none.
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        match self.node() {
            Node::Static(StaticNode::I64(number)) => Some(number),
            Node::Static(StaticNode::U64(number)) => number.try_into().ok(),
            _ => None,
        }
    }

    /// The integer, if it is not negative; a number with fraction or exponent (`1.0`, `1e3`) is
    /// none.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        match self.node() {
            Node::Static(StaticNode::I64(number)) => number.try_into().ok(),
            Node::Static(StaticNode::U64(number)) => Some(number),
            _ => None,
        }
    }

    /// The number; integers beyond 2^53 are rounded.
    #[must_use]
    pub fn as_f64(self) -> Option<f64> {
        match self.node() {
            Node::Static(StaticNode::F64(number)) => Some(number),
            Node::Static(StaticNode::I64(number)) => Some(number as f64),
            Node::Static(StaticNode::U64(number)) => Some(number as f64),
            _ => None,
        }
    }

    /// The truth value.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.node() {
            Node::Static(StaticNode::Bool(truth)) => Some(truth),
            _ => None,
        }
    }

    /// True for `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.node(), Node::Static(StaticNode::Null))
    }

    /// True for an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        matches!(self.node(), Node::Object { .. })
    }

    /// True for an array.
    #[must_use]
    pub fn is_array(self) -> bool {
        matches!(self.node(), Node::Array { .. })
    }

    /// Number of elements of an array or of entries of an object, repeated keys counted; 0 for
    /// anything else, strings too.
    #[must_use]
    pub fn len(self) -> usize {
        match self.node() {
            Node::Array { len, .. } | Node::Object { len, .. } => len,
            Node::String(_) | Node::Static(_) => 0,
        }
    }

    /// True where [`len`](Self::len) is zero.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The entry `key` of an object; of several, the first. Walks over the entries before it.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Self> {
        self.entries().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The element at `index` of an array. Walks over the elements before it.
    #[must_use]
    pub fn index(self, index: usize) -> Option<Self> {
        self.elements().nth(index)
    }

    /// The elements of an array in order; none for anything else.
    #[must_use]
    pub fn elements(self) -> Elements<'a> {
        match self.node() {
            Node::Array { len, .. } => Elements::new(self.inner(), len),
            _ => Elements::new(&[], 0),
        }
    }

    /// The entries of an object in order, repeated keys included; none for anything else.
    #[must_use]
    pub fn entries(self) -> Entries<'a> {
        match self.node() {
            Node::Object { len, .. } => Entries::new(self.inner(), len),
            _ => Entries::new(&[], 0),
        }
    }

    /// Reads the value as a type of one's own.
    ///
    /// Nothing is allocated or copied but what `T` itself owns: `&'a str` fields borrow from the
    /// update, and fields that `T` does not have are stepped over, however large. A derived `T`
    /// takes a repeated key for an error where it is one of its fields.
    ///
    /// # Errors
    ///
    /// [`DeserializeError`] if the value has not the shape of `T`.
    pub fn deserialize<T: Deserialize<'a>>(self) -> Result<T, DeserializeError> {
        T::deserialize(self)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Node::Array { len, .. } => write!(f, "array of {len}"),
            Node::Object { len, .. } => write!(f, "object of {len}"),
            Node::String(string) => write!(f, "string of {} bytes", string.len()),
            Node::Static(StaticNode::Bool(_)) => f.write_str("boolean"),
            Node::Static(StaticNode::Null) => f.write_str("null"),
            Node::Static(_) => f.write_str("number"),
        }
    }
}
