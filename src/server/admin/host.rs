//! Which names of this machine a page is shown under.
//!
//! A name that someone else owns may lead to 127.0.0.1. A web page of that name could then read
//! what is here, since a browser takes both for one site (DNS rebinding).

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is told under another name.
pub(super) const REFUSED: &str = "admin.listen is loopback: this is shown under localhost or an IP \
                                  address only, and Host names something else";

/// True where `host`, which may have a port, is an address, `localhost` or a name below that:
/// these lead to no other owner.
pub(super) fn is_own(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.split(']').next().is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn only_addresses_and_localhost_are_nobody_elses() {
        for own in [
            "localhost",
            "LocalHost:9464",
            "a.localhost",
            "localhost.",
            "127.0.0.1:80",
            "10.0.0.1",
            "[::1]",
            "[::1]:9464",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "localhost.evil.example",
            "xlocalhost",
            "127.0.0.1.evil",
            "[evil]",
            "127.1",
            "0x7f.1",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
