//! The records of a client with the right keys, and without, are taken as rustls takes them: the
//! same data, the same alert, the same end.
#![no_main]

#[path = "../two_servers.rs"]
mod two_servers;

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use two_servers::{Sent, Sides};

thread_local! {
    static SIDES: LazyCell<Sides> =
        LazyCell::new(|| Sides::new(&rustls::crypto::ring::default_provider()));
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, script)) = input.split_first() else { return };
    let piece = if first < 128 { usize::MAX } else { 1 + usize::from(first / 3 - 42) * 7 };
    SIDES.with(|sides| sides.compare(first % 3, piece, &Sent::script(script)));
});
