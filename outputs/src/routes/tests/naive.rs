//! The routes as the documentation has them, evaluated on a tree: slow, and with nothing in common
//! with what it checks.

use serde_json::Value as Json;

use crate::routes::{Number, RouteSection, Scalar, TestTable, WhereTest};
use ringhook::update::UpdateKind;

const MESSAGES: [&str; 7] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_message",
    "edited_business_message",
    "guest_message",
];

/// The index of the route that takes `update`, which is for `bot`.
pub(super) fn route(sections: &[RouteSection], bot: &str, update: &Json) -> Option<usize> {
    sections.iter().position(|section| takes(section, bot, update))
}

fn takes(section: &RouteSection, bot: &str, update: &Json) -> bool {
    let kind = update.as_object().unwrap().keys().find(|key| UpdateKind::from_key(key).is_some());
    let kind = kind.map_or("unknown", String::as_str);
    let payload = update.get(kind).unwrap_or(&Json::Null);
    let text = text(kind, payload).map(|(text, _)| text);
    let command = command(kind, payload);
    let chat = match kind {
        "callback_query" => payload.pointer("/message/chat"),
        "inline_query" | "poll" | "poll_answer" => None,
        _ => payload.get("chat"),
    };
    let chat_type = match kind {
        "inline_query" => payload.get("chat_type"),
        _ => chat.and_then(|chat| chat.get("type")),
    };
    let user = match kind {
        "message_reaction" | "poll_answer" => payload.get("user"),
        "poll" => None,
        _ => payload.get("from"),
    };
    let id = |object: Option<&Json>| object?.get("id")?.as_i64();
    let or_all = |holds: Option<bool>| holds.unwrap_or(true);
    let has = |list: &Option<crate::routes::OneOf<String>>, value: Option<&str>| {
        list.as_ref().map(|list| list.iter().any(|one| Some(one.as_str()) == value))
    };
    let has_id = |list: &Option<crate::routes::OneOf<i64>>, id: Option<i64>| {
        list.as_ref().map(|list| list.iter().any(|one| Some(*one) == id))
    };
    let commands = section.command.as_ref().map(|list| {
        list.iter().any(|name| {
            command.as_deref() == Some(&*name.trim_start_matches('/').to_ascii_lowercase())
        })
    });
    let prefixes = section.text_prefix.as_ref().map(|list| {
        list.iter().any(|prefix| text.is_some_and(|text| text.starts_with(prefix.as_str())))
    });
    let there =
        section.has.as_ref().map(|list| list.iter().any(|path| find(update, path).is_some()));
    or_all(has(&section.bot, Some(bot)))
        && or_all(has(&section.kind, Some(kind)))
        && or_all(has_id(&section.chat, id(chat)))
        && or_all(has(&section.chat_type, chat_type.and_then(Json::as_str)))
        && or_all(has_id(&section.from, id(user)))
        && or_all(commands)
        && or_all(prefixes)
        && or_all(there)
        && section.r#where.iter().all(|(path, test)| {
            let root = path.split('.').next().unwrap();
            (root == kind || UpdateKind::from_key(root).is_none())
                && meets(test, find(update, path))
        })
}

fn find<'a>(update: &'a Json, path: &str) -> Option<&'a Json> {
    let mut value = update;
    for key in path.split('.') {
        value = match value {
            Json::Array(list) => list.get(key.parse::<usize>().ok()?)?,
            Json::Object(object) => object.get(key)?,
            _ => return None,
        };
    }
    (!value.is_null()).then_some(value)
}

fn meets(test: &WhereTest, value: Option<&Json>) -> bool {
    let prefixes = |text: &str, prefixes: &[String]| {
        prefixes.iter().any(|prefix| text.starts_with(prefix.as_str()))
    };
    let number = |number: &Number| match number {
        Number::Integer(number) => *number as f64,
        Number::Float(number) => *number,
    };
    match (test, value) {
        (WhereTest::Table(TestTable { exists: Some(exists), .. }), _) => value.is_some() == *exists,
        (WhereTest::Table(TestTable { prefix: Some(list), .. }), Some(Json::String(text))) => {
            prefixes(text, list)
        }
        (WhereTest::Table(TestTable { prefix: None, min, max, .. }), Some(Json::Number(value))) => {
            let value = value.as_f64().unwrap();
            min.as_ref().is_none_or(|min| number(min) <= value)
                && max.as_ref().is_none_or(|max| value <= number(max))
        }
        (WhereTest::OneOf(list), Some(value)) => list.iter().any(|one| match (one, value) {
            (Scalar::Text(text), Json::String(value)) => text == value,
            (Scalar::Bool(truth), Json::Bool(value)) => truth == value,
            (Scalar::Number(one), Json::Number(value)) => Some(number(one)) == value.as_f64(),
            _ => false,
        }),
        _ => false,
    }
}

fn text<'a>(kind: &str, payload: &'a Json) -> Option<(&'a str, Option<&'a Json>)> {
    if !MESSAGES.contains(&kind) {
        return None;
    }
    match payload.get("text").and_then(Json::as_str) {
        Some(text) => Some((text, payload.get("entities"))),
        None => Some((payload.get("caption")?.as_str()?, payload.get("caption_entities"))),
    }
}

/// In small letters.
fn command(kind: &str, payload: &Json) -> Option<String> {
    let (text, entities) = text(kind, payload)?;
    let entities = entities.and_then(Json::as_array).filter(|entities| !entities.is_empty());
    let written: String = match entities {
        Some(entities) => {
            let marks = entities.iter().find(|entity| {
                entity.get("offset").and_then(Json::as_u64) == Some(0)
                    && entity.get("type").and_then(Json::as_str) == Some("bot_command")
            });
            let length = marks?.get("length")?.as_u64()? as usize;
            text.get(..length)?.to_owned()
        }
        None => text.split_whitespace().next().filter(|_| !text.starts_with(' '))?.to_owned(),
    };
    let name = written.strip_prefix('/')?.split('@').next()?;
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}
