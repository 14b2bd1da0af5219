//! The scan against the full parse.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::time::Instant;

use proptest::prelude::*;

use super::{
    super::{BotId, UpdateBody, UpdateParser, scan_agrees},
    *,
};

const MESSAGE: &str = concat!(
    r#"{"update_id":7,"#,
    "\n",
    r#""message":{"message_id":1,"from":{"id":9,"is_bot":false,"first_name":"\u0410\ud83d\ude00"},"#,
    r#""chat":{"id":-1001234567890,"title":"a \"b\" \\ / \/","type":"group"},"date":1800000000,"#,
    r#""text":"caf\u00e9 é 日本","entities":[{"offset":0,"length":5,"type":"bold"}],"#,
    r#""location":{"latitude":-1.25,"longitude":0.000001},"empty":[],"none":{},"x":null}}"#
);
const CALLBACK: &str = concat!(
    r#"{"update_id":8,"callback_query":{"id":"1","from":{"id":5},"#,
    r#""message":{"chat":{"id":6}},"data":"x"}}"#
);

/// True where the scan took it; then the full parse takes it, with the same head.
#[track_caller]
fn agrees(bytes: &[u8], depth_max: usize) -> bool {
    assert!(scan_agrees(bytes, depth_max), "{}", String::from_utf8_lossy(bytes));
    scan(bytes, depth_max).is_some()
}

