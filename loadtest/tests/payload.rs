//! The updates are valid, of every kind, of the right size, and the same for the same seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use loadtest::{ChatKey, PayloadGenerator, PayloadOptions, UpdateKind, chat_of, kind_of};
use serde_json::Value;

fn updates(seed: u64, count: u64) -> Vec<(UpdateKind, Vec<u8>)> {
    let generator = PayloadGenerator::new(&PayloadOptions { seed, ..Default::default() });
    let one = |id| {
        let mut body = Vec::new();
        (generator.write(&mut body, id), body)
    };
    (100..100 + count).map(one).collect()
}

/// The member in which the ordering key of this kind lies, as a JSON pointer below the update.
fn key(kind: UpdateKind) -> &'static str {
    use UpdateKind as K;
    match kind {
        K::CallbackQuery => "/message/chat/id",
        K::InlineQuery | K::ChosenInlineResult | K::ShippingQuery => "/from/id",
        K::PreCheckoutQuery | K::PurchasedPaidMedia => "/from/id",
        K::BusinessConnection | K::ManagedBot | K::Subscription => "/user/id",
        K::Poll => "/id",
        K::PollAnswer => "/poll_id",
        _ => "/chat/id",
    }
}

/// Members that the Bot API's page has as not optional, of the kinds that no older library knows.
fn required(kind: UpdateKind) -> &'static [&'static str] {
    match kind {
        UpdateKind::StoppedMessageGeneration => &["chat", "draft_id"],
        UpdateKind::Subscription => &["user", "invoice_payload", "state"],
        UpdateKind::ManagedBot => &["user", "bot"],
        _ => &[],
    }
}

#[test]
fn every_kind_comes_and_is_valid() {
    let mut seen = BTreeSet::new();
    for (index, (kind, body)) in updates(3, 30_000).into_iter().enumerate() {
        let text = std::str::from_utf8(&body).unwrap();
        let update: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(update["update_id"], index as u64 + 100, "{text}");
        assert_eq!(update.as_object().unwrap().len(), 2, "{text}");
        let found = update[kind.name()].pointer(key(kind));
        let found = found.unwrap_or_else(|| panic!("{kind:?} has no key: {text}"));
        match kind {
            UpdateKind::Poll | UpdateKind::PollAnswer => assert!(found.is_string(), "{text}"),
            _ => assert!(found.is_i64(), "{text}"),
        }
        // What typed libraries insist on.
        for member in required(kind) {
            assert!(!update[kind.name()][member].is_null(), "{kind:?} lacks {member}: {text}");
        }
        seen.insert(kind);
    }
    assert_eq!(UpdateKind::ALL.len(), 27);
    assert_eq!(seen.len(), 27, "missing: {:?}", {
        UpdateKind::ALL.iter().filter(|kind| !seen.contains(kind)).collect::<Vec<_>>()
    });
}

#[test]
fn bodies_look_like_telegrams_on_the_wire() {
    let (mut escapes, mut pairs) = (0, 0);
    for (kind, body) in updates(4, 5000) {
        let start = format!(",\n\"{}\":{{", kind.name());
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.starts_with("{\"update_id\":") && text.contains(&start), "{text}");
        assert!(body.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\n'), "{text}");
        escapes += text.matches("\\u").count();
        pairs += text.matches("\\ud83d").count();
    }
    assert!(escapes > 100_000, "{escapes} escapes");
    assert!(pairs > 1000, "{pairs} surrogate pairs");
}

#[test]
fn sizes_are_realistic() {
    let sizes: Vec<usize> = updates(5, 20_000).iter().map(|(_, body)| body.len()).collect();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((1200..1400).contains(&mean), "mean {mean} bytes");
    assert!(*sizes.iter().min().unwrap() >= 150, "shortest {:?}", sizes.iter().min());
    assert!(*sizes.iter().max().unwrap() <= 8192, "longest {:?}", sizes.iter().max());
    assert!(sizes.iter().any(|size| *size > 5000), "no long update among 20,000");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(updates(6, 2000), updates(6, 2000));
    assert_ne!(updates(6, 10), updates(7, 10));
}

