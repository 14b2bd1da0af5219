//! What is asked of the value at a path, as it is typed in the config file.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        self, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::OneOf;

/// What `where` asks of the value at a path: to be one of some values, or what a table says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum WhereTest {
    /// The value is one of these.
    OneOf(OneOf<Scalar>),
    /// What is in the table holds.
    Table(TestTable),
}

/// A test that is typed as a table: `{ prefix = ".." }`, `{ min = 1, max = 9 }` or
/// `{ exists = true }`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TestTable {
    /// The value is text that begins with this, or with one of these.
    pub prefix: Option<OneOf<String>>,
    /// The value is a number that is not less.
    pub min: Option<Number>,
    /// The value is a number that is not greater.
    pub max: Option<Number>,
    /// Whether there is a value that is not null.
    pub exists: Option<bool>,
}

/// A value that is not a list and not a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged, expecting = "expected text, a number, true or false")]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
}

/// A number, whole or not.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged, expecting = "expected a number")]
pub enum Number {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => fmt::Debug::fmt(text, f),
        }
    }
}

/// As it is typed, or much like it.
impl fmt::Display for WhereTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |texts: Vec<String>| texts.join(", ");
        match self {
            Self::OneOf(values) => match &**values {
                [value] => value.fmt(f),
                values => write!(f, "[{}]", join(values.iter().map(Scalar::to_string).collect())),
            },
            Self::Table(TestTable { prefix, min, max, exists }) => {
                let prefix = prefix.as_ref().map(|list| match &**list {
                    [one] => format!("prefix = {one:?}"),
                    list => format!("prefix = {list:?}"),
                });
                let min = min.map(|number| format!("min = {number}"));
                let max = max.map(|number| format!("max = {number}"));
                let exists = exists.map(|exists| format!("exists = {exists}"));
                let keys: Vec<_> = [prefix, min, max, exists].into_iter().flatten().collect();
                if keys.is_empty() { f.write_str("{}") } else { write!(f, "{{ {} }}", join(keys)) }
            }
        }
    }
}

impl<'de> Deserialize<'de> for WhereTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed)
    }
}

/// Reads a value, a list or a table.
struct Typed;

impl Typed {
    fn one<E>(value: Scalar) -> Result<WhereTest, E> {
        Ok(WhereTest::OneOf(OneOf::from(vec![value])))
    }
}

impl<'de> Visitor<'de> for Typed {
    type Value = WhereTest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list of values, or a table of prefix, min and max, or exists")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<WhereTest, E> {
        Self::one(Scalar::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<WhereTest, E> {
        Self::one(Scalar::Number(Number::Integer(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<WhereTest, E> {
        let unexpected = de::Unexpected::Unsigned(value);
        let value = value.try_into().map_err(|_| E::invalid_value(unexpected, &self))?;
        Self::one(Scalar::Number(Number::Integer(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<WhereTest, E> {
        Self::one(Scalar::Number(Number::Float(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<WhereTest, E> {
        Self::one(Scalar::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<WhereTest, A::Error> {
        OneOf::deserialize(SeqAccessDeserializer::new(list)).map(WhereTest::OneOf)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<WhereTest, A::Error> {
        TestTable::deserialize(MapAccessDeserializer::new(table)).map(WhereTest::Table)
    }
}
