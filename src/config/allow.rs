//! The allow-list: addresses and networks that may connect. Plain data, no socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Error;

/// The key of the list in configs and errors.
const KEY: &str = "server.allow";
/// The bits of an IPv6 address that count: one host has all addresses that differ behind them.
const IPV6_HOST: u128 = !0 << 64;
/// What an entry can be.
const EXPECTED: &str =
    "\"telegram\", an address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"";
/// The word that stands for [`TELEGRAM`].
const TELEGRAM_WORD: &str = "telegram";
/// Where Telegram's webhooks come from, by <https://core.telegram.org/bots/webhooks>.
const TELEGRAM: [Network; 2] = [
    Network { base: IpAddr::V4(Ipv4Addr::new(149, 154, 160, 0)), prefix: 20 },
    Network { base: IpAddr::V4(Ipv4Addr::new(91, 108, 4, 0)), prefix: 22 },
];

/// The addresses that may connect; all others are refused before a byte is read.
///
/// IPv4 addresses in IPv6 form (`::ffff:192.0.2.1`), as they come to a listener on `[::]`, are IPv4
/// addresses here, in entries and in peers; so `::/0` is all of IPv6 and nothing of IPv4.
///
/// ```
/// use ringhook::AllowList;
///
/// let list = AllowList::new(["telegram", "10.0.0.0/8", "2001:db8::/32", "127.0.0.1"])?;
/// assert!(list.contains("149.154.167.197".parse().expect("an address")));
/// assert!(!list.contains("192.0.2.1".parse().expect("an address")));
/// # Ok::<(), ringhook::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowList {
    networks: Vec<Network>,
}

impl AllowList {
    /// A list of addresses (`127.0.0.1`), networks (`10.0.0.0/8`) and `telegram`, which stands for
    /// 149.154.160.0/20 and 91.108.4.0/22.
    ///
    /// # Errors
    /// A [`Config`](crate::ErrorKind::Config) error that names the first entry that is none of
    /// these, or a list without entries, which would refuse every peer.
    pub fn new<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        Self::of_key(KEY, entries)
    }

    /// As [`new`](Self::new), for another key than the server's.
    #[doc(hidden)]
    pub fn of_key<T: AsRef<str>>(
        key: &str,
        entries: impl IntoIterator<Item = T>,
    ) -> Result<Self, Error> {
        let mut networks = Vec::new();
        for entry in entries {
            match entry.as_ref() {
                TELEGRAM_WORD => networks.extend(TELEGRAM),
                text => networks.push(Network::parse(key, text)?),
            }
        }
        if networks.is_empty() {
            let expected = format!("{EXPECTED}; leave the key out to admit every peer");
            return Err(Error::config(key, "[]", &expected));
        }
        Ok(Self { networks })
    }

    /// True where `address` may connect.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(address))
    }
}

impl AllowList {
    /// The entries of all `lists`; `None` where one of them is missing, which admits every peer, or
    /// there is no list.
    pub(crate) fn union<'a>(lists: impl IntoIterator<Item = Option<&'a Self>>) -> Option<Self> {
        let lists: Vec<_> = lists.into_iter().collect::<Option<_>>()?;
        let networks: Vec<_> = lists.iter().flat_map(|list| &list.networks).copied().collect();
        (!networks.is_empty()).then_some(Self { networks })
    }
}

/// The addresses that begin with the first `prefix` bits of `base`, whose other bits are zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Network {
    base: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(key: &str, text: &str) -> Result<Self, Error> {
        let error = |expected: &str| Error::config(key, format!("{text:?}"), expected);
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error(EXPECTED))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            // A number's own parser takes a sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= longest)
                .ok_or_else(|| error(&format!("a prefix of 0 to {longest}")))?,
            Some(_) => return Err(error(&format!("a prefix of 0 to {longest}"))),
        };
        let base = match address {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() & mask_v4(prefix)).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & mask_v6(prefix)).into()),
        };
        // A typing error in either half would admit other peers than were meant.
        if base != address {
            return Err(error(&format!(
                "\"{base}/{prefix}\", or a longer prefix: bits behind the prefix are set"
            )));
        }
        // A base in IPv4's form has at least 96 bits of prefix, or the bits before would be cut.
        let canonical = base.to_canonical();
        let prefix = if canonical == base { prefix } else { prefix.saturating_sub(96) };
        Ok(Self { base: canonical, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (base.to_bits() ^ address.to_bits()) & mask_v4(self.prefix) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (base.to_bits() ^ address.to_bits()) & mask_v6(self.prefix) == 0
            }
            _ => false,
        }
    }
}

/// The first `prefix` bits of 32.
fn mask_v4(prefix: u32) -> u32 {
    u32::MAX.checked_shl(32 - prefix).unwrap_or(0)
}

/// The first `prefix` bits of 128.
fn mask_v6(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

/// What stands for all addresses that one host can take.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_HOST).into(),
        address => address,
    }
}

