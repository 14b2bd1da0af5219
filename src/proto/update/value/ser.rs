//! Out of the tape: a value into any serde format.

use serde::{Serialize, Serializer};
use simd_json::{Node, StaticNode};

use super::Value;

/// Serialises to JSON of equal value: integers exact, floats to the same bits, keys in order and
/// as often as received. `-0` alone, an integer, comes out as `0`.
///
/// Recurses once per level of nesting, which the parser has bounded.
impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.node() {
            Node::Array { .. } => serializer.collect_seq(self.elements()),
            Node::Object { .. } => serializer.collect_map(self.entries()),
            Node::String(string) => serializer.serialize_str(string),
            Node::Static(StaticNode::Bool(truth)) => serializer.serialize_bool(truth),
            Node::Static(StaticNode::F64(number)) => serializer.serialize_f64(number),
            Node::Static(StaticNode::I64(number)) => serializer.serialize_i64(number),
            Node::Static(StaticNode::U64(number)) => serializer.serialize_u64(number),
            Node::Static(StaticNode::Null) => serializer.serialize_unit(),
        }
    }
}
