//! The forward to a bot behind HTTP.

mod replies;
mod requests;
mod retries;
mod states;
mod targets;
