//! How many connections each address has. A [`ConnectionPermit`] is given out where the address is
//! known: by the acceptor, or by the shard that has read the PROXY header. A connection's end gives
//! its permit back by dropping it, and no thread waits for that.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::config::allow;

/// Addresses that are remembered before those without a connection are forgotten.
const FORGET_AT: usize = 1024;

/// The permits of all addresses.
#[derive(Debug)]
pub(crate) struct PeerConnectionLimit {
    /// Permits for each address; 0 is no limit, and nothing is counted.
    most: AtomicUsize,
    /// Locked once for a connection, for the time of a look.
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    forget_at: usize,
    /// Each is shared by the permits that are taken.
    taken: HashMap<IpAddr, Arc<()>>,
}

/// A connection's share of the limit of its address, held for as long as it lives.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    _held: Option<Arc<()>>,
}

impl ConnectionPermit {
    /// A permit of the connections that are not counted: of a balancer, or of a peer without an
    /// address.
    pub(crate) fn uncounted() -> Self {
        Self { _held: None }
    }
}

impl PeerConnectionLimit {
    pub(crate) fn new(most: usize) -> Self {
        let table = Table { forget_at: FORGET_AT, taken: HashMap::new() };
        Self { most: AtomicUsize::new(most), table: Mutex::new(table) }
    }

    /// Gives each address so many from now on. Connections that came while there was no limit stay
    /// uncounted.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// A permit for `address`; `None` where it has as many as it may.
    pub(crate) fn take(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let most = self.most.load(Relaxed);
        if most == 0 {
            return Some(ConnectionPermit::uncounted());
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.taken.len() >= table.forget_at {
            table.taken.retain(|_, permits| Arc::strong_count(permits) > 1);
            table.forget_at = FORGET_AT.max(2 * table.taken.len());
        }
        let permits = table.taken.entry(allow::host(address)).or_default();
        // One of them is the table's own. Only under the lock are any added.
        let is_free = Arc::strong_count(permits) <= most;
        is_free.then(|| ConnectionPermit { _held: Some(Arc::clone(permits)) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_has_so_many_seats_and_gets_them_back() {
        let permits = PeerConnectionLimit::new(2);
        let take = |address: &str| permits.take(address.parse().unwrap());
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
        let permits = PeerConnectionLimit::new(0);
        let held: Vec<_> = (0..100).map(|_| permits.take([127, 0, 0, 1].into())).collect();
        assert!(held.iter().all(Option::is_some) && permits.table.lock().unwrap().taken.is_empty());
    }

    #[test]
    fn who_has_left_is_forgotten_and_who_is_there_is_not() {
        let permits = PeerConnectionLimit::new(1);
        let address = |n: u32| IpAddr::V4(n.into());
        let held: Vec<_> = (0..10).map(|n| permits.take(address(n)).unwrap()).collect();
        for n in 10..100_000 {
            assert!(permits.take(address(n)).is_some());
        }
        assert!(permits.table.lock().unwrap().taken.len() <= FORGET_AT);
        assert!((0..10).all(|n| permits.take(address(n)).is_none()));
        drop(held);
        assert!((0..10).all(|n| permits.take(address(n)).is_some()));
    }
}
