//! `[limits]` as typed.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{super::Limits, Span, exact_size, size};
use crate::error::Error;

/// `[limits]`: see [`Limits`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsSection {
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) head_bytes: Option<ByteSize>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) body_bytes: Option<ByteSize>,
    pub(crate) json_depth: Option<usize>,
    pub(crate) handshake_timeout: Option<Span>,
    pub(crate) handshakes: Option<usize>,
    pub(crate) handshakes_waiting: Option<usize>,
    pub(crate) head_timeout: Option<Span>,
    pub(crate) body_timeout: Option<Span>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) body_bytes_per_second: Option<ByteSize>,
    pub(crate) body_grace: Option<Span>,
    pub(crate) answer_timeout: Option<Span>,
    pub(crate) idle_timeout: Option<Span>,
    pub(crate) queue_updates: Option<usize>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) queue_bytes: Option<ByteSize>,
    pub(crate) chat_updates: Option<usize>,
    pub(crate) requests_per_connection: Option<u64>,
    pub(crate) connections: Option<usize>,
    pub(crate) connections_per_address: Option<usize>,
}

/// What to write instead of a key that is no more, for the message about an unknown one.
pub(super) fn successor(message: &str) -> Option<&'static str> {
    message.starts_with("unknown field `request_timeout`").then_some(
        "limits.request_timeout is now three: head_timeout (from a request's first byte to the end \
         of its head), body_timeout (from there to its last byte) and answer_timeout (until the \
         answer is taken)",
    )
}

impl LimitsSection {
    pub(super) fn to_limits(&self) -> Result<Limits, Error> {
        let defaults = Limits::default();
        let bytes = |key: &str, size: Option<ByteSize>, default: usize| match size {
            None => Ok(default),
            Some(size) => usize::try_from(size.as_u64())
                .map_err(|_| Error::config(key, size, "a size that fits this machine's memory")),
        };
        let time = |span: Option<Span>, default| span.map_or(default, |span| span.0);
        Ok(Limits {
            head_bytes: bytes("limits.head_bytes", self.head_bytes, defaults.head_bytes)?,
            body_bytes: bytes("limits.body_bytes", self.body_bytes, defaults.body_bytes)?,
            json_depth: self.json_depth.unwrap_or(defaults.json_depth),
            handshake_timeout: time(self.handshake_timeout, defaults.handshake_timeout),
            handshakes: self.handshakes.unwrap_or(defaults.handshakes),
            handshakes_waiting: self.handshakes_waiting.unwrap_or(defaults.handshakes_waiting),
            head_timeout: time(self.head_timeout, defaults.head_timeout),
            body_timeout: time(self.body_timeout, defaults.body_timeout),
            body_bytes_per_second: bytes(
                "limits.body_bytes_per_second",
                self.body_bytes_per_second,
                defaults.body_bytes_per_second,
            )?,
            body_grace: time(self.body_grace, defaults.body_grace),
            answer_timeout: time(self.answer_timeout, defaults.answer_timeout),
            idle_timeout: time(self.idle_timeout, defaults.idle_timeout),
            queue_updates: self.queue_updates.unwrap_or(defaults.queue_updates),
            queue_bytes: bytes("limits.queue_bytes", self.queue_bytes, defaults.queue_bytes)?,
            chat_updates: self.chat_updates.unwrap_or(defaults.chat_updates),
            requests_per_connection: self
                .requests_per_connection
                .unwrap_or(defaults.requests_per_connection),
            connections: self.connections.unwrap_or(defaults.connections),
            connections_per_address: self
                .connections_per_address
                .unwrap_or(defaults.connections_per_address),
        })
    }

    /// Every value written out, as `limits` has it.
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            head_bytes: Some(ByteSize::b(limits.head_bytes as u64)),
            body_bytes: Some(ByteSize::b(limits.body_bytes as u64)),
            json_depth: Some(limits.json_depth),
            handshake_timeout: Some(Span(limits.handshake_timeout)),
            handshakes: Some(limits.handshakes),
            handshakes_waiting: Some(limits.handshakes_waiting),
            head_timeout: Some(Span(limits.head_timeout)),
            body_timeout: Some(Span(limits.body_timeout)),
            body_bytes_per_second: Some(ByteSize::b(limits.body_bytes_per_second as u64)),
            body_grace: Some(Span(limits.body_grace)),
            answer_timeout: Some(Span(limits.answer_timeout)),
            idle_timeout: Some(Span(limits.idle_timeout)),
            queue_updates: Some(limits.queue_updates),
            queue_bytes: Some(ByteSize::b(limits.queue_bytes as u64)),
            chat_updates: Some(limits.chat_updates),
            requests_per_connection: Some(limits.requests_per_connection),
            connections: Some(limits.connections),
            connections_per_address: Some(limits.connections_per_address),
        }
    }
}
