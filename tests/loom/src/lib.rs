//! The hand-overs between threads, in every order that their memory orders allow.
//!
//! The files under test are those of `src/`, built against loom's forms of what `crate::sync` has
//! there. Their neighbours are as small as the protocol lets them be.
//!
//! ```text
//! cargo test --release -p ringhook-loom
//! ```

#![cfg(test)]
#![allow(dead_code, clippy::unwrap_used)]

mod bots;
mod dispatch;
mod journal;
mod outcome;
mod proto;
mod sync;
