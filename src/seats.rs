//! How many connections each address has. The acceptor gives out seats, a connection's end gives its
//! own back by dropping it, and nobody waits for anybody.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// Addresses that are remembered before those without a connection are forgotten.
const FORGET_AT: usize = 1024;
/// The bits of an IPv6 address that count: one host has all addresses that differ behind them.
const IPV6_HOST: u128 = !0 << 64;

/// The seats of all addresses.
#[derive(Debug)]
pub(crate) struct Seats {
    forget_at: usize,
    /// Seats for each address; 0 is no limit, and nothing is counted.
    most: usize,
    /// Each is shared by the seats that are taken.
    taken: HashMap<IpAddr, Arc<()>>,
}

/// A connection's place among those of its address, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat {
    _held: Option<Arc<()>>,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        Self { forget_at: FORGET_AT, most, taken: HashMap::new() }
    }

    /// A seat for `address`; `None` where it has as many as it may.
    pub(crate) fn take(&mut self, address: IpAddr) -> Option<Seat> {
        if self.most == 0 {
            return Some(Seat { _held: None });
        }
        if self.taken.len() >= self.forget_at {
            self.taken.retain(|_, seats| Arc::strong_count(seats) > 1);
            self.forget_at = FORGET_AT.max(2 * self.taken.len());
        }
        let seats = self.taken.entry(host(address)).or_default();
        // One of them is the table's own. Only this thread adds to them.
        let is_free = Arc::strong_count(seats) <= self.most;
        is_free.then(|| Seat { _held: Some(Arc::clone(seats)) })
    }
}

/// What stands for all addresses that one host has for the asking.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_HOST).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_has_so_many_seats_and_gets_them_back() {
        let mut seats = Seats::new(2);
        let mut take = |address: &str| seats.take(address.parse().unwrap());
        let [first, second] = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none() && take("192.0.2.2").is_some());
        drop(first);
        let third = take("192.0.2.1");
        assert!(third.is_some() && take("192.0.2.1").is_none());
        // All of a /64 is one host.
        let six = [take("2001:db8::1"), take("2001:db8::ffff:0:0:2")];
        assert!(six.iter().all(Option::is_some) && take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut seats = Seats::new(0);
        let held: Vec<_> = (0..100).map(|_| seats.take([127, 0, 0, 1].into())).collect();
        assert!(held.iter().all(Option::is_some) && seats.taken.is_empty());
    }

    #[test]
    fn who_has_left_is_forgotten_and_who_is_there_is_not() {
        let mut seats = Seats::new(1);
        let address = |n: u32| IpAddr::V4(n.into());
        let held: Vec<_> = (0..10).map(|n| seats.take(address(n)).unwrap()).collect();
        for n in 10..100_000 {
            assert!(seats.take(address(n)).is_some());
        }
        assert!(seats.taken.len() <= FORGET_AT);
        assert!((0..10).all(|n| seats.take(address(n)).is_none()));
        drop(held);
        assert!((0..10).all(|n| seats.take(address(n)).is_some()));
    }
}
