//! A file of the user's own updates is sent as it is, once, in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use loadtest::{Options, Rate, Replay, Stop, Telegram, run};
use support::{OK, Reply, Server, UNAVAILABLE};

/// Updates with ids 1000, 1003, 1006 and so on of five chats, as a sink has them.
fn lines(count: u64) -> Vec<String> {
    let one = |index: u64| {
        let (id, chat) = (1000 + 3 * index, index % 5);
        let text = "Ж".repeat(1 + index as usize % 40);
        format!(
            r#"{{"update_id":{id},"message":{{"message_id":{index},"date":1,"chat":{{"id":{chat},"type":"private"}},"text":"{text}"}}}}"#
        )
    };
    (0..count).map(one).collect()
}

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("updates.ndjson");
    fs::write(&path, text).unwrap();
    File { _directory: directory, path }
}

fn options(server: &Server, file: &File, renumber: bool) -> Options {
    let mut options = server.options();
    options.connections = 6;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(u64::MAX);
    options.first_update_id = 7_000_000;
    options.replay = Some(Replay { file: file.path.clone(), renumber });
    options
}

fn bodies(server: &Server) -> Vec<String> {
    let mut seen = server.seen();
    seen.sort_by_key(|seen| seen.update_id());
    seen.into_iter().map(|seen| String::from_utf8(seen.body).unwrap()).collect()
}

#[test]
fn ids_are_kept_or_made_anew() {
    // Lines without anything on them, and no end after the last.
    let file = file(&lines(300).join("\n\n"));
    for renumber in [false, true] {
        let server = Server::plain(|_| Reply::Write(OK));
        let report = run(&options(&server, &file, renumber)).unwrap();
        assert!(report.is_ok() && report.planned == 300, "{report}");
        let mut expected = lines(300);
        if renumber {
            for (index, line) in expected.iter_mut().enumerate() {
                let old = format!(":{},", 1000 + 3 * index);
                *line = line.replacen(&old, &format!(":{},", 7_000_000 + index), 1);
            }
        }
        assert_eq!(bodies(&server), expected);
    }
}

#[test]
fn chats_keep_their_order_through_retries() {
    let file = file(&lines(200).join("\n"));
    let server = Server::from_requests(|seen| match (seen.update_id() % 10, seen.earlier) {
        (0, 0..2) => Reply::Write(UNAVAILABLE),
        _ => Reply::Write(OK),
    });
    let mut options = options(&server, &file, false);
    options.telegram = Some(Telegram { time_scale: 50.0, ..Telegram::default() });
    let report = run(&options).unwrap();
    assert!(report.is_ok() && report.planned == 200, "{report}");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for seen in server.seen() {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        let chat = body["message"]["chat"]["id"].to_string();
        let before = last.insert(chat, seen.update_id());
        assert!(before.is_none_or(|before| before <= seen.update_id()), "{body}");
    }
    assert_eq!(last.len(), 5);
}

#[test]
fn a_line_that_is_no_update_is_named_and_nothing_is_sent() {
    let server = Server::plain(|_| Reply::Write(OK));
    for (text, message) in [
        ("{\"update_id\":1}\n\n{\"message\":{}}", "line 3: expected an update as JSON"),
        ("nonsense", "line 1: expected an update as JSON"),
        ("", "expected updates"),
    ] {
        let file = file(text);
        let error = run(&options(&server, &file, false)).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(message), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn the_binary_sends_a_whole_file() {
    let server = Server::plain(|_| Reply::Write(OK));
    let file = file(&lines(150).join("\n"));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let path = file.path.to_str().unwrap();
    let arguments = ["run", "--target", &target, "--replay", path, "--rate", "max", "--renumber"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let output = command.args(arguments).args(["--first-update-id", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(server.update_ids(), (1..=150).collect::<Vec<_>>());
}
