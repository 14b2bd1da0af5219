//! What people wrote stays out of logs.

use std::{fmt::Debug, time::Instant};

use ringhook::internals::update::{BotId, UpdateBody, UpdateParser};
use serde::Deserialize;

use super::parse;

const SECRET: &str = "hunter2";

/// Text, key and number that must not be seen.
const TEXT: &str = r#"{"update_id":31,"message":{"chat":{"id":987654},"text":"my word is hunter2","list":["hunter2"],"hunter2":987654}}"#;

#[test]
fn debug_tells_no_content() {
    let update = parse(TEXT).unwrap();
    assert_eq!(
        shown(&update),
        format!(
            "Update {{ id: UpdateId(31), kind: Message, bot: BotId(0), byte_len: {} }}",
            TEXT.len()
        )
    );
    let message = update.payload().unwrap();
    assert_eq!(shown(update.root()), "object of 2");
    assert_eq!(shown(message.get("text").unwrap()), "string of 18 bytes");
    assert_eq!(shown(message.get("list").unwrap()), "array of 1");
    assert_eq!(shown(message.get(SECRET).unwrap()), "number");
    shown(message.entries());
    shown(message.get("list").unwrap().elements());
    shown(update.recycle());
}

#[test]
fn bodies_and_rejections_tell_no_content() {
    for cut in [TEXT.len() - 1, TEXT.len() - 9, 60] {
        let body = UpdateBody::from(TEXT.as_bytes()[..cut].to_vec());
        shown(&body);
        let rejected =
            UpdateParser::default().parse(body, BotId::new(0), Instant::now()).unwrap_err();
        assert!(!rejected.to_string().contains(SECRET));
        shown(rejected);
    }
}

#[derive(Debug, Deserialize)]
enum OneOf {
    A,
}

#[test]
fn errors_of_types_tell_no_values() {
    let update = parse(TEXT).unwrap();
    let text = update.payload().unwrap().get("list").unwrap().index(0).unwrap();
    let chat = update.payload().unwrap().get("chat").unwrap().get("id").unwrap();
    for error in [
        text.deserialize::<i64>().unwrap_err(),
        text.deserialize::<Vec<i64>>().unwrap_err(),
        text.deserialize::<char>().unwrap_err(),
        text.deserialize::<OneOf>().unwrap_err(),
        text.deserialize::<std::net::Ipv4Addr>().unwrap_err(),
        chat.deserialize::<i8>().unwrap_err(),
        chat.deserialize::<String>().unwrap_err(),
    ] {
        let told = error.to_string();
        assert!(!told.contains(SECRET) && !told.contains("987654"), "{told}");
        assert!(!told.is_empty());
        shown(error);
    }
    assert!(matches!(
        parse(r#"{"update_id":1,"x":"A"}"#).unwrap().get("x").unwrap().deserialize(),
        Ok(OneOf::A)
    ));
}

/// The debug form of `value`, which has been seen to hold nothing secret.
fn shown(value: impl Debug) -> String {
    let shown = format!("{value:?}{value:#?}");
    assert!(!shown.contains(SECRET) && !shown.contains("987654"), "{shown}");
    format!("{value:?}")
}
