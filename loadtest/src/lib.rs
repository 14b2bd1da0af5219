//! Open-loop load generator for Telegram webhook receivers.

mod payload;

pub use self::payload::{PayloadGenerator, PayloadOptions, UpdateKind};
