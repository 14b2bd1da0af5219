//! `[server]`: threads, address and directory.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use ringhook::{
    Config, DriverChoice, ListenAddress, Pin,
    internals::config::value::{duration, optional_duration},
};

/// What is about the process as a whole.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSection {
    /// Where to listen with TLS: `IP:PORT`, `unix:PATH`, or `fd:NAME` for a socket that systemd
    /// passes. Without it the server listens on `127.0.0.1:8443`, or on each `[[listener]]` alone.
    pub(crate) listen: Option<ListenAddress>,
    /// Whether another server of the same user may listen on the same addresses, to follow this one
    /// without a gap.
    pub(crate) reuse_port: bool,
    /// Who may connect: addresses, networks such as `10.0.0.0/8`, and `telegram` for
    /// 149.154.160.0/20 and 91.108.4.0/22. Without it every address may.
    pub(crate) allow: Option<Vec<String>>,
    /// How to talk to the kernel. `auto` is io_uring where the kernel has it, else epoll.
    pub(crate) driver: DriverChoice,
    /// Shard threads. Without it one for two CPUs, or for each CPU of `server.pin.shards`.
    pub(crate) shards: Option<usize>,
    /// Worker threads. Without it one for each CPU without a shard, or of `server.pin.workers`.
    pub(crate) workers: Option<usize>,
    /// The CPUs of the threads.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) pin: Pin,
    /// The sockets' SO_BUSY_POLL, for bare metal. Without it sockets are not polled.
    #[serde(with = "optional_duration")]
    pub(crate) busy_poll: Option<Duration>,
    /// Whether answers have a `Date`, as RFC 9110 section 6.6.1 asks for. Telegram needs none.
    pub(crate) date: bool,
    /// Where journal, certificate, key and secret token are kept.
    pub(crate) data_dir: PathBuf,
    /// How long a stop may take before what is left is abandoned and counted.
    #[serde(with = "duration")]
    pub(crate) drain_timeout: Duration,
    /// The user to become once everything is opened, by name or number. It needs a start as root.
    pub(crate) user: Option<String>,
    /// The group to become with `server.user`, by name or number. Without it the user's own.
    pub(crate) group: Option<String>,
}

impl ServerSection {
    /// The default of `data_dir`.
    pub(crate) const DATA_DIR: &str = "ringhook-data";

    /// Where the journal is.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.data_dir.join("journal")
    }
}

fn is_unset(pin: &Pin) -> bool {
    *pin == Pin::default()
}

impl Default for ServerSection {
    fn default() -> Self {
        let Config { date, drain_timeout, driver, pin, reuse_port, .. } = Config::default();
        Self {
            listen: None,
            reuse_port,
            allow: None,
            driver,
            shards: None,
            workers: None,
            pin,
            busy_poll: None,
            date,
            data_dir: Self::DATA_DIR.into(),
            drain_timeout,
            user: None,
            group: None,
        }
    }
}
