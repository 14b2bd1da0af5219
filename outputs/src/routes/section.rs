//! `[[route]]`: what is asked of an update, and where it goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{OneOf, WhereTest};

/// One route. The first route whose conditions all hold takes the update; one without conditions
/// takes every update. What no route takes goes to `bot.output`. A condition is a value or a list
/// of values, of which one has to fit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSection {
    /// Its name in messages. Without it it is known by its number, counted from 1.
    pub name: Option<String>,
    /// The bot that the update is for, by `bot.name`.
    pub bot: Option<OneOf<String>>,
    /// The kind of the update, by its name in `allowed_updates`; `"unknown"` for kinds that this
    /// version does not know.
    pub kind: Option<OneOf<String>>,
    /// The id of the chat it is about: of the message, reaction, membership, request or boost; of
    /// the message under which a button was pressed. An update without a chat, such as an inline
    /// query, does not fit.
    pub chat: Option<OneOf<i64>>,
    /// The type of that chat: `"private"`, `"group"`, `"supergroup"` or `"channel"`. For an inline
    /// query the type of the chat where it is typed, `"sender"` for the one with the bot.
    pub chat_type: Option<OneOf<String>>,
    /// The id of the user who sent the message, pressed the button, reacted, voted or asked.
    pub from: Option<OneOf<i64>>,
    /// The bot command at the beginning of the text or caption, such as `"start"` for `/start`,
    /// `/START x` and `/start@any_bot x`.
    pub command: Option<OneOf<String>>,
    /// What the text or caption of the message begins with. The data of buttons is no text; for it
    /// there is `where = { "callback_query.data" = { prefix = ".." } }`.
    pub text_prefix: Option<OneOf<String>>,
    /// A path that is there and not null, such as `"message.photo"`: keys from the root of the
    /// update with dots in between, elements of lists by their numbers from 0. Of a list of paths
    /// one has to be there.
    pub has: Option<OneOf<String>>,
    /// What the values at some paths are: `"path" = value`, a list of values, `{ prefix = ".." }`,
    /// `{ min = 1, max = 9 }` (one of them is enough) or `{ exists = true }`. All of them have to
    /// fit. A path that begins with the name of a kind fits updates of that kind only, also with
    /// `exists = false`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub r#where: BTreeMap<String, WhereTest>,
    /// Where it goes: names of outputs, or `"drop"`.
    pub to: OneOf<String>,
}
