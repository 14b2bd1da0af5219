//! ringhook: a receiver of Telegram webhooks.

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("choose the cryptography under TLS: feature `aws-lc-rs` (default) or `ring`");

mod acceptor;
#[cfg(feature = "cli")]
pub mod cli;
mod config;
mod connection;
mod control;
mod dispatch;
mod error;
mod handler;
pub mod http;
mod metrics;
mod placement;
mod preflight;
mod route;
mod runtime;
mod server;
mod shard;
mod sink;
mod tls;
pub mod update;
mod worker;

pub use crate::{
    config::{Bot, Config, DriverChoice, Limits, SECRET_TOKEN_MAX, SecretToken},
    error::{Error, ErrorKind},
    handler::{Handler, Outcome},
    metrics::{Percentiles, Report, Stage},
    placement::Placement,
    runtime::DriverKind,
    server::{Server, ServerHandle},
    sink::{NdjsonSink, NullSink, Sink, SinkWriter},
    tls::TlsConfig,
    update::Update,
};
