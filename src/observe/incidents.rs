//! Incidents: what peers did wrong and what happened to the webhooks. The last ones of each thread
//! are kept, and some of them are lines of the log.
//!
//! Writing costs a look into a table and waits for no thread, so that a peer that misbehaves on
//! purpose slows no other down: an incident that finds its ring being read is counted as dropped.
//! The same incident from the same address is one entry with a count.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::{Instant, SystemTime},
};

use tracing::Level;

use crate::{
    config::allow,
    observe::{metrics::Counter, rate_limit::Limited},
    outcome::TurnedAway,
};

/// The kind of an incident: a fault of a peer, a limit that was reached, or a fault of the server's
/// surroundings.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
#[repr(usize)]
pub enum IncidentKind {
    /// An address had as many connections as it may.
    AddressLimit,
    /// An address that is not on the allow-list.
    AddressRefused,
    /// Missing, wrong or repeated credentials.
    AuthFailed,
    /// There was no room for a connection.
    ConnectionLimit,
    /// A TLS handshake failed.
    HandshakeFailed,
    /// Too many connections waited for their handshake.
    HandshakeLimit,
    /// A TLS handshake took too long.
    HandshakeTimeout,
    /// Something of the server has not returned for long.
    Hang,
    /// Bytes that are no request, or one beyond a limit.
    MalformedRequest,
    /// A request with credentials whose body is no update.
    MalformedUpdate,
    /// A method other than POST.
    MethodNotAllowed,
    /// An output takes nothing, or takes updates again.
    Output,
    /// A balancer's PROXY header is missing or malformed.
    ProxyHeader,
    /// A request that did not end in time, or whose answer was not taken in time.
    RequestTimeout,
    /// The file of a Unix socket is gone, or another one has its name.
    SocketFile,
    /// No bot is at this path of this host.
    UnknownPath,
    /// A webhook is not as the config has it, or is again.
    WebhookChanged,
    /// Telegram cannot deliver to a webhook, or can again.
    WebhookFailing,
    /// Updates are fetched instead of received, or received again.
    WebhookFallback,
    /// A webhook was set again.
    WebhookRepair,
}

impl IncidentKind {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 20] = [
        Self::AddressLimit,
        Self::AddressRefused,
        Self::AuthFailed,
        Self::ConnectionLimit,
        Self::HandshakeFailed,
        Self::HandshakeLimit,
        Self::HandshakeTimeout,
        Self::Hang,
        Self::MalformedRequest,
        Self::MalformedUpdate,
        Self::MethodNotAllowed,
        Self::Output,
        Self::ProxyHeader,
        Self::RequestTimeout,
        Self::SocketFile,
        Self::UnknownPath,
        Self::WebhookChanged,
        Self::WebhookFailing,
        Self::WebhookFallback,
        Self::WebhookRepair,
    ];

    /// The name in JSON and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressLimit => "address_limit",
            Self::AddressRefused => "address_refused",
            Self::AuthFailed => "auth_failed",
            Self::ConnectionLimit => "connection_limit",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeLimit => "handshake_limit",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Hang => "hang",
            Self::MalformedRequest => "malformed_request",
            Self::MalformedUpdate => "malformed_update",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Output => "output",
            Self::ProxyHeader => "proxy_header",
            Self::RequestTimeout => "request_timeout",
            Self::SocketFile => "socket_file",
            Self::UnknownPath => "unknown_path",
            Self::WebhookChanged => "webhook_changed",
            Self::WebhookFailing => "webhook_failing",
            Self::WebhookFallback => "webhook_fallback",
            Self::WebhookRepair => "webhook_repair",
        }
    }

    /// In words, for the log.
    const fn words(self) -> &'static str {
        match self {
            Self::AddressLimit => "an address has as many connections as it may",
            Self::AddressRefused => "an address is not allowed",
            Self::AuthFailed => "a request without the right credentials",
            Self::ConnectionLimit => "no room for a connection",
            Self::HandshakeFailed => "a TLS handshake has failed",
            Self::HandshakeLimit => "too many connections wait for their handshake",
            Self::HandshakeTimeout => "a TLS handshake took too long",
            Self::Hang => "something has not returned for long",
            Self::MalformedRequest => "no request that is taken here",
            Self::MalformedUpdate => "a body that is no update",
            Self::MethodNotAllowed => "a method other than POST",
            Self::Output => "an output takes nothing, or takes updates again",
            Self::ProxyHeader => "a balancer's PROXY header is missing or malformed",
            Self::RequestTimeout => "a request took too long",
            Self::SocketFile => "the name of a Unix socket does not lead to it",
            Self::UnknownPath => "no bot at the path that was asked for",
            Self::WebhookChanged => "a webhook that is not as the config has it",
            Self::WebhookFailing => "Telegram cannot deliver to a webhook",
            Self::WebhookFallback => "a fallback from a webhook to polling",
            Self::WebhookRepair => "a webhook that is set again",
        }
    }

    /// Incidents that are common on the open internet have a low level.
    const fn level(self) -> Level {
        match self {
            Self::AuthFailed
            | Self::ConnectionLimit
            | Self::Hang
            | Self::MalformedUpdate
            | Self::Output
            | Self::SocketFile
            | Self::WebhookChanged
            | Self::WebhookFailing
            | Self::WebhookFallback
            | Self::WebhookRepair => Level::WARN,
            Self::AddressLimit
            | Self::AddressRefused
            | Self::HandshakeLimit
            | Self::MalformedRequest
            | Self::ProxyHeader
            | Self::RequestTimeout => Level::INFO,
            Self::HandshakeFailed
            | Self::HandshakeTimeout
            | Self::MethodNotAllowed
            | Self::UnknownPath => Level::DEBUG,
        }
    }
}

