//! What it costs to find out where an update goes, by the number of routes and by which takes it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ringhook::{
    internals::update::{BotId, Update, UpdateParser},
    update::UpdateKind,
};
use ringhook_outputs::routes::{FieldNames, Fields, RouteSection, RoutedBot, Routes};
use serde::Deserialize;

criterion_group!(benches, by_condition, mixed, fields);
criterion_main!(benches);

/// How many routes there are.
const COUNTS: [usize; 3] = [1, 10, 100];
/// Which of them takes the message.
const TAKEN: [&str; 3] = ["first", "last", "none"];

/// What the route of a number asks.
type Conditions<'a> = &'a dyn Fn(usize) -> String;

#[derive(Deserialize)]
struct File {
    route: Vec<RouteSection>,
}

/// Routes that all ask the same, each of another value.
fn by_condition(criterion: &mut Criterion) {
    let update = message();
    let kinds = |at: usize| match UpdateKind::ALL.get(1 + at % 26) {
        Some(kind) => format!("kind = '{kind}'"),
        None => String::new(),
    };
    let conditions: [(&str, Conditions<'_>, &str); 6] = [
        ("kind", &kinds, "kind = 'message'"),
        ("chat", &|at| format!("chat = -{}", 1001 + at), "chat = 1234567890"),
        ("command", &|at| format!("command = 'other{at}'"), "command = 'start'"),
        ("text_prefix", &|at| format!("text_prefix = '/other{at}'"), "text_prefix = '/start'"),
        (
            "where",
            &|at| format!("where = {{ 'message.from.id' = {at} }}"),
            "where = { 'message.from.id' = 1234567890 }",
        ),
        ("has", &|at| format!("has = 'message.other{at}'"), "has = 'message.entities'"),
    ];
    for (name, other, taking) in conditions {
        let mut group = criterion.benchmark_group(format!("routes/{name}"));
        for count in COUNTS {
            for taken in TAKEN {
                let routes = compile(count, taken, other, taking);
                group.bench_function(format!("{count}, {taken} takes it"), |bencher| {
                    bencher.iter(|| routes.route(black_box(&update)));
                });
            }
        }
        group.finish();
    }
}

/// Routes by kind, chat, command and path in turn, as a large configuration has them.
fn mixed(criterion: &mut Criterion) {
    let update = message();
    let other = |at: usize| match at % 4 {
        0 => "kind = ['callback_query', 'inline_query']".to_owned(),
        1 => format!("chat = [-{}, -{}]", 1001 + at, 2001 + at),
        2 => format!("kind = 'message'\ncommand = ['other{at}', 'some{at}']"),
        _ => format!("where = {{ 'message.chat.type' = 'group', 'message.message_id' = {at} }}"),
    };
    let taking = "kind = 'message'\nchat_type = 'private'\ncommand = 'start'";
    let mut group = criterion.benchmark_group("routes/mixed");
    for count in COUNTS {
        for taken in TAKEN {
            let routes = compile(count, taken, &other, taking);
            group.bench_function(format!("{count}, {taken} takes it"), |bencher| {
                bencher.iter(|| routes.route(black_box(&update)));
            });
        }
    }
    group.finish();
}

/// Four fields of a message.
fn fields(criterion: &mut Criterion) {
    let update = message();
    let paths = [
        ("command", "message.text"),
        ("chat", "message.chat.id"),
        ("type", "message.chat.type"),
        ("photo", "message.photo.0.file_id"),
    ];
    let fields = Fields::compile("bot", paths, FieldNames::Identifier).unwrap();
    criterion.bench_function("routes/fields, 4", |bencher| {
        let mut written = Vec::with_capacity(4096);
        bencher.iter(|| {
            written.clear();
            fields.for_each(black_box(&update), |_, value| value.write_text(&mut written));
            black_box(written.len())
        });
    });
}

fn compile(count: usize, taken: &str, other: Conditions<'_>, taking: &str) -> Routes {
    let mut text = String::new();
    for at in 0..count {
        let is_taking = match taken {
            "first" => at == 0,
            "last" => at + 1 == count,
            _ => false,
        };
        let conditions = if is_taking { taking.to_owned() } else { other(at) };
        text += &format!("[[route]]\n{conditions}\nto = 'audit'\n");
    }
    let File { route } = toml::from_str(&text).unwrap();
    let bot = RoutedBot { id: BotId::new(0), name: "shop", output: None };
    Routes::compile(&route, &["bot", "audit"], &[bot]).unwrap()
}

/// A command in a private chat.
fn message() -> Update {
    let text = r#"{"update_id":911000365,
"message":{"message_id":365,"from":{"id":1234567890,"is_bot":false,"first_name":"Anna","username":"anna","language_code":"en"},"chat":{"id":1234567890,"first_name":"Anna","username":"anna","type":"private"},"date":1735689600,"text":"/start \u041f\u0440\u0438\u0432\u0435\u0442","entities":[{"offset":0,"length":6,"type":"bot_command"}]}}"#;
    let mut parser = UpdateParser::default();
    let mut body = parser.take_body(text.len());
    body.extend(text.as_bytes());
    parser.parse(body, BotId::new(0), Instant::now()).unwrap()
}
