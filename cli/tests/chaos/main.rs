//! The real server under a random plan of faults: killed, paused, stopped, followed, on disks that
//! are full or hang, with files that vanish, a clock that jumps and a network that loses what it
//! carries, while Telegram's sender goes on by its rules.
//!
//! A run is a plan, and a plan a function of its seed, which is printed. `RINGHOOK_CHAOS_SECONDS`
//! says how long it is, `RINGHOOK_CHAOS_SEED` repeats one, `RINGHOOK_CHAOS_ONLY=kill,full` leaves
//! all but some faults out of it.
//!
//! | file | what is in it |
//! |---|---|
//! | `plan` | what happens when |
//! | `run` | the plan carried out, and what must be true after each step |
//! | `faults` | how each fault is brought about |
//! | `place` | disks, files, certificates and addresses |
//! | `server` | one life of the server |
//! | `sender` | Telegram's side |
//! | `unauthorized` | clients without a valid secret, or that speak no HTTP or TLS |
//! | `proxy` | the network |
//! | `ledger`, `output` | what was acknowledged, what came out, and what must be true of both |

#![cfg(target_os = "linux")]
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../../../tests/support/binary/mod.rs"]
mod binary;
mod faults;
mod ledger;
mod output;
mod place;
mod plan;
mod proxy;
mod run;
mod sender;
mod server;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod unauthorized;

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use plan::Plan;
use run::Run;

/// Length of a run unless the environment says otherwise, in seconds.
const SECONDS: u64 = 20;

#[test]
fn nothing_is_lost_and_all_is_as_before() {
    let number = |name: &str| {
        env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name}")))
    };
    let seed = number("RINGHOOK_CHAOS_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let length = Duration::from_secs(number("RINGHOOK_CHAOS_SECONDS").unwrap_or(SECONDS));
    let only = env::var("RINGHOOK_CHAOS_ONLY").unwrap_or_default();
    let only = plan::parse(&only).unwrap_or_else(|error| panic!("RINGHOOK_CHAOS_ONLY: {error}"));
    eprintln!("RINGHOOK_CHAOS_SEED={seed} RINGHOOK_CHAOS_SECONDS={}", length.as_secs());
    let plan = Plan::draw(seed, length, &only);
    support::disk::try_mounts(|why_not| {
        if let Some(why) = &why_not {
            eprintln!("faults of disks are left out: {why}");
        }
        Run::begin(plan, why_not.is_none()).carry_out(length);
    });
}
