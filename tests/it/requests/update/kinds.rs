//! Kind, id and lane.

use std::{collections::HashSet, time::Instant};

use ringhook::internals::update::{
    BotId, ChatKey, ParseError, Update, UpdateBody, UpdateId, UpdateKind, UpdateParser,
};

use super::{parse, samples::SAMPLES};

#[test]
fn every_kind_has_a_sample() {
    let sampled: HashSet<_> = SAMPLES.iter().map(|sample| sample.kind).collect();
    assert_eq!(sampled, UpdateKind::ALL.iter().copied().collect());
    assert_eq!(SAMPLES.len(), 27);
}

#[test]
fn every_kind_tells_its_head() {
    for (id, sample) in (911_000_000_i64..).zip(SAMPLES) {
        let update = parse(sample.text(id)).unwrap();
        assert_eq!(update.id(), UpdateId::new(id), "{}", sample.kind);
        assert_eq!(update.kind(), sample.kind);
        assert_eq!(update.chat_key(), sample.chat_key, "{}", sample.kind);
        assert_eq!(update.byte_len(), sample.text(id).len());
        let payload = serde_json::to_value(update.payload().unwrap()).unwrap();
        let expected: serde_json::Value = serde_json::from_str(sample.payload).unwrap();
        assert_eq!(payload, expected, "{}", sample.kind);
    }
}

