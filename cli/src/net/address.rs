//! Addresses that Telegram sends nothing to.

use std::net::{IpAddr, Ipv4Addr};

/// Networks that are not public, with the length of their prefixes.
const RESERVED: [([u8; 4], u32); 14] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 3),
];

/// True for an address of IPv4 that no server in public has, and for all of IPv6: Telegram's own
/// server connects to neither, one that runs with `--local` to both.
pub(crate) fn is_reserved(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return true };
    RESERVED.iter().any(|&(network, length)| {
        let differing = address.to_bits() ^ Ipv4Addr::from(network).to_bits();
        differing.leading_zeros() >= length
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn knows_the_edges_of_private_networks() {
        for reserved in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "2001:db8::1",
            "2606:4700::1111",
        ] {
            assert!(is_reserved(reserved.parse().unwrap()), "{reserved}");
        }
        for public in ["1.1.1.1", "11.0.0.1", "100.128.0.1", "172.32.0.1", "192.169.0.1", "8.8.8.8"]
        {
            assert!(!is_reserved(public.parse().unwrap()), "{public}");
        }
    }
}
