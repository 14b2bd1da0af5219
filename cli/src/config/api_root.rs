//! Where the Bot API is.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::net::{
    address::is_reserved,
    url::{UrlParts, default_port},
};

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
            Ok(IpAddr::V6(address)) => is_near(address),
            Ok(address) => is_reserved(address),
            // A name without a dot is one of a container or of the own network; a number is an
            // address.
            Err(_) => !host.contains('.') && !is_number(host),
        };
        self.0.starts_with("http://") && !is_near
    }

    /// True where it is reached over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Its port: as written, or that of the scheme.
    pub(crate) fn port(&self) -> u16 {
        UrlParts::parse(&self.0).map_or(default_port(true), |parts| parts.port())
    }

    /// Its host, without port and userinfo, brackets and zone.
    pub(crate) fn host(&self) -> &str {
        UrlParts::parse(&self.0).map_or("", |parts| parts.name())
    }
}

/// True for an address of this machine or of a private network.
fn is_near(address: Ipv6Addr) -> bool {
    match address.to_ipv4_mapped() {
        Some(address) => is_reserved(address.into()),
        None => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

/// True for a number as the C library takes it for an address: `16843009`, `0x01010101`.
fn is_number(host: &str) -> bool {
    let hex = host.strip_prefix("0x").or_else(|| host.strip_prefix("0X"));
    match hex {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => host.bytes().all(|byte| byte.is_ascii_digit()),
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
        const PORT: &str = "expected a number from 1 to 65535 after the colon, like \
                            http://HOST:8081, and an address of IPv6 in brackets";
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\\\"<>".contains(&byte);
        let is_good = |rest: &&str| {
            !rest.is_empty() && !rest.starts_with(['/', ':']) && rest.bytes().all(plain)
        };
        rest.filter(is_good).ok_or(EXPECTED)?;
        // The client would take the usual port in the place of one that it cannot read.
        UrlParts::parse(text).ok_or(PORT)?;
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
            "http://127.0.0.1:2808l",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:0",
            "http://127.0.0.1:+80",
            "http://127.0.0.1:/x",
            "http://h:80:80",
            "http://::1",
            "http://[::1",
            "http://[::1]8081",
            "http://[x]:8081",
        ] {
            assert!(bad.parse::<ApiRoot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_what_is_near() {
        let shows =
            |host: &str| format!("http://{host}").parse::<ApiRoot>().map(|it| it.shows_tokens());
        for near in [
            "127.0.0.1:8081",
            "10.0.0.1",
            "bot-api:8081",
            "localhost",
            "[::1]:8081",
            "[fd00::1]",
            "[fe80::1%25eth0]",
            "[::ffff:10.0.0.1]",
        ] {
            assert_eq!(shows(near), Ok(false), "{near}");
        }
        for public in [
            "1.1.1.1",
            "api.example.com:8081",
            "[2606:4700::1111]:8081",
            "[::ffff:1.1.1.1]",
            "0x01020304",
            "16909060:8081",
            "1.1",
            "0x1.0x1",
        ] {
            assert_eq!(shows(public), Ok(true), "{public}");
        }
    }
}
