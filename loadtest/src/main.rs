//! Drives a webhook server as Telegram would.
fn main() {}
