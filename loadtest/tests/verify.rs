//! A check of a sink finds what is wrong with it, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufReader, Read},
    process::{Command, Output},
    time::Duration,
};

use loadtest::{
    ChatKey, Error, Expected, Offences, PayloadGenerator, PayloadOptions, Rate, Stop, Telegram,
    Verified, chat_of, run, verify,
};
use serde_json::Value;
use support::{OK, Reply, Server, UNAVAILABLE};

const FIRST: u64 = 500;
const UPDATES: u64 = 2000;

fn expected() -> Expected {
    let payload = PayloadOptions { seed: 7, chats: 50, ..Default::default() };
    Expected { first_update_id: FIRST, updates: UPDATES, ..Expected::new(payload) }
}

/// The lines of a sink that has everything: the bytes that were sent, on one line.
fn lines() -> Vec<String> {
    let updates = PayloadGenerator::new(&expected().payload);
    let line = |id| {
        let mut body = Vec::new();
        updates.write(&mut body, id);
        String::from_utf8(body).unwrap().replace('\n', "")
    };
    (FIRST..FIRST + UPDATES).map(line).collect()
}

/// The place of an update in [`lines`].
fn at(id: u64) -> usize {
    (id - FIRST) as usize
}

fn check(lines: &[String]) -> Verified {
    verify(&expected(), lines.join("\n").as_bytes()).unwrap()
}

/// What a sink that has everything comes to.
fn clean() -> Verified {
    Verified { ok: true, expected: UPDATES, found: UPDATES, lines: UPDATES, ..Default::default() }
}

fn offences(count: u64, first: &[u64]) -> Offences {
    Offences { count, first: first.to_vec() }
}

/// Two updates of one chat with one of another between them.
fn neighbours() -> (u64, u64) {
    let payload = expected().payload;
    let mut last = BTreeMap::new();
    for id in FIRST + 100..FIRST + UPDATES {
        let ChatKey::Chat(chat) = chat_of(&payload, id) else { continue };
        match last.insert(chat, id) {
            Some(before) if id - before > 1 => return (before, id),
            _ => {}
        }
    }
    unreachable!("50 chats and no neighbours")
}

#[test]
fn a_sink_that_has_everything_is_clean() {
    assert_eq!(check(&lines()), clean());
    // With an end after the last line, or another one.
    let text = lines().join("\n") + "\n";
    assert_eq!(verify(&expected(), text.as_bytes()).unwrap(), clean());
    let text = lines().join("\r\n") + "\r\n";
    assert_eq!(verify(&expected(), text.as_bytes()).unwrap(), clean());
}

#[test]
fn the_writing_does_not_count() {
    for style in 0..3 {
        let rewritten: Vec<String> = lines()
            .iter()
            .map(|line| {
                let value: Value = serde_json::from_str(line).unwrap();
                match style {
                    // Members in another order, everything outside ASCII as it is.
                    0 => value.to_string(),
                    1 => line.replace("\":", "\" : "),
                    // As the wire has it, with what is not ASCII as it is.
                    _ => unescape(line),
                }
            })
            .collect();
        assert!(rewritten != lines());
        assert_eq!(check(&rewritten), clean(), "style {style}");
    }
}

/// Replaces escapes of characters outside ASCII by the characters.
fn unescape(line: &str) -> String {
    let mut out = String::new();
    let mut units = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find("\\u") {
        if start > 0 {
            out += &String::from_utf16(&std::mem::take(&mut units)).unwrap();
            out += &rest[..start];
        }
        units.push(u16::from_str_radix(&rest[start + 2..start + 6], 16).unwrap());
        rest = &rest[start + 6..];
    }
    out + &String::from_utf16(&units).unwrap() + rest
}

#[test]
fn missing_updates_are_named() {
    let mut lines = lines();
    lines.remove(at(1999));
    lines.remove(at(501));
    let found = Verified {
        ok: false,
        found: UPDATES - 2,
        lines: UPDATES - 2,
        missing: offences(2, &[501, 1999]),
        ..clean()
    };
    assert_eq!(check(&lines), found);
    let half = check(&self::lines()[..at(1500)]);
    let first: Vec<u64> = (1500..).take(Offences::FIRST_MAX).collect();
    assert_eq!(half.missing, offences(1000, &first));
    assert_eq!(check(&[]).missing.count, UPDATES);
}

