//! Telegram's sender in small: one blocking connection to a receiver, with requests whose bytes are
//! those of the real one. For trying a receiver, not for load.
//!
//! | file | question |
//! |---|---|
//! | `target` | where a webhook is, and what its requests carry |
//! | `trust` | which certificates are taken |
//! | `connection` | a connection and its requests, one at a time |
//! | `answer` | what came back |
//! | `failure` | why nothing did |

mod answer;
mod connection;
mod failure;
mod target;
mod trust;

use std::time::Duration;

pub(crate) use self::{
    answer::Answer,
    connection::{Connection, TlsVersions},
    failure::{Failure, Phase},
    target::{Place, Target, Tls, with_port},
    trust::Trust,
};

/// The sender's one timer: for connecting with TLS, for an answer, and for silence.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
