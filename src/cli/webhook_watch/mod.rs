//! Looks at the bots' webhooks from Telegram's side while the server runs, mends them, and polls
//! where nothing else helps.

mod machine;
#[cfg(test)]
mod tests;
