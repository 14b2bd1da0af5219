//! Where the memory of bodies and tapes goes.

use std::time::Instant;

use ringhook::internals::update::{BotId, ParserLimits, Update, UpdateBody, UpdateParser};

use super::samples::SAMPLES;

#[test]
fn the_memory_of_an_update_is_used_again() {
    let mut parser = UpdateParser::default();
    let mut body = parser.take_body(2000);
    body.extend(SAMPLES[0].text(1).as_bytes());
    let (place, capacity) = (body.as_slice().as_ptr(), body.capacity());
    let update = parse(&mut parser, body);
    assert_eq!(parser.spares(), (0, 0));
    parser.keep(update.recycle());
    assert_eq!(parser.spares(), (1, 1));

    let body = parser.take_body(2000);
    assert!(body.is_empty());
    assert_eq!((body.as_slice().as_ptr(), body.capacity()), (place, capacity));
    assert_eq!(parser.spares(), (0, 1));
}

#[test]
fn a_body_stays_where_it_is_and_as_it_was() {
    let text = SAMPLES[0].text(1);
    let mut parser = UpdateParser::default();
    let mut body = UpdateBody::with_capacity(text.len());
    body.extend(text.as_bytes());
    let memory = body.as_slice().as_ptr_range();
    let update = parse(&mut parser, body);
    let name = update.payload().unwrap().get("from").unwrap().get("username").unwrap();
    assert!(name.as_str().is_some());
    assert_eq!(update.body().as_ptr_range(), memory);
    assert_eq!(update.body(), text.as_bytes());
}

/// Outputs that have one update may ask at the same time.
#[test]
fn all_threads_that_ask_see_the_same_values() {
    for sample in SAMPLES {
        let text = sample.text(3);
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let update = parse(&mut UpdateParser::default(), UpdateBody::from(text.into_bytes()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(serde_json::to_value(&update).unwrap(), expected));
            }
        });
    }
}

#[test]
fn a_rejected_body_comes_back_empty_with_its_memory() {
    let mut parser = UpdateParser::default();
    for text in ["[1,2", "{}", "[]", "{\"update_id\":\"\\n\"}"] {
        let mut body = UpdateBody::with_capacity(500);
        body.extend(text.as_bytes());
        let (place, capacity) = (body.as_slice().as_ptr(), body.capacity());
        let rejected = parser.parse(body, BotId::new(0), Instant::now()).unwrap_err();
        assert!(rejected.body.is_empty());
        assert_eq!(rejected.body.as_slice().as_ptr(), place);
        assert_eq!(rejected.body.capacity(), capacity);
        parser.keep_body(rejected.body);
    }
    // The one tape served all four.
    assert_eq!(parser.spares(), (4, 1));
}

#[test]
fn oversized_memory_is_freed() {
    let limits = ParserLimits {
        body_kept_max_bytes: 4096,
        tape_kept_max_nodes: 64,
        ..ParserLimits::default()
    };
    // Few nodes in a large body, many nodes in a small one, both large, both small.
    let text = |filler: usize, nodes: usize| {
        format!(r#"{{"update_id":1,"x":"{}","y":[{}0]}}"#, "x".repeat(filler), "0,".repeat(nodes))
    };
    for (filler, nodes, bodies) in [(5000, 1, 0), (1, 500, 1), (5000, 500, 0), (1, 1, 1)] {
        let mut parser = UpdateParser::new(limits);
        let update = |parser: &mut UpdateParser, filler, nodes| {
            let body = UpdateBody::from(text(filler, nodes).into_bytes());
            let update = parse(parser, body);
            assert!(update.get("y").is_some());
            update.recycle()
        };
        let recycled = update(&mut parser, filler, nodes);
        assert!(recycled.capacity() >= filler + 24 * nodes);
        parser.keep(recycled);
        assert_eq!(parser.spares(), (bodies, 1), "{filler} bytes, {nodes} nodes");
        // What its parsed form took is not seen any more.
        let small = update(&mut parser, 1, 1).capacity();
        assert!(small < 1000 + 64 * 24, "{small} after {filler} bytes, {nodes} nodes");
    }
}

#[test]
fn the_limit_on_bodies_is_inclusive() {
    let mut parser =
        UpdateParser::new(ParserLimits { body_kept_max_bytes: 100, ..Default::default() });
    parser.keep_body(UpdateBody::from(Vec::with_capacity(101)));
    assert_eq!(parser.spares(), (0, 0));
    parser.keep_body(UpdateBody::from(Vec::with_capacity(100)));
    assert_eq!(parser.spares(), (1, 0));
}

#[test]
fn spares_are_bounded_in_number() {
    let mut parser = UpdateParser::new(ParserLimits { spares_max: 3, ..Default::default() });
    let updates: Vec<_> = (0..5)
        .map(|id| parse(&mut parser, UpdateBody::from(SAMPLES[0].text(id).into_bytes())))
        .collect();
    for update in updates {
        parser.keep(update.recycle());
    }
    assert_eq!(parser.spares(), (3, 3));

    let mut parser = UpdateParser::new(ParserLimits { spares_max: 0, ..Default::default() });
    let update = parse(&mut parser, UpdateBody::from(SAMPLES[0].text(1).into_bytes()));
    parser.keep(update.recycle());
    assert_eq!(parser.spares(), (0, 0));
}

#[test]
fn bodies_without_memory_are_not_worth_keeping() {
    let mut parser = UpdateParser::default();
    parser.keep_body(UpdateBody::default());
    assert_eq!(parser.spares(), (0, 0));
}

#[test]
fn a_spare_body_grows_to_what_is_asked_for() {
    let mut parser = UpdateParser::default();
    parser.keep_body(UpdateBody::with_capacity(10));
    let mut body = parser.take_body(5000);
    let place = body.as_slice().as_ptr();
    body.extend(&[b' '; 5000]);
    assert_eq!(body.as_slice().as_ptr(), place);
}

/// The same bytes mean the same in whatever memory they lie.
#[test]
fn the_bodys_capacity_does_not_matter() {
    for sample in SAMPLES {
        let text = sample.text(17);
        let mut tight = text.clone().into_bytes();
        tight.shrink_to_fit();
        let mut bodies = vec![UpdateBody::from(tight)];
        for spare in [0, 1, 63, 64, 65, 100_000] {
            let mut used = vec![b'"'; text.len() + spare];
            used.clear();
            bodies.push(UpdateBody::from(used));
        }
        for mut body in bodies {
            if body.is_empty() {
                body.extend(text.as_bytes());
            }
            let update = parse(&mut UpdateParser::default(), body);
            assert_eq!((update.id().get(), update.byte_len()), (17, text.len()));
            assert_eq!(update.chat_key(), sample.chat_key);
            let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_value(&update).unwrap(), expected);
        }
    }
}

/// What one update left in tape and body is not seen by the next.
#[test]
fn recycled_memory_holds_nothing_of_the_last_update() {
    let mut parser = UpdateParser::default();
    for (id, sample) in (0..).zip(SAMPLES.iter().chain(SAMPLES.iter().rev())) {
        let text = sample.text(id);
        let mut body = parser.take_body(text.len());
        body.extend(text.as_bytes());
        let update = parse(&mut parser, body);
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&update).unwrap(), expected);
        parser.keep(update.recycle());
    }
    assert_eq!(parser.spares(), (1, 1));
}

fn parse(parser: &mut UpdateParser, body: UpdateBody) -> Update {
    parser.parse(body, BotId::new(0), Instant::now()).unwrap()
}
