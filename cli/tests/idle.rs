//! Ten thousand idle TLS connections beside a steady load: all stay open, nothing is lost, and what
//! each of them costs is told.
//!
//! The server is a process of its own, whose memory and descriptors can be seen from outside. The
//! figures of a release build come from `loadtest --idle`, see docs/performance.md.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../../tests/support/binary/mod.rs"]
mod binary;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    time::{Duration, Instant},
};

use loadtest::{Options, Rate, Stop, Trust};
use rustix::process::{Resource, getrlimit};

use crate::{
    binary::{process, service::Service},
    support::{PATH, SECRET, client, crowd, request, request_to, update, wait_until},
};

const CONNECTIONS: usize = 10_000;
/// The most memory of a server for each of them. 3.8 KiB were measured in a debug build.
const MEMORY_EACH: usize = 8 * 1024;

/// What a bot takes with its first update, its window of known ids most of all: an operator with
/// thousands of bots pays for those that are used.
#[test]
fn a_bot_costs_memory_for_what_it_has_got() {
    const BOTS: usize = 200;
    const MEMORY_EACH: usize = 64 * 1024;
    let bot = |n| format!("[[bot]]\nname = 'b{n}'\npath = '/b{n}'\nsecret_token = 's{n}'\n");
    let config: String = (0..BOTS).map(bot).collect();
    let service = Service::new(&config, &["--ack", "memory", "--output", "null"]);
    let server = service.start();
    let mut client = service.connect();
    assert_eq!(client.post(&update(1)).status, 200);
    let before = process::resident(server.child.id());
    for n in 0..BOTS {
        client.send(&request_to(&format!("/b{n}"), &format!("s{n}"), &update(1)));
        assert_eq!(client.response().status, 200);
    }
    let more = process::resident(server.child.id()).saturating_sub(before);
    assert_eq!(server.terminate().status.code(), Some(0));
    assert_eq!(service.report()["updates_handled"], 1 + BOTS);
    assert!(more < BOTS * MEMORY_EACH, "{} bytes for each bot", more / BOTS);
}

#[test]
fn ten_thousand_idle_connections_cost_memory_and_nothing_else() {
    let service = Service::new("", &["--ack", "memory"]);
    let mut command = std::process::Command::new("sh");
    // As a login shell has it, whatever this process may.
    command.args(["-c", "ulimit -S -n 1024; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ringhook")]);
    command.current_dir(service.pki.dir()).stdin(std::process::Stdio::null());
    service.arguments(&mut command);
    let most = getrlimit(Resource::Nofile).maximum;
    let count = crowd::room_for(CONNECTIONS, 1);
    let server = process::Process::start(command);
    if let Some(most) = most {
        let files = format!("  files      {most} (soft limit raised from 1024)");
        assert!(server.stderr().contains(&files), "{files}: {:?}", server.stderr());
    }

    let pid = server.child.id();
    let before = process::resident(pid);
    let start = Instant::now();
    let config = client::trusting(&service.pki.cert, rustls::ALL_VERSIONS);
    let mut idle = crowd::connect(count, server.addr, &config);
    let each = process::resident(pid).saturating_sub(before) / count;
    eprintln!("{count} connections in {:?}, {each} bytes of the server for each", start.elapsed());
    assert!(each < MEMORY_EACH, "{each} bytes for each");

    let url = format!("https://{}{PATH}", server.addr);
    let mut options = Options::new(url.parse().unwrap());
    options.secret_token = Some(SECRET.to_owned());
    options.trust = Trust::pem(service.pki.cert.as_bytes()).unwrap();
    options.connections = 200;
    options.rate = Rate::PerSecond(500.0);
    options.stop = Stop::After(Duration::from_secs(4));
    let report = loadtest::run(&options).unwrap();
    assert!(report.is_ok(), "{report}");

    // None of them has noticed anything, and each of them can begin at any time.
    let mut byte = [0; 1];
    for (session, socket) in &mut idle {
        // Session tickets lie there unread.
        session.complete_io(socket).unwrap();
        assert_eq!(session.reader().read(&mut byte).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    for (id, (session, socket)) in (1_000_000..).zip(idle.iter_mut().step_by(100)) {
        session.writer().write_all(&request(&update(id))).unwrap();
        while session.wants_write() {
            session.write_tls(socket).unwrap();
        }
        wait_until("an answer", || {
            session.complete_io(socket).unwrap();
            session.reader().read(&mut [0; 1024]).is_ok_and(|n| n > 0)
        });
    }
    let ended = server.terminate();
    assert_eq!(ended.status.code(), Some(0));
    let report = service.report();
    assert_eq!(report["updates_acknowledged"], 2_000 + idle.len().div_ceil(100));
    assert_eq!(report["connections_closed"].get("idle_timeout"), None, "{report}");
    assert_eq!(report["connections_refused"], 0);
}
