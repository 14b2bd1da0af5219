//! What runs the program `ringhook`: for those tests alone whose package makes it.

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub(crate) mod process;
pub(crate) mod sender;
pub(crate) mod service;
