//! Brokers behind the program, each of them the real server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | a server of another project that is killed, frozen and started again |
//! | `postgres` | PostgreSQL |
//! | `redis` | Redis and Valkey |

mod postgres;
mod redis;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, OpenOptions},
    process::{Child, Command, Stdio},
};

use loadtest::{ChatKey, PayloadOptions, chat_of};

use crate::{
    binary::{process::Process, service::Service},
    support::{external::skip, wait_going_on, wait_until},
};

/// A running server, killed when the test lets go of it.
struct Broker(Child);

impl Broker {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("the broker runs"))
    }

    /// True where it has ended by itself.
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Sends a signal by its name, such as `STOP`, to it and to the processes that it has started.
    fn signal(&self, name: &str) {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let pid = pid.to_string();
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &pid]).args(children.unwrap_or_default().split_whitespace());
        // A child may have ended meanwhile.
        let _ = kill.stderr(Stdio::null()).status().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.0.wait();
    }
}

#[track_caller]
fn post(service: &Service, body: &str) {
    assert_eq!(service.connect().post(body).status, 200);
}

/// Waits until the log says `text` of the output.
#[track_caller]
fn wait_said(server: &Process, text: &str) {
    wait_until(&format!("the log says {text:?}"), || {
        server.stderr().iter().any(|line| line.contains("takes nothing") && line.contains(text))
    });
}

/// The workers of `examples/`, in Python and in Rust, for the broker `name`, with `args`; those
/// that this machine lacks are passed over with the reason printed.
fn workers(name: &str, package: &str, args: &[&str]) -> Vec<Command> {
    let python = env::var("RINGHOOK_TEST_PYTHON").unwrap_or("python3".to_owned());
    let probe = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/brokers");
    let mut workers = Vec::new();
    if probe.is_ok_and(|probe| probe.status.success()) {
        let mut worker = Command::new(python);
        worker.arg(format!("{script}/{name}_worker.py")).args(args);
        workers.push(worker);
    } else {
        skip(package, "no package of Python here");
    }
    // Cargo puts examples beside the directory of the test executables.
    let test = env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples");
    let example = example.join(format!("{name}_worker"));
    if example.exists() {
        let mut worker = Command::new(example);
        worker.args(args);
        workers.push(worker);
    } else {
        skip("examples", "not built: `cargo build --examples` makes it");
    }
    workers
}

/// Runs `worker` until it has said all of so many updates, and kills it now and then.
#[track_caller]
fn work_to_the_end(worker: &mut Command, payload: &PayloadOptions, updates: u64) {
    const KILLS: u64 = 3;
    let file = tempfile::NamedTempFile::new().unwrap();
    let said = || -> Vec<u64> {
        let text = fs::read_to_string(file.path()).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    for life in 1..=KILLS + 1 {
        let mut running = Broker(
            worker
                .stdout(OpenOptions::new().append(true).open(file.path()).unwrap())
                .spawn()
                .unwrap(),
        );
        let so_many = updates * life / (KILLS + 1);
        wait_going_on("so many are handled", || {
            let count = said().into_iter().collect::<BTreeSet<_>>().len() as u64;
            assert!(!running.has_ended(), "the worker has ended");
            (count >= so_many, count)
        });
    }
    let mut ids = said();
    let again = ids.len() as u64 - updates;
    // What a worker was about when it was killed comes to the next one.
    assert!(again <= KILLS, "{again} were handled again");
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    check(payload, updates, ids);
}

/// Asserts that `ids`, in the order in which a broker has them, are those of all `updates`, each
/// once, and that each chat is in its order.
#[track_caller]
fn check(payload: &PayloadOptions, updates: u64, ids: impl IntoIterator<Item = u64>) {
    let (mut seen, mut again) = (BTreeSet::new(), Vec::new());
    let mut newest: BTreeMap<ChatKey, u64> = BTreeMap::new();
    for id in ids {
        if !seen.insert(id) {
            again.push(id);
        } else if let Some(before) = newest.insert(chat_of(payload, id), id) {
            assert!(before < id, "{id} comes after {before} in its chat");
        }
    }
    let lost: Vec<_> = (1..=updates).filter(|id| !seen.contains(id)).collect();
    assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
    assert!(again.is_empty(), "{} came again: {again:?}", again.len());
    assert_eq!(seen.len() as u64, updates, "there are some that were never sent");
}
