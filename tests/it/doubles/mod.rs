//! What other tests take for Telegram.

mod fake_bot_api;
