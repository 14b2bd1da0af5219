//! `ringhook poll`: updates that are fetched, once and in order, whatever happens in between.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::process::{Ended, Process, ringhook},
    support::{
        self,
        bot_api::{FakeBotApi, TOKEN, door::Reachable},
        stuck_pipe::StuckPipe,
        wait_still, wait_until,
    },
};

/// A second bot's.
const OTHER: &str = "654321:OTHER-token_of_the_fake_server_000000";

/// A place with a Bot API where pollers are started one after the other.
struct Place {
    api: FakeBotApi,
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with(FakeBotApi::start())
    }

    fn with(api: FakeBotApi) -> Self {
        Self { api, dir: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = ringhook(self.dir.path());
        command.args(["poll", "--api-root", &self.api.url(), "--workers", "2"]).args(args);
        command.env("TELEGRAM_BOT_TOKEN", TOKEN);
        command
    }

    /// A poller into the file `out`.
    fn poll(&self, args: &[&str]) -> Process {
        let mut command = self.command(&["--output", "ndjson:out"]);
        command.args(args);
        Process::start(command)
    }

    /// The updates in `out` so far.
    fn out(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
        // The last line may not be written to its end, and a kill may have torn one.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        // Where there are several bots, a line tells which one.
        lines.map(|line| line.get("update").cloned().unwrap_or(line)).collect()
    }

    fn ids(&self) -> Vec<i64> {
        self.out().iter().map(|update| update["update_id"].as_i64().unwrap()).collect()
    }

    /// Waits until `out` has `count` lines.
    #[track_caller]
    fn wait_lines(&self, count: usize) {
        wait_until(&format!("{count} updates are there"), || self.out().len() >= count);
    }

    /// Asserts that all of `pushed` are there once, each chat's in order.
    #[track_caller]
    fn check(&self, pushed: &[i64]) {
        let out = self.out();
        let mut ids = self.ids();
        ids.sort_unstable();
        assert_eq!(ids, pushed, "lost, or there twice");
        let mut chats: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for update in &out {
            let chat = update["message"]["chat"]["id"].as_i64().unwrap();
            chats.entry(chat).or_default().push(update["update_id"].as_i64().unwrap());
        }
        for (chat, ids) in chats {
            assert!(ids.is_sorted(), "chat {chat}: {ids:?}");
        }
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.path().join("report")).unwrap()).unwrap()
    }

    /// What is told at the end of a command that fails: the exit code and stderr, without what
    /// differs from run to run.
    fn fails(&self, mut command: Command) -> String {
        let output = command.output().unwrap();
        let stderr = self.plain(&String::from_utf8(output.stderr).unwrap());
        assert!(output.stdout.is_empty());
        format!("exit {}\n{stderr}", output.status.code().unwrap())
    }

    /// `text` without addresses; no token may be in it.
    fn plain(&self, text: &str) -> String {
        for token in [TOKEN, OTHER] {
            assert!(!text.contains(token.split_once(':').unwrap().1), "{text}");
        }
        text.replace(&self.api.addr().to_string(), "ADDRESS")
    }
}

/// The end of a poller that was told to stop: nothing it said may hold the token.
#[track_caller]
fn well_ended(place: &Place, ended: &Ended) {
    assert!(ended.status.success(), "{:?}", ended.stderr);
    place.plain(&ended.stderr.join("\n"));
}

// The way of updates

#[test]
fn what_waits_and_what_comes_later_is_fetched_in_order_and_confirmed() {
    for ack in ["memory", "written", "synced"] {
        let place = Place::new();
        let mut pushed = place.api.push_many(250);
        let process = place.poll(&["--ack", ack, "--report", "report"]);
        place.wait_lines(250);
        for _ in 0..5 {
            pushed.extend(place.api.push_many(40));
        }
        place.wait_lines(450);
        // The next call has confirmed them, or the stop does.
        let told_at = Instant::now();
        let ended = process.terminate();
        assert!(told_at.elapsed() < Duration::from_secs(2), "{:?}", told_at.elapsed());
        well_ended(&place, &ended);
        place.check(&pushed);
        assert_eq!(place.api.pending(), [0_i64; 0], "{ack}");
        let report = place.report();
        assert_eq!(report["updates_delivered"], 450);
        assert_eq!(report["updates_handled"], 450);
        assert_eq!(report["shards"], 0);
        let poll = &report["polls"][0];
        assert_eq!((&poll["bot"], &poll["updates"]), (&"default".into(), &450.into()));
        assert_eq!((&poll["failures"], &poll["skipped"]), (&0.into(), &0.into()));
        assert!(poll["answers"].as_u64().unwrap() >= 4, "{poll}");
        // Nothing comes twice to the next one.
        pushed.extend(place.api.push_many(1));
        let process = place.poll(&["--ack", ack]);
        place.wait_lines(451);
        well_ended(&place, &process.terminate());
        place.check(&pushed);
    }
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let place = Place::new();
    place.api.push("{\"message\":{\"message_id\":1,\"date\":1,\"chat\":{\"id\":5,\"type\":\"private\"},\"text\":\"\\u0416 1.50\",\"n\":1.50}}");
    let process = place.poll(&[]);
    place.wait_lines(1);
    well_ended(&place, &process.terminate());
    assert_eq!(place.out()[0]["message"]["text"], "\u{416} 1.50");
}

