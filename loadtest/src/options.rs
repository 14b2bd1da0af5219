//! What a run is asked to do.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{Error, Expect, PayloadOptions, Phase, PlanName, Replay, Target, Telegram};

/// Everything that decides a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the updates go.
    pub target: Target,
    /// How many connections there are; each has one request in flight at most. From 1 to
    /// [`Options::CONNECTIONS_MAX`].
    pub connections: usize,
    /// When requests are due.
    pub rate: Rate,
    /// When no more requests are made.
    pub stop: Stop,
    /// Rates that take turns, instead of the one of [`Options::rate`]; after the last the first
    /// comes again, until [`Options::stop`]. None if it is empty.
    pub phases: Vec<Phase>,
    /// For how long at the beginning what happens is counted, but in no histogram of times.
    pub warmup: Duration,
    /// Connections beside the others that send a request drop by drop and never end it.
    pub slow_peers: Option<SlowPeers>,
    /// Connections beside the others that shake hands and say nothing, for callers of
    /// [`Crowd::gather`](crate::Crowd::gather) before the run; the run itself makes none.
    pub idle: usize,
    /// Whether each of them is asked one request first, and its answer waited for.
    pub idle_asked: bool,
    /// The plan that these options come from, for the report.
    pub plan: Option<PlanName>,
    /// What must hold at the end.
    pub expect: Expect,
    /// What is sent.
    pub payload: PayloadOptions,
    /// Sends the updates of a file instead of those that [`Options::payload`] makes.
    pub replay: Option<Replay>,
    /// The id of the first update; the others follow without gaps.
    pub first_update_id: u64,
    /// The value of `X-Telegram-Bot-Api-Secret-Token`.
    pub secret_token: Option<String>,
    /// Which certificates a server may show; needed for `https://` targets.
    pub trust: Trust,
    /// The only version of TLS offered; both if none.
    pub tls: Option<TlsVersion>,
    /// Whether TLS sessions are resumed on new connections. Telegram does not do it.
    pub resume: bool,
    /// Whether X25519MLKEM768 is offered, before the groups that Telegram's sender has.
    pub post_quantum: bool,
    /// Whether each request gets a connection of its own, closed after the answer.
    pub churn: bool,
    /// Sends as Telegram does: what fails comes again, chat by chat, and there are as many
    /// connections as Telegram would make. [`Options::connections`] is brought into 1 to 100 for
    /// each bot.
    pub telegram: Option<Telegram>,
    /// How long a request may take, with connecting where that is needed. Also how long after the
    /// last request was due the run waits for those that no connection had time for, and for those
    /// that are sent again.
    pub timeout: Duration,
    /// A directory for interval logs and percentile files.
    pub profile: Option<PathBuf>,
    /// The CPU the generator's thread stays on.
    pub pin: Option<usize>,
    /// How the generator talks to the kernel.
    pub driver: Driver,
    /// The share of updates, 0 to 1, that are sent twice on different connections: half of them
    /// together, half after the first was acknowledged. Needs two connections.
    pub duplicates: f64,
    /// Whether [`Report::ids`](crate::Report::ids) is kept, at 16 bytes per update, and 8 more
    /// for each try again.
    pub keep_ids: bool,
    /// Ends the run early once it is true: no new requests, those in flight are waited for.
    pub cancel: Arc<AtomicBool>,
}

impl Options {
    /// The most connections: what one local address and a ring of reasonable size can carry.
    pub const CONNECTIONS_MAX: usize = 20_000;

