//! Bytes that are no update.

use std::time::Instant;

use proptest::prelude::*;
use ringhook::internals::update::{
    BotId, ParseError, ParserLimits, Update, UpdateBody, UpdateParser,
};

use super::{parse, samples::SAMPLES};

#[test]
fn bytes_that_are_no_json() {
    let cases: &[&[u8]] = &[
        b"",
        b" ",
        b"\n\t",
        b"\0",
        b"x",
        b"{",
        b"}",
        b"[",
        b"{]",
        b"[}",
        b"{\"update_id\":1",
        b"{\"update_id\":1,",
        b"{\"update_id\":1,}",
        b"{\"update_id\":}",
        b"{\"update_id\" 1}",
        b"{\"update_id\"}",
        b"{update_id:1}",
        b"{'update_id':1}",
        b"{\"update_id\":1}}",
        b"{\"update_id\":1} {}",
        b"{\"update_id\":1}x",
        b"{\"update_id\":1}\0",
        b"\xef\xbb\xbf{\"update_id\":1}",
        b"{\"update_id\":1,\"x\":tru}",
        b"{\"update_id\":1,\"x\":nul",
        b"{\"update_id\":1,\"x\":NaN}",
        b"{\"update_id\":1,\"x\":Infinity}",
        b"{\"update_id\":01}",
        b"{\"update_id\":+1}",
        b"{\"update_id\":1.}",
        b"{\"update_id\":.5}",
        b"{\"update_id\":0x10}",
        b"{\"update_id\":1e}",
        b"{\"update_id\":-}",
        b"{\"update_id\":1e400}",
        b"{\"update_id\":18446744073709551616}",
        b"{\"update_id\":-9223372036854775809}",
        b"{\"update_id\":999999999999999999999999999999}",
        b"{\"update_id\":1,\"x\":\"open}",
        b"{\"update_id\":1,\"x\":\"\\",
        b"{\"update_id\":1,\"x\":\"\\\"}",
        b"{\"update_id\":1,\"x\":\"\\q\"}",
        b"{\"update_id\":1,\"x\":\"\\u12\"}",
        b"{\"update_id\":1,\"x\":\"\\u12g4\"}",
        b"{\"update_id\":1,\"x\":\"\\ud83d\"}",
        b"{\"update_id\":1,\"x\":\"\\udc4b\"}",
        b"{\"update_id\":1,\"x\":\"\\ud83d\\ud83d\"}",
        b"{\"update_id\":1,\"x\":\"\\ud83dx\"}",
        b"{\"update_id\":1,\"x\":\"a\nb\"}",
        b"{\"update_id\":1,\"x\":\"a\0b\"}",
        b"{\"update_id\":1,\"x\":\"\xff\"}",
        b"{\"update_id\":1,\"x\":\"\xc0\x80\"}",
        b"{\"update_id\":1,\"x\":\"\xed\xa0\x80\"}",
        b"{\"update_id\":1,\"x\":\"\xf0\x9f\x91\"}",
        b"{\"update_id\":1,//\n\"x\":1}",
        b"update_id=1",
        b"HTTP/1.1 501 Not Implemented",
    ];
    for case in cases {
        let error = parse(case).unwrap_err();
        assert!(
            matches!(error, ParseError::NotJson { .. }),
            "{error:?} of {:?}",
            case.escape_ascii().to_string()
        );
    }
}

