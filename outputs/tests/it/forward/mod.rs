//! The forward to a bot behind HTTP.

mod replies;
mod requests;
mod retries;
mod secrecy;
mod states;
mod targets;
