//! `ringhook serve` from its first line to its last.

mod accept;
mod admin;
mod alerts;
pub(crate) mod backend;
mod drills;
mod driver;
mod forward;
mod frameworks;
mod limits;
mod listeners;
mod log;
mod metrics;
mod outputs;
mod outputs_reload;
mod placing;
mod profile;
mod reload;
mod routes;
mod serve;
mod service_manager;
mod shutdown;
mod status_page;
mod stderr;
mod takeover;
mod tls;
mod tokens;
mod webhook_watch;
