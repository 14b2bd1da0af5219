//! The outputs, with a real server in front of them and real sockets behind.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod forward;
mod getupdates;
mod support;