/// One thing that happened, once or several times.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incident {
    /// When it happened last.
    pub time: SystemTime,
    /// When it happened first.
    pub since: SystemTime,
    /// What it is.
    pub kind: IncidentKind,
    /// The peer; `None` on a socket that has no addresses, and where there is none.
    pub address: Option<IpAddr>,
    /// The name of the bot that was meant, where that is known.
    pub bot: Option<Arc<str>>,
    /// A fixed word or a status; never a peer's bytes.
    pub detail: &'static str,
    /// How often; at least 1.
    pub count: u64,
}

/// What makes two incidents the same. All of an IPv6 /64 is one address: one host has all of its
/// addresses, and could displace all other entries with them. Of the server's own incidents the
/// detail counts as well.
type Sameness = (IncidentKind, Option<IpAddr>, Option<Arc<str>>, Option<&'static str>);

impl Incident {
    fn sameness(&self) -> Sameness {
        let detail = (self.kind == IncidentKind::Hang).then_some(self.detail);
        (self.kind, self.address.map(allow::host), self.bot.clone(), detail)
    }
}

/// The last incidents of one thread.
#[derive(Debug)]
struct Ring {
    most: usize,
    incidents: Vec<Incident>,
    /// The oldest one, once there are as many as may be.
    oldest: usize,
    places: HashMap<Sameness, usize>,
}

impl Ring {
    fn add(&mut self, incident: Incident) {
        let sameness = incident.sameness();
        let known = self.places.get(&sameness).and_then(|place| self.incidents.get_mut(*place));
        if let Some(known) = known {
            let (since, count) = (known.since, known.count.saturating_add(1));
            *known = Incident { since, count, ..incident };
        } else if self.incidents.len() < self.most {
            self.places.insert(sameness, self.incidents.len());
            self.incidents.push(incident);
        } else if let Some(oldest) = self.incidents.get_mut(self.oldest) {
            self.places.remove(&oldest.sameness());
            self.places.insert(sameness, self.oldest);
            *oldest = incident;
            self.oldest = (self.oldest + 1) % self.most;
        }
    }
}

/// A ring as its writer and its reader share it.
#[derive(Debug)]
struct SharedRing {
    /// All incidents, by kind; written by the ring's one writer.
    counts: [Counter; IncidentKind::ALL.len()],
    /// Incidents that found the ring being read; written by the ring's one writer.
    dropped: Counter,
    ring: Mutex<Ring>,
}

/// All incidents of one server.
#[derive(Debug)]
pub(crate) struct Incidents {
    lines: Arc<Limited<{ IncidentKind::ALL.len() }>>,
    most: usize,
    rings: Mutex<Vec<Arc<SharedRing>>>,
}

/// One thread's writer of incidents.
#[derive(Debug)]
pub struct IncidentWriter {
    lines: Arc<Limited<{ IncidentKind::ALL.len() }>>,
    shared: Arc<SharedRing>,
}

impl Incidents {
    /// Keeps up to `most` incidents of each writer, and shows as many.
    pub(crate) fn new(most: usize) -> Self {
        let lines = Arc::new(Limited::new(Instant::now()));
        Self { lines, most, rings: Mutex::default() }
    }

    /// A ring for one more thread.
    pub(crate) fn writer(&self) -> IncidentWriter {
        let ring =
            Ring { most: self.most, incidents: Vec::new(), oldest: 0, places: HashMap::new() };
        let shared = Arc::new(SharedRing {
            counts: Default::default(),
            dropped: Counter::default(),
            ring: Mutex::new(ring),
        });
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.push(Arc::clone(&shared));
        IncidentWriter { lines: Arc::clone(&self.lines), shared }
    }

    /// The last `limit` incidents, the newest first, and how many were dropped in all.
    pub(crate) fn latest(&self, limit: usize) -> (Vec<Incident>, u64) {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut incidents = Vec::new();
        let mut dropped = 0;
        for shared in rings {
            dropped += shared.dropped.get();
            let ring = shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
            incidents.extend_from_slice(&ring.incidents);
        }
        incidents.sort_by_key(|incident| Reverse(incident.time));
        incidents.truncate(limit.min(self.most));
        (incidents, dropped)
    }

    /// How many were dropped in all.
    pub(crate) fn dropped(&self) -> u64 {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rings.iter().map(|ring| ring.dropped.get()).sum()
    }

    /// How many there were of each kind, by its name.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of = |kind: IncidentKind| {
            rings.iter().filter_map(|ring| ring.counts.get(kind as usize)).map(Counter::get).sum()
        };
        IncidentKind::ALL.into_iter().map(|kind| (kind.as_str(), of(kind))).collect()
    }

    /// Logs at the end how many lines were left out.
    pub(crate) fn close(&self) {
        self.lines.last().for_each(tell_suppressed);
    }
}

