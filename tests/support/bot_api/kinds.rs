//! The kinds of updates, of Bot API 10.3: which are wanted, how long they live, and what keeps them
//! in order.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

const ALL: [&str; 27] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "message_reaction",
    "message_reaction_count",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "purchased_paid_media",
    "guest_message",
    "managed_bot",
    "subscription",
    "stopped_message_generation",
];
/// Those that have to be asked for by name.
const ON_REQUEST: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

/// Which kinds a bot wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wanted(BTreeSet<&'static str>);

impl Default for Wanted {
    fn default() -> Self {
        Self(ALL.into_iter().filter(|kind| !ON_REQUEST.contains(kind)).collect())
    }
}

impl Wanted {
    /// What `allowed_updates` asks for: the default where it is a list that names no kind; `None`
    /// where it is no list of strings, which changes nothing.
    pub(super) fn new(allowed_updates: &str) -> Option<Self> {
        let names: Vec<String> = serde_json::from_str(allowed_updates).ok()?;
        let is_named = |kind: &&str| names.iter().any(|name| name.eq_ignore_ascii_case(kind));
        let named: BTreeSet<_> = ALL.into_iter().filter(is_named).collect();
        Some(if named.is_empty() { Self::default() } else { Self(named) })
    }

    /// Kinds that this does not know are as wanted as any other.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.0.contains(kind) || !ALL.contains(&kind)
    }

    /// The names in the order of the Bot API; `None` where they are those of the default.
    pub(super) fn names(&self) -> Option<Vec<&'static str>> {
        let names = || ALL.into_iter().filter(|kind| self.0.contains(kind)).collect();
        (*self != Self::default()).then(names)
    }
}

/// The field of `update` that says what it is.
#[track_caller]
pub(super) fn kind(update: &Value) -> String {
    let fields = update.as_object().expect("an update is an object");
    let mut kinds = fields.keys().filter(|key| *key != "update_id");
    kinds.next().expect("an update has a field beside update_id").clone()
}

/// How long an update waits to be delivered.
pub(super) fn life(kind: &str) -> Duration {
    Duration::from_secs(match kind {
        "inline_query" => 30,
        "callback_query" | "shipping_query" | "pre_checkout_query" => 150,
        "chosen_inline_result" => 600,
        _ => 24 * 60 * 60,
    })
}

/// What the update is kept in order with.
pub(super) fn lane(id: i64, kind: &str, update: &Value) -> String {
    let at = |path: &str| update.pointer(&format!("/{kind}/{path}")).map(Value::to_string);
    let key = match kind {
        "callback_query" => at("message/chat/id").or_else(|| at("from/id")),
        "inline_query"
        | "chosen_inline_result"
        | "shipping_query"
        | "pre_checkout_query"
        | "purchased_paid_media" => at("from/id"),
        "business_connection" | "managed_bot" | "subscription" => at("user/id"),
        "poll" => at("id"),
        "poll_answer" => at("poll_id"),
        _ => at("chat/id"),
    };
    // Messages of all kinds share their chat's; the other kinds have lanes of their own.
    let class = match kind {
        "message" | "edited_message" | "channel_post" | "edited_channel_post" => "message",
        "pre_checkout_query" => "shipping_query",
        "poll_answer" => "poll",
        other => other,
    };
    key.map_or_else(|| format!("update {id}"), |key| format!("{class} {key}"))
}
