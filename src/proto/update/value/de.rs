//! Out of the tape: a value into a type of one's own.

use std::{error::Error, fmt};

use serde::{
    Deserializer,
    de::{
        self, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{BorrowedStrDeserializer, MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use simd_json::{Node, StaticNode};

use super::{Entries, Value};

/// Reads straight off the tape, so the parser in use shows neither in types nor in errors.
///
/// Recurses once per level of nesting, which the parser has bounded.
impl<'de> Deserializer<'de> for Value<'de> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.node() {
            Node::Array { .. } => {
                let mut elements = SeqDeserializer::new(self.elements());
                let value = visitor.visit_seq(&mut elements)?;
                // A tuple shorter than the array would lose elements in silence.
                elements.end().map(|()| value)
            }
            Node::Object { .. } => {
                let mut entries = MapDeserializer::new(Fields(self.entries()));
                let value = visitor.visit_map(&mut entries)?;
                entries.end().map(|()| value)
            }
            Node::String(string) => visitor.visit_borrowed_str(string),
            Node::Static(StaticNode::Bool(truth)) => visitor.visit_bool(truth),
            Node::Static(StaticNode::F64(number)) => visitor.visit_f64(number),
            Node::Static(StaticNode::I64(number)) => visitor.visit_i64(number),
            Node::Static(StaticNode::U64(number)) => visitor.visit_u64(number),
            Node::Static(StaticNode::Null) => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    /// A string is a variant without content, an object of one entry a variant with content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.node() {
            Node::Object { len: 1, .. } => visitor.visit_enum(MapAccessDeserializer::new(
                MapDeserializer::new(Fields(self.entries())),
            )),
            Node::String(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            _ => Err(de::Error::custom("expected a string or an object of one entry")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        // The next value's place is known, so nothing of this one has to be read.
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}

impl<'de> IntoDeserializer<'de, DeserializeError> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self::Deserializer {
        self
    }
}

/// Entries whose keys deserialise as what they are: strings that outlive the iterator.
struct Fields<'a>(Entries<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (Key<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (Key(key), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// The key of an entry. Keys are strings, also for types that would like numbers.
struct Key<'a>(&'a str);

impl<'de> IntoDeserializer<'de, DeserializeError> for Key<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self::Deserializer {
        self
    }
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A value that has not the shape it was asked for.
///
/// The message names types and fields, never values of the update, so it may be logged; what a
/// type's own code writes into an error of its own is beyond this promise.
#[derive(Clone, Eq, PartialEq)]
pub struct DeserializeError {
    message: Box<str>,
}

impl de::Error for DeserializeError {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string().into() }
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("invalid type: {}, expected {expected}", type_of(found)))
    }

    #[cold]
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("invalid value of a {}, expected {expected}", type_of(found)))
    }

    #[cold]
    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("unknown variant, expected one of {expected:?}"))
    }
}

impl fmt::Debug for DeserializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeserializeError({:?})", self.message)
    }
}

impl fmt::Display for DeserializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for DeserializeError {}

/// What was found, without its content, which serde's own wording quotes.
fn type_of(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "number",
        Unexpected::Str(_) => "string",
        Unexpected::Unit => "null",
        Unexpected::Seq => "array",
        Unexpected::Map => "object",
        _ => "value",
    }
}
