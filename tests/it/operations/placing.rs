//! Which CPUs threads are pinned to, and how evenly connections are spread.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use ringhook::{CpuList, ErrorKind, Pin, Profile, ServerBuilder};

use crate::support::{self, TestServer, client::Client, update, wait_until};

/// The CPUs that this process may use.
fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    allowed_in(&status).parse::<CpuList>().unwrap().as_slice().to_vec()
}

fn allowed_in(status: &str) -> &str {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim()
}

#[test]
fn a_program_pins_as_well() {
    let last = *allowed().last().unwrap();
    let pin: Pin = format!("shards={last},workers={last}").parse().unwrap();
    let server = TestServer::with(|server: ServerBuilder| server.pin(pin));
    assert_eq!(server.handle.placement().shards, [last]);
    assert_eq!(server.handle.placement().workers, [last]);
    let report = server.stop().0;
    assert_eq!((report.shard_cpus, report.worker_cpus), (vec![last], vec![last]));
    let pin: Pin = "shards=1023".parse().unwrap();
    let error = TestServer::try_with(|server| server.pin(pin)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    // Without listeners there are no shards to be pinned.
    let mut pin = Pin::default();
    (pin.shards, pin.workers) = (CpuList::new([1023]).ok(), CpuList::new([last]).ok());
    let server = TestServer::with(|server| server.without_listeners().pin(pin));
    assert!(server.handle.placement().shards.is_empty());
    assert_eq!(server.handle.placement().workers, [last]);
}

/// Shards of the test of balance, more than this machine has CPUs.
const SHARDS: usize = 16;
const CONNECTIONS: usize = 40;

/// The shard of each client, by the number of the one update that it has sent: a report names it
/// for slow requests, and each request takes longer than a microsecond.
fn shards_of(server: &TestServer, clients: &BTreeMap<i64, Client>) -> BTreeMap<i64, usize> {
    let slow = server.handle.report().slow.unwrap();
    let requests = slow.requests.iter().filter(|request| clients.contains_key(&request.update_id));
    requests.map(|request| (request.update_id, request.shard.unwrap())).collect()
}

/// Fails unless no shard has more than one connection more than another.
#[track_caller]
fn assert_even(shards: &BTreeMap<i64, usize>) {
    let mut loads = [0_usize; SHARDS];
    assert_eq!(shards.len(), CONNECTIONS);
    shards.values().for_each(|shard| loads[*shard] += 1);
    let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
    assert!(most - least <= 1, "{loads:?}");
}

#[test]
fn connections_are_spread_evenly_while_they_come_and_go() {
    for driver in support::drivers() {
        let server = TestServer::with(|server| {
            let profile = Profile::slow(Duration::from_micros(1));
            server.driver(driver).shards(SHARDS).workers(1).profile(profile)
        });
        let mut ids = 0..;
        let mut clients = BTreeMap::new();
        let mut fill = |clients: &mut BTreeMap<i64, Client>| {
            let ids = ids.by_ref().take(CONNECTIONS - clients.len());
            // All are there before the first one says anything.
            let mut new: Vec<_> = ids.map(|id| (id, server.connect())).collect();
            for (id, client) in &mut new {
                assert_eq!(client.post(&update(*id)).status, 200);
            }
            clients.extend(new);
        };
        let drop_all = |clients: &mut BTreeMap<i64, Client>, gone: &dyn Fn(i64) -> bool| {
            clients.retain(|id, _| !gone(*id));
            // Who has gone is no load once the shard has seen it.
            wait_until("the server has noticed", || {
                let report = server.handle.report();
                let closed = report.connections_closed.values().sum::<u64>();
                report.connections_accepted - closed == clients.len() as u64
            });
            // It is counted a moment before the acceptor knows, which nothing shows.
            thread::sleep(Duration::from_millis(20));
        };
        fill(&mut clients);
        let shards = shards_of(&server, &clients);
        assert_even(&shards);
        // All connections of three shards go, then some of everywhere.
        drop_all(&mut clients, &|id| shards[&id] < 3);
        fill(&mut clients);
        assert_even(&shards_of(&server, &clients));
        drop_all(&mut clients, &|id| id % 5 == 0);
        fill(&mut clients);
        assert_even(&shards_of(&server, &clients));
    }
}