#[test]
fn chats_are_many_skewed_and_keep_their_type() {
    let mut chats: BTreeMap<i64, (String, u32)> = BTreeMap::new();
    let mut total = 0;
    for (kind, body) in updates(8, 30_000) {
        let update: Value = serde_json::from_slice(&body).unwrap();
        let Some(chat) = update[kind.name()].get("chat") else { continue };
        let name = chat["type"].as_str().unwrap().to_owned();
        let entry = chats.entry(chat["id"].as_i64().unwrap()).or_insert((name.clone(), 0));
        assert_eq!(entry.0, name);
        entry.1 += 1;
        total += 1;
    }
    let busiest = chats.values().map(|(_, count)| *count).max().unwrap();
    assert!(chats.len() > 4000, "{} chats", chats.len());
    assert!(busiest > total / 25, "the busiest chat has {busiest} of {total}");
}

#[test]
fn one_chat_is_one_chat() {
    let options = PayloadOptions { chats: 1, ..Default::default() };
    let generator = PayloadGenerator::new(&options);
    let mut ids = BTreeSet::new();
    for id in 0..500 {
        let mut body = Vec::new();
        let kind = generator.write(&mut body, id);
        let update: Value = serde_json::from_slice(&body).unwrap();
        ids.extend(update[kind.name()].pointer("/chat/id").and_then(Value::as_i64));
    }
    assert_eq!(ids.len(), 1);
}

#[test]
fn the_key_is_the_one_that_the_update_carries() {
    for chats in [1, 3, 5000, u32::MAX] {
        let options = PayloadOptions { seed: 11, chats, ..Default::default() };
        let generator = PayloadGenerator::new(&options);
        let mut kinds = BTreeSet::new();
        for id in 1..8000 {
            let mut body = Vec::new();
            let kind = generator.write(&mut body, id);
            let update: Value = serde_json::from_slice(&body).unwrap();
            let found = update[kind.name()].pointer(key(kind)).unwrap();
            let expected = match found.as_str() {
                Some(poll) => ChatKey::Poll(poll.parse().unwrap()),
                None => ChatKey::Chat(found.as_i64().unwrap()),
            };
            assert_eq!(chat_of(&options, id), expected, "{update}");
            kinds.insert(kind);
        }
        assert!(chats < 10 || kinds.len() > 24, "{kinds:?} of {chats} chats");
    }
}

/// Options with these settings, as flags and plans set them.
fn steered(settings: &[(&str, &str)]) -> PayloadOptions {
    let mut options = PayloadOptions::default();
    for (key, value) in settings {
        options.set(key, value).unwrap();
    }
    options
}

/// Updates of these options with their kinds and values.
fn made(options: &PayloadOptions, count: u64) -> Vec<(UpdateKind, Vec<u8>, Value)> {
    let generator = PayloadGenerator::new(options);
    let one = |id| {
        let mut body = Vec::new();
        let kind = generator.write(&mut body, id);
        let value = serde_json::from_slice(&body).unwrap();
        assert_eq!(kind_of(options, id), kind);
        (kind, body, value)
    };
    (0..count).map(one).collect()
}

#[test]
fn only_the_kinds_that_are_asked_for_come_and_as_often() {
    for chats in ["1", "10000"] {
        let options = steered(&[
            ("kinds", "message:80, callback_query:15,inline_query:4,channel_post"),
            ("chats", chats),
        ]);
        let mut counts = BTreeMap::new();
        for (kind, _, update) in made(&options, 20_000) {
            assert!(update[kind.name()].pointer(key(kind)).is_some(), "{update}");
            *counts.entry(kind.name()).or_insert(0) += 1;
        }
        for (name, percent) in
            [("message", 80), ("callback_query", 15), ("inline_query", 4), ("channel_post", 1)]
        {
            let count = counts.remove(name).unwrap();
            assert!((140 * percent..260 * percent).contains(&count), "{name}: {count}");
        }
        assert_eq!(counts.len(), 0, "{counts:?}");
    }
    // Each kind by itself, whatever the chats are.
    for kind in UpdateKind::ALL {
        let options = steered(&[("kinds", kind.name()), ("chats", "3")]);
        assert!(made(&options, 50).iter().all(|(made, ..)| made == kind), "{kind:?}");
    }
}

