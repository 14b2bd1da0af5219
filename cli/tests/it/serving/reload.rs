//! What the journal's files tell of a bot that came with a reload.

use std::time::Duration;

use ringhook::{Ack, Bot, Config, Journal, Outcome, Update};

use crate::{
    binary::process::run,
    support::{SECRET, TestServer, request_to, update, wait_until},
};

#[test]
fn a_new_bot_has_a_name_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let with = |names: &[&str]| {
        let mut config = Config::default();
        if let Ok(name) = std::env::var("RINGHOOK_TEST_DRIVER") {
            config.driver = name.parse().unwrap();
        }
        config.listen = Some("127.0.0.1:0".parse().unwrap());
        let bots = names.iter().map(|name| Bot::new(name, &format!("/{name}"), SECRET).unwrap());
        config.bots = bots.collect();
        config.journal = Journal::at(dir.path().join("journal"), Ack::Written);
        config.drain_timeout = Duration::ZERO;
        config
    };
    let server = TestServer::with(|server| {
        let later = |_: &Update| Outcome::Retry(Duration::from_secs(3600));
        server.config(with(&["a"])).handler(later)
    });
    let mut client = server.connect();
    let mut post = |path, id| {
        client.send(&request_to(path, SECRET, &update(id)));
        client.response().status
    };
    assert_eq!(post("/a", 1), 200);
    assert_eq!(server.handle.reload(&with(&["a", "b"])).unwrap().needs_restart, [""; 0]);
    wait_until("the new bot is there", || post("/b", 2) == 200);
    assert_eq!(post("/a", 3), 200);
    let report = server.handle.stop();
    assert_eq!(report.journal.unwrap().lag_records, 3);
    let (code, lines, error) = run(dir.path(), &["journal", "cat", "--data-dir", ".", "--meta"]);
    assert_eq!(code, 0, "{error}");
    let of_b = lines.lines().filter(|line| line.contains("\"bot\":\"b\"")).count();
    assert_eq!(of_b, 1, "the new bot has a name in the journal: {lines}");
}
