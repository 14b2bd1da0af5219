//! Tests of `acceptor`.

#![allow(clippy::unwrap_used)]

use std::{io::Read as _, net::TcpStream as Peer};

use super::*;
use crate::{config::AllowList, io::listener::Listening, observe::incidents::Incidents};

/// An acceptor with `shards` mailboxes of the least capacity, which is one message, unless
/// `capacity` adds to it.
fn acceptor(shards: usize, capacity: usize) -> (Acceptor, Vec<mpsc::Receiver<Message>>) {
    let (links, mailboxes) = (0..shards)
        .map(|_| {
            let (mailbox, messages) = mpsc::channel(capacity);
            (ShardLink { idle: Arc::default(), mailbox, open: Arc::default() }, messages)
        })
        .unzip();
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let config = Config { listen, ..Config::default() };
    let listening = Listening::open(&config, Vec::new(), None).unwrap();
    let stop = UnixStream::pair().unwrap().0;
    let acceptor = Acceptor::new(
        ConnectionLimits::new(&config, Arc::new(PeerConnectionLimit::new(0))),
        Incidents::new(10).writer(),
        listening.sockets,
        Arc::default(),
        Arc::default(),
        links,
        stop,
    );
    (acceptor, mailboxes)
}

/// Connects once and lets the acceptor take it.
fn connect(acceptor: &mut Acceptor) -> Peer {
    let peer = Peer::connect(acceptor.listeners.first().unwrap().local_addr()).unwrap();
    let before = acceptor.metrics.accepted.get();
    while acceptor.metrics.accepted.get() == before {
        acceptor.accept_all(0).unwrap();
    }
    peer
}

fn loads(acceptor: &Acceptor) -> Vec<usize> {
    acceptor.shards.iter().map(|link| link.open.load(Ordering::Relaxed)).collect()
}

fn turned_away(acceptor: &Acceptor, why: TurnedAway) -> u64 {
    acceptor.metrics.refused.get(why as usize).unwrap().get()
}

