//! Open-loop load generator for Telegram webhook receivers.
