//! Clients that poll.

mod clients;
mod passing;
mod rules;
mod settling;
