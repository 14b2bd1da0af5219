//! What the tests share.

pub(crate) mod bench;
pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod poll;

use std::time::{Duration, Instant};

/// How long a condition may take to come true on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; fails the test after [`PATIENCE`], saying `what` was awaited.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A small update's JSON, of the chat given, with escapes and white space as Telegram sends them.
pub(crate) fn update(chat: i64, id: i64) -> String {
    format!(
        "{{\"update_id\":{id},\n\"message\":{{\"message_id\":{id},\"date\":1700000000,\
         \"chat\":{{\"id\":{chat},\"type\":\"private\"}},\"text\":\"hello \\u0416 {id}\"}}}}"
    )
}
