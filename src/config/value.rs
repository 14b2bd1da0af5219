//! How values are written in a config file: durations as `10s`, sizes as `1MiB`.

/// A duration such as `10s`, `500ms` or `1m 30s`; for `#[serde(with)]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Reads a duration such as `10s`.
    pub fn deserialize<'de, D>(deserializer: D) -> Result<Duration, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|_| {
            de::Error::custom(format!("{text:?} is no duration, expected one like \"10s\""))
        })
    }

    /// Writes it as `humantime` does.
    pub fn serialize<S>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        serializer.collect_str(&humantime::format_duration(*duration))
    }
}

/// A duration that may be missing. The field needs `#[serde(default)]`, or the container does.
pub mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Reads a duration, where there is one.
    pub fn deserialize<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
    where
        D: Deserializer<'de>,
    {
        super::duration::deserialize(deserializer).map(Some)
    }

    /// Writes it as `humantime` does, where there is one.
    pub fn serialize<S>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        match duration {
            Some(duration) => super::duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }
}

/// A size in bytes, typed as such or as `1MiB`; for `#[serde(with)]`.
pub(crate) mod size {
    use bytesize::ByteSize;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: TryFrom<u64>,
        D: Deserializer<'de>,
    {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a size like \"1MiB\", or a number of bytes")]
        enum Typed {
            Bytes(u64),
            Text(String),
        }
        let bytes = match Typed::deserialize(deserializer)? {
            Typed::Bytes(bytes) => bytes,
            Typed::Text(text) => {
                text.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| {
                    de::Error::custom(format!("{text:?} is no size, expected one like \"1MiB\""))
                })?
            }
        };
        T::try_from(bytes).map_err(|_| {
            de::Error::custom(format!("{bytes} is more than this machine's memory can have"))
        })
    }

    /// Rounded only where that can be read back as the same number.
    pub(crate) fn serialize<T, S>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + TryInto<u64>,
        S: Serializer,
    {
        let size = ByteSize::b((*bytes).try_into().unwrap_or(u64::MAX));
        let text = size.to_string();
        if text.parse() == Ok(size) {
            return serializer.serialize_str(&text);
        }
        serializer.collect_str(&format_args!("{} B", size.as_u64()))
    }
}

/// An address with a port; serde's own message has no example.
pub(crate) mod socket_address {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<Option<SocketAddr>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Some).map_err(|_| {
            let expected = "expected one like \"127.0.0.1:9464\"";
            de::Error::custom(format!("{text:?} is no address, {expected}"))
        })
    }

    pub(crate) fn serialize<S>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        address.serialize(serializer)
    }
}
