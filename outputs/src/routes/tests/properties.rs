//! Random routes on random updates.

use std::collections::BTreeMap;

use proptest::{
    collection::{btree_map, vec},
    option::weighted,
    prelude::*,
    sample::select,
};
use ringhook::update::UpdateKind;
use serde_json::{Value as Json, json};

use super::{BOTS, OUTPUTS, naive, parse_for};
use crate::routes::{
    Number, OneOf, OutputSet, RouteSection, RoutedBot, Routes, Scalar, TestTable, WhereTest,
};

const KINDS: [&str; 9] = [
    "message",
    "edited_message",
    "channel_post",
    "callback_query",
    "inline_query",
    "message_reaction",
    "poll_answer",
    "poll",
    "unknown",
];
const PATHS: [&str; 16] = [
    "message",
    "message.text",
    "message.photo",
    "message.photo.0",
    "message.photo.1.size",
    "message.chat.id",
    "message.chat.type",
    "message.from.id",
    "edited_message.text",
    "channel_post.caption",
    "callback_query.data",
    "callback_query.message.chat.id",
    "poll_answer.user.id",
    "poll.is_closed",
    "update_id",
    "future_kind.x",
];
const TEXTS: [&str; 9] =
    ["/start", "/help now", "/Start@a_bot", "/start", "foo", "foobar", "private", "\u{416}", ""];

fn one_of<T: Clone + std::fmt::Debug + 'static>(
    values: impl Strategy<Value = T>,
) -> impl Strategy<Value = OneOf<T>> {
    vec(values, 1..4).prop_map(OneOf::from)
}

fn some<T: std::fmt::Debug>(
    values: impl Strategy<Value = OneOf<T>>,
) -> impl Strategy<Value = Option<OneOf<T>>> {
    weighted(0.2, values)
}

fn names<const N: usize>(names: [&'static str; N]) -> impl Strategy<Value = OneOf<String>> {
    one_of(select(names.to_vec()).prop_map(str::to_owned))
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        (-3_i64..4).prop_map(Number::Integer),
        (-6_i32..7).prop_map(|half| Number::Float(f64::from(half) / 2.0)),
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        number().prop_map(Scalar::Number),
        select(TEXTS.to_vec()).prop_map(|text| Scalar::Text(text.to_owned())),
    ]
}

fn test() -> impl Strategy<Value = WhereTest> {
    let table = |table| WhereTest::Table(table);
    prop_oneof![
        3 => one_of(scalar()).prop_map(WhereTest::OneOf),
        1 => names(["/", "foo", "\u{416}", "p"]).prop_map(move |prefix| {
            table(TestTable { prefix: Some(prefix), ..TestTable::default() })
        }),
        1 => (-3_i64..4, 0_i64..4, 0..3).prop_map(move |(min, span, ends)| {
            let (min, max) = (Number::Integer(min), Number::Integer(min + span));
            let (min, max) = ((ends != 1).then_some(min), (ends != 2).then_some(max));
            table(TestTable { min, max, ..TestTable::default() })
        }),
        1 => any::<bool>().prop_map(move |exists| {
            table(TestTable { exists: Some(exists), ..TestTable::default() })
        }),
    ]
}

fn section() -> impl Strategy<Value = RouteSection> {
    let ids = || one_of(-3_i64..4);
    let paths = select(PATHS.to_vec()).prop_map(str::to_owned);
    let wheres = prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => btree_map(paths, test(), 1..3),
    ];
    let to = prop_oneof![
        3 => names(OUTPUTS),
        1 => Just(OneOf::from(vec!["drop".to_owned()])),
    ];
    let heads = (some(names(["shop", "news"])), some(names(KINDS)), some(ids()));
    let types = some(names(["private", "group", "sender"]));
    let texts = (
        types,
        some(one_of(1_i64..4)),
        some(names(["start", "/help", "START"])),
        some(names(["/", "/start", "foo", "\u{416}"])),
        some(names(PATHS)),
    );
    (heads, texts, wheres, to).prop_map(|((bot, kind, chat), texts, r#where, to)| {
        let (chat_type, from, command, text_prefix, has) = texts;
        RouteSection {
            name: None,
            bot,
            kind,
            chat,
            chat_type,
            from,
            command,
            text_prefix,
            has,
            r#where,
            to,
        }
    })
}

/// A value where another type is expected, now and then.
fn odd(usual: impl Strategy<Value = Json> + 'static) -> impl Strategy<Value = Json> {
    let oddities =
        vec![json!(null), json!("1"), json!(1.0), json!([1]), json!({"id": 1}), json!(true)];
    prop_oneof![
        12 => usual,
        1 => select(oddities),
    ]
}

fn text() -> impl Strategy<Value = Json> {
    odd(select(TEXTS.to_vec()).prop_map(Json::from))
}

fn id() -> impl Strategy<Value = Json> {
    odd((-3_i64..4).prop_map(Json::from))
}

