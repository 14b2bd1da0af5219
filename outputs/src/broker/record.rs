//! What a broker gets of an update.

use std::time::{Instant, SystemTime};

use ringhook::update::{ChatKey, Update};

use crate::routes::Fields;

/// An update as a broker gets it: the body as received, and a few fields beside it.
pub(super) struct Record {
    pub(super) body: Vec<u8>,
    pub(super) bot: String,
    /// What order is kept in: the id of a chat or user, `poll:ID`, or `update:ID` for an update
    /// that belongs to none.
    pub(super) chat: String,
    /// The fields of `[output.fields]`, as text.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// The same for all updates of a chat, in every process.
    #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "a table has no shards"))]
    pub(super) hash: u64,
    pub(super) kind: &'static str,
    /// When the update came in.
    pub(super) received: SystemTime,
    pub(super) update_id: i64,
}

/// Both clocks at one moment, by which one's time is converted to the other's.
pub(super) struct Clock {
    instant: Instant,
    time: SystemTime,
}

impl Record {
    pub(super) fn new(update: &Update, bot: &str, clock: &Clock, fields: &Fields) -> Self {
        let mut values = Vec::new();
        fields.for_each(update, |name, value| {
            let mut text = Vec::new();
            value.write_text(&mut text);
            values.push((name.to_owned(), text));
        });
        Self {
            body: update.body().to_vec(),
            bot: bot.to_owned(),
            chat: chat_text(update.chat_key(), update.id().get()),
            fields: values,
            hash: update.chat_key().hash64(),
            kind: update.kind().as_str(),
            received: clock.time_of(update.received_at()),
            update_id: update.id().get(),
        }
    }
}

fn chat_text(key: ChatKey, update_id: i64) -> String {
    match key {
        ChatKey::Chat(id) => id.to_string(),
        ChatKey::Poll(id) => format!("poll:{id}"),
        // And what a later version may know.
        _ => format!("update:{update_id}"),
    }
}

impl Clock {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    fn time_of(&self, instant: Instant) -> SystemTime {
        let ago = self.instant.saturating_duration_since(instant);
        // A clock that stands before 1970 has no such form.
        self.time.checked_sub(ago).unwrap_or(self.time).max(SystemTime::UNIX_EPOCH)
    }
}
