//! One body: any bytes are an update or a refusal, and what is written again means the same.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use ringhook::internals::{
    scan_agrees,
    update::{BotId, ParserLimits, Update, UpdateBody, UpdateParser},
};
use serde_json::Value;

fn parse(parser: &mut UpdateParser, bytes: &[u8]) -> Option<Update> {
    let body = UpdateBody::from(bytes.to_vec());
    parser.parse(body, BotId::default(), Instant::now()).ok()
}

/// Zero is zero: serde_json takes the integer `-0` for a float, we for an integer.
fn unsigned_zero(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_f64() == Some(0.0) => Value::from(0),
        Value::Array(values) => values.into_iter().map(unsigned_zero).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, unsigned_zero(value))).collect()
        }
        other => other,
    }
}

fuzz_target!(|input: &[u8]| {
    assert!(scan_agrees(input, 100), "the scan and the full parse do not agree");
    let limits = ParserLimits { depth_max: 100, ..ParserLimits::default() };
    let mut parser = UpdateParser::new(limits);
    let Some(update) = parse(&mut parser, input) else {
        // The parser is as good as new.
        assert!(parse(&mut parser, b"{\"update_id\":1}").is_some());
        return;
    };
    let (id, kind, chat) = (update.id(), update.kind(), update.chat_key());
    let line = serde_json::to_vec(&update).expect("memory takes all");
    assert!(!line.contains(&b'\n'), "more than a line");

    // serde_json agrees on what it says, and it says the same when read again.
    let expected: Value = serde_json::from_slice(input).expect("valid for one, valid for both");
    let written: Value = serde_json::from_slice(&line).expect("valid");
    assert_eq!(unsigned_zero(written), unsigned_zero(expected));
    let again = parse(&mut parser, &line).expect("what is written can be read");
    assert_eq!((again.id(), again.kind(), again.chat_key()), (id, kind, chat));
    parser.keep(update.recycle());
    parser.keep(again.recycle());
});
