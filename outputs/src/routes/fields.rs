//! Values of an update by name, for headers and fields of outputs.

use std::fmt;

use ringhook::update::{Update, Value};
use serde::{Serialize, Serializer};

use super::{Path, RouteError};

/// What `[output.fields]` maps: names to paths.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    fields: Box<[(Box<str>, Path)]>,
}

/// What a field may be called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FieldNames {
    /// A name of an HTTP header: a token of RFC 9110. Names that differ in case are the same.
    Header,
    /// A letter or `_`, then letters, digits and `_`, all of ASCII.
    Identifier,
}

/// The value of a field, borrowed from the update. It serialises as the JSON that it is; `Debug`
/// shows type and length, never the content.
#[derive(Clone, Copy)]
pub enum FieldValue<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A whole number.
    Integer(i64),
    /// Anything else: an array, an object, or a whole number beyond 64 bits with a sign.
    Json(Value<'a>),
    /// Text, unescaped. It may have any character, line breaks too.
    Text(&'a str),
}

impl Fields {
    /// Compiles the fields of the output `output`.
    ///
    /// # Errors
    ///
    /// [`RouteError`] for the first name or path that is wrong.
    pub fn compile<'a>(
        output: &str,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
        names: FieldNames,
    ) -> Result<Self, RouteError> {
        let place = format!("output {output}");
        let mut compiled: Vec<(Box<str>, Path)> = Vec::new();
        for (name, path) in fields {
            let wrong = |expected: &str| {
                RouteError::new(&place, format!("fields.{name:?}"), format!("{path:?}"), expected)
            };
            if !names.allow(name) {
                return Err(wrong(names.expected()));
            }
            if compiled.iter().any(|(other, _)| names.are_same(other, name)) {
                return Err(wrong("a name that no other field has"));
            }
            let path = Path::parse(path).ok_or_else(|| wrong(Path::EXPECTED))?;
            compiled.push((name.into(), path));
        }
        Ok(Self { fields: compiled.into_boxed_slice() })
    }

    /// Passes each field that `update` has to `action`, in the order of the names. A path that is
    /// not there or null makes no field. Allocates nothing.
    pub fn for_each<'a>(&self, update: &'a Update, mut action: impl FnMut(&str, FieldValue<'a>)) {
        self.for_each_value(update, |name, value| action(name, FieldValue::new(value)));
    }

    /// The same with the values as they are in the update: what
    /// [`NdjsonSink::with_fields`](ringhook::NdjsonSink::with_fields) asks for.
    pub fn for_each_value<'a>(&self, update: &'a Update, mut action: impl FnMut(&str, Value<'a>)) {
        for (name, path) in &self.fields {
            if let Some(value) = path.find(update) {
                action(name, value);
            }
        }
    }

    /// The names of the fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| &**name)
    }

    /// True where there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl FieldNames {
    fn allow(self, name: &str) -> bool {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match self {
            Self::Header => {
                let is_token = |byte| is_letter(byte) || b"!#$%&'*+-.^`|~".contains(&byte);
                !name.is_empty() && name.bytes().all(is_token)
            }
            Self::Identifier => {
                let is_first = |byte: &u8| !byte.is_ascii_digit();
                name.as_bytes().first().is_some_and(is_first) && name.bytes().all(is_letter)
            }
        }
    }

    fn are_same(self, one: &str, other: &str) -> bool {
        match self {
            Self::Header => one.eq_ignore_ascii_case(other),
            Self::Identifier => one == other,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Header => "a name of a header, such as \"X-Command\"",
            Self::Identifier => "a name of letters, digits and _, such as \"command\"",
        }
    }
}

impl<'a> FieldValue<'a> {
    fn new(value: Value<'a>) -> Self {
        if let Some(text) = value.as_str() {
            return Self::Text(text);
        }
        if let Some(number) = value.as_i64() {
            return Self::Integer(number);
        }
        if let Some(truth) = value.as_bool() {
            return Self::Bool(truth);
        }
        match value.as_f64().filter(|_| value.as_u64().is_none()) {
            Some(number) => Self::Float(number),
            None => Self::Json(value),
        }
    }

    /// Appends the value as text: text as it is, everything else as JSON. Allocates nothing but
    /// what `to` lacks.
    pub fn write_text(&self, to: &mut Vec<u8>) {
        match self {
            Self::Text(text) => to.extend_from_slice(text.as_bytes()),
            // A vector takes everything, and what came as JSON goes as JSON.
            other => {
                let _ = serde_json::to_writer(to, other);
            }
        }
    }
}

impl fmt::Debug for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(_) => f.write_str("boolean"),
            Self::Float(_) | Self::Integer(_) => f.write_str("number"),
            Self::Json(value) => value.fmt(f),
            Self::Text(text) => write!(f, "text of {} bytes", text.len()),
        }
    }
}

impl Serialize for FieldValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Json(value) => value.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}