/// How many updates the busiest chat has, and how many chats there are.
fn busiest(options: &PayloadOptions, count: u64) -> (u64, usize) {
    let mut chats: BTreeMap<ChatKey, u64> = BTreeMap::new();
    for id in 0..count {
        *chats.entry(chat_of(options, id)).or_default() += 1;
    }
    (*chats.values().max().unwrap(), chats.len())
}

#[test]
fn skew_is_as_asked() {
    let kinds = ("kinds", "message");
    let of = |zipf| busiest(&steered(&[kinds, ("chats", "1000"), ("zipf", zipf)]), 100_000);
    let (even, all) = of("0");
    // Messages do not come from channels, so the chat after one has its share, too.
    assert!(even < 300 && (900..1000).contains(&all), "{even} of {all}");
    // One over the harmonic number of 1,000, and one over the zeta function of 2.
    let (one, _) = of("1");
    assert!((11_000..17_000).contains(&one), "{one}");
    let (two, _) = of("2");
    assert!((55_000..68_000).contains(&two), "{two}");
}

#[test]
fn sizes_are_as_asked() {
    let options = steered(&[("size", "p50=2000,max=65536")]);
    let mut sizes: Vec<usize> =
        made(&options, 20_000).iter().map(|(_, body, _)| body.len()).collect();
    sizes.sort_unstable();
    let half = sizes[sizes.len() / 2];
    assert!((1700..2400).contains(&half), "{half}");
    assert!(sizes[sizes.len() - 100] > 12_000, "{}", sizes[sizes.len() - 100]);
    assert!(*sizes.last().unwrap() <= 65_536 + 16, "{:?}", sizes.last());
}

#[test]
fn albums_come_in_fours() {
    let options = steered(&[("albums", "50%")]);
    let mut albums: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (kind, _, update) in made(&options, 8000) {
        if let Some(group) = update[kind.name()]["media_group_id"].as_str() {
            albums.entry(group.to_owned()).or_default().push(update[kind.name()].clone());
        }
    }
    assert!((900..1100).contains(&albums.len()), "{}", albums.len());
    for album in albums.values() {
        assert_eq!(album.len(), 4);
        assert!(album.iter().all(|photo| photo["chat"]["id"] == album[0]["chat"]["id"]));
        let photos: BTreeSet<_> = album.iter().map(|photo| photo["photo"].to_string()).collect();
        assert_eq!(photos.len(), 4, "the same photo twice");
        let messages: Vec<_> = album.iter().map(|p| p["message_id"].as_u64().unwrap()).collect();
        assert!(messages.windows(2).all(|pair| pair[1] == pair[0] + 1), "{messages:?}");
    }
}

#[test]
fn settings_come_back_as_they_were_set() {
    let settings = [
        ("albums", "0.25"),
        ("kinds", "message:3,poll:1"),
        ("size", "p50=900,max=20000"),
        ("zipf", "1.5"),
    ];
    let options = steered(&settings);
    let back: Vec<(&str, String)> = options.steering();
    assert_eq!(back, settings.map(|(key, value)| (key, value.to_owned())));
    let again = steered(&back.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>());
    assert_eq!(made(&options, 300), made(&again, 300));
    for (key, value) in [
        ("kinds", "mesage:1"),
        ("kinds", "message:0"),
        ("size", "p50=100"),
        ("size", "p50=5000,max=4000"),
        ("zipf", "6"),
        ("albums", "2"),
    ] {
        let error = PayloadOptions::default().set(key, value).unwrap_err().to_string();
        assert!(error.starts_with(&format!("payload.{key} = {value}: expected ")), "{error}");
    }
}
