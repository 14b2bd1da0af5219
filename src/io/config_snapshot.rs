//! The part of the configuration by which a shard serves. A reload sends each shard a new one.

use crate::{
    bots::BotId,
    config::{Config, Limits},
    proto::{http::HttpLimits, route::Router},
};

/// Which bots there are, and the bounds on what a peer can ask for.
#[derive(Debug)]
pub(crate) struct ConfigSnapshot {
    /// Whether answers have a `Date`.
    pub(crate) date: bool,
    pub(crate) http_limits: HttpLimits,
    pub(crate) limits: Limits,
    pub(crate) router: Router,
}

impl ConfigSnapshot {
    /// What `config` says, where `ids` are those of its bots.
    pub(crate) fn new(config: &Config, ids: &[BotId]) -> Self {
        let limits = config.limits;
        let http_limits = HttpLimits {
            body_bytes: limits.body_bytes,
            head_bytes: limits.head_bytes,
            target_bytes: limits.head_bytes / 2,
            ..HttpLimits::default()
        };
        let router = Router::new(ids.iter().copied().zip(&config.bots));
        Self { date: config.date, http_limits, limits, router }
    }
}
