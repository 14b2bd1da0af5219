//! What costs no allocation, each counted in the one thread that does it: under an allocator that
//! counts, so in a program of its own.

#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../support/allocator.rs"]
mod allocator;
mod http;
mod tls;
mod update;