#[test]
fn a_stop_during_a_long_poll_is_quick_and_what_comes_then_stays_at_telegram() {
    let place = Place::new();
    let pushed = place.api.push_many(3);
    let process = place.poll(&[]);
    place.wait_lines(3);
    wait_until("it waits for more", || place.api.polls() > 0);
    let told_at = Instant::now();
    let ended = process.terminate();
    assert!(told_at.elapsed() < Duration::from_secs(2), "{:?}", told_at.elapsed());
    well_ended(&place, &ended);
    place.check(&pushed);
    let more = place.api.push_many(2);
    assert_eq!(place.api.pending(), more);
}

#[test]
fn a_stop_confirms_what_no_call_has_confirmed_yet() {
    let place = Place::new();
    // The call behind the one that brings them is refused until the end.
    let pushed = place.api.push_many(100);
    place.api.flood(0, 0);
    let process = place.poll(&["--ack", "written"]);
    place.wait_lines(100);
    well_ended(&place, &process.terminate());
    assert_eq!(place.api.pending(), [0_i64; 0]);
    place.check(&pushed);
}

#[test]
fn killed_in_the_middle_nothing_is_lost_and_little_comes_twice() {
    let place = Place::new();
    let mut pushed = Vec::new();
    for life in 0..6 {
        pushed.extend(place.api.push_many(400));
        let process = place.poll(&["--ack", "written", "--wait-for-lock", "10s"]);
        let before = place.ids().len();
        wait_until("some are there", || place.ids().len() > before + 30 * life);
        process.kill();
    }
    let process = place.poll(&["--ack", "written", "--report", "report"]);
    let all = |place: &Place| {
        let ids = place.ids().into_iter().collect::<std::collections::BTreeSet<_>>();
        ids.len() == pushed.len()
    };
    wait_until("all are there", || all(&place));
    well_ended(&place, &process.terminate());
    let ids = place.ids();
    let different: std::collections::BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(Vec::from_iter(different), pushed, "lost");
    // A sink's last batch before a kill may come again: 128 for each of two workers.
    let again = ids.len() - pushed.len();
    assert!(again <= 6 * 2 * 128, "{again} came twice");
    assert_eq!(place.api.pending(), [0_i64; 0]);
}

#[test]
fn several_bots_are_polled_for_at_once() {
    let api = FakeBotApi::builder().token(TOKEN).token(OTHER).start();
    let place = Place::with(api);
    fs::write(place.dir.path().join("shop.token"), TOKEN).unwrap();
    let config = "[[bot]]\nname = 'shop'\ntoken_file = 'shop.token'\n\
                  [[bot]]\nname = 'desk'\ntoken_env = 'DESK_TOKEN'\nallowed_updates = 'all'\n";
    fs::write(place.dir.path().join("ringhook.toml"), config).unwrap();
    let (shop, desk) = (place.api.bot(TOKEN), place.api.bot(OTHER));
    let (first, second) = (shop.push_many(150), desk.push_many(150));
    let mut command = place.command(&["--config", "ringhook.toml", "--output", "ndjson:out"]);
    command.args(["--report", "report"]).env("DESK_TOKEN", OTHER);
    let process = Process::start(command);
    place.wait_lines(300);
    well_ended(&place, &process.terminate());
    let polls = place.report()["polls"].clone();
    let by_bot = |index: usize| (polls[index]["bot"].clone(), polls[index]["updates"].clone());
    assert_eq!(by_bot(0), ("shop".into(), 150.into()));
    assert_eq!(by_bot(1), ("desk".into(), 150.into()));
    assert!(shop.pending().is_empty() && desk.pending().is_empty());
    let mut expected = [first, second].concat();
    expected.sort_unstable();
    let mut ids = place.ids();
    ids.sort_unstable();
    assert_eq!(ids, expected);
    let asked: Vec<_> = place.api.calls_of("getUpdates");
    let kinds = |token: &str| {
        let of = |call: &&support::bot_api::calls::Call| call.token == token;
        asked.iter().find(of).unwrap().text("allowed_updates").to_owned()
    };
    assert_eq!(kinds(TOKEN), "", "what was set before stays");
    assert!(kinds(OTHER).contains("message_reaction_count"), "{}", kinds(OTHER));
    // One of them alone.
    let left = desk.push_many(1);
    let pushed = shop.push_many(1);
    let mut command = place.command(&["--config", "ringhook.toml", "--output", "ndjson:alone"]);
    command.args(["--bot", "shop"]);
    let process = Process::start(command);
    wait_until("it is there", || place.api.bot(TOKEN).pending() != pushed);
    well_ended(&place, &process.terminate());
    assert_eq!(desk.pending(), left);
}