/// True where there is no list, `peer` is on it, or it has no address that could be.
pub fn admits(list: Option<&AllowList>, peer: Option<IpAddr>) -> bool {
    list.zip(peer).is_none_or(|(list, peer)| list.contains(peer))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        AllowList::new(entries).unwrap()
    }

    #[track_caller]
    fn assert_list(entries: &[&str], inside: &[&str], outside: &[&str]) {
        let list = list(entries);
        for address in inside {
            assert!(list.contains(address.parse().unwrap()), "{address} is not in {entries:?}");
        }
        for address in outside {
            assert!(!list.contains(address.parse().unwrap()), "{address} is in {entries:?}");
        }
    }

    #[test]
    fn the_word_telegram_is_its_two_networks_to_the_last_address() {
        assert_list(
            &["telegram"],
            &["149.154.160.0", "149.154.175.255", "91.108.4.0", "91.108.7.255"],
            &["149.154.159.255", "149.154.176.0", "91.108.3.255", "91.108.8.0", "2001:67c:4e8::1"],
        );
    }

    #[test]
    fn addresses_networks_and_both_families_stand_beside_each_other() {
        assert_list(
            &["10.0.0.0/8", "2001:db8::/32", "127.0.0.1", "::1"],
            &["10.0.0.0", "10.255.255.255", "2001:db8:ffff::1", "127.0.0.1", "::1"],
            &["11.0.0.0", "9.255.255.255", "2001:db9::", "127.0.0.2", "::2", "::"],
        );
        assert_list(&["0.0.0.0/0"], &["1.2.3.4", "::ffff:1.2.3.4"], &["::1"]);
        assert_list(&["::/0"], &["::1", "ffff::"], &["1.2.3.4", "::ffff:1.2.3.4"]);
    }

    #[test]
    fn ipv4_in_ipv6_form_is_ipv4() {
        assert_list(&["192.0.2.0/24"], &["::ffff:192.0.2.7"], &["::ffff:192.0.3.7", "::192.0.2.7"]);
        assert_list(&["::ffff:192.0.2.1"], &["192.0.2.1", "::ffff:192.0.2.1"], &["192.0.2.2"]);
        assert_list(&["::ffff:192.0.2.0/120"], &["192.0.2.9", "::ffff:c000:209"], &["192.0.3.0"]);
        assert_list(&["::ffff:0:0/96"], &["1.2.3.4"], &["::1"]);
    }

    #[test]
    fn a_union_has_everybodys_and_is_open_where_one_is() {
        let (first, second) = (list(&["10.0.0.0/8"]), list(&["::1", "127.0.0.1"]));
        let both = AllowList::union([Some(&first), Some(&second)]).unwrap();
        let contains = |address: &str| both.contains(address.parse().unwrap());
        assert!(contains("10.1.1.1") && contains("::1") && !contains("192.0.2.1"));
        assert_eq!(AllowList::union([Some(&first), None]), None);
        assert_eq!(AllowList::union([]), None);
    }

    #[test]
    fn mistakes_name_the_entry_and_what_would_do() {
        let said = |entry: &str| AllowList::new(["127.0.0.1", entry]).unwrap_err().to_string();
        for entry in ["", "Telegram", "localhost", "10.0.0/8", "10.0.0.0:443", "/8", "[::1]"] {
            assert_eq!(said(entry), format!("server.allow = {entry:?}: expected {EXPECTED}"));
        }
        for prefix in ["", "33", "-1", "+8", "8/8", "4294967297", "٣"] {
            assert!(said(&format!("0.0.0.0/{prefix}")).ends_with("expected a prefix of 0 to 32"));
        }
        assert!(said("::/129").ends_with("expected a prefix of 0 to 128"));
        assert_eq!(
            said("10.0.0.1/8"),
            "server.allow = \"10.0.0.1/8\": expected \"10.0.0.0/8\", or a longer prefix: bits \
             behind the prefix are set"
        );
        // Meant as IPv4's /8, it would be nearly all of IPv6.
        assert!(said("::ffff:10.0.0.0/8").contains("\"::/8\""));
        let none: [&str; 0] = [];
        let error = AllowList::new(none).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with("server.allow = []: expected"));
    }

    /// The bits of an address, IPv4's behind its prefix in IPv6.
    fn bits(address: IpAddr) -> String {
        match address.to_canonical() {
            IpAddr::V4(address) => format!("four{:032b}", address.to_bits()),
            IpAddr::V6(address) => format!("six{:0128b}", address.to_bits()),
        }
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
            any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from(bits).to_ipv6_mapped())),
        ]
    }

    proptest! {
        /// Against the first bits, compared as text. The peer shares any number of them.
        #[test]
        fn a_network_has_what_begins_with_its_bits(
            address in any_address(), prefix in 0..=128_u32, shared in 0..=128_u32, noise: u128,
        ) {
            let (base, prefix, peer) = match address {
                IpAddr::V4(address) => {
                    let (prefix, shared) = (prefix % 33, shared % 33);
                    let keep = mask_v4(shared);
                    let peer = address.to_bits() & keep | noise as u32 & !keep;
                    let base = Ipv4Addr::from(address.to_bits() & mask_v4(prefix));
                    (IpAddr::V4(base), prefix, IpAddr::V4(peer.into()))
                }
                IpAddr::V6(address) => {
                    let keep = mask_v6(shared);
                    let peer = address.to_bits() & keep | noise & !keep;
                    let base = Ipv6Addr::from(address.to_bits() & mask_v6(prefix));
                    (IpAddr::V6(base), prefix, IpAddr::V6(peer.into()))
                }
            };
            let list = list(&[&format!("{base}/{prefix}")]);
            let mapped = base.is_ipv6() && base.to_canonical().is_ipv4();
            let length = if mapped { prefix - 96 } else { prefix } as usize;
            let family = if base.to_canonical().is_ipv4() { 4 } else { 3 };
            let expected = bits(peer).starts_with(&bits(base)[..family + length]);
            prop_assert_eq!(list.contains(peer), expected, "{} in {}/{}", peer, base, prefix);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "[0-9a-f:./]{0,24}|.{0,24}") {
            let _ = AllowList::new([text]);
        }
    }
}