#[test]
fn who_is_not_on_the_list_is_turned_away_and_never_reaches_a_shard() {
    let (mut acceptor, _mailboxes) = acceptor(2, 100);
    let allow = |acceptor: &mut Acceptor, list: &[&str]| {
        let allow = Some(AllowList::new(list).unwrap());
        acceptor.listeners.first_mut().unwrap().terms =
            Arc::new(Terms { allow, ..Terms::default() });
    };
    allow(&mut acceptor, &["telegram", "127.0.0.2"]);
    let mut peer = connect(&mut acceptor);
    assert_eq!(peer.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((loads(&acceptor), turned_away(&acceptor, TurnedAway::Address)), (vec![0, 0], 1));
    allow(&mut acceptor, &["127.0.0.0/8"]);
    let _peer = connect(&mut acceptor);
    assert_eq!((loads(&acceptor), turned_away(&acceptor, TurnedAway::Address)), (vec![1, 0], 1));
}

#[test]
fn a_balancer_takes_no_permit_and_no_other_peer_may_come() {
    let (mut acceptor, _mailboxes) = acceptor(1, 100);
    acceptor.limits.permits = Arc::new(PeerConnectionLimit::new(1));
    for (balancers, expected) in [("127.0.0.1", (vec![3], 0)), ("127.0.0.2", (vec![3], 3))] {
        let proxy_protocol = Some(AllowList::new([balancers]).unwrap());
        // The client behind the balancer is looked for on the list, not the balancer.
        let allow = Some(AllowList::new(["telegram"]).unwrap());
        acceptor.listeners.first_mut().unwrap().terms =
            Arc::new(Terms { allow, proxy_protocol, tls: true });
        let _peers: Vec<_> = (0..3).map(|_| connect(&mut acceptor)).collect();
        let outcome = (loads(&acceptor), turned_away(&acceptor, TurnedAway::Address));
        assert_eq!(outcome, expected);
    }
}

#[test]
fn no_answer_waits_for_the_peers_acknowledgement() {
    let (mut acceptor, mut mailboxes) = acceptor(1, 100);
    let _peer = connect(&mut acceptor);
    let Ok(Message::Connection(accepted)) = mailboxes.first_mut().unwrap().try_recv() else {
        unreachable!("it was handed over");
    };
    assert!(sockopt::tcp_nodelay(&accepted.socket).unwrap());
}

#[test]
fn who_has_connected_before_a_stop_is_taken() {
    let (mut acceptor, _mailboxes) = acceptor(1, 100);
    let addr = acceptor.listeners.first().unwrap().local_addr();
    let _peers: Vec<_> = (0..20).map(|_| Peer::connect(addr).unwrap()).collect();
    acceptor.accept_last();
    assert_eq!(loads(&acceptor), [20]);
}

#[test]
fn an_address_gets_its_seats_back_when_its_connections_are_gone() {
    let (mut acceptor, mut mailboxes) = acceptor(1, 100);
    acceptor.limits.permits = Arc::new(PeerConnectionLimit::new(2));
    let _peers: Vec<_> = (0..3).map(|_| connect(&mut acceptor)).collect();
    assert_eq!((loads(&acceptor), turned_away(&acceptor, TurnedAway::PerAddress)), (vec![2], 1));
    drop(mailboxes.first_mut().unwrap().try_recv().unwrap());
    let _peer = connect(&mut acceptor);
    assert_eq!((loads(&acceptor), turned_away(&acceptor, TurnedAway::PerAddress)), (vec![3], 1));
}

#[test]
fn where_there_is_no_room_the_shard_with_the_longest_idle_one_gets_the_new_one() {
    let (mut acceptor, mut mailboxes) = acceptor(3, 100);
    acceptor.limits.connections = 3;
    let _peers: Vec<_> = (0..3).map(|_| connect(&mut acceptor)).collect();
    let _peer = connect(&mut acceptor);
    assert_eq!(turned_away(&acceptor, TurnedAway::Connections), 1, "none is idle");
    // The test's times are ten seconds after the epoch.
    let epoch = Instant::now() - Duration::from_secs(10);
    for (link, seconds) in acceptor.shards.iter_mut().zip([4, 2, 3]) {
        let idle = LongestIdle::from_epoch(epoch);
        idle.set(Some(epoch + Duration::from_secs(seconds)));
        link.idle = Arc::new(idle);
    }
    let _peer = connect(&mut acceptor);
    assert_eq!(loads(&acceptor), [1, 2, 1]);
    let mailbox = mailboxes.get_mut(1).unwrap();
    assert!(matches!(mailbox.try_recv(), Ok(Message::Connection(_))));
    assert!(matches!(mailbox.try_recv(), Ok(Message::ReplaceIdle(_))));
    for link in &acceptor.shards {
        link.idle.set(Some(Instant::now()));
    }
    let _peer = connect(&mut acceptor);
    assert_eq!(turned_away(&acceptor, TurnedAway::Connections), 2, "none for long enough");
}

#[test]
fn forty_connections_are_spread_over_sixteen_shards_within_one() {
    let (mut acceptor, _mailboxes) = acceptor(16, 100);
    let _peers: Vec<_> = (0..40).map(|_| connect(&mut acceptor)).collect();
    assert!(loads(&acceptor).iter().all(|load| matches!(load, 2 | 3)));
    assert_eq!(loads(&acceptor).iter().sum::<usize>(), 40);
    // Those of one shard end; it gets the next ones.
    acceptor.shards.get(5).unwrap().open.store(0, Ordering::Relaxed);
    let _peers: Vec<_> = (0..2).map(|_| connect(&mut acceptor)).collect();
    assert_eq!(loads(&acceptor).get(5), Some(&2));
}

#[test]
fn a_full_or_dead_shard_is_passed_over_and_refusal_is_the_last_resort() {
    let (mut acceptor, mut mailboxes) = acceptor(3, 0);
    // The least loaded one is gone, the next one has room for one connection.
    mailboxes.remove(0);
    let [_a, _b] = [connect(&mut acceptor), connect(&mut acceptor)];
    assert_eq!((loads(&acceptor), turned_away(&acceptor, TurnedAway::Shards)), (vec![0, 1, 1], 0));
    let mut refused = connect(&mut acceptor);
    assert_eq!((loads(&acceptor), turned_away(&acceptor, TurnedAway::Shards)), (vec![0, 1, 1], 1));
    assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0);
}
