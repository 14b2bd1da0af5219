//! What is asked of the value at a path, ready to be evaluated.

use std::cmp::Ordering;

use ringhook::update::Value;

use super::{
    OneOf,
    where_test::{Number, Scalar, TestTable, WhereTest},
};

/// A test of a value that may be missing.
///
/// Text equals text and a boolean a boolean; a number equals a number of the same value, also where
/// one is written `1` and the other `1.0`. Arrays and objects equal nothing.
#[derive(Clone, Debug)]
pub(super) enum ValueTest {
    Exists(bool),
    OneOf(Values),
    Prefix(Box<[Box<str>]>),
    Range { min: Option<Number>, max: Option<Number> },
}

/// Values of which one is to be met.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    floats: Vec<f64>,
    /// In order.
    integers: Vec<i64>,
    /// Whether `false` and `true` are among them.
    is_false: bool,
    is_true: bool,
    /// In order.
    texts: Vec<Box<str>>,
}

impl ValueTest {
    /// # Errors
    ///
    /// What was expected in place of `typed`.
    pub(super) fn new(typed: &WhereTest) -> Result<Self, &'static str> {
        match typed {
            WhereTest::OneOf(values) => Values::new(values).map(Self::OneOf),
            WhereTest::Table(table) => Self::from_table(table),
        }
    }

    fn from_table(table: &TestTable) -> Result<Self, &'static str> {
        let TestTable { prefix, min, max, exists } = table;
        if [*min, *max].into_iter().flatten().any(|number| !number.is_finite()) {
            return Err("a finite number");
        }
        match (prefix, min, max, exists) {
            (Some(prefixes), None, None, None) => match prefixes.iter().any(String::is_empty) {
                false if !prefixes.is_empty() => {
                    Ok(Self::Prefix(prefixes.iter().map(|text| text.as_str().into()).collect()))
                }
                _ => Err("a prefix of at least one character"),
            },
            (None, Some(min), Some(max), None) if min.compare(*max) == Some(Ordering::Greater) => {
                Err("a min that is not greater than max")
            }
            (None, None, None, Some(exists)) => Ok(Self::Exists(*exists)),
            (None, min, max, None) if min.is_some() || max.is_some() => {
                Ok(Self::Range { min: *min, max: *max })
            }
            _ => Err("prefix, or min and max, or exists, and nothing beside it"),
        }
    }

    /// Whether `value` is what is asked for.
    pub(super) fn holds(&self, value: Option<Value<'_>>) -> bool {
        match (self, value) {
            (Self::Exists(exists), value) => value.is_some() == *exists,
            (_, None) => false,
            (Self::OneOf(values), Some(value)) => values.contain(value),
            (Self::Prefix(prefixes), Some(value)) => value
                .as_str()
                .is_some_and(|text| prefixes.iter().any(|prefix| text.starts_with(&**prefix))),
            (Self::Range { min, max }, Some(value)) => {
                let is_above = |min: Number| min.order_of(value).is_some_and(Ordering::is_ge);
                let is_below = |max: Number| max.order_of(value).is_some_and(Ordering::is_le);
                min.is_none_or(is_above) && max.is_none_or(is_below)
            }
        }
    }
}

impl Values {
    fn new(typed: &OneOf<Scalar>) -> Result<Self, &'static str> {
        if typed.is_empty() {
            return Err("at least one value");
        }
        let mut values = Self::default();
        for value in typed.iter() {
            match value {
                Scalar::Bool(true) => values.is_true = true,
                Scalar::Bool(false) => values.is_false = true,
                Scalar::Number(Number::Integer(number)) => values.integers.push(*number),
                Scalar::Number(Number::Float(number)) if number.is_finite() => {
                    values.floats.push(*number);
                }
                Scalar::Number(Number::Float(_)) => return Err("a finite number"),
                Scalar::Text(text) => values.texts.push(text.as_str().into()),
            }
        }
        values.integers.sort_unstable();
        values.texts.sort_unstable();
        Ok(values)
    }

    fn contain(&self, value: Value<'_>) -> bool {
        if let Some(text) = value.as_str() {
            return self.texts.binary_search_by(|one| (**one).cmp(text)).is_ok();
        }
        if let Some(truth) = value.as_bool() {
            return if truth { self.is_true } else { self.is_false };
        }
        let is = |number: Number| number.order_of(value) == Some(Ordering::Equal);
        let is_integer = match value.as_i64() {
            Some(number) => self.integers.binary_search(&number).is_ok(),
            None => self.integers.iter().any(|number| is(Number::Integer(*number))),
        };
        is_integer || self.floats.iter().any(|number| is(Number::Float(*number)))
    }
}

impl Number {
    fn is_finite(self) -> bool {
        match self {
            Self::Integer(_) => true,
            Self::Float(number) => number.is_finite(),
        }
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(number), Self::Integer(other)) => Some(number.cmp(&other)),
            (Self::Integer(number), Self::Float(other)) => (number as f64).partial_cmp(&other),
            (Self::Float(number), Self::Integer(other)) => number.partial_cmp(&(other as f64)),
            (Self::Float(number), Self::Float(other)) => number.partial_cmp(&other),
        }
    }

    /// How `value` compares with this number; `None` where it is no number.
    fn order_of(self, value: Value<'_>) -> Option<Ordering> {
        match (value.as_i64(), self) {
            (Some(number), _) => Self::Integer(number).compare(self),
            // A whole number beyond all that can be typed; as a float it would be rounded.
            (None, Self::Integer(_)) if value.as_u64().is_some() => Some(Ordering::Greater),
            (None, _) => Self::Float(value.as_f64()?).compare(self),
        }
    }
}
