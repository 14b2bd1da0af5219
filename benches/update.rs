//! What one update costs from body to recycled memory, on bytes in memory.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringhook::internals::update::{BotId, Update, UpdateParser};
use serde::Deserialize;

criterion_group!(benches, parse, read);
criterion_main!(benches);

/// Filling a body from memory, parsing it and taking its memory back, as a shard does.
fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("update/parse");
    for (name, text) in [("short", short()), ("ordinary", ordinary()), ("long", long())] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{name} {} B", text.len()), |bencher| {
            let mut parser = UpdateParser::default();
            let received_at = Instant::now();
            bencher.iter(|| {
                let update = receive(&mut parser, &text, received_at);
                black_box((update.id(), update.kind(), update.chat_key()));
                parser.keep(update.recycle());
            });
        });
    }
    group.finish();
}

/// What a worker does with an update.
fn read(criterion: &mut Criterion) {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "what costs is to fill it")]
    struct Message<'a> {
        message_id: i64,
        date: i64,
        #[serde(borrow)]
        text: Option<&'a str>,
    }

    let text = ordinary();
    let update = receive(&mut UpdateParser::default(), &text, Instant::now());
    let mut group = criterion.benchmark_group("update/read");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("deserialize a borrowing type", |bencher| {
        bencher.iter(|| update.payload().unwrap().deserialize::<Message<'_>>().unwrap());
    });
    group.bench_function("write as one line", |bencher| {
        let mut line = Vec::with_capacity(2 * text.len());
        bencher.iter(|| {
            line.clear();
            serde_json::to_writer(&mut line, &update).unwrap();
            black_box(line.len())
        });
    });
    group.finish();
}

fn receive(parser: &mut UpdateParser, text: &str, received_at: Instant) -> Update {
    let mut body = parser.take_body(text.len());
    body.extend(text.as_bytes());
    parser.parse(body, BotId::new(0), received_at).unwrap()
}

/// A few words in a private chat.
fn short() -> String {
    message(r#""text":"\u041f\u0440\u0438\u0432\u0435\u0442""#)
}

/// A reply in a private chat, with entities: what most updates look like.
fn ordinary() -> String {
    let quoted = r"\u0417\u0430\u0432\u0442\u0440\u0430 \u0432 \u0434\u0435\u0432\u044f\u0442\u044c? \ud83d\ude42 ".repeat(3);
    message(&format!(
        r#""reply_to_message":{{"message_id":364,"from":{{"id":5551234567,"is_bot":true,"first_name":"Helper","username":"helper_bot"}},"chat":{{"id":1234567890,"first_name":"Anna","username":"anna","type":"private"}},"date":1735689500,"text":"{quoted}"}},"text":"{quoted}","entities":[{{"offset":0,"length":6,"type":"bold"}},{{"offset":7,"length":9,"type":"text_link","url":"https://example.org/"}}]"#
    ))
}

/// A post with many entities and a keyboard.
fn long() -> String {
    let entities: Vec<_> =
        (0..60).map(|at| format!(r#"{{"offset":{},"length":9,"type":"url"}}"#, at * 20)).collect();
    let buttons: Vec<_> = (0..16)
        .map(|at| format!(r#"[{{"text":"Button {at}","callback_data":"choose:{at}:a3f9"}}]"#))
        .collect();
    message(&format!(
        r#""text":"{}","entities":[{}],"reply_markup":{{"inline_keyboard":[{}]}}"#,
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit.\\n".repeat(72),
        entities.join(","),
        buttons.join(",")
    ))
}

fn message(rest: &str) -> String {
    format!(
        r#"{{"update_id":911000365,
"message":{{"message_id":365,"from":{{"id":1234567890,"is_bot":false,"first_name":"Anna","username":"anna","language_code":"en"}},"chat":{{"id":1234567890,"first_name":"Anna","username":"anna","type":"private"}},"date":1735689600,{rest}}}}}"#
    )
}