fn object(
    fields: impl Strategy<Value = Vec<(&'static str, Option<Json>)>> + 'static,
) -> impl Strategy<Value = Json> {
    odd(fields.prop_map(|fields| {
        let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Json::Object(fields.collect())
    }))
}

fn chat() -> impl Strategy<Value = Json> {
    let types = odd(select(vec!["private", "group", "channel"]).prop_map(Json::from));
    object(
        (weighted(0.9, id()), weighted(0.9, types))
            .prop_map(|(id, of)| vec![("id", id), ("type", of)]),
    )
}

fn user() -> impl Strategy<Value = Json> {
    object(weighted(0.9, id()).prop_map(|id| vec![("id", id)]))
}

fn entities() -> impl Strategy<Value = Json> {
    let types = select(vec!["bot_command", "bold"]);
    let entity = (0..2, select(vec![0, 1, 5, 6, 8, 12, 90]), types);
    let entity = odd(entity.prop_map(
        |(offset, length, of)| json!({ "offset": offset, "length": length, "type": of }),
    ));
    odd(vec(entity, 0..3).prop_map(Json::from))
}

/// What may be in any kind's field, expected there or not.
fn payload() -> impl Strategy<Value = Json> {
    let photo =
        odd(vec(object((-3_i64..4).prop_map(|size| vec![("size", Some(json!(size)))])), 0..3)
            .prop_map(Json::from));
    let message = object(weighted(0.9, chat()).prop_map(|chat| vec![("chat", chat)]));
    let chats = (weighted(0.7, chat()), weighted(0.5, message));
    let users = (weighted(0.7, user()), weighted(0.5, user()));
    let texts = (weighted(0.5, text()), weighted(0.5, entities()));
    let captions = (weighted(0.3, text()), weighted(0.3, entities()));
    let others = (
        weighted(0.3, photo),
        weighted(0.3, odd(select(vec!["sender", "private"]).prop_map(Json::from))),
        weighted(0.2, text()),
        weighted(0.2, any::<bool>().prop_map(Json::from)),
    );
    object((chats, users, texts, captions, others).prop_map(
        |((chat, message), (from, user), (text, entities), (caption, caption_entities), others)| {
            let (photo, chat_type, data, is_closed) = others;
            vec![
                ("chat", chat),
                ("message", message),
                ("from", from),
                ("user", user),
                ("text", text),
                ("entities", entities),
                ("caption", caption),
                ("caption_entities", caption_entities),
                ("photo", photo),
                ("chat_type", chat_type),
                ("data", data),
                ("is_closed", is_closed),
            ]
        },
    ))
}

fn update() -> impl Strategy<Value = Json> {
    (select(KINDS.to_vec()), payload(), -3_i64..4).prop_map(|(kind, payload, id)| {
        let key = if kind == "unknown" { "future_kind" } else { kind };
        let mut update = json!({ "update_id": id });
        update.as_object_mut().unwrap().insert(key.to_owned(), payload);
        update
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Where an update goes is what the documentation says, and the explanation agrees.
    #[test]
    fn a_route_is_the_one_of_the_documentation(
        sections in vec(section(), 0..8),
        updates in vec((update(), 0..2_usize), 1..24),
    ) {
        let routes = Routes::compile(&sections, &OUTPUTS, &BOTS).unwrap();
        let silent = routes.warnings().iter().filter(|warning| warning.message.contains("nothing"));
        let silent: Vec<_> = silent.map(|warning| warning.route.number).collect();
        for (json, bot) in updates {
            let RoutedBot { id, name, output } = BOTS[bot];
            let update = parse_for(id, &json.to_string());
            let decision = routes.route(&update);
            let expected = naive::route(&sections, name, &json);
            prop_assert_eq!(decision.route, expected, "{}", json);

            let to: Vec<&str> = match expected {
                Some(index) => sections[index].to.iter().map(String::as_str).collect(),
                None => vec![output.unwrap_or(OUTPUTS[0])],
            };
            let indices = (0..OUTPUTS.len()).filter(|at| to.contains(&OUTPUTS[*at]));
            let outputs: OutputSet = indices.collect();
            prop_assert_eq!(decision.outputs, outputs);

            let explanation = routes.explain(&update);
            let number = explanation.route.as_ref().map(|route| route.number);
            prop_assert_eq!(number, expected.map(|index| index + 1));
            prop_assert_eq!(explanation.passed.len(), expected.unwrap_or(sections.len()));
            prop_assert_eq!(&explanation.outputs, &routes.output_names(decision.outputs));
            for (at, passed) in explanation.passed.iter().enumerate() {
                prop_assert_eq!(passed.route.number, at + 1);
                // The condition that it names is one that does not hold: alone it passes as well.
                let alone = alone(&sections[at], passed.condition);
                prop_assert_eq!(naive::route(&[alone], name, &json), None, "{:?}", passed);
            }

            // A kind that is used is asked for, and a route that takes nothing takes nothing.
            if update.kind() != UpdateKind::Unknown && !decision.outputs.is_empty() {
                prop_assert!(routes.kinds_of(id).contains(update.kind()));
                prop_assert!(routes.kinds().contains(update.kind()));
            }
            prop_assert!(number.is_none_or(|number| !silent.contains(&number)));
        }
    }
}

/// `section` without all conditions but `key`.
fn alone(section: &RouteSection, key: &str) -> RouteSection {
    let section = section.clone();
    let mut alone = RouteSection { to: section.to, ..RouteSection::default() };
    match key {
        "bot" => alone.bot = section.bot,
        "kind" => alone.kind = section.kind,
        "chat" => alone.chat = section.chat,
        "chat_type" => alone.chat_type = section.chat_type,
        "from" => alone.from = section.from,
        "command" => alone.command = section.command,
        "text_prefix" => alone.text_prefix = section.text_prefix,
        "has" => alone.has = section.has,
        "where" => alone.r#where = section.r#where,
        other => panic!("{other} is no condition"),
    }
    alone
}
