//! The promises of the library, on real sockets and files: one program, so that the library is
//! linked once. What has to be alone in its process is beside it, in `tests`.
//!
//! | folder | what its tests are about |
//! |---|---|
//! | `requests` | requests and updates: any bytes, of any client |
//! | `secrecy` | TLS: records, handshakes, keys, certificates |
//! | `dispatch` | from the answer to the handler: once, in order, and as often as it takes |
//! | `durability` | what the journal keeps |
//! | `bounds` | what one may take, and that others are served meanwhile |
//! | `operations` | a server that starts, tells how it is, is changed and stops |
//! | `layers` | the direction of imports in the library |
//! | `doubles` | what other tests take for Telegram |

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod bounds;
mod dispatch;
mod doubles;
mod durability;
mod layers;
mod operations;
mod requests;
mod secrecy;
#[path = "../support/mod.rs"]
mod support;
