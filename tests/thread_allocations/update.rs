//! What one update costs in allocations once the buffers have grown.

use std::time::Instant;

use ringhook::internals::update::{BotId, UpdateBody, UpdateParser};

use crate::allocator::of_thread;

#[test]
fn a_parsed_and_recycled_update_costs_no_allocation() {
    let text = update();
    for is_read in [true, false] {
        let mut parser = UpdateParser::default();
        let mut cycle = || {
            let mut body = parser.take_body(text.len());
            body.extend(text.as_bytes());
            let update = parser.parse(body, BotId::new(0), Instant::now()).unwrap();
            assert!(!is_read || update.payload().is_some());
            parser.keep(update.recycle());
        };
        // It is parsed by the one who asks at first, by the parser then.
        cycle();
        cycle();
        assert_eq!(allocations(|| (0..100).for_each(|_| cycle())), 0);
    }
}

#[test]
fn a_rejected_body_costs_no_allocation() {
    let mut text = update();
    text.pop();
    let mut parser = UpdateParser::default();
    let mut cycle = || {
        let mut body = parser.take_body(text.len());
        body.extend(text.as_bytes());
        let rejected = parser.parse(body, BotId::new(0), Instant::now()).unwrap_err();
        parser.keep_body(rejected.body);
    };
    cycle();
    assert_eq!(allocations(|| (0..100).for_each(|_| cycle())), 0);
}

#[test]
fn reading_and_borrowing_cost_no_allocation() {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        text: &'a str,
    }
    let mut parser = UpdateParser::default();
    let body = UpdateBody::from(update().into_bytes());
    let update = parser.parse(body, BotId::new(0), Instant::now()).unwrap();
    assert!(update.payload().is_some(), "this parses it");
    let read = allocations(|| {
        let message: Message<'_> = update.payload().unwrap().deserialize().unwrap();
        assert_eq!(message.text.len(), 400);
        assert_eq!(update.payload().unwrap().get("photo").unwrap().elements().count(), 20);
        serde_json::to_writer(std::io::sink(), &update).unwrap();
    });
    assert_eq!(read, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}

fn update() -> String {
    let photos = r#"{"file_id":"AgACAgIAAxkBAAI","width":90,"height":67},"#.repeat(20);
    format!(
        r#"{{"update_id":1,"message":{{"chat":{{"id":5}},"text":"{}","photo":[{}]}}}}"#,
        "x".repeat(400),
        photos.trim_end_matches(',')
    )
}

fn allocations(action: impl FnOnce()) -> u64 {
    let before = of_thread();
    action();
    of_thread() - before
}
