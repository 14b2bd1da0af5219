//! The generator measures what the server did, and counts what the server dropped, doubled and
//! reordered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{collections::BTreeSet, time::Duration};

use loadtest::{ChatKey, Expected, Failures, Rate, Stop, Telegram, chat_of, run, verify};
use support::{OK, Reply, Server};

/// A server with a known delay that once stalls for a second. Who waits for updates feels that a
/// hundred times; who only looks at requests that were sent sees one slow one.
#[test]
fn a_stall_shows_from_due_time_and_hides_from_send_to_answer() {
    const DELAY: Duration = Duration::from_millis(2);
    const STALL: Duration = Duration::from_secs(1);
    // Everything that must be short is so only while the machine has time for us.
    let quiet = (0..4).any(|_| {
        let server = Server::plain(|number| match number {
            500 => Reply::WriteAfter(STALL, OK),
            _ => Reply::WriteAfter(DELAY, OK),
        });
        let mut options = server.options();
        options.connections = 1;
        options.rate = Rate::PerSecond(100.0);
        options.stop = Stop::Requests(1500);
        let report = run(&options).unwrap();
        assert!(report.is_ok(), "{report}");
        let (corrected, sent) = (&report.latency_us, &report.send_to_answer_us);
        for latencies in [corrected, sent] {
            assert!(latencies.min() >= DELAY && latencies.max() >= STALL, "{report}");
        }
        assert!(corrected.quantile(0.999) >= STALL * 9 / 10, "{report}");
        // About 50 were due in the first half of the stall.
        assert!(corrected.count_above(STALL / 2) >= 40, "{report}");
        assert!(sent.count_above(STALL * 9 / 10) >= 1, "{report}");
        assert!(report.series.iter().any(|second| second.max >= 9e5), "{report}");
        sent.count_above(STALL * 9 / 10) == 1
            && sent.quantile(0.999) < STALL / 2
            && corrected.count_above(STALL / 2) < 300
            // Neither is the generator's own fault.
            && report.lateness_us.quantile(0.9) < DELAY
    });
    assert!(quiet, "four times the machine was as slow as the server");
}

/// What the server took, in the order in which it answered, as lines of a sink.
fn sink(server: &Server, twice: impl Fn(u64) -> bool) -> Vec<String> {
    let mut seen = server.seen();
    seen.retain(|seen| seen.answered.is_some());
    seen.sort_by_key(|seen| seen.answered.unwrap().1);
    seen.iter()
        .flat_map(|seen| {
            let line = String::from_utf8(seen.body.clone()).unwrap().replace('\n', "");
            vec![line; 1 + usize::from(twice(seen.update_id()))]
        })
        .collect()
}

#[test]
fn drops_doubles_and_reordering_are_counted_to_the_last() {
    // Updates whose number ends with 3 never get an answer: the connection is cut.
    let server = Server::from_requests(|seen| match seen.update_id() % 10 {
        3 => Reply::Close,
        _ => Reply::Write(OK),
    });
    let mut options = server.options();
    options.connections = 8;
    options.rate = Rate::PerSecond(2000.0);
    options.stop = Stop::Requests(1000);
    options.payload.chats = 20;
    let report = run(&options).unwrap();
    assert_eq!(report.failures, Failures { closed: 100, ..Default::default() }, "{report}");
    assert_eq!((report.planned, report.acknowledged), (1000, 900), "{report}");

    // Those that end with 7 come twice, and in each chat two neighbours change places.
    let mut lines = sink(&server, |id| id % 10 == 7);
    let id_of = |line: &str| -> u64 {
        line["{\"update_id\":".len()..].split(',').next().unwrap().parse().unwrap()
    };
    lines.sort_by_key(|line| id_of(line));
    let key = |line: &str| chat_of(&options.payload, id_of(line));
    let mut swapped = BTreeSet::new();
    for first in 0..lines.len() {
        let chat = key(&lines[first]);
        let polls = matches!(chat, ChatKey::Poll(_));
        if polls || id_of(&lines[first]) % 10 == 7 || swapped.contains(&chat) {
            continue;
        }
        let next = (first + 1..lines.len()).find(|next| key(&lines[*next]) == chat);
        let Some(next) = next.filter(|next| id_of(&lines[*next]) % 10 != 7) else { continue };
        lines.swap(first, next);
        swapped.insert(chat);
    }
    let mut expected = Expected::from(&report);
    expected.ordered = true;
    let verified = verify(&expected, lines.join("\n").as_bytes()).unwrap();
    assert!(!verified.ok && swapped.len() > 10, "{verified}");
    assert_eq!(verified.missing.count, 100, "{verified}");
    assert_eq!(verified.missing.first[0] % 10, 3, "{verified}");
    assert_eq!(verified.doubled.count, 100, "{verified}");
    assert_eq!(verified.reordered.count, swapped.len() as u64, "{verified}");
    assert_eq!((verified.altered.count, verified.unknown.count), (0, 0), "{verified}");
}

/// As from Telegram the chats keep their order, so the sink of a server that drops now and then has
/// everything, in order.
#[test]
fn a_server_that_drops_now_and_then_gets_everything_in_order() {
    let server = Server::from_requests(|seen| match (seen.update_id() % 10, seen.earlier) {
        (3, 0) => Reply::Close,
        _ => Reply::Write(OK),
    });
    let mut options = server.options();
    options.connections = 8;
    options.rate = Rate::PerSecond(2000.0);
    options.stop = Stop::Requests(500);
    options.payload.chats = 20;
    options.telegram = Some(Telegram { time_scale: 10.0, ..Telegram::default() });
    let report = run(&options).unwrap();
    assert!(report.is_ok(), "{report}");
    let verified =
        verify(&Expected::from(&report), sink(&server, |_| false).join("\n").as_bytes()).unwrap();
    assert!(verified.ok && verified.found == 500, "{verified}");
}

#[test]
fn an_unrequested_answer_is_reported() {
    const TWICE: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";
    for tls in [false, true] {
        let script = |number| Reply::Write(if number == 3 { TWICE } else { OK });
        let server = if tls { Server::tls(script) } else { Server::plain(script) };
        let mut options = server.options();
        options.connections = 1;
        options.rate = Rate::Max;
        options.stop = Stop::Requests(10);
        let report = run(&options).unwrap();
        assert_eq!(report.statuses.get(&500), Some(&1), "{report}");
        assert!(report.unsolicited >= 1, "{report}");
        assert!(report.warnings.iter().any(|w| w.contains("more often than asked")), "{report}");
    }
}