#[test]
fn a_hangup_and_usr1_leave_it_polling() {
    let place = Place::new();
    let process = place.poll(&[]);
    let said = |what: &str| process.stderr().iter().any(|line| line.contains(what));
    process.signal("HUP");
    wait_until("it says that it reads nothing again", || said("read at the start only"));
    let pushed = place.api.push_many(2);
    place.wait_lines(2);
    // The second one may be counted a moment after its line is there.
    wait_until("there is a table", || {
        process.signal("USR1");
        said("polled       default: 2 update(s)")
    });
    well_ended(&place, &process.terminate());
    place.check(&pushed);
}

// Pressure

#[test]
fn full_queues_do_not_confirm_what_they_have_not_taken() {
    let place = Place::new();
    let config = "[limits]\nqueue_updates = 20\nchat_updates = 20\n";
    fs::write(place.dir.path().join("ringhook.toml"), config).unwrap();
    let pipe = place.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened for reading and writing, so that no open waits for the other end.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let count = 3000;
    let pushed = place.api.push_many(count);
    let mut command = place.command(&["--config", "ringhook.toml", "--ack", "memory"]);
    command.args(["--output", "ndjson:pipe"]);
    let process = Process::start(command);
    // A pipe holds 64 KiB, which some hundred updates fill.
    wait_until("it has begun", || place.api.pending().len() < count);
    let quiet = Duration::from_millis(500);
    let left = wait_still("nothing goes on", quiet, || place.api.pending().len());
    assert!(left > 1000, "{left} are not confirmed");
    // What comes out of the pipe makes room, in order and without a hole.
    let ids = read_ids(reader, count);
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, pushed);
    well_ended(&place, &process.terminate());
    assert_eq!(place.api.pending(), [0_i64; 0]);
}

/// The ids of the next `count` lines.
fn read_ids(reader: fs::File, count: usize) -> Vec<i64> {
    use std::io::{BufRead as _, BufReader};
    let lines = BufReader::new(reader).lines().take(count);
    let id = |line: String| serde_json::from_str::<Value>(&line).unwrap()["update_id"].as_i64();
    lines.map(|line| id(line.unwrap()).unwrap()).collect()
}

#[test]
fn what_is_no_update_is_kept_among_the_dead_letters_and_passed_over() {
    let place = Place::new();
    fs::write(place.dir.path().join("ringhook.toml"), "[dispatch]\ndead_letters = 'letters'\n")
        .unwrap();
    let pushed = place.api.push_many(2);
    let bad = pushed[0] - 1;
    // The server for tests would not take it.
    let deep = "[".repeat(300) + &"]".repeat(300);
    let update = format!("{{\"update_id\":{bad},\n\"message\":{deep}}}");
    let answer = format!("{{\"ok\":true,\"result\":[{update}]}}");
    place.api.answer_next("getUpdates", 200, &answer);
    let process = place.poll(&["--config", "ringhook.toml", "--report", "report"]);
    place.wait_lines(2);
    let ended = process.terminate();
    well_ended(&place, &ended);
    place.check(&pushed);
    let text = fs::read_to_string(place.dir.path().join("letters")).unwrap();
    let id = format!("\"update_id\":{bad},");
    assert!(text.contains(&id) && text.contains("nests deeper") && text.lines().count() == 1);
    assert_eq!(place.report()["polls"][0]["skipped"], 1);
    assert_eq!(place.api.pending(), [0_i64; 0]);
    let told = ended.stderr.iter().any(|line| {
        line.contains("is skipped") && line.contains(&bad.to_string()) && !line.contains("[[[")
    });
    assert!(told, "{:?}", ended.stderr);
}