#[test]
fn doubled_updates_are_named() {
    let mut lines = lines();
    lines.push(lines[at(1200)].clone());
    lines.insert(at(700), lines[at(600)].clone());
    let mut found =
        Verified { ok: false, lines: UPDATES + 2, doubled: offences(2, &[600, 1200]), ..clean() };
    assert_eq!(check(&lines), found);
    // They may be allowed, and are no disorder.
    let expected = Expected { once: false, ..expected() };
    found.ok = true;
    assert_eq!(verify(&expected, lines.join("\n").as_bytes()).unwrap(), found);
}

#[test]
fn disorder_within_a_chat_is_named() {
    let (one, two) = neighbours();
    let mut lines = lines();
    lines.swap(at(one), at(two));
    let mut found = Verified { ok: false, reordered: offences(1, &[one]), ..clean() };
    assert_eq!(check(&lines), found);
    // It may be allowed.
    let expected = Expected { ordered: false, ..expected() };
    found.ok = true;
    assert_eq!(verify(&expected, lines.join("\n").as_bytes()).unwrap(), found);
}

#[test]
fn order_between_chats_does_not_count() {
    let payload = expected().payload;
    let mut chats: BTreeMap<ChatKey, Vec<String>> = BTreeMap::new();
    for (id, line) in (FIRST..).zip(lines()) {
        chats.entry(chat_of(&payload, id)).or_default().push(line);
    }
    let by_chat: Vec<String> = chats.into_values().flatten().collect();
    assert!(by_chat != lines());
    assert_eq!(check(&by_chat), clean());
}

#[test]
fn altered_updates_are_named() {
    type Change = fn(&str) -> String;
    let changes: [Change; 4] = [
        |line| line.replacen("\"date\":1", "\"date\":2", 1),
        |line| line.replacen("\"is_bot\":false", "\"is_bot\":true", 1),
        |line| line.replacen("\"id\":", "\"id\":0.", 1),
        |line| line.replacen('}', ",\"more\":[]}", 1),
    ];
    for change in changes {
        let mut lines = lines();
        let id = (FIRST..).find(|id| change(&lines[at(*id)]) != lines[at(*id)]).unwrap();
        lines[at(id)] = change(&lines[at(id)]);
        let found = Verified { ok: false, altered: offences(1, &[id]), ..clean() };
        assert_eq!(check(&lines), found, "{}", lines[at(id)]);
    }
}

#[test]
fn another_seed_alters_everything() {
    let mut other = expected();
    other.payload.seed += 1;
    let verified = verify(&other, lines().join("\n").as_bytes()).unwrap();
    assert_eq!((verified.altered.count, verified.found), (UPDATES, UPDATES));
}

