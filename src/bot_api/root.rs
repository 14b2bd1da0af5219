//! Where the Bot API is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::webhook::is_reserved;

/// The address of a Bot API server, without a slash at its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ApiRoot(String);

impl ApiRoot {
    /// Telegram's own.
    const CLOUD: &str = "https://api.telegram.org";

    /// True for Telegram's own server, which knows neither `--local` nor plain HTTP.
    pub(crate) fn is_cloud(&self) -> bool {
        self.0 == Self::CLOUD
    }

    /// True where tokens travel in clear, and not only within this machine or a private network.
    pub(crate) fn shows_tokens(&self) -> bool {
        let host = self.host();
        let is_near = match host.parse() {
            Ok(address) => is_reserved(address),
            // A name without a dot is one of a container or of the own network.
            Err(_) => !host.contains('.'),
        };
        self.0.starts_with("http://") && !is_near
    }

    /// Its host, without port and userinfo.
    fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or("");
        if let Some(inside) = authority.strip_prefix('[') {
            return inside.split(']').next().unwrap_or("");
        }
        authority.rsplit_once(':').map_or(authority, |(host, _)| host)
    }
}

impl Default for ApiRoot {
    fn default() -> Self {
        Self(Self::CLOUD.to_owned())
    }
}

impl FromStr for ApiRoot {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a URL like https://api.telegram.org, or http://HOST:8081 \
                                for a server of your own; no user, query or fragment";
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\\\"<>".contains(&byte);
        let is_good = |rest: &&str| {
            !rest.is_empty() && !rest.starts_with(['/', ':']) && rest.bytes().all(plain)
        };
        if rest.filter(is_good).is_none() {
            return Err(EXPECTED);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for ApiRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ApiRoot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for ApiRoot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_plain_url() {
        for (text, host) in [
            ("https://api.telegram.org", "api.telegram.org"),
            ("http://127.0.0.1:8081/", "127.0.0.1"),
            ("http://[::1]:8081", "::1"),
        ] {
            assert_eq!(
                text.parse::<ApiRoot>().map(|root| root.host().to_owned()),
                Ok(host.to_owned())
            );
        }
        for bad in [
            "api.telegram.org",
            "ftp://x",
            "https://",
            "https://u:p@h",
            "https://h?x",
            "https:///x",
        ] {
            assert!(bad.parse::<ApiRoot>().is_err(), "{bad}");
        }
    }
}