/// Also where a disk, or the reader of a pipe, keeps a poller for good.
#[test]
fn a_stop_does_not_wait_for_a_poller_that_is_stuck_in_its_dead_letters() {
    let place = Place::new();
    let config = "[dispatch]\ndead_letters = 'letters'\n";
    fs::write(place.dir.path().join("ringhook.toml"), config).unwrap();
    let letters = StuckPipe::make(&place.dir.path().join("letters"));
    place.api.answer_next("getUpdates", 200, StuckPipe::unreadable_answer(11));
    let process = place.poll(&["--config", "ringhook.toml"]);
    letters.wait_until_stuck();
    let ended = process.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);
}

// Troubles of the Bot API

#[test]
fn outages_are_waited_out() {
    for how in [Reachable::Refused, Reachable::BadGateway] {
        let place = Place::new();
        let mut pushed = place.api.push_many(5);
        let process = place.poll(&["--report", "report"]);
        place.wait_lines(5);
        wait_until("it waits", || place.api.polls() > 0);
        place.api.reach(how);
        // A call that waits behind a gateway is answered, the next one is not.
        pushed.extend(place.api.push_many(1));
        wait_until("it says so", || {
            process.stderr().iter().any(|line| line.contains("getUpdates has failed"))
        });
        pushed.extend(place.api.push_many(5));
        place.api.reach(Reachable::Yes);
        place.wait_lines(11);
        let ended = process.terminate();
        well_ended(&place, &ended);
        place.check(&pushed);
        assert!(ended.stderr.iter().any(|line| line.contains("is answered again")));
        let poll = &place.report()["polls"][0];
        assert!(poll["failures"].as_u64().unwrap() >= 1 && poll["last_failure"].is_string());
    }
}

#[test]
fn a_stop_does_not_wait_for_a_bot_api_that_is_silent() {
    let place = Place::new();
    place.api.reach(Reachable::Silent);
    let process = place.poll(&[]);
    wait_until("a call waits for its answer", || place.api.silenced() > 0);
    let told_at = Instant::now();
    well_ended(&place, &process.terminate());
    assert!(told_at.elapsed() < Duration::from_secs(2), "{:?}", told_at.elapsed());
}

#[test]
fn a_429_is_waited_for_as_long_as_it_asks() {
    let place = Place::new();
    let pushed = place.api.push_many(5);
    place.api.flood(1, 3);
    let process = place.poll(&[]);
    place.wait_lines(5);
    let calls = place.api.calls_of("getUpdates");
    let pause = calls[1].at - calls[0].at;
    assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&pause), "{pause:?}");
    well_ended(&place, &process.terminate());
    place.check(&pushed);
}

#[test]
fn after_an_answer_that_cannot_be_read_fewer_updates_are_asked_for() {
    let place = Place::new();
    let pushed = place.api.push_many(60);
    place.api.answer_next("getUpdates", 200, "{\"ok\":true,\"result\":[{}]}");
    let process = place.poll(&[]);
    place.wait_lines(60);
    well_ended(&place, &process.terminate());
    let limits: Vec<_> = place.api.calls_of("getUpdates");
    let limits: Vec<_> = limits.iter().map(|call| call.text("limit").to_owned()).collect();
    assert_eq!(limits[..3], ["100", "25", "100"]);
    place.check(&pushed);
}