    /// A run of 10 s at 1,000 requests per second on 200 connections.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            connections: 200,
            rate: Rate::PerSecond(1000.0),
            stop: Stop::After(Duration::from_secs(10)),
            phases: Vec::new(),
            warmup: Duration::ZERO,
            slow_peers: None,
            idle: 0,
            idle_asked: false,
            plan: None,
            expect: Expect::default(),
            payload: PayloadOptions::default(),
            replay: None,
            first_update_id: 1,
            secret_token: None,
            trust: Trust::Nothing,
            tls: None,
            resume: false,
            post_quantum: false,
            churn: false,
            telegram: None,
            timeout: Duration::from_secs(60),
            profile: None,
            pin: None,
            driver: Driver::Auto,
            duplicates: 0.0,
            keep_ids: false,
            cancel: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first option with a useless value.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |reason: &str| Err(Error::Option(reason.to_owned()));
        if !(1..=Self::CONNECTIONS_MAX).contains(&self.connections) {
            return wrong("the number of connections must be 1 to 20000");
        }
        if let Rate::PerSecond(rate) = self.rate
            && !(rate.is_finite() && (0.001..=10_000_000.0).contains(&rate))
        {
            return wrong("the rate must be 0.001 to 10000000 per second, or max");
        }
        // Fewer than one request in all rounds would never come to an end.
        let requests: f64 = self.phases.iter().map(Phase::count).sum();
        if !self.phases.is_empty() && (requests < 1.0 || !self.phases.iter().all(Phase::is_valid)) {
            return wrong("phases must last, have rates of 0 to 10000000 and a request at least");
        }
        if let Some(peers) = &self.slow_peers
            && (peers.every < SlowPeers::EVERY_MIN
                || self.connections.saturating_add(peers.connections) > Self::CONNECTIONS_MAX)
        {
            return wrong("slow peers must wait 10ms, and be 20000 with the other connections");
        }
        if !(0.0..=1.0).contains(&self.duplicates) {
            return wrong("the share of duplicates must be 0 to 1, or 0% to 100%");
        }
        if self.duplicates > 0.0 && self.connections < 2 {
            return wrong("duplicates need two connections at least");
        }
        if self.duplicates > 0.0 && self.replay.is_some() {
            return wrong("what is replayed comes once: leave duplicates out");
        }
        if self.timeout.is_zero() {
            return wrong("the timeout must not be zero");
        }
        if let Some(telegram) = &self.telegram {
            telegram.check(self)?;
        }
        self.check_target()
    }

    /// Checks what may differ from bot to bot.
    pub(crate) fn check_target(&self) -> Result<(), Error> {
        let wrong = |reason: &str| Err(Error::Option(reason.to_owned()));
        let token = self.secret_token.as_deref().unwrap_or("-");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=256).contains(&token.len()) || !token.bytes().all(allowed) {
            return wrong("the secret token must be 1 to 256 of A-Z, a-z, 0-9, _ and -");
        }
        if self.target.is_tls() && matches!(self.trust, Trust::Nothing) {
            return wrong("an https target needs certificates to trust, or to trust any");
        }
        Ok(())
    }
}

/// When requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Closed loop: each connection sends as soon as it has its answer.
    Max,
    /// Open loop: so many per second, evenly spaced, whatever the server does.
    PerSecond(f64),
}

/// When no more requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After this time.
    After(Duration),
    /// After so many requests.
    Requests(u64),
}

/// Connections that send a request drop by drop: what a server must bear beside its other peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowPeers {
    /// How many there are. One that the server closes is made again after a second.
    pub connections: usize,
    /// The time between two bytes, [`SlowPeers::EVERY_MIN`] at least.
    pub every: Duration,
}

impl SlowPeers {
    /// The shortest time between two bytes.
    pub const EVERY_MIN: Duration = Duration::from_millis(10);
}

/// Which certificates a server may show.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any at all.
    Anything,
    /// These, whatever name they carry, and those signed by them for the target's name.
    Certificates(Vec<CertificateDer<'static>>),
    /// None: enough for `http://` targets.
    Nothing,
    /// Any at all, and the signatures of handshakes are not looked at: that spares the generator
    /// work, so that it can ask for more handshakes than a server can make.
    Unchecked,
}

impl Trust {
    /// Trusts the certificates in a PEM text.
    ///
    /// # Errors
    /// [`Error::Certificate`] if there is none, or one cannot be read.
    pub fn pem(pem: &[u8]) -> Result<Self, Error> {
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match list {
            Ok(list) if list.is_empty() => {
                Err(Error::Certificate("no certificate in the PEM text".into()))
            }
            Ok(list) => Ok(Self::Certificates(list)),
            Err(error) => Err(Error::Certificate(format!("bad PEM text: {error:?}"))),
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// How the generator talks to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// io_uring if it can be had, else epoll; the report says which.
    #[default]
    Auto,
    /// epoll.
    Epoll,
    /// io_uring or an error.
    IoUring,
}
