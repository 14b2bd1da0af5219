//! What a server costs to which nothing comes: hardly any CPU time and few wake-ups, however many
//! connections are open. The server is a process of its own, looked at from outside.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../../tests/support/binary/mod.rs"]
mod binary;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    thread,
    time::{Duration, Instant},
};

use crate::{
    binary::service::Service,
    support::{client, crowd, update, wait_still, wait_until},
};

const CONNECTIONS: usize = 1000;
const SHARDS: usize = 2;
/// How long the server is looked at.
const LOOK: Duration = Duration::from_secs(4);
/// The most CPU time, as a part of one CPU: a debug build takes about a fifth of it.
const CPU_MOST: f64 = 0.01;
/// The most wake-ups in a second of each shard, which looks at its deadlines every 625 ms, of the
/// thread that looks at files four times a second, and of any other thread: none of them has a
/// timer.
const WAKES_MOST: [(&str, f64); 3] =
    [("ringhook-s", 8.0), ("ringhook-watch", 6.0), ("ringhook", 0.9)];

/// What the threads of a process have done so far, by name.
#[derive(Debug)]
struct Effort {
    cpu: Duration,
    wakes: BTreeMap<String, u64>,
}

fn effort(process: u32) -> Effort {
    let mut effort = Effort { cpu: Duration::ZERO, wakes: BTreeMap::new() };
    for task in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let path = task.unwrap().path();
        let read = |file| fs::read_to_string(path.join(file)).ok();
        // One that has ended meanwhile does nothing any more.
        let (Some(status), Some(times)) = (read("status"), read("schedstat")) else { continue };
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let name = field("Name:").to_owned();
        *effort.wakes.entry(name).or_default() +=
            field("voluntary_ctxt_switches:").parse::<u64>().unwrap();
        // The first number is the time on a CPU in nanoseconds.
        let nanos = times.split(' ').next().unwrap().parse().unwrap();
        effort.cpu += Duration::from_nanos(nanos);
    }
    effort
}

fn most_wakes(name: &str) -> f64 {
    let most = WAKES_MOST.iter().find(|(kind, _)| name.starts_with(kind));
    most.unwrap_or_else(|| panic!("an unknown thread {name}")).1
}

#[test]
fn a_server_to_which_nothing_comes_sleeps() {
    let count = crowd::room_for(CONNECTIONS, 2);
    for driver in support::drivers() {
        let (driver, shards) = (driver.to_string(), SHARDS.to_string());
        let service = Service::new("", &["--driver", &driver, "--shards", &shards]);
        let server = service.start();
        let config = client::trusting(&service.pki.cert, rustls::ALL_VERSIONS);
        let mut idle = crowd::connect(count, server.addr, &config);
        // All of it has been at work once, the journal too.
        let mut client = service.connect();
        assert_eq!(client.post(&update(1)).status, 200);
        wait_until("the update is handled", || {
            let settled = fs::read_dir(service.journal()).unwrap();
            settled
                .into_iter()
                .any(|file| file.unwrap().file_name().to_str().unwrap().ends_with(".settled"))
        });
        // Those without a timer have then nothing to do.
        wait_still("what handshakes and syncs have left is done", Duration::from_secs(1), || {
            let mut wakes = effort(server.child.id()).wakes;
            wakes.retain(|name, _| most_wakes(name) < 1.0);
            wakes
        });

        let (before, start) = (effort(server.child.id()), Instant::now());
        thread::sleep(LOOK);
        let (after, seconds) = (effort(server.child.id()), start.elapsed().as_secs_f64());
        let share = (after.cpu - before.cpu).as_secs_f64() / seconds;
        eprintln!("{driver}: {:.3} % of a CPU", share * 100.0);
        assert!(share < CPU_MOST, "{driver}: {share} of a CPU");
        for (name, wakes) in &after.wakes {
            let wakes = (wakes - before.wakes[name]) as f64 / seconds;
            eprintln!("{driver}: {name} wakes {wakes:.1} times a second");
            assert!(wakes < most_wakes(name), "{driver}: {name} wakes {wakes:.1} times a second");
        }
        // They were not idle because they were gone.
        for (session, socket) in &mut idle {
            socket.set_nonblocking(true).unwrap();
            let _ = session.complete_io(socket);
            let outcome = session.reader().read(&mut [0; 1]).unwrap_err();
            assert_eq!(outcome.kind(), std::io::ErrorKind::WouldBlock);
        }
        assert_eq!(server.terminate().status.code(), Some(0));
    }
}
