//! How connections and requests end, and how a disk fails: what is counted and reported by name.
//!
//! | enum | when | key of the report |
//! |---|---|---|
//! | `TurnedAway` | a connection is closed before it is served | `connections_refused_by` |
//! | `CloseReason` | a connection that was served ends | `connections_closed` |
//! | `Forbidden` | a request may not reach its bot | `requests_forbidden_by` |
//! | `Refusal` | an update that was counted as received is not accepted | `updates_refused` |
//! | `DiskFailure` | the journal's disk does not do what it is told | `failures` of the journal |
//!
//! A `Refusal` is counted only of an update that was counted as received: the report subtracts one
//! from the other.

/// Declares an enum that a report counts by. Names, list and serialised form cannot drift apart.
///
/// The variants stand in the alphabetical order of their words, so that a map keyed by them is
/// written in the order in which one keyed by the words would be.
macro_rules! words {
    ($(#[$about:meta])* $name:ident {
        $($(#[$doc:meta])+ $variant:ident = $word:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])+ $variant,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The name in reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        /// As its name.
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// Why a connection ended.
    CloseReason {
        /// The peer closed or vanished in the middle of a request.
        Aborted = "aborted",
        /// The answer, or the taking of it, took too long.
        AnswerTimeout = "answer_timeout",
        /// The client asked for it, by header or by HTTP/1.0.
        Asked = "asked",
        /// A body came too slowly.
        BodyRate = "body_rate",
        /// A body took too long.
        BodyTimeout = "body_timeout",
        /// It had been idle longest when there was no room for a new one.
        Displaced = "displaced",
        /// The server is stopping.
        Drained = "drained",
        /// Its TLS handshake was slow while others waited for theirs.
        HandshakeDisplaced = "handshake_displaced",
        /// The TLS handshake failed.
        HandshakeFailed = "handshake_failed",
        /// The TLS handshake, or the wait for it, took too long.
        HandshakeTimeout = "handshake_timeout",
        /// A request's head took too long.
        HeadTimeout = "head_timeout",
        /// Nothing came for longer than the idle timeout.
        IdleTimeout = "idle_timeout",
        /// Reading or writing failed.
        Io = "io",
        /// The peer closed between two requests.
        Peer = "peer",
        /// A request after which the beginning of the next is not known, or records that break a
        /// rule of TLS.
        Protocol = "protocol",
        /// It has had as many requests as a connection may.
        RequestLimit = "request_limit",
    }
}

words! {
    /// What the journal's disk would not do.
    DiskFailure {
        /// No segment could be begun.
        Begin = "begin",
        /// A record could not be read back.
        Read = "read",
        /// The segment's file was removed.
        Removed = "removed",
        /// It could not be noted which records are settled.
        Settle = "settle",
        /// What was written could not be made durable.
        Sync = "sync",
        /// It could not be written.
        Write = "write",
    }
}

words! {
    /// Why a bot accepts nothing from a client.
    Forbidden {
        /// Its address is not on the bot's list.
        Address = "address",
        /// Its credentials are missing or wrong.
        Credentials = "credentials",
    }
}

words! {
    /// Why an update is not accepted: the sender has to come again.
    Refusal {
        /// Too many bytes are under way.
        Bytes = "bytes",
        /// Too many updates of this chat wait.
        Chat = "chat",
        /// The chat's partition has taken nothing in for a while.
        Inbox = "inbox",
        /// The journal is as large as it may be, or its disk takes nothing.
        Journal = "journal",
        /// Too many updates are under way.
        Updates = "updates",
    }
}

words! {
    /// Why a connection was closed at once.
    TurnedAway {
        /// Its peer is not on the allow-list.
        Address = "address",
        /// There were as many as there may be, and none of them was idle.
        Connections = "connections",
        /// Too many waited for their TLS handshake.
        Handshakes = "handshakes",
        /// Its address had as many as it may.
        PerAddress = "per_address",
        /// On a listener for balancers, what it sent first was no PROXY header.
        ProxyMalformed = "proxy_malformed",
        /// There it sent no whole header in time.
        ProxyMissing = "proxy_missing",
        /// No shard would take it.
        Shards = "shards",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::control::operation::Step;

    #[test]
    fn each_is_at_the_place_of_its_number() {
        for (number, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number, "{reason}");
        }
    }

    /// As keys they stand in the order of their words, and are written as these.
    #[test]
    fn a_map_by_them_is_written_as_one_by_their_words() {
        macro_rules! assert_same {
            ($($name:ident),+) => {$(
                // Put in from the last to the first, so that their own order is what is seen.
                let all = $name::ALL.into_iter().rev().zip(0..);
                let by_word: BTreeMap<&str, u64> =
                    all.clone().map(|(each, n)| (each.as_str(), n)).collect();
                let by_enum: BTreeMap<$name, u64> = all.collect();
                assert_eq!(by_word.len(), $name::ALL.len(), "no two have one word");
                assert_eq!(
                    serde_json::to_string(&by_enum).unwrap(),
                    serde_json::to_string(&by_word).unwrap(),
                );
            )+};
        }
        assert_same!(CloseReason, DiskFailure, Forbidden, Refusal, Step, TurnedAway);
    }
}
