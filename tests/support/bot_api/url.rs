//! The URL of a webhook, and the addresses that Telegram does not send to.

use std::net::IpAddr;

/// The parts of a webhook's URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct WebhookUrl {
    pub(super) is_https: bool,
    /// What stands before the `@`; empty where there is none.
    pub(super) userinfo: String,
    /// In lower case; an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, from the first slash on.
    pub(super) target: String,
}

impl WebhookUrl {
    /// `None` where Telegram calls it an invalid URL.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let port_at = host.rfind(':').filter(|at| !host[*at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&host[..at], host[at + 1..].parse().ok().filter(|port| *port > 0)?),
            None => (host, if is_https { 443 } else { 80 }),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(|byte| is_plain(byte) || !byte.is_ascii()) {
            return None;
        }
        let target = target.split_once('#').map_or(target, |(target, _)| target);
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some(Self {
            is_https,
            userinfo: userinfo.to_owned(),
            host: host.to_ascii_lowercase(),
            port,
            target: format!("{slash}{target}"),
        })
    }

    /// The host without brackets.
    pub(super) fn name(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// True for `localhost` and addresses of loopback.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.name().parse().is_ok_and(|it: IpAddr| it.is_loopback())
    }
}

/// True for addresses that no public server has. `is_lenient` leaves out loopback and the networks
/// for documentation.
pub(super) fn is_reserved(address: IpAddr, is_lenient: bool) -> bool {
    let IpAddr::V4(address) = address else { return true };
    if is_lenient && (address.is_loopback() || address.is_documentation()) {
        return false;
    }
    let bits = address.to_bits();
    RESERVED.iter().any(|([a, b, c], length)| {
        let network = u32::from_be_bytes([*a, *b, *c, 0]);
        (bits ^ network) >> (32 - length) == 0
    })
}

const RESERVED: [([u8; 3], u32); 14] = [
    ([0, 0, 0], 8),
    ([10, 0, 0], 8),
    ([100, 64, 0], 10),
    ([127, 0, 0], 8),
    ([169, 254, 0], 16),
    ([172, 16, 0], 12),
    ([192, 0, 0], 24),
    ([192, 0, 2], 24),
    ([192, 88, 99], 24),
    ([192, 168, 0], 16),
    ([198, 18, 0], 15),
    ([198, 51, 100], 24),
    ([203, 0, 113], 24),
    ([224, 0, 0], 3),
];