#[test]
fn one_update_that_cannot_be_read_keeps_no_other_from_coming() {
    for bad in [
        &b"{\"update_id\":11,\"message\":{\"text\":\"\xff\xfe\"}}"[..],
        b"{\"update_id\":11,\"message\":{\"text\":\"\\ud83d\"}}",
        b"{\"update_id\":11,\"message\":{\"text\":tru}}",
    ] {
        let place = Place::new();
        let config = "[dispatch]\ndead_letters = 'letters'\n\
                      [[bot]]\nname = 'shop'\ntoken_env = 'TELEGRAM_BOT_TOKEN'\n";
        fs::write(place.dir.path().join("ringhook.toml"), config).unwrap();
        let good = |id: u8| format!("{{\"update_id\":{id},\"message\":{{\"chat\":{{\"id\":1}}}}}}");
        let (first, last) = (good(10), good(12));
        let body: [&[u8]; 7] = [
            b"{\"ok\":true,\"result\":[",
            first.as_bytes(),
            b",",
            bad,
            b",",
            last.as_bytes(),
            b"]}",
        ];
        place.api.answer_next("getUpdates", 200, body.concat());
        let process = place.poll(&["--config", "ringhook.toml"]);
        place.wait_lines(2);
        assert_eq!(place.ids(), [10, 12], "{}", String::from_utf8_lossy(bad));
        let is_named = |line: &String| line.contains("skipped") && line.contains("update_id=11");
        wait_until("it is named", || process.stderr().iter().any(is_named));
        let letters = fs::read_to_string(place.dir.path().join("letters")).unwrap();
        let letter: Value = serde_json::from_str(letters.trim()).unwrap();
        assert_eq!((&letter["update_id"], &letter["bot"]), (&11.into(), &"shop".into()));
        assert!(letter["update"].is_object() || letter["update_base64"].is_string(), "{letter}");
        wait_until("what comes after it is asked for", || {
            let calls = place.api.calls_of("getUpdates");
            calls.last().is_some_and(|call| call.text("offset") == "13")
        });
        well_ended(&place, &process.terminate());
    }
}

/// Whatever form the wait has.
#[test]
fn a_wait_with_a_fraction_is_kept() {
    let place = Place::new();
    let pushed = place.api.push_many(1);
    let body = r#"{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":1.5}}"#;
    place.api.answer_next("getUpdates", 429, body);
    let process = place.poll(&[]);
    place.wait_lines(1);
    let calls = place.api.calls_of("getUpdates");
    let pause = calls[1].at - calls[0].at;
    assert!(pause >= Duration::from_millis(1500), "{pause:?}");
    let said = process.stderr().join("\n");
    assert!(
        said.contains("429 Too Many Requests") && !said.contains("none of the Bot API"),
        "{said}"
    );
    well_ended(&place, &process.terminate());
    place.check(&pushed);
}

#[test]
fn another_poller_is_told_of_and_outlived() {
    let place = Place::new();
    let process = place.poll(&[]);
    wait_until("it waits", || place.api.polls() > 0);
    let text = r#"{"ok":false,"error_code":409,"description":"Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"}"#;
    place.api.answer_next("getUpdates", 409, text);
    // It ends the long poll.
    let mut pushed = place.api.push_many(1);
    let line = || {
        let is_told = |line: &&String| line.contains("another program fetches");
        process.stderr().iter().find(is_told).cloned()
    };
    wait_until("it says so", || line().is_some());
    assert!(line().unwrap().contains("stop it"));
    pushed.extend(place.api.push_many(2));
    place.wait_lines(3);
    well_ended(&place, &process.terminate());
    place.check(&pushed);
}

#[test]
fn a_webhook_ends_it_with_the_remedy_unless_it_is_to_be_deleted() {
    let place = Place::new();
    place.api.set_webhook_behind_back("https://localhost:8443/webhook");
    place.api.pause(true);
    let pushed = place.api.push_many(3);
    let said = place.fails(place.command(&["--output", "null"]));
    assert_snapshot!("webhook_is_set", last_lines(&said, 1));
    assert!(place.api.webhook().is_some(), "it is not deleted by itself");
    let process = place.poll(&["--delete-webhook"]);
    place.wait_lines(3);
    assert!(place.api.webhook().is_none());
    well_ended(&place, &process.terminate());
    place.check(&pushed);
    // One that is set while it polls.
    let process = place.poll(&[]);
    wait_until("it waits", || place.api.polls() > 1);
    place.api.set_webhook_behind_back("https://localhost:8443/webhook");
    let ended = process.wait();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.last().unwrap().contains("ringhook webhook delete"), "{:?}", ended.stderr);
}

#[test]
fn a_webhook_stays_where_polling_cannot_begin() {
    let place = Place::new();
    let process = place.poll(&[]);
    wait_until("it polls", || place.api.polls() > 0);
    // Also that of another user.
    let api = FakeBotApi::start();
    api.set_webhook_behind_back("https://localhost:8443/webhook");
    let mut command = ringhook(place.dir.path());
    command.args(["poll", "--output", "null", "--delete-webhook", "--api-root", &api.url()]);
    command.env("TELEGRAM_BOT_TOKEN", TOKEN);
    let said = place.fails(command);
    assert!(said.contains("belongs to another process"), "{said}");
    assert!(api.webhook().is_some());
    well_ended(&place, &process.terminate());
}

