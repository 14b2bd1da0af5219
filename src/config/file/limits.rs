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
    pub(crate) request_timeout: Option<Span>,
    pub(crate) idle_timeout: Option<Span>,
    pub(crate) queue_updates: Option<usize>,
    #[serde(default, deserialize_with = "size", serialize_with = "exact_size")]
    pub(crate) queue_bytes: Option<ByteSize>,
    pub(crate) chat_updates: Option<usize>,
    pub(crate) connections: Option<usize>,
    pub(crate) connections_per_address: Option<usize>,
}

impl LimitsSection {
    pub(super) fn to_limits(&self) -> Result<Limits, Error> {
        let defaults = Limits::default();
        let bytes = |key: &str, size: Option<ByteSize>, default: usize| match size {
            None => Ok(default),
            Some(size) => usize::try_from(size.as_u64())
                .map_err(|_| Error::config(key, size, "a size that fits this machine's memory")),
        };
        Ok(Limits {
            head_bytes: bytes("limits.head_bytes", self.head_bytes, defaults.head_bytes)?,
            body_bytes: bytes("limits.body_bytes", self.body_bytes, defaults.body_bytes)?,
            json_depth: self.json_depth.unwrap_or(defaults.json_depth),
            handshake_timeout: self.handshake_timeout.map_or(defaults.handshake_timeout, |s| s.0),
            request_timeout: self.request_timeout.map_or(defaults.request_timeout, |s| s.0),
            idle_timeout: self.idle_timeout.map_or(defaults.idle_timeout, |s| s.0),
            queue_updates: self.queue_updates.unwrap_or(defaults.queue_updates),
            queue_bytes: bytes("limits.queue_bytes", self.queue_bytes, defaults.queue_bytes)?,
            chat_updates: self.chat_updates.unwrap_or(defaults.chat_updates),
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
            request_timeout: Some(Span(limits.request_timeout)),
            idle_timeout: Some(Span(limits.idle_timeout)),
            queue_updates: Some(limits.queue_updates),
            queue_bytes: Some(ByteSize::b(limits.queue_bytes as u64)),
            chat_updates: Some(limits.chat_updates),
            connections: Some(limits.connections),
            connections_per_address: Some(limits.connections_per_address),
        }
    }
}
