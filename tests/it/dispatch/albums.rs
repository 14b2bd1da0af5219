//! Messages of one album reach the handler together, where that is asked for.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ringhook::{Config, Dispatch, Handler, Outcome, ServerBuilder, Update};

use crate::support::{TestServer, update_of, wait_until};

/// Keeps the ids of what is handled together.
#[derive(Clone, Default)]
struct Groups(Arc<Mutex<Vec<Vec<i64>>>>);

impl Groups {
    fn all(&self) -> Vec<Vec<i64>> {
        self.0.lock().unwrap().clone()
    }
}

impl Handler for Groups {
    fn handle(&self, update: &Update) -> Outcome {
        self.handle_album(&[update])
    }

    fn handle_album(&self, updates: &[&Update]) -> Outcome {
        self.0.lock().unwrap().push(updates.iter().map(|update| update.id().get()).collect());
        Outcome::Done
    }
}

/// A message of `chat` that belongs to `album`.
fn part(chat: i64, id: i64, album: &str) -> String {
    let text = format!("\"media_group_id\":\"{album}\",\"text\"");
    update_of(chat, id).replacen("\"text\"", &text, 1)
}

fn gathering(groups: &Groups, wait: Duration) -> TestServer {
    let mut dispatch = Dispatch::default();
    dispatch.media_groups = Some(wait);
    TestServer::with(|server: ServerBuilder| server.dispatch(dispatch).handler(groups.clone()))
}

#[test]
fn the_messages_of_an_album_come_together_and_in_order() {
    let groups = Groups::default();
    // Nothing but a following message or the end of the wait completes an album.
    let server = gathering(&groups, Duration::from_millis(1500));
    let (mut one, mut two) = (server.connect(), server.connect());
    let start = Instant::now();
    assert_eq!(one.post(&update_of(1, 1)).status, 200);
    assert_eq!(one.post(&part(1, 2, "a")).status, 200);
    assert_eq!(two.post(&part(1, 3, "a")).status, 200);
    // Another chat, and one whose message completes its album.
    assert_eq!(one.post(&part(2, 10, "b")).status, 200);
    assert_eq!(two.post(&part(2, 11, "b")).status, 200);
    assert_eq!(one.post(&update_of(2, 12)).status, 200);
    wait_until("what is complete is handled", || groups.all().len() >= 3);
    wait_until("the wait is over", || groups.all().len() == 4);
    assert!(start.elapsed() >= Duration::from_millis(1500));
    let mut all = groups.all();
    assert_eq!(all.pop(), Some(vec![2, 3]), "the open album is the last");
    all.sort();
    assert_eq!(all, [vec![1], vec![10, 11], vec![12]]);
    let (report, _) = server.stop();
    assert_eq!((report.updates_handled, report.updates_abandoned), (6, 0));
}

#[test]
fn a_full_album_and_a_second_one_are_told_apart() {
    let groups = Groups::default();
    let server = gathering(&groups, Duration::from_secs(30));
    let mut client = server.connect();
    for id in 0..10 {
        assert_eq!(client.post(&part(1, id, "a")).status, 200);
    }
    wait_until("ten are an album", || groups.all() == [(0..10).collect::<Vec<_>>()]);
    assert_eq!(client.post(&part(1, 20, "b")).status, 200);
    assert_eq!(client.post(&part(1, 21, "c")).status, 200);
    wait_until("the next one completes it", || groups.all().len() == 2);
    assert_eq!(groups.all().last(), Some(&vec![20]));
    // A stop waits for no further message.
    let start = Instant::now();
    let (report, _) = server.stop();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(groups.all().last(), Some(&vec![21]));
    assert_eq!((report.updates_handled, report.updates_abandoned), (12, 0));
}

#[test]
fn without_the_setting_each_message_comes_by_itself() {
    let groups = Groups::default();
    let server = TestServer::with(|server| server.handler(groups.clone()));
    let mut client = server.connect();
    for id in 0..3 {
        assert_eq!(client.post(&part(1, id, "a")).status, 200);
    }
    wait_until("all are handled", || groups.all().len() == 3);
    assert_eq!(groups.all(), [[0], [1], [2]]);
}

#[test]
fn albums_need_the_order_of_chats() {
    let mut config = Config::default();
    config.dispatch.media_groups = Some(Duration::from_millis(800));
    config.dispatch.order = ringhook::Order::None;
    let error = config.validate().unwrap_err().to_string();
    assert!(error.starts_with("dispatch.media_groups"), "{error}");
}
