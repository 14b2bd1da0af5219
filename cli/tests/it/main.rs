//! The promises of the program `ringhook`, which runs as a process of its own. What has to be alone
//! among the tests is beside this, in `tests`.
//!
//! | folder | what its tests are about |
//! |---|---|
//! | `commands` | the commands beside `serve`: what they say and do |
//! | `serving` | `ringhook serve` from its first line to its last |
//! | `durability` | what is promised where the process is killed, the disk fails or the power |
//! | `brokers` | brokers as outputs, each the real server |
//! | `rights` | what root does, and no longer does |

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "../../../tests/support/binary/mod.rs"]
mod binary;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod brokers;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../loadtest/tests/support/browser.rs"]
mod browser;
mod commands;
mod durability;
mod rights;
mod serving;
#[path = "../../../tests/support/mod.rs"]
mod support;