#[test]
fn what_was_not_sent_and_what_is_no_update_is_named() {
    let mut lines = lines();
    lines.insert(0, r#"{"update_id":499,"message":{}}"#.to_owned());
    lines.insert(5, format!(r#"{{"message":{{}},"update_id":{}}}"#, FIRST + UPDATES));
    lines.insert(10, "not JSON".to_owned());
    lines.insert(11, r#"{"message":{}}"#.to_owned());
    lines.insert(12, String::new());
    lines.insert(13, "x".repeat(3 << 20));
    // Cut off in the middle, as after a crash.
    let last = lines.last_mut().unwrap();
    last.truncate(last.len() / 2);
    let last = FIRST + UPDATES - 1;
    let found = Verified {
        ok: false,
        found: UPDATES - 1,
        lines: UPDATES + 6,
        missing: offences(1, &[last]),
        unknown: offences(2, &[499, FIRST + UPDATES]),
        unreadable: offences(5, &[11, 12, 13, 14, UPDATES + 6]),
        ..clean()
    };
    assert_eq!(check(&lines), found);
}

#[test]
fn a_sink_that_cannot_be_read_is_an_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let error = verify(&expected(), BufReader::new(Broken)).unwrap_err();
    assert!(matches!(error, Error::Sink(_)) && !error.is_usage(), "{error}");
    for updates in [0, u64::MAX] {
        let error = verify(&Expected { updates, ..expected() }, io::empty()).unwrap_err();
        assert!(error.is_usage(), "{error}");
    }
    let error = Expected::from_report(b"{}").unwrap_err();
    assert!(error.is_usage(), "{error}");
}

/// The whole way: a server that refuses some and drops others, a sink that knows what it has, and
/// the binary that compares.
#[test]
fn a_run_as_telegram_arrives_as_it_was_sent() {
    let server = Server::from_requests(|seen| match (seen.update_id() % 10, seen.earlier) {
        (3, 0) => Reply::Write(UNAVAILABLE),
        (7, 0) => Reply::Close,
        _ => Reply::WriteAfter(Duration::from_millis(1), OK),
    });
    let mut options = server.options();
    options.rate = Rate::PerSecond(2000.0);
    options.stop = Stop::Requests(1000);
    options.first_update_id = 77;
    options.payload.chats = 100;
    options.telegram = Some(Telegram { time_scale: 10.0, ..Telegram::default() });
    let report = run(&options).unwrap();
    assert!(report.is_ok(), "{report}");

    // In the order of arrival, accepted ones only: each tenth twice, then once.
    let accepted: Vec<Vec<u8>> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.answered.is_some_and(|(status, _)| status == 200))
        .map(|seen| seen.body)
        .collect();
    let text = |body: &Vec<u8>| String::from_utf8(body.clone()).unwrap().replace('\n', "") + "\n";
    let mut doubled: Vec<String> = accepted.iter().map(text).collect();
    let again: Vec<String> = doubled.iter().step_by(10).cloned().collect();
    let copies = again.len() as u64;
    doubled.extend(again);
    let doubled = doubled.concat();
    let verified = verify(&Expected::from(&report), doubled.as_bytes()).unwrap();
    assert_eq!((verified.doubled.count, verified.lines), (copies, 1000 + copies), "{verified}");
    assert!(!verified.ok && verified.reordered.count == 0, "{verified}");

    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (sink, json) = (path("sink.ndjson"), path("report.json"));
    fs::write(&json, serde_json::to_vec(&report).unwrap()).unwrap();
    fs::write(&sink, &doubled).unwrap();
    let arguments = ["--sink", &sink, "--report", &json];
    assert_eq!(verify_by_hand(&arguments).status.code(), Some(1));
    let tolerant = [&arguments[..], &["--allow-doubled"]].concat();
    assert_eq!(verify_by_hand(&tolerant).status.code(), Some(0));
    let mut known = std::collections::BTreeSet::new();
    let once: String =
        doubled.lines().filter(|l| known.insert(*l)).map(|l| l.to_owned() + "\n").collect();
    fs::write(&sink, once).unwrap();
    let output = verify_by_hand(&arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("as expected\n"));
}

fn verify_by_hand(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("verify").args(arguments).output().unwrap()
}

#[test]
fn the_binary_names_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let sink = directory.path().join("sink.ndjson");
    let mut lines = lines();
    lines.remove(at(600));
    fs::write(&sink, lines.join("\n")).unwrap();
    let sink = sink.to_str().unwrap();
    let date = expected().payload.date.to_string();
    let mut arguments = vec!["--sink", sink, "--first-update-id", "500", "--updates", "2000"];
    arguments.extend(["--seed", "7", "--chats", "50", "--date", &date]);
    let output = verify_by_hand(&arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["missing         1  id 600\n", "altered         0\n", "NOT as expected"] {
        assert!(text.contains(part), "{text}");
    }
    arguments.push("--json");
    let output = verify_by_hand(&arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["missing"]["first"], serde_json::json!([600]));
    assert_eq!((&json["ok"], &json["found"]), (&Value::Bool(false), &Value::from(1999)));
    for wrong in [
        &["--sink", sink][..],
        &["--sink", sink, "--updates", "5"],
        &["--sink", sink, "--report", "no-such-file"],
        &["--sink", sink, "--report", sink],
        &["--sink", sink, "--report", "x", "--seed", "1"],
        &["--sink", "no-such-file", "--updates", "5", "--date", "1"],
    ] {
        let output = verify_by_hand(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_steered_run_is_checked_by_its_report() {
    let server = Server::plain(|_| Reply::Write(OK));
    let mut options = server.options();
    for (key, value) in [("kinds", "message:1,poll:1"), ("zipf", "0.5"), ("albums", "20%")] {
        options.payload.set(key, value).unwrap();
    }
    options.payload.set("size", "p50=700,max=9000").unwrap();
    options.rate = Rate::Max;
    options.stop = Stop::Requests(200);
    let report = run(&options).unwrap();
    let lines: Vec<String> = server
        .seen()
        .iter()
        .map(|seen| String::from_utf8(seen.body.clone()).unwrap().replace('\n', ""))
        .collect();
    let sink = lines.join("\n");
    let json = serde_json::to_vec(&report).unwrap();
    for mut expected in [Expected::from(&report), Expected::from_report(&json).unwrap()] {
        expected.ordered = false;
        let verified = verify(&expected, sink.as_bytes()).unwrap();
        assert!(verified.ok && verified.found == 200, "{verified}");
    }
}
