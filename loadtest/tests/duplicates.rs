//! What is sent twice comes twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{collections::BTreeMap, time::Duration};

use loadtest::{Failures, Options, Rate, Stop, run};
use support::{OK, Reply, Seen, Server, UNAVAILABLE};

fn options(server: &Server) -> Options {
    let mut options = server.options();
    options.connections = 16;
    options.rate = Rate::PerSecond(2000.0);
    options.stop = Stop::Requests(600);
    options.payload.chats = 40;
    options
}

/// The updates that came twice: the first and the second request of each.
fn twice(server: &Server) -> Vec<(Seen, Seen)> {
    let mut first: BTreeMap<u64, Seen> = BTreeMap::new();
    let mut pairs = Vec::new();
    for seen in server.seen() {
        match first.remove(&seen.update_id()) {
            Some(earlier) => pairs.push((earlier, seen)),
            None => {
                first.insert(seen.update_id(), seen);
            }
        }
    }
    pairs
}

#[test]
fn copies_come_on_other_connections_together_or_afterwards() {
    let server = Server::from_requests(|_| Reply::WriteAfter(Duration::from_millis(10), OK));
    let mut options = options(&server);
    options.duplicates = 0.2;
    let report = run(&options).unwrap();
    assert!(report.is_ok() && report.planned == 600, "{report}");
    let copies = report.copies.as_ref().unwrap();
    assert!((80..160).contains(&copies.planned), "{report}");
    assert_eq!((copies.sent, copies.acknowledged), (copies.planned, copies.planned));
    assert_eq!(copies.statuses, BTreeMap::from([(200, copies.planned)]));
    assert_eq!(copies.failures, Failures::default());
    // They are nowhere else.
    assert_eq!((report.sent, report.latency_us.count()), (600, 600), "{report}");
    assert_eq!(report.statuses, BTreeMap::from([(200, 600)]), "{report}");
    assert_eq!(report.ids.as_ref().unwrap().sent.len(), 600);

    let pairs = twice(&server);
    assert_eq!(pairs.len() as u64, copies.planned);
    assert_eq!(server.seen().len() as u64, 600 + copies.planned);
    let mut together = 0;
    for (one, two) in &pairs {
        assert_eq!(one.body, two.body);
        assert_ne!(one.connection, two.connection, "{}", one.update_id());
        together += u64::from(two.arrived < one.answered.unwrap().1);
    }
    // Half of them, but what is meant to come together may be torn apart on a busy machine.
    assert!(
        (1..copies.planned * 7 / 10).contains(&together),
        "{together} of {pairs}",
        pairs = pairs.len()
    );
}

#[test]
fn refused_copies_are_not_sent_again() {
    // The second request of each update is refused.
    let server = Server::from_requests(|seen| match seen.earlier {
        1 => Reply::WriteAfter(Duration::from_millis(2), UNAVAILABLE),
        _ => Reply::WriteAfter(Duration::from_millis(2), OK),
    });
    let mut options = options(&server);
    options.duplicates = 0.1;
    let report = run(&options).unwrap();
    let copies = report.copies.as_ref().unwrap();
    let refused = report.statuses.get(&503).copied().unwrap_or(0)
        + copies.statuses.get(&503).copied().unwrap_or(0);
    // Where a copy overtook its original, it was the original that was refused.
    assert_eq!(refused, copies.planned, "{report}");
    assert!(copies.planned > 30, "{report}");
    assert_eq!(server.seen().len() as u64, 600 + copies.planned);
}

#[test]
fn two_connections_are_enough_for_copies_of_everything() {
    let server = Server::from_requests(|_| Reply::Write(OK));
    let mut options = options(&server);
    options.connections = 2;
    options.duplicates = 1.0;
    for rate in [Rate::Max, Rate::PerSecond(1000.0)] {
        options.rate = rate;
        options.first_update_id += 600;
        let report = run(&options).unwrap();
        assert!(report.is_ok(), "{report}");
        assert_eq!(report.copies.unwrap().acknowledged, 600);
    }
    for (one, two) in twice(&server) {
        assert_ne!(one.connection, two.connection);
    }
}

#[test]
fn useless_values_are_named() {
    let server = Server::plain(|_| Reply::Write(OK));
    for (part, change) in [
        ("duplicates", (|options| options.duplicates = 1.5) as fn(&mut Options)),
        ("duplicates", |options| options.duplicates = f64::NAN),
        ("two connections", |options| {
            options.duplicates = 0.1;
            options.connections = 1;
        }),
    ] {
        let mut options = server.options();
        change(&mut options);
        let error = run(&options).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(part), "{error}");
    }
}
