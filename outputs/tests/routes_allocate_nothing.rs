//! What it costs in heap allocations to find out where an update goes, and to read its fields:
//! nothing, from the first update on.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../../tests/support/allocator.rs"]
mod allocator;

use std::{hint::black_box, time::Instant};

use allocator::of_thread as allocations;
use ringhook::{
    Update,
    internals::update::{UpdateBody, UpdateParser},
    update::BotId,
};
use ringhook_outputs::routes::{FieldNames, Fields, RouteSection, RoutedBot, Routes};
use serde::Deserialize;

/// Every condition, each of which is evaluated before a route takes the message.
const ROUTES: &str = "
[[route]]
bot = ['news', 'blog']
to = 'drop'
[[route]]
kind = ['poll', 'poll_answer']
to = 'drop'
[[route]]
chat = [-1001, -1002, 5]
to = 'audit'
[[route]]
chat_type = ['group', 'supergroup', 'channel']
to = 'audit'
[[route]]
from = [1, 2, 3]
to = 'audit'
[[route]]
command = ['help', 'settings', 'stop']
to = 'audit'
[[route]]
text_prefix = ['foo', 'bar']
to = 'audit'
[[route]]
has = ['message.photo.0.file_id', 'message.video', 'future_kind.x']
to = 'audit'
[[route]]
where = { 'message.text' = ['x', 1, 1.5, true], 'message.date' = { max = 5 } }
to = 'audit'
[[route]]
where = { 'message.date' = { min = 1, max = 9.5 } }
to = 'audit'
[[route]]
where = { 'message.text' = { prefix = ['x', 'y'] } }
to = 'audit'
[[route]]
where = { 'message.text' = { exists = false } }
to = 'audit'
[[route]]
command = 'start'
text_prefix = '/start'
chat_type = 'private'
has = 'message.entities.0'
to = ['bot', 'audit']
[[route]]
to = 'drop'
";
const MESSAGE: &str = r#"{"update_id":911000365,"message":{"message_id":365,
    "from":{"id":1234567890,"is_bot":false,"first_name":"Anna"},
    "chat":{"id":1234567890,"type":"private"},"date":1735689600,
    "text":"/start \u041f\u0440\u0438\u0432\u0435\u0442","location":{"latitude":1.5},
    "entities":[{"offset":0,"length":6,"type":"bot_command"}]}}"#;
const UPDATES: [&str; 6] = [
    MESSAGE,
    r#"{"update_id":1,"message":{"text":"hello \ud83d\udc4b"}}"#,
    r#"{"update_id":1,"callback_query":{"from":{"id":7},"message":{"chat":{"id":5}},"data":"x"}}"#,
    r#"{"update_id":1,"inline_query":{"from":{"id":7},"chat_type":"sender","query":"x"}}"#,
    r#"{"update_id":1,"poll":{"id":"7"}}"#,
    r#"{"update_id":1,"future_kind":{"x":1}}"#,
];

#[derive(Deserialize)]
struct File {
    route: Vec<RouteSection>,
}

fn parse(text: &str) -> Update {
    let body = UpdateBody::from(text.as_bytes().to_vec());
    let update = UpdateParser::default().parse(body, BotId::new(0), Instant::now()).unwrap();
    // The first that asks for a value has the body parsed; a receiver uses that memory again.
    assert!(update.root().is_object());
    update
}

#[test]
fn a_route_is_found_without_an_allocation() {
    let bots = ["shop", "news", "blog"];
    let bots =
        [0, 1, 2].map(|at| RoutedBot { id: BotId::new(at), name: bots[at as usize], output: None });
    let File { route } = toml::from_str(ROUTES).unwrap();
    let routes = Routes::compile(&route, &["bot", "audit"], &bots).unwrap();
    let updates = UPDATES.map(parse);
    let before = allocations();
    let mut taken = [None; UPDATES.len()];
    for (update, taken) in updates.iter().zip(&mut taken) {
        *taken = black_box(routes.route(black_box(update))).route;
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!(taken, [Some(12), Some(13), Some(2), Some(13), Some(1), Some(7)]);
    assert!(!routes.explain(&updates[0]).to_string().is_empty());
    assert!(allocations() > before, "it counts");
}

#[test]
fn fields_are_read_without_an_allocation() {
    let paths = [
        ("text", "message.text"),
        ("chat", "message.chat.id"),
        ("is_bot", "message.from.is_bot"),
        ("latitude", "message.location.latitude"),
        ("entities", "message.entities"),
        ("location", "message.location"),
        ("photo", "message.photo"),
    ];
    let fields = Fields::compile("bot", paths, FieldNames::Identifier).unwrap();
    let update = parse(MESSAGE);
    let mut written = Vec::with_capacity(4096);
    let before = allocations();
    fields.for_each(black_box(&update), |name, value| {
        written.extend_from_slice(name.as_bytes());
        written.push(b'=');
        value.write_text(&mut written);
        written.push(b'\n');
    });
    assert_eq!(allocations() - before, 0);
    let written = String::from_utf8(written).unwrap();
    let expected = "text=/start \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}\nchat=1234567890\n\
                    is_bot=false\nlatitude=1.5\n\
                    entities=[{\"offset\":0,\"length\":6,\"type\":\"bot_command\"}]\n\
                    location={\"latitude\":1.5}\n";
    assert_eq!(written, expected);
}