#[test]
fn a_token_that_is_revoked_ends_one_bot_and_the_last_one_the_process() {
    let api = FakeBotApi::builder().token(TOKEN).token(OTHER).start();
    let place = Place::with(api);
    let config = format!(
        "[[bot]]\nname = 'shop'\ntoken = '{TOKEN}'\n[[bot]]\nname = 'desk'\ntoken = '{OTHER}'\n"
    );
    fs::write(place.dir.path().join("ringhook.toml"), config).unwrap();
    let process = place.poll(&["--config", "ringhook.toml"]);
    let (shop, desk) = (place.api.bot(TOKEN), place.api.bot(OTHER));
    shop.push_many(1);
    desk.push_many(1);
    place.wait_lines(2);
    // A long poll that waits is not ended by a revoked token, but by a line that breaks.
    let break_line = || {
        place.api.reach(Reachable::Refused);
        place.api.reach(Reachable::Yes);
    };
    shop.revoke();
    break_line();
    wait_until("it says so", || {
        process.stderr().iter().any(|line| line.contains("not polled for any more"))
    });
    desk.push_many(1);
    place.wait_lines(3);
    desk.revoke();
    break_line();
    let ended = process.wait();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.last().unwrap().contains("401"), "{:?}", ended.stderr);
    place.plain(&ended.stderr.join("\n"));
}

// What people see

#[test]
fn wrong_usage_is_refused_with_2() {
    let place = Place::new();
    let dir = place.dir.path();
    let mut said = String::new();
    let mut case = |name: &str, config: &str, args: &[&str], has_token: bool| {
        let mut command = place.command(&[]);
        if !config.is_empty() {
            fs::write(dir.join("ringhook.toml"), config).unwrap();
            command.args(["--config", "ringhook.toml"]);
        }
        if !has_token {
            command.env_remove("TELEGRAM_BOT_TOKEN");
        }
        command.args(args);
        said += &format!("--- {name}\n{}", place.fails(command));
    };
    case("no token", "", &[], false);
    case("a token of another form", "[[bot]]\nname = 'shop'\ntoken = 'x'\n", &[], false);
    let bot = |name: &str| format!("[[bot]]\nname = '{name}'\ntoken = '{TOKEN}'\n");
    case("one of two has none", &(bot("shop") + "[[bot]]\nname = 'desk'\n"), &[], true);
    case("the same token twice", &(bot("shop") + &bot("desk")), &[], false);
    case("no bot of the name", &bot("shop"), &["--bot", "desk"], false);
    case("an unknown kind", "", &["--allowed-updates", "message,mesage"], true);
    case("both", "", &["--bot", "a", "--all"], true);
    case("a sink that is none", "", &["--output", "x"], true);
    assert!(!dir.join("ringhook-data").exists(), "nothing is made");
    assert_snapshot!("usage", said);
}

#[test]
fn the_journal_of_another_process_is_not_shared() {
    let place = Place::new();
    let process = place.poll(&[]);
    let said = place.fails(place.command(&["--output", "null"]));
    assert_snapshot!("journal_in_use", last_lines(&said, 1));
    well_ended(&place, &process.terminate());
}

#[test]
fn a_wrong_token_is_told() {
    let place = Place::new();
    let mut command = place.command(&["--output", "null"]);
    command.env("TELEGRAM_BOT_TOKEN", OTHER);
    assert_snapshot!("wrong_token", last_lines(&place.fails(command), 1));
}

#[test]
fn help_and_greeting() {
    let place = Place::new();
    let output = ringhook(place.dir.path()).args(["poll", "--help"]).output().unwrap();
    assert!(output.status.success());
    assert_snapshot!("help", String::from_utf8(output.stdout).unwrap());
    let process = place.poll(&["--ack", "memory"]);
    let greeting = process.stderr();
    well_ended(&place, &process.terminate());
    let differs = |line: &str| ["  workers", "  files"].iter().any(|name| line.starts_with(name));
    let greeting: Vec<_> =
        greeting.into_iter().filter(|line| !differs(line) && !line.contains("started")).collect();
    assert_snapshot!("greeting", place.plain(&greeting.join("\n")));
}

/// The exit code and the last lines of `said`.
fn last_lines(said: &str, count: usize) -> String {
    let lines: Vec<_> = said.lines().collect();
    let last = &lines[lines.len() - count..];
    format!("{}\n{}", lines[0], last.join("\n"))
}
