//! Reading values, one by one and as types.

use std::{borrow::Cow, collections::BTreeMap};

use ringhook::update::Update;
use serde::Deserialize;

use super::{parse, samples::SAMPLES};

#[test]
fn values_tell_what_they_are() {
    let update = with(
        r#"{"s":"a","i":-1,"u":18446744073709551615,"f":1.5,"t":true,"n":null,"a":[1,[2,3],{}],"o":{"x":[],"y":1}}"#,
    );
    let get = |key: &str| update.get("x").unwrap().get(key).unwrap();

    assert_eq!(get("s").as_str(), Some("a"));
    assert_eq!((get("i").as_i64(), get("i").as_u64()), (Some(-1), None));
    assert_eq!((get("u").as_i64(), get("u").as_u64()), (None, Some(u64::MAX)));
    assert_eq!((get("f").as_f64(), get("f").as_i64(), get("f").as_u64()), (Some(1.5), None, None));
    assert_eq!(
        (get("i").as_f64(), get("u").as_f64()),
        (Some(-1.0), Some(18_446_744_073_709_551_615.0))
    );
    assert_eq!(get("t").as_bool(), Some(true));
    assert!(get("n").is_null());
    assert_eq!((get("a").is_array(), get("a").is_object()), (true, false));
    assert_eq!((get("o").is_array(), get("o").is_object()), (false, true));

    for key in ["s", "i", "u", "f", "t", "n", "a", "o"] {
        let value = get(key);
        assert_eq!(value.as_str().is_some(), key == "s");
        assert_eq!(value.as_bool().is_some(), key == "t");
        assert_eq!(value.is_null(), key == "n");
        assert_eq!(value.as_f64().is_some(), matches!(key, "i" | "u" | "f"));
        let len = match key {
            "a" => 3,
            "o" => 2,
            _ => 0,
        };
        assert_eq!((value.len(), value.is_empty()), (len, len == 0), "{key}");
        assert_eq!(value.elements().len(), if key == "a" { 3 } else { 0 });
        assert_eq!(value.entries().len(), if key == "o" { 2 } else { 0 });
        assert!(value.get("").is_none() && value.index(3).is_none());
    }
}