#[test]
fn what_telegram_sends_is_taken() {
    for text in [MESSAGE, CALLBACK] {
        assert!(agrees(text.as_bytes(), 128), "{text}");
    }
    for (text, key) in [
        (r#"{"message":{"chat":{"id":5}},"update_id":1}"#, ChatKey::Chat(5)),
        (r#"{"update_id":1,"message":{"chat":{"id":5},"chat":{"id":6}}}"#, ChatKey::Chat(5)),
        (r#"{"update_id":1,"message":{"chat":[],"chat":{"id":6}}}"#, ChatKey::Update(1)),
        (r#"{"update_id":1,"message":{"chat":{"id":1.0}}}"#, ChatKey::Update(1)),
        (r#"{"update_id":1,"message":[]}"#, ChatKey::Update(1)),
        (r#"{"update_id":1,"message":7,"poll":{"id":"8"}}"#, ChatKey::Update(1)),
        (r#"{"update_id":1,"callback_query":{"from":{"id":5}}}"#, ChatKey::Chat(5)),
        (r#"{"update_id":1,"callback_query":{"message":1,"from":{"id":5}}}"#, ChatKey::Chat(5)),
        (r#"{"update_id":1,"callback_query":{"message":{"chat":0}}}"#, ChatKey::Update(1)),
        (r#"{"update_id":1,"inline_query":{"from":{"id":-5}}}"#, ChatKey::Chat(-5)),
        (r#"{"update_id":1,"managed_bot":{"user":{"id":0}}}"#, ChatKey::Chat(0)),
        (r#"{"update_id":1,"poll":{"id":"12"}}"#, ChatKey::Poll(12)),
        (r#"{"update_id":1,"poll":{"id":12}}"#, ChatKey::Update(1)),
        (r#"{"update_id":1,"poll_answer":{"poll_id":"x"}}"#, poll_key("x")),
        (r#"{"update_id":1,"update_id":2,"news":{"chat":{"id":5}}}"#, ChatKey::Update(1)),
    ] {
        assert!(agrees(text.as_bytes(), 128), "{text}");
        assert_eq!(scan(text.as_bytes(), 128).unwrap().chat_key, key, "{text}");
    }
}

#[test]
fn the_uncommon_is_left_to_the_full_parse() {
    for text in [
        r#"{"update\u005fid":1}"#,
        r#"{"update_id":1,"message":{"ch\u0061t":{"id":5}}}"#,
        r#"{"update_id":1,"message":{"chat":{"\u0069d":5}}}"#,
        r#"{"update_id":1,"poll":{"id":"\u0031"}}"#,
        r#"{"update_id":1,"x":1e5}"#,
        r#"{"update_id":1,"x":1234567890123456789}"#,
        r#"{"update_id":1,"x":0.12345678901234567}"#,
    ] {
        assert_eq!(scan(text.as_bytes(), 128), None, "{text}");
        let body = UpdateBody::from(text.as_bytes().to_vec());
        let update = UpdateParser::default().parse(body, BotId::new(0), Instant::now());
        assert_eq!(update.unwrap().id().get(), 1, "{text}");
    }
}

#[test]
fn what_is_wrong_is_not_taken() {
    for wrong in [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "{\"update_id\":1}}",
        "{\"update_id\":1} x",
        "{\"update_id\":01}",
        "{\"update_id\":-}",
        "{\"update_id\":1.}",
        "{\"update_id\":\"1\"}",
        "{\"update_id\":1,}",
        "{,\"update_id\":1}",
        "{\"update_id\" 1}",
        "{\"update_id\":1 \"x\":2}",
        "{\"update_id\":1,\"x\":[1,]}",
        "{\"update_id\":1,\"x\":[1}}",
        "{\"update_id\":1,\"x\":{1:2}}",
        "{\"update_id\":1,\"x\":tru}",
        "{\"update_id\":1,\"x\":nul1}",
        "{\"update_id\":1,\"x\":+1}",
        "{\"update_id\":1,\"x\":\"\n\"}",
        "{\"update_id\":1,\"x\":\"\u{1f}\"}",
        "{\"update_id\":1,\"x\":\"\\x\"}",
        "{\"update_id\":1,\"x\":\"\\u12g4\"}",
        "{\"update_id\":1,\"x\":\"\\ud800\"}",
        "{\"update_id\":1,\"x\":\"\\ud800\\u0041\"}",
        "{\"update_id\":1,\"x\":\"\\udc00\"}",
        "\u{feff}{\"update_id\":1}",
        "{\"update_id\":1,\"x\":.5}",
        "{\"update_id\":1,\"x\":0x1}",
    ] {
        assert_eq!(scan(wrong.as_bytes(), 128), None, "{wrong}");
    }
    assert_eq!(scan(b"{\"update_id\":1,\"x\":\"\xff\"}", 128), None);
}

#[test]
fn the_limit_of_nesting_is_the_same() {
    for depth in 1..70 {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inner = format!("{}0{}", open.repeat(depth - 1), close.repeat(depth - 1));
            let text = format!(r#"{{"update_id":1,"x":{inner}}}"#);
            assert_eq!(agrees(text.as_bytes(), 1000), depth <= LEVELS, "{depth}");
            assert!(agrees(text.as_bytes(), depth) == (depth <= LEVELS));
            assert!(!agrees(text.as_bytes(), depth - 1), "{depth}");
        }
        let text = format!(
            r#"{{"update_id":1,"message":{{"chat":{{"id":{}0{}}}}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        assert_eq!(agrees(text.as_bytes(), depth + 3), depth + 3 <= LEVELS);
        assert!(!agrees(text.as_bytes(), depth + 2));
    }
}

/// Each byte replaced by each of those that mean something, and each part of the text.
#[test]
fn a_changed_byte_is_seen_as_the_full_parse_sees_it() {
    for text in [MESSAGE, CALLBACK] {
        for at in 0..text.len() {
            assert!(!agrees(&text.as_bytes()[..at], 128));
            agrees(&text.as_bytes()[at..], 128);
            let mut bytes = text.as_bytes().to_vec();
            for byte in *b"\"\\/{}[]:, \n\t\0\x1f0-.eutfn19\x7f\x80\xc3\xff" {
                bytes[at] = byte;
                agrees(&bytes, 128);
            }
        }
    }
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-0".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter_map("finite", |number| {
            number.is_finite().then(|| serde_json::to_string(&number).ok()).flatten()
        }),
        (0..100_000_i32, 0..9999_u32).prop_map(|(whole, part)| format!("{whole}.{part}")),
        any::<String>().prop_filter_map("text", |text| serde_json::to_string(&text).ok()),
        "\"(\\\\u[0-9a-fD]{4}|\\\\[nrtbf\"/x]|[a-z\\x00-\\x21])*\"",
    ];
    let key = prop_oneof![
        Just("\"id\"".to_owned()),
        Just("\"chat\"".to_owned()),
        Just("\"from\"".to_owned()),
        Just("\"message\"".to_owned()),
        Just("\"update_id\"".to_owned()),
        Just("\"callback_query\"".to_owned()),
        Just("\"poll\"".to_owned()),
        Just("\"ch\\u0061t\"".to_owned()),
        "\"[a-z_]{0,20}\"",
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let space = prop_oneof![Just(""), Just(" "), Just("\n"), Just("\r\n\t")];
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..6), space.clone()).prop_map(
                |(values, space)| format!("[{space}{}{space}]", values.join(&format!(",{space}")))
            ),
            (prop::collection::vec((key.clone(), inner), 0..6), space).prop_map(
                |(members, space)| {
                    let members = members
                        .into_iter()
                        .map(|(key, value)| format!("{key}{space}:{space}{value}"))
                        .collect::<Vec<_>>();
                    format!("{{{space}{}{space}}}", members.join(&format!(",{space}")))
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_seen_as_the_full_parse_sees_it(
        payload in json(),
        other in json(),
        kind in prop::sample::select(UpdateKind::ALL),
        id in any::<i32>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let kind = kind.as_str();
        for text in [
            format!(r#"{{"update_id":{id},"{kind}":{payload}}}"#),
            format!(r#"{{"x":{other},"{kind}":{payload},"update_id":{id}}}"#),
            format!(r#"{{"update_id":{id},"{kind}":{{"chat":{payload},"from":{other}}}}}"#),
            format!(r#"{{"update_id":{id},"{kind}":{{"message":{payload},"from":{other}}}}}"#),
            payload.clone(),
        ] {
            agrees(text.as_bytes(), 128);
            agrees(text.as_bytes(), 4);
            let at = cut.index(text.len() + 1);
            agrees(&text.as_bytes()[..at], 128);
        }
    }

    #[test]
    fn any_bytes_are_seen_as_the_full_parse_sees_them(bytes: Vec<u8>, at in 0..400_usize) {
        agrees(&bytes, 128);
        let mut text = MESSAGE.as_bytes().to_vec();
        let at = at.min(text.len());
        text.splice(at..at, bytes);
        agrees(&text, 128);
    }
}
