//! How connections and requests end: what is counted and reported by name.
//!
//! | enum | when | key of the report |
//! |---|---|---|
//! | `TurnedAway` | a connection is closed before it is served | `connections_refused_by` |
//! | `CloseReason` | a connection that was served ends | `connections_closed` |
//! | `Forbidden` | a request may not reach its bot | `requests_forbidden_by` |
//! | `Refusal` | an update that was counted as received is not accepted | `updates_refused` |
//!
//! A `Refusal` is counted only of an update that was counted as received: the report subtracts one
//! from the other.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum CloseReason {
    /// The peer closed or vanished in the middle of a request.
    Aborted,
    /// The answer, or the taking of it, took too long.
    AnswerTimeout,
    /// The client asked for it, by header or by HTTP/1.0.
    Asked,
    /// A body came too slowly.
    BodyRate,
    /// A body took too long.
    BodyTimeout,
    /// It had been idle longest when there was no room for a new one.
    Displaced,
    /// The server is stopping.
    Drained,
    /// Its TLS handshake was slow while others waited for theirs.
    HandshakeDisplaced,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// The TLS handshake, or the wait for it, took too long.
    HandshakeTimeout,
    /// A request's head took too long.
    HeadTimeout,
    /// Nothing came for longer than the idle timeout.
    IdleTimeout,
    /// Reading or writing failed.
    Io,
    /// The peer closed between two requests.
    Peer,
    /// A request after which the beginning of the next is not known, or records that break a rule
    /// of TLS.
    Protocol,
    /// It has had as many requests as a connection may.
    RequestLimit,
}

impl CloseReason {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 16] = [
        Self::Aborted,
        Self::AnswerTimeout,
        Self::Asked,
        Self::BodyRate,
        Self::BodyTimeout,
        Self::Displaced,
        Self::Drained,
        Self::HandshakeDisplaced,
        Self::HandshakeFailed,
        Self::HandshakeTimeout,
        Self::HeadTimeout,
        Self::IdleTimeout,
        Self::Io,
        Self::Peer,
        Self::Protocol,
        Self::RequestLimit,
    ];

    /// The name in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AnswerTimeout => "answer_timeout",
            Self::Asked => "asked",
            Self::BodyRate => "body_rate",
            Self::BodyTimeout => "body_timeout",
            Self::Displaced => "displaced",
            Self::Drained => "drained",
            Self::HandshakeDisplaced => "handshake_displaced",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Io => "io",
            Self::Peer => "peer",
            Self::Protocol => "protocol",
            Self::RequestLimit => "request_limit",
        }
    }
}

/// Why a bot accepts nothing from a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum Forbidden {
    /// Its address is not on the bot's list.
    Address,
    /// Its credentials are missing or wrong.
    Credentials,
}

impl Forbidden {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 2] = [Self::Address, Self::Credentials];

    /// The name in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Credentials => "credentials",
        }
    }
}

/// Why an update is not accepted: the sender has to come again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum Refusal {
    /// Too many bytes are under way.
    Bytes,
    /// Too many updates of this chat wait.
    Chat,
    /// The chat's partition has taken nothing in for a while.
    Inbox,
    /// The journal is as large as it may be, or its disk takes nothing.
    Journal,
    /// Too many updates are under way.
    Updates,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] =
        [Self::Bytes, Self::Chat, Self::Inbox, Self::Journal, Self::Updates];

    /// The name in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Chat => "chat",
            Self::Inbox => "inbox",
            Self::Journal => "journal",
            Self::Updates => "updates",
        }
    }
}

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum TurnedAway {
    /// Its peer is not on the allow-list.
    Address,
    /// There were as many as there may be, and none of them was idle.
    Connections,
    /// Too many waited for their TLS handshake.
    Handshakes,
    /// Its address had as many as it may.
    PerAddress,
    /// On a listener for balancers, what it sent first was no PROXY header.
    ProxyMalformed,
    /// There it sent no whole header in time.
    ProxyMissing,
    /// No shard would take it.
    Shards,
}

impl TurnedAway {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] = [
        Self::Address,
        Self::Connections,
        Self::Handshakes,
        Self::PerAddress,
        Self::ProxyMalformed,
        Self::ProxyMissing,
        Self::Shards,
    ];

    /// The name in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::PerAddress => "per_address",
            Self::ProxyMalformed => "proxy_malformed",
            Self::ProxyMissing => "proxy_missing",
            Self::Shards => "shards",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_at_the_place_of_its_number() {
        for (number, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number, "{}", reason.as_str());
        }
    }
}
