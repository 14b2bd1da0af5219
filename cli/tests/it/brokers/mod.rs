//! Brokers behind the program, each of them the real server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | a server of another project that is killed, frozen and started again |
//! | `redis` | Redis and Valkey |

mod redis;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Command, Stdio},
};

use loadtest::{ChatKey, PayloadOptions, chat_of};

/// A running server, killed when the test lets go of it.
struct Broker(Child);

impl Broker {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("the broker runs"))
    }

    /// Sends a signal by its name, such as `STOP`.
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
