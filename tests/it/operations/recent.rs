//! The last requests, as the admin listener shows them.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use ringhook::{Ack, Journal, ServerBuilder};
use serde_json::Value;

use crate::support::{
    self, TestServer,
    probe::{LOCAL, ask, ask_with},
    request_to, update, wait_until,
};

fn requests(addr: SocketAddr, query: &str) -> Vec<Value> {
    let (status, body) = ask(addr, &format!("/requests{query}"));
    assert_eq!(status, 200, "{body}");
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(list["dropped"], 0);
    list["requests"].as_array().unwrap().clone()
}

fn with_admin(server: ServerBuilder) -> ServerBuilder {
    server.admin(LOCAL.parse().unwrap())
}

/// Waits for a request with `detail`, and returns it.
fn found(addr: SocketAddr, detail: &str) -> Value {
    let find = || requests(addr, "").into_iter().find(|it| it["detail"] == detail);
    wait_until(&format!("{detail:?} is shown"), || find().is_some());
    find().unwrap()
}

#[test]
fn the_last_requests_are_shown_with_what_became_of_them() {
    let start = SystemTime::now() - Duration::from_secs(1);
    let limits = support::timeouts(Duration::from_secs(1));
    let server = TestServer::with(|server| with_admin(server.limits(limits)));
    let addr = server.handle.admin_addr().unwrap();
    assert_eq!(requests(addr, ""), [Value::Null; 0]);
    let mut client = server.connect();
    let marked = update(7).replace("hello", "marked");
    assert_eq!(client.post(&marked).status, 200);
    let accepted = found(addr, "");
    assert_eq!(
        (&accepted["address"], &accepted["bot"], &accepted["kind"], &accepted["update_id"]),
        (&"127.0.0.1".into(), &"test".into(), &"message".into(), &7.into())
    );
    assert_eq!(accepted["status"], 200);
    let time = humantime::parse_rfc3339(accepted["time"].as_str().unwrap()).unwrap();
    assert!(start < time && time <= SystemTime::now());
    let stages = accepted["stages_us"].as_object().unwrap();
    let names: Vec<_> = stages.keys().map(String::as_str).collect();
    assert_eq!(names, ["answer", "parse", "read"], "no journal, no commit");
    let stage = |name: &str| stages[name].as_f64().unwrap();
    assert!(0.0 < stage("parse") && stage("parse") <= stage("answer"), "{stages:?}");

    let refused = |request: &[u8], status: u16, detail: &str, bot: Value| {
        let mut client = server.connect();
        client.send(request);
        assert_eq!(client.response().status, status);
        let found = found(addr, detail);
        assert_eq!((&found["status"], &found["bot"]), (&status.into(), &bot), "{detail}");
        assert_eq!((&found["kind"], &found["update_id"]), (&Value::Null, &Value::Null));
    };
    let body = update(8);
    refused(&request_to(support::PATH, "marked", &body), 403, "wrong", "test".into());
    let bare = b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    refused(bare, 403, "missing", "test".into());
    let lost = request_to("/bot123:marked", support::SECRET, &body);
    refused(&lost, 404, "404 Not Found", Value::Null);
    let get = b"GET /webhook HTTP/1.1\r\nHost: a\r\n\r\n";
    refused(get, 405, "405 Method Not Allowed", "test".into());
    let no_update = request_to(support::PATH, support::SECRET, "{\"marked\":1}");
    refused(&no_update, 400, "no_update_id", "test".into());
    refused(b"marked\x1b[31m\r\n\r\n", 400, "400 Bad Request", Value::Null);
    refused(b"POST /webhook HTTP/1.1\r\n", 408, "head_timeout", Value::Null);

    let all = requests(addr, "");
    assert_eq!(all.len(), 8);
    let times: Vec<_> = all.iter().map(|it| it["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    assert!(!serde_json::to_string(&all).unwrap().contains("marked"), "a peer's bytes");
    assert_eq!(requests(addr, "?limit=3"), all[..3]);
    assert_eq!(requests(addr, "?status=403").len(), 2);
    assert_eq!(requests(addr, "?bot=test&status=400").len(), 1);
    assert_eq!(requests(addr, "?bot=other").len(), 0);
    let wrong = ask(addr, "/requests?status=x");
    assert_eq!(wrong, (400, "status: expected a status, such as 403\n".to_owned()));
    let (line, ..) =
        ask_with(addr, b"POST /requests HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    assert_eq!(line, "HTTP/1.1 405 Method Not Allowed");
}

#[test]
fn a_commit_is_a_stage_and_a_flood_of_refusals_displaces_no_update() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::at(dir.path().join("journal"), Ack::Written);
    let server = TestServer::with(|server| with_admin(server.journal(journal)));
    let addr = server.handle.admin_addr().unwrap();
    let mut client = server.connect();
    assert_eq!(client.post(&update(7)).status, 200);
    wait_until("it is shown", || requests(addr, "?status=200").len() == 1);
    for _ in 0..300 {
        client.send(&request_to("/other", support::SECRET, "{}"));
        assert_eq!(client.response().status, 404);
    }
    let shown = requests(addr, "?status=200");
    assert!(shown[0]["stages_us"]["commit"].as_f64().unwrap() > 0.0, "{shown:?}");
    // Each shard has rings of its own, and the connection is on one.
    wait_until("they are bounded", || requests(addr, "?status=404").len() == 128);
}

/// One at a time is kept in each millisecond, so that many cost next to nothing.
#[test]
fn of_many_accepted_requests_some_are_shown() {
    let server = TestServer::with(with_admin);
    let addr = server.handle.admin_addr().unwrap();
    let mut client = server.connect();
    let mut id = 0;
    wait_until("the ring is full", || {
        for _ in 0..100 {
            id += 1;
            assert_eq!(client.post(&update(id)).status, 200);
        }
        requests(addr, "").len() == 256
    });
    assert!(id > 256, "not each of them is");
    let newest = requests(addr, "?limit=1")[0]["update_id"].as_i64().unwrap();
    assert!(newest > id - 100, "{newest} of {id}");
}
