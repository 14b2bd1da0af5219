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
//! The path of an update, file by file:
//!
//! ```text
//! acceptor -> shard -> connection -> tls -> http -> route -> update -> dispatch -> worker
//!                                                                        -> handler / sink
//! ```

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("choose the cryptography under TLS: feature `aws-lc-rs` (default) or `ring`");

mod bots;
mod config;
mod control;
mod delivery;
mod dispatch;
mod duration;
mod error;
mod files;
#[doc(hidden)]
pub mod internals;
mod io;
mod journal;
mod observe;
mod outcome;
mod proto;
mod redact;
mod server;
mod sync;
mod tls;

pub use crate::{
    config::{
        Ack, Admin, AllowList, BasicAuth, Bot, Config, CpuList, Dispatch, DriverChoice, DriverKind,
        Journal, Limits, ListenAddress, Listener, Order, Pin, PreviousToken, Profile,
        SECRET_TOKEN_MAX, SecretToken,
    },
    control::{OutputDown, OutputState},
    delivery::{
        handler::{Handler, Outcome},
        sink::{BotNames, NdjsonSink, NullSink, Refused, Sink, SinkWriter},
        stream::{OnDrop, PendingUpdate, Updates},
    },
    dispatch::{OutputRouter, OutputSet},
    error::{Error, ErrorKind},
    io::cpu_affinity::Placement,
    journal::RecoveryProgress,
    observe::{
        incidents::{Incident, IncidentKind},
        metrics::{
            JournalReport, OutputReport, Percentiles, PollReport, Report, SlowReport, SlowRequest,
            Stage, StageBuckets, WebhookReport,
        },
        recent::RecentRequest,
    },
    proto::update::Update,
    server::{
        AdminPage, AdminPages, AdminRequest, FeedError, Hang, Output, PreparedOutputs, QueueSize,
        Reload, Server, ServerBuilder, ServerView, ShutdownHandle,
    },
    tls::{
        CertificateReload, CertificateSource, Finding, FindingKind, KeyPassword, ServedCertificate,
        TlsBuilder, TlsConfig,
    },
};

/// What an [`Update`] is made of, and the types that tell about it.
pub mod update {
    pub use crate::proto::update::{
        BotId, ChatKey, DeserializeError, Elements, Entries, UnknownKind, Update, UpdateId,
        UpdateKind, Value,
    };
}

/// What a [`Report`] counts by.
pub mod report {
    pub use crate::{
        control::operation::Step,
        outcome::{CloseReason, DiskFailure, Forbidden, Refusal, TurnedAway},
    };
}