#[test]
fn the_id_may_stand_last() {
    for sample in SAMPLES {
        let text = format!(r#"{{"{}":{},"update_id":6}}"#, sample.kind, sample.payload);
        let update = parse(text).unwrap();
        assert_eq!((update.id().get(), update.chat_key()), (6, sample.chat_key));
    }
}

#[test]
fn bot_and_time_are_those_told_to_the_parser() {
    let mut parser = UpdateParser::default();
    let received_at = Instant::now();
    let body = UpdateBody::from(br#"{"update_id":1}"#.to_vec());
    let update = parser.parse(body, BotId::new(7), received_at).unwrap();
    assert_eq!((update.bot(), update.received_at()), (BotId::new(7), received_at));
}

#[test]
fn updates_and_their_memory_go_to_other_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let update = is_send(parse(SAMPLES[0].text(1)).unwrap());
    let (id, recycled) =
        std::thread::spawn(move || (update.id(), is_send(update.recycle()))).join().unwrap();
    assert_eq!(id.get(), 1);
    UpdateParser::default().keep(recycled);
}

#[test]
fn unknown_kinds_are_delivered_in_a_lane_of_their_own() {
    for text in [
        r#"{"update_id":3,"teleported":{"chat":{"id":4}}}"#,
        r#"{"update_id":3}"#,
        r#"{"update_id":3,"Message":{"chat":{"id":4}}}"#,
        r#"{"update_id":3,"unknown":{"chat":{"id":4}}}"#,
        r#"{"update_id":3,"":{"chat":{"id":4}}}"#,
    ] {
        let update = parse(text).unwrap();
        assert_eq!(update.kind(), UpdateKind::Unknown, "{text}");
        assert_eq!(update.chat_key(), ChatKey::Update(3), "{text}");
        assert!(update.payload().is_none(), "{text}");
    }
    let update = parse(r#"{"update_id":3,"teleported":{"chat":{"id":4}}}"#).unwrap();
    let chat = update.get("teleported").and_then(|it| it.get("chat")).unwrap();
    assert_eq!(chat.get("id").unwrap().as_i64(), Some(4));
}

#[test]
fn of_several_kinds_and_ids_the_first_counts() {
    let update = parse(
        r#"{"new":{"a":[1,2,{}]},"poll":{"id":"8"},"message":{"chat":{"id":4}},"update_id":1,"update_id":2}"#,
    )
    .unwrap();
    assert_eq!(head(&update), (1, UpdateKind::Poll, ChatKey::Poll(8)));
    assert_eq!(update.payload().unwrap().get("id").unwrap().as_str(), Some("8"));

    let update =
        parse(r#"{"update_id":1,"message":{"chat":{"id":4}},"message":{"chat":{"id":5}}}"#)
            .unwrap();
    assert_eq!(update.chat_key(), ChatKey::Chat(4));
    assert_eq!(
        parse(r#"{"update_id":"1","update_id":2}"#).unwrap_err(),
        ParseError::NoUpdateId,
        "a second id does not mend a bad first one"
    );
}

#[test]
fn a_button_without_its_message_is_ordered_by_user() {
    for (payload, expected) in [
        (r#"{"from":{"id":5},"inline_message_id":"A"}"#, ChatKey::Chat(5)),
        (r#"{"from":{"id":5},"message":null}"#, ChatKey::Chat(5)),
        (r#"{"from":{"id":5},"message":{"chat":{"id":"x"}}}"#, ChatKey::Chat(5)),
        (r#"{"message":{"chat":{"id":-6}},"from":{"id":5}}"#, ChatKey::Chat(-6)),
        (r#"{"from":{}}"#, ChatKey::Update(9)),
    ] {
        let update = parse(format!(r#"{{"update_id":9,"callback_query":{payload}}}"#)).unwrap();
        assert_eq!(update.chat_key(), expected, "{payload}");
    }
}

#[test]
fn a_missing_or_wrong_key_gives_a_lane_of_its_own() {
    let payloads = [
        "null",
        "5",
        "\"x\"",
        "[]",
        "{}",
        r#"{"chat":5,"from":5,"user":5,"id":5,"poll_id":5}"#,
        r#"{"chat":{},"from":{},"user":{},"id":{},"poll_id":{}}"#,
        r#"{"chat":{"id":"5"},"from":{"id":"5"},"user":{"id":"5"},"id":null,"poll_id":true}"#,
        r#"{"chat":{"id":1.5},"from":{"id":1e3},"user":{"id":null}}"#,
        r#"{"chat":{"id":9223372036854775808},"from":{"id":18446744073709551615},"user":[1]}"#,
        r#"[{"chat":{"id":1}}]"#,
    ];
    for &kind in UpdateKind::ALL {
        for payload in payloads {
            let update = parse(format!(r#"{{"update_id":9,"{kind}":{payload}}}"#)).unwrap();
            assert_eq!(head(&update), (9, kind, ChatKey::Update(9)), "{kind}: {payload}");
            assert!(update.payload().is_some());
        }
    }
}

#[test]
fn ids_reach_to_the_ends_of_i64() {
    for id in [i64::MIN, -1, 0, i64::MAX] {
        let update =
            parse(format!(r#"{{"update_id":{id},"message":{{"chat":{{"id":{id}}}}}}}"#)).unwrap();
        assert_eq!(head(&update), (id, UpdateKind::Message, ChatKey::Chat(id)));
    }
}

#[test]
fn poll_ids_that_are_no_numbers_still_make_lanes() {
    let key = |id: &str| parse(poll(id)).unwrap().chat_key();
    assert_eq!(key("18446744073709551615"), ChatKey::Poll(u64::MAX));
    let odd = ["", "x", "18446744073709551616", "-1", "\\ud83d\\udc4b"];
    let lanes: HashSet<_> = odd.iter().map(|id| key(id)).collect();
    assert_eq!(lanes.len(), odd.len());
    assert_eq!(key("x"), key("x"));
    assert!(lanes.iter().all(|lane| matches!(lane, ChatKey::Poll(_))));
}

#[test]
fn a_private_chat_and_its_user_share_a_lane() {
    let message = parse(r#"{"update_id":1,"message":{"chat":{"id":5}}}"#).unwrap();
    let query = parse(r#"{"update_id":2,"inline_query":{"from":{"id":5}}}"#).unwrap();
    assert_eq!(message.chat_key(), query.chat_key());
    assert_ne!(message.chat_key(), parse(poll("5")).unwrap().chat_key());
}

#[test]
fn escapes_in_keys_are_read() {
    let update =
        parse(r#"{"\u0075pdate_id":1,"m\u0065ssage":{"ch\u0061t":{"\u0069d":5}}}"#).unwrap();
    assert_eq!(head(&update), (1, UpdateKind::Message, ChatKey::Chat(5)));
}

fn head(update: &Update) -> (i64, UpdateKind, ChatKey) {
    (update.id().get(), update.kind(), update.chat_key())
}

fn poll(id: &str) -> String {
    format!(r#"{{"update_id":1,"poll":{{"id":"{id}"}}}}"#)
}
