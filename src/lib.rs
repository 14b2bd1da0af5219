//! A receiver of Telegram webhooks: straight off the wire, nothing lost, no proxy in front.
//!
//! Threads of two kinds share the work. *Shards*, each pinned to a CPU with an io_uring of its own,
//! take connections from one acceptor, speak TLS and HTTP/1.1, parse each body where it lies and
//! answer 200 as soon as the update is in a queue or, with a [`Journal`], written. *Workers* take
//! the updates from the queues and call your [`Handler`]. Nothing on a shard waits for a worker:
//! where a queue is full, the update waits in the journal, or the sender is asked to come again.
//!
//! ```no_run
//! use ringhook::{Bot, Outcome, Server, TlsConfig, Update};
//!
//! # fn main() -> Result<(), ringhook::Error> {
//! let server = Server::builder()
//!     .tls(TlsConfig::from_pem_files("cert.pem".as_ref(), "key.pem".as_ref())?)
//!     .bot(Bot::new("shop", "/webhook", "the-secret-token")?)
//!     .handler(|update: &Update| {
//!         let text = update.payload().and_then(|message| message.get("text")?.as_str());
//!         println!("{}: {} bytes of text", update.kind(), text.map_or(0, str::len));
//!         Outcome::Done
//!     })
//!     .start()?;
//! println!("receiving on {:?}", server.local_addr());
//! # Ok(())
//! # }
//! ```
//!
//! The way of an update, file by file:
//!
//! ```text
//! acceptor -> shard -> connection -> tls -> http -> route -> update -> dispatch -> worker
//!                                                                        -> handler / sink
//! ```
//!
//! [`http`] and [`update`] know no socket and no clock and can be used by themselves.

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("choose the cryptography under TLS: feature `aws-lc-rs` (default) or `ring`");

mod acceptor;
mod admin;
mod allow;
mod answers;
mod balancer;
#[cfg(feature = "cli")]
mod bot_api;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod config;
mod connection;
mod control;
mod dead_letters;
mod dedup;
mod dispatch;
mod error;
mod handler;
mod hangs;
mod health;
pub mod http;
mod incidents;
#[doc(hidden)]
pub mod internals;
mod journal;
mod listener;
mod live;
mod log;
mod metrics;
mod operation;
mod panics;
mod placement;
#[cfg(feature = "cli")]
mod polling;
mod preflight;
mod proxy;
mod rights;
mod roster;
mod route;
mod runtime;
#[cfg(feature = "cli")]
mod samples;
mod seats;
#[cfg(feature = "cli")]
mod sender;
mod server;
mod shard;
mod shown;
mod sink;
mod stream;
mod tls;
pub mod update;
#[cfg(feature = "cli")]
mod url;
mod watch;
#[cfg(feature = "cli")]
mod webhook;
mod worker;

pub use crate::{
    allow::AllowList,
    config::{
        Ack, Admin, BasicAuth, Bot, Config, CpuList, Dispatch, DriverChoice, Journal, Limits,
        ListenAddress, Listener, Order, Pin, PreviousToken, Profile, SECRET_TOKEN_MAX, SecretToken,
    },
    error::{Error, ErrorKind},
    handler::{Handler, Outcome},
    metrics::{
        JournalReport, Percentiles, PollReport, Report, SlowReport, SlowRequest, Stage,
        WebhookReport,
    },
    placement::Placement,
    runtime::DriverKind,
    server::{FeedError, Hurrier, RecoveryProgress, Reload, Server, ServerHandle},
    sink::{BotNames, NdjsonSink, NullSink, Sink, SinkWriter},
    stream::{OnDrop, PendingUpdate, Updates},
    tls::{
        CertificateReload, CertificateSource, Finding, FindingKind, KeyPassword, TlsBuilder,
        TlsConfig,
    },
    update::Update,
};