#[test]
fn walks_step_over_what_is_nested() {
    let update = with(r#"[[[1],{"a":[2,3]}],{"b":{"c":{}}},"last"]"#);
    let array = update.get("x").unwrap();
    assert_eq!(array.elements().count(), 3);
    assert_eq!(array.index(2).unwrap().as_str(), Some("last"));
    let two = array.index(0).unwrap().index(1).unwrap().get("a").unwrap().index(0).unwrap();
    assert_eq!(two.as_u64(), Some(2));
    let mut elements = array.elements();
    elements.next();
    assert_eq!(elements.size_hint(), (2, Some(2)));

    let update = with(r#"{"a":[1,{"z":0}],"b":{"a":1},"z":9}"#);
    let object = update.get("x").unwrap();
    let keys: Vec<_> = object.entries().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a", "b", "z"]);
    assert_eq!(object.get("z").unwrap().as_i64(), Some(9), "not the nested one");
}

#[test]
fn of_repeated_keys_get_finds_the_first_and_entries_all() {
    let update = with(r#"{"a":1,"b":2,"a":3}"#);
    let object = update.get("x").unwrap();
    assert_eq!(object.get("a").unwrap().as_i64(), Some(1));
    assert_eq!(object.len(), 3);
    let all: Vec<_> = object.entries().map(|(key, value)| (key, value.as_i64().unwrap())).collect();
    assert_eq!(all, [("a", 1), ("b", 2), ("a", 3)]);
}

#[test]
fn strings_are_unescaped() {
    for (escaped, expected) in [
        (r"\ud83d\udc4b", "👋"),
        (r"\uD83D\uDC4B!", "👋!"),
        (r"👋\u041f\u0440", "👋Пр"),
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"\u0000\u007f\u2028", "\0\u{7f}\u{2028}"),
        (r"\uffff\udbff\udfff", "\u{ffff}\u{10ffff}"),
        ("", ""),
    ] {
        let update = with(&format!(r#"["{escaped}"]"#));
        let value = update.get("x").unwrap().index(0).unwrap();
        assert_eq!(value.as_str(), Some(expected), "{escaped}");
        // Escapes at every distance from the edge of a SIMD block.
        for filler in 0..70 {
            let filler = "x".repeat(filler);
            let update = with(&format!(r#""{filler}{escaped}{filler}""#));
            let value = update.get("x").unwrap();
            assert_eq!(value.as_str(), Some(format!("{filler}{expected}{filler}").as_str()));
        }
    }
}

#[derive(Debug, Deserialize, PartialEq)]
struct Incoming<'a> {
    update_id: i64,
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Message<'a> {
    message_id: u32,
    chat: Chat<'a>,
    #[serde(borrow)]
    text: Cow<'a, str>,
    caption: Option<&'a str>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Chat<'a> {
    id: i64,
    #[serde(borrow, rename = "type")]
    kind: &'a str,
}

#[test]
fn types_can_borrow_from_the_update() {
    let update = parse(SAMPLES[0].text(3)).unwrap();
    let incoming: Incoming<'_> = update.deserialize().unwrap();
    assert_eq!(incoming.update_id, 3);
    assert_eq!(incoming.message.message_id, 365);
    assert_eq!(incoming.message.chat, Chat { id: 1_234_567_890, kind: "private" });
    assert_eq!((incoming.message.text.as_ref(), incoming.message.caption), ("Привет 👋", None));
    // Borrowed, not copied: the same place in memory.
    let chat = update.payload().unwrap().get("chat").unwrap();
    let place = chat.get("type").unwrap().as_str().unwrap().as_ptr();
    assert_eq!(incoming.message.chat.kind.as_ptr(), place);
    assert_eq!(chat.deserialize::<Chat<'_>>().unwrap(), incoming.message.chat);
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Point,
    Circle(f64),
    Line { from: (i32, i32), to: (i32, i32) },
    Pair(u8, u8),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Reaction {
    Emoji { emoji: String },
    Paid,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum IdOrName {
    Id(i64),
    Name(String),
}

#[derive(Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
struct Name(String);

#[derive(Debug, Deserialize, PartialEq)]
struct Owned {
    shapes: Vec<Shape>,
    reactions: Vec<Reaction>,
    ids: Vec<IdOrName>,
    counts: BTreeMap<Name, Option<u64>>,
    wrapped: Name,
    letter: char,
    whole: f32,
    unit: (),
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[test]
fn types_can_own_what_they_read() {
    let owned = {
        let update = with(
            r#"{"shapes":["point",{"circle":1},{"line":{"from":[1,2],"to":[3,-4]}},{"pair":[1,2]}],"reactions":[{"type":"emoji","emoji":"\ud83d\udd25"},{"type":"paid"}],"ids":[5,"me"],"counts":{"a":1,"b":null},"wrapped":"w","letter":"\u00e9","whole":3,"unit":null,"more":[1,{}]}"#,
        );
        update.get("x").unwrap().deserialize::<Owned>().unwrap()
    };
    assert_eq!(
        owned,
        Owned {
            shapes: vec![
                Shape::Point,
                Shape::Circle(1.0),
                Shape::Line { from: (1, 2), to: (3, -4) },
                Shape::Pair(1, 2),
            ],
            reactions: vec![Reaction::Emoji { emoji: "🔥".into() }, Reaction::Paid],
            ids: vec![IdOrName::Id(5), IdOrName::Name("me".into())],
            counts: [(Name("a".into()), Some(1)), (Name("b".into()), None)].into(),
            wrapped: Name("w".into()),
            letter: 'é',
            whole: 3.0,
            unit: (),
            rest: [("more".to_owned(), serde_json::json!([1, {}]))].into(),
        }
    );
}

#[test]
fn wrong_shapes_are_errors() {
    let update = with(r#"{"id":-1,"kind":"private","list":[1,2,3]}"#);
    let value = update.get("x").unwrap();
    assert!(value.deserialize::<Vec<i64>>().is_err());
    assert!(value.get("id").unwrap().deserialize::<u64>().is_err());
    assert!(value.get("id").unwrap().deserialize::<i8>().is_ok());
    assert!(value.get("kind").unwrap().deserialize::<Shape>().is_err());
    assert!(value.get("id").unwrap().deserialize::<Shape>().is_err());
    assert!(value.get("list").unwrap().deserialize::<(i64, i64)>().is_err(), "one is left over");
    assert!(value.get("list").unwrap().deserialize::<(i64, i64, i64)>().is_ok());
    assert!(value.deserialize::<Chat<'_>>().unwrap_err().to_string().contains("missing field"));
    let repeated = with(r#"{"id":1,"id":2,"type":"a"}"#);
    let error = repeated.get("x").unwrap().deserialize::<Chat<'_>>().unwrap_err();
    assert!(error.to_string().contains("duplicate field"), "{error}");
}

fn with(value: &str) -> Update {
    parse(format!(r#"{{"update_id":1,"x":{value}}}"#)).unwrap()
}
