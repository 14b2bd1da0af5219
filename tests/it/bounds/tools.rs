//! Programs that were made to bring servers down, or to their limits: slowhttptest and h2load. The
//! service stays available meanwhile.

use std::{fs, time::Duration};

use ringhook::{Limits, report::CloseReason};

use crate::support::{
    SECRET, TestServer,
    external::{program, succeed},
    on_each_driver, update,
};

/// Connections of an attack.
const SLOW: &str = "300";
/// Seconds that an attack may take. One whose connections are all cut off ends with the last of
/// them.
const LONG: &str = "30";
const SHORT: &str = "8";

/// Runs slowhttptest in the mode that `flags` choose; its own probe, a request every second, must
/// be answered within three seconds, each time.
#[track_caller]
fn attack(server: &TestServer, flags: &[&str]) {
    let mut command = program("slowhttptest").unwrap();
    command.args(["-c", SLOW, "-r", "200", "-i", "1", "-p", "3", "-u", &server.url()]);
    let said = succeed(command.args(flags));
    assert!(said.stdout.contains("service available:"), "{}", said.stdout);
    // Told once a second, in colours.
    let plain = said.stdout.replace('\u{1b}', "");
    let verdicts = plain.lines().filter(|line| line.contains("service available:"));
    for verdict in verdicts {
        assert!(verdict.contains("YES"), "{plain}");
    }
    assert_eq!(server.connect().post(&update(1)).status, 200);
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_secs(3);
    limits.body_timeout = Duration::from_secs(20);
    limits.body_grace = Duration::from_secs(2);
    limits.answer_timeout = Duration::from_secs(3);
    limits
}

#[test]
fn slowhttptest_finds_the_service_available_under_slow_heads() {
    if program("slowhttptest").is_none() {
        return;
    }
    on_each_driver(limits(), |server| {
        attack(&server, &["-H", "-l", LONG]);
        let closed = server.stop().0.connections_closed;
        assert!(closed.get(&CloseReason::HeadTimeout).is_some_and(|n| *n >= 200), "{closed:?}");
    });
}

#[test]
fn slowhttptest_finds_the_service_available_under_slow_bodies() {
    if program("slowhttptest").is_none() {
        return;
    }
    on_each_driver(limits(), |server| {
        attack(&server, &["-B", "-s", "100000", "-l", LONG]);
        let closed = server.stop().0.connections_closed;
        // All, but what the end of the test cuts off.
        assert!(closed.get(&CloseReason::BodyRate).is_some_and(|n| *n >= 200), "{closed:?}");
    });
}

#[test]
fn slowhttptest_finds_the_service_available_under_slow_readers() {
    if program("slowhttptest").is_none() {
        return;
    }
    on_each_driver(limits(), |server| {
        attack(&server, &["-X", "-l", SHORT, "-k", "10", "-w", "1", "-y", "16", "-z", "4"]);
        let report = server.stop().0;
        assert!(report.handshakes_full >= 200, "{report}");
    });
}

#[test]
fn h2load_gets_a_200_for_each_of_its_requests() {
    if program("h2load").is_none() {
        return;
    }
    on_each_driver(Limits::default(), |server| {
        let body = server.pki.dir().join("body.json");
        fs::write(&body, update(1)).unwrap();
        let mut command = program("h2load").unwrap();
        command.args(["--h1", "-n", "5000", "-c", "50", "-d"]).arg(&body);
        command.args(["-H", &format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}")]);
        let said = succeed(command.args(["-H", "Content-Type: application/json", &server.url()]));
        let all = "5000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(said.stdout.contains(all), "{}", said.stdout);
        assert!(said.stdout.contains("5000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{}", said.stdout);
        // It is one update, sent again and again.
        server.wait_handled(1);
        let (report, handled) = server.stop();
        assert_eq!(report.updates_acknowledged, 5_000, "{report}");
        assert_eq!(handled.ids(), [1]);
    });
}