#[test]
fn the_place_of_an_error_is_told_where_it_is_known() {
    assert_eq!(
        parse(r#"{"update_id":1,"x":tru}"#).unwrap_err(),
        ParseError::NotJson { offset: Some(19) }
    );
    assert_eq!(parse(b"").unwrap_err(), ParseError::NotJson { offset: None });
    assert_eq!(parse(b"\"\xff\"").unwrap_err(), ParseError::NotJson { offset: None });
}

#[test]
fn json_that_is_no_object() {
    for text in [
        "null",
        "true",
        "1",
        "-1.5",
        "1e3",
        "\"1\"",
        "[]",
        "[{\"update_id\":1}]",
        " [ 1 ] ",
        r#""{\"update_id\":1}""#,
    ] {
        assert_eq!(parse(text).unwrap_err(), ParseError::NotAnObject, "{text}");
    }
}

#[test]
fn objects_without_an_id() {
    for text in [
        "{}",
        r#"{"update_id":1.5}"#,
        r#"{"update_id":1.0}"#,
        r#"{"update_id":1e3}"#,
        r#"{"update_id":"1"}"#,
        r#"{"update_id":null}"#,
        r#"{"update_id":true}"#,
        r#"{"update_id":[1]}"#,
        r#"{"update_id":{"update_id":1}}"#,
        r#"{"update_id":9223372036854775808}"#,
        r#"{"update_id":18446744073709551615}"#,
        r#"{"Update_id":1}"#,
        r#"{"message":{"update_id":1,"chat":{"id":1}}}"#,
    ] {
        assert_eq!(parse(text).unwrap_err(), ParseError::NoUpdateId, "{text}");
    }
}

#[test]
fn depth_has_a_limit() {
    let nested = |arrays: usize| {
        format!(r#"{{"update_id":1,"x":{}{}}}"#, "[".repeat(arrays), "]".repeat(arrays))
    };
    let too_deep = |depth_max| Some(ParseError::TooDeep { depth_max });
    // The outermost object is a level too.
    assert_eq!(parse(nested(127)).err(), None);
    assert_eq!(parse(nested(128)).err(), too_deep(128));
    assert_eq!(with_depth(2, &nested(1)).err(), None);
    assert_eq!(with_depth(2, &nested(2)).err(), too_deep(2));
    assert_eq!(with_depth(0, &nested(0)).err(), too_deep(0));
    // No setting goes beyond what recursion can bear.
    assert_eq!(with_depth(usize::MAX, &nested(1023)).err(), None);
    assert_eq!(with_depth(usize::MAX, &nested(1024)).err(), too_deep(1024));
}

#[test]
fn the_deepest_update_can_be_read_and_written() {
    let text = format!(r#"{{"update_id":1,"x":{}7{}}}"#, "[".repeat(1023), "]".repeat(1023));
    let update = with_depth(1024, &text).unwrap();
    assert_eq!(serde_json::to_string(&update).unwrap(), text);
    let mut value = update.get("x").unwrap();
    while let Some(inner) = value.index(0) {
        value = inner;
    }
    assert_eq!(value.as_i64(), Some(7));
    update.deserialize::<serde::de::IgnoredAny>().unwrap();
    update.deserialize::<serde_json::Value>().unwrap();
}

#[test]
fn a_megabyte_of_brackets_is_refused() {
    for bracket in ["[", "{", "{\"\":"] {
        let bomb = bracket.repeat(1024 * 1024 / bracket.len());
        let error = parse(bomb).unwrap_err();
        // A second brace is no key, which is noticed before the depth.
        let expected = match bracket {
            "{" => matches!(error, ParseError::NotJson { .. }),
            _ => error == ParseError::TooDeep { depth_max: 128 },
        };
        assert!(expected, "{error:?}");
    }
}

#[test]
fn a_parser_is_none_the_worse_for_a_bad_body() {
    let mut parser = UpdateParser::default();
    let mut parse = |text: &str| {
        parser.parse(UpdateBody::from(text.as_bytes().to_vec()), BotId::new(0), Instant::now())
    };
    for bad in ["", "{\"update_id\":\"", "[[[[", "{\"update_id\":1,\"x\":[{\"y\":[1,2", "{}"] {
        assert!(parse(bad).is_err(), "{bad}");
        let update = parse(&SAMPLES[0].text(5)).unwrap();
        assert_eq!((update.id().get(), update.chat_key()), (5, SAMPLES[0].chat_key));
    }
}

#[test]
fn every_proper_prefix_is_refused() {
    for sample in SAMPLES {
        let text = sample.text(1);
        for end in 0..text.len() {
            let error = parse(&text.as_bytes()[..end]).unwrap_err();
            assert!(matches!(error, ParseError::NotJson { .. }), "{error:?} at {end}");
        }
    }
}

#[test]
fn stale_memory_behind_the_content_does_not_count() {
    let mut body = UpdateBody::with_capacity(256);
    body.extend(br#"{"update_id":12}  ,"message":{"chat":{"id":1}}}"#);
    body.clear();
    body.extend(br#"{"update_id":1"#);
    let rejected = UpdateParser::default().parse(body, BotId::new(0), Instant::now()).unwrap_err();
    assert!(matches!(rejected.error, ParseError::NotJson { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(bytes);
    }

    #[test]
    fn random_punctuation_never_panics(text in r#"[\[\]{}",:\\ue0-9a-f. \n-]{0,200}"#) {
        let ours = parse(&text);
        if ours.is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }

    /// Damage to a real update is judged as an independent parser judges it.
    #[test]
    fn damaged_updates_are_judged_like_serde_json_does(
        sample in prop::sample::select(SAMPLES.iter().map(|it| it.text(87)).collect::<Vec<_>>()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut bytes = sample.into_bytes();
        for (place, byte, how) in damage {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes);
        // JSON has numbers of any size (RFC 8259, section 6). This parser takes them, serde_json
        // has an error for those that are no f64.
        let is_huge = |error: &serde_json::Error| error.to_string().contains("out of range");
        prop_assume!(!theirs.as_ref().is_err_and(is_huge));
        match parse(&bytes) {
            Ok(update) => prop_assert_eq!(serde_json::to_value(&update).unwrap(), theirs.unwrap()),
            Err(ParseError::NotJson { .. }) => prop_assert!(theirs.is_err()),
            Err(ParseError::NoUpdateId) => {
                prop_assert!(theirs.unwrap().get("update_id").is_none_or(|id| !id.is_i64()));
            }
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }
}

fn with_depth(depth_max: usize, text: &str) -> Result<Update, ParseError> {
    UpdateParser::new(ParserLimits { depth_max, ..ParserLimits::default() })
        .parse(UpdateBody::from(text.as_bytes().to_vec()), BotId::new(0), Instant::now())
        .map_err(|rejected| rejected.error)
}
