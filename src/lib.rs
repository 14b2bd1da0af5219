//! ringhook: a receiver of Telegram webhooks.

pub mod http;
pub mod update;
