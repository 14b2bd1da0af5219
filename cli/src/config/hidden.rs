//! A secret that is typed into the config itself.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A secret as typed; it is never written back or shown.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl Hidden {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Takes every type, since serde's own message on a wrong one would show the value.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Typed {
            Text(String),
            Other(de::IgnoredAny),
        }
        match Typed::deserialize(deserializer)? {
            Typed::Text(text) => Ok(Self(text)),
            Typed::Other(_) => Err(de::Error::custom("expected a string in quotes")),
        }
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}
