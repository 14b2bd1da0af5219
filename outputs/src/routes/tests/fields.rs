//! Values of an update by name.

use ringhook::update::UpdateKind as Kind;

use super::{sample, update};
use crate::routes::{FieldNames, Fields};

fn compile(fields: &[(&str, &str)], names: FieldNames) -> Result<Fields, String> {
    Fields::compile("bot", fields.iter().copied(), names).map_err(|error| error.to_string())
}

/// Names and values of the fields that `update` has, as text and as JSON.
fn found(fields: &Fields, update: &ringhook::Update) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    fields.for_each(update, |name, value| {
        let mut text = Vec::new();
        value.write_text(&mut text);
        let json = serde_json::to_string(&value).unwrap();
        found.push((name.to_owned(), String::from_utf8(text).unwrap(), json));
    });
    found
}

#[test]
fn fields_are_found_by_path() {
    let fields = compile(
        &[
            ("command", "message.text"),
            ("chat", "message.chat.id"),
            ("entity", "message.entities.0"),
            ("photo", "message.photo"),
            ("poll", "poll.id"),
        ],
        FieldNames::Identifier,
    )
    .unwrap();
    let found = found(&fields, &sample(Kind::Message));
    let names: Vec<_> = found.iter().map(|(name, ..)| &**name).collect();
    assert_eq!(names, ["command", "chat", "entity"]);
    let texts: Vec<_> = found.iter().map(|(_, text, _)| &**text).collect();
    assert_eq!(texts[0], "/start \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{1f44b}");
    assert_eq!(texts[1], "1234567890");
    assert_eq!(texts[2], r#"{"offset":0,"length":6,"type":"bot_command"}"#);
    assert!(found[0].2.starts_with("\"/start"));
    assert_eq!((&found[1].1, &found[2].1), (&found[1].2, &found[2].2));
    assert_eq!(fields.names().count(), 5);
    assert!(!fields.is_empty() && Fields::default().is_empty());
}

#[test]
fn values_keep_their_types() {
    let payload = r#"{"a":true,"b":-3,"c":1.5,"d":18446744073709551615,"e":null,"f":[1,"x"],
        "g":"x\n","h":1e300,"i":2.0,"j":""}"#;
    let paths: Vec<_> = ('a'..='j').map(|key| (key.to_string(), format!("poll.{key}"))).collect();
    let typed = paths.iter().map(|(name, path)| (&**name, &**path));
    let fields = Fields::compile("bot", typed, FieldNames::Header).unwrap();
    let texts: Vec<_> =
        found(&fields, &update("poll", payload)).into_iter().map(|(_, text, _)| text).collect();
    let expected =
        ["true", "-3", "1.5", "18446744073709551615", r#"[1,"x"]"#, "x\n", "1e+300", "2.0", ""];
    assert_eq!(texts, expected);
}

#[test]
fn what_is_shown_has_no_content() {
    let fields = compile(&[("a", "poll.a"), ("b", "poll.b")], FieldNames::Header).unwrap();
    fields.for_each(&update("poll", r#"{"a":"secret","b":["secret"]}"#), |_, value| {
        assert!(!format!("{value:?}").contains("secret"));
    });
}

#[test]
fn names_are_checked_by_the_rule_of_the_output() {
    for name in ["X-Command", "a!#$%&'*+-.^`|~9", "9"] {
        assert!(compile(&[(name, "a")], FieldNames::Header).is_ok(), "{name}");
        assert!(compile(&[(name, "a")], FieldNames::Identifier).is_err(), "{name}");
    }
    for name in ["a", "_x9", "A_b"] {
        assert!(compile(&[(name, "a")], FieldNames::Identifier).is_ok(), "{name}");
    }
    for name in ["", "a b", "a:b", "é", "a\r\nb", "a\0"] {
        assert!(compile(&[(name, "a")], FieldNames::Header).is_err(), "{name:?}");
        assert!(compile(&[(name, "a")], FieldNames::Identifier).is_err(), "{name:?}");
    }
    assert!(compile(&[("a", "a"), ("A", "a")], FieldNames::Identifier).is_ok());
    assert_eq!(
        compile(&[("a", "a"), ("A", "b")], FieldNames::Header).unwrap_err(),
        "output bot: fields.\"A\" = \"b\": expected a name that no other field has"
    );
    assert_eq!(
        compile(&[("X Y", "a")], FieldNames::Header).unwrap_err(),
        "output bot: fields.\"X Y\" = \"a\": expected a name of a header, such as \"X-Command\""
    );
    assert_eq!(
        compile(&[("a", "message.")], FieldNames::Header).unwrap_err(),
        "output bot: fields.\"a\" = \"message.\": expected a path like \"message.photo\": keys \
         with dots in between, from the root of the update"
    );
}