impl IncidentWriter {
    /// Records a fault of `peer`; `detail` is a fixed word or a status.
    #[cold]
    pub(crate) fn note(
        &self,
        kind: IncidentKind,
        peer: Option<IpAddr>,
        bot: Option<Arc<str>>,
        detail: &'static str,
    ) {
        self.record(kind, peer, bot.as_deref(), detail, None);
        self.keep(kind, peer, bot, detail);
    }

    /// As `note`, for an incident without a peer, in words of its own.
    pub fn note_text(
        &self,
        kind: IncidentKind,
        bot: Option<Arc<str>>,
        detail: &'static str,
        text: &str,
    ) {
        self.record(kind, None, bot.as_deref(), detail, Some(text));
        self.keep(kind, None, bot, detail);
    }

    fn keep(
        &self,
        kind: IncidentKind,
        peer: Option<IpAddr>,
        bot: Option<Arc<str>>,
        detail: &'static str,
    ) {
        if let Some(count) = self.shared.counts.get(kind as usize) {
            count.increment();
        }
        let now = SystemTime::now();
        let incident =
            Incident { time: now, since: now, kind, address: peer, bot, detail, count: 1 };
        match self.shared.ring.try_lock() {
            Ok(mut ring) => ring.add(incident),
            Err(TryLockError::Poisoned(ring)) => ring.into_inner().add(incident),
            Err(TryLockError::WouldBlock) => self.shared.dropped.increment(),
        }
    }

    /// Records a connection from `peer` that was not served.
    #[cold]
    pub(crate) fn turned_away(&self, peer: Option<IpAddr>, why: TurnedAway) {
        let (kind, detail) = match why {
            TurnedAway::Address => (IncidentKind::AddressRefused, "allow"),
            TurnedAway::Connections => (IncidentKind::ConnectionLimit, "limits.connections"),
            TurnedAway::Handshakes => (IncidentKind::HandshakeLimit, "limits.handshakes_waiting"),
            TurnedAway::PerAddress => {
                (IncidentKind::AddressLimit, "limits.connections_per_address")
            }
            TurnedAway::ProxyMalformed => (IncidentKind::ProxyHeader, "malformed"),
            TurnedAway::ProxyMissing => (IncidentKind::ProxyHeader, "missing"),
            TurnedAway::Shards => (IncidentKind::ConnectionLimit, "no shard takes it"),
        };
        self.note(kind, peer, None, detail);
    }

    /// Logs how many lines were left out in periods that are over at `now`.
    pub fn tell_suppressed(&self, now: Instant) {
        self.lines.ended(now).for_each(tell_suppressed);
    }

    /// The line has `text`, or else the kind in words.
    fn record(
        &self,
        kind: IncidentKind,
        peer: Option<IpAddr>,
        bot: Option<&str>,
        detail: &str,
        text: Option<&str>,
    ) {
        macro_rules! line {
            ($level:expr) => {
                if tracing::enabled!($level) {
                    let admission = self.lines.admit(kind as usize, Instant::now());
                    if admission.suppressed > 0 {
                        tell_suppressed((kind as usize, admission.suppressed));
                    }
                    if admission.is_admitted {
                        let address = peer.map(tracing::field::display);
                        let name = kind.as_str();
                        let words = text.unwrap_or(kind.words());
                        tracing::event!($level, kind = name, address, bot, detail, "{words}");
                    }
                }
            };
        }
        match kind.level() {
            Level::WARN => line!(Level::WARN),
            Level::INFO => line!(Level::INFO),
            _ => line!(Level::DEBUG),
        }
    }
}

/// The one line for all those of `kind` that were not written.
fn tell_suppressed((kind, suppressed): (usize, u32)) {
    let Some(kind) = IncidentKind::ALL.get(kind) else { return };
    let name = kind.as_str();
    match kind.level() {
        Level::WARN => tracing::warn!(kind = name, "suppressed {suppressed} more of {name}"),
        Level::INFO => tracing::info!(kind = name, "suppressed {suppressed} more of {name}"),
        _ => tracing::debug!(kind = name, "suppressed {suppressed} more of {name}"),
    }
}

#[cfg(test)]
mod tests;
