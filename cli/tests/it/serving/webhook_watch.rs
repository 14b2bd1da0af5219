//! `ringhook serve` with a token: it looks at its webhook from Telegram's side, sets it again, and
//! polls while Telegram cannot deliver.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    binary::process::{self, Ended, Process},
    support::{
        PATH, PATIENCE, SECRET,
        bot_api::{FakeBotApi, TOKEN, door::Reachable},
        pki::Pki,
        raw::Raw,
        stuck_pipe::StuckPipe,
        wait_still, wait_until,
        way::Way,
    },
};

/// A Bot API, a public way, and the place for a server behind it.
struct Stage {
    api: FakeBotApi,
    pki: Pki,
    way: Way,
}

impl Stage {
    fn new() -> Self {
        Self::with(FakeBotApi::builder().time_scale(20).start())
    }

    fn with(api: FakeBotApi) -> Self {
        let mut way = Way::new();
        way.open();
        Self { api, pki: Pki::ecdsa(), way }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}{PATH}", self.way.addr().port())
    }

    /// Writes a config with `settings` in its `[webhook]`.
    fn configure(&self, settings: &str) {
        let (root, url) = (self.api.url(), self.url());
        let text = format!(
            "[webhook]\napi_root = '{root}'\nlocal = true\ninterval = '1s'\n{settings}\n\
             [admin]\nlisten = '127.0.0.1:0'\n\
             [tls]\ncert = 'cert.pem'\nkey = 'key.pem'\n\
             [[bot]]\nname = 'shop'\npath = '{PATH}'\nsecret_token = '{SECRET}'\nurl = '{url}'\n\
             token_file = 'token'\n"
        );
        fs::write(self.pki.dir().join("token"), TOKEN).unwrap();
        fs::write(self.pki.dir().join("ringhook.toml"), text).unwrap();
    }

    fn start(&self) -> Process {
        let mut command = process::ringhook(self.pki.dir());
        command.args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"]);
        command.args(["--log-format", "json", "--output", "ndjson:sink", "--report", "report"]);
        let process = Process::start(command);
        self.way.lead_to(process.addr);
        process
    }

    /// Sets the webhook as the config has it.
    fn set(&self) {
        self.set_to(&self.url());
    }

    fn set_to(&self, url: &str) {
        let mut body = String::new();
        for (name, value) in [("url", url), ("secret_token", SECRET)] {
            let field = "Content-Disposition: form-data; name";
            body.push_str(&format!("--xx\r\n{field}=\"{name}\"\r\n\r\n{value}\r\n"));
        }
        body.push_str(&format!(
            "--xx\r\nContent-Disposition: form-data; name=\"certificate\"; filename=\"c.pem\"\r\n\r\n\
             {}\r\n--xx--\r\n",
            self.pki.cert
        ));
        let mut raw = Raw::new(TcpStream::connect(self.api.addr()).unwrap());
        let head = format!(
            "POST /bot{TOKEN}/setWebhook HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: multipart/form-data; boundary=xx\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw.send(format!("{head}{body}").as_bytes());
        assert_eq!(raw.response().status, 200);
    }

    /// Sets the webhook for these kinds of updates.
    fn allow(&self, kinds: &[&str]) {
        let kinds = kinds.join(",");
        let args = ["webhook", "set", "--config", "ringhook.toml", "--allowed-updates", &kinds];
        let (code, _, stderr) = process::run(self.pki.dir(), &args);
        assert_eq!(code, 0, "{stderr}");
    }

    /// Where the webhook is; empty where there is none.
    fn webhook(&self) -> String {
        self.api.webhook().map(|webhook| webhook.url).unwrap_or_default()
    }

    /// What is noted of the webhook; empty where nothing is.
    fn noted(&self) -> String {
        let id = TOKEN.split_once(':').unwrap().0;
        let file = self.pki.dir().join("ringhook-data/webhook").join(format!("{id}.json"));
        let Ok(text) = fs::read(file) else { return String::new() };
        let note: Value = serde_json::from_slice(&text).unwrap();
        note["webhook"].as_str().unwrap().to_owned()
    }

    /// Runs a subcommand of `webhook`.
    fn command(&self, args: &[&str]) {
        let args = [&["webhook"], args, &["--config", "ringhook.toml"]].concat();
        let (code, _, stderr) = process::run(self.pki.dir(), &args);
        assert_eq!(code, 0, "{stderr}");
    }

    /// Puts another certificate where the server has its own.
    fn replace_certificate(&self) -> Pki {
        let next = Pki::ecdsa();
        for file in ["cert.pem", "key.pem"] {
            fs::copy(next.dir().join(file), self.pki.dir().join(file)).unwrap();
        }
        next
    }

    fn wait_uploaded(&self, pki: &Pki) {
        wait_until("it is uploaded", || {
            let certificate = self.api.webhook().and_then(|webhook| webhook.certificate);
            certificate.as_deref() == Some(pki.cert.as_bytes())
        });
    }

    fn report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.pki.dir().join("report")).unwrap()).unwrap()
    }

    /// The ids in the sink, in their order, and the chats that they are of.
    fn sunk(&self) -> Vec<(i64, i64)> {
        let text = fs::read_to_string(self.pki.dir().join("sink")).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let of = |line: &str| {
            let update: Value = serde_json::from_str(line).unwrap();
            let chat = update["message"]["chat"]["id"].as_i64().unwrap();
            (chat, update["update_id"].as_i64().unwrap())
        };
        lines.map(of).collect()
    }

    /// Asserts that each of `ids` is in the sink once, and each chat in its order.
    #[track_caller]
    fn check_sink(&self, ids: &[i64]) {
        self.check_sink_after_kill(ids, &[]);
    }

    /// The same, where those that were under way at a kill may have come again.
    #[track_caller]
    fn check_sink_after_kill(&self, ids: &[i64], under_way: &[i64]) {
        let mut sunk = self.sunk();
        let mut known = BTreeSet::new();
        sunk.retain(|(_, id)| known.insert(*id) || !under_way.contains(id));
        let mut sorted: Vec<_> = sunk.iter().map(|(_, id)| *id).collect();
        sorted.sort_unstable();
        assert_eq!(sorted, ids, "each once");
        let mut last = BTreeMap::new();
        for (chat, id) in sunk {
            let before = last.insert(chat, id);
            assert!(before < Some(id), "chat {chat}: {id} comes after {before:?}");
        }
    }

    /// Waits until `count` looks have been answered from now on.
    fn wait_looks(&self, count: usize) {
        let looks = || self.api.calls_of("getWebhookInfo").len();
        let before = looks();
        // The first of them may be under way already.
        wait_until("it has looked", || looks() > before + count);
    }
}

/// The lines of the log of this kind, as detail and text.
fn lines(stderr: &[String], kind: &str) -> Vec<(String, String)> {
    let lines = stderr.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["kind"] == kind).map(|line| {
        assert_eq!(line["bot"], "shop");
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        (text("detail"), text("message"))
    });
    lines.collect()
}

fn has_line(process: &Process, text: &str) -> bool {
    process.stderr().iter().any(|line| line.contains(text))
}

fn incidents(process: &Process) -> Vec<(String, String)> {
    let admin = process.stderr().into_iter().find_map(|line| {
        Some(line.split_once("admin ")?.1.trim().trim_start_matches("http://").to_owned())
    });
    let mut admin = TcpStream::connect(admin.unwrap()).unwrap();
    admin.write_all(b"GET /incidents HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    admin.read_to_string(&mut answer).unwrap();
    let json: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let incidents = json["incidents"].as_array().unwrap().iter();
    let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
    incidents.map(|it| (text(it, "kind"), text(it, "detail"))).collect()
}

fn assert_no_token(ended: &Ended) {
    let secret = TOKEN.split_once(':').unwrap().1;
    assert!(!ended.stderr.join("\n").contains(secret));
}

#[test]
fn errors_and_what_waits_are_told_and_counted() {
    let mut stage = Stage::new();
    stage.configure("");
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    stage.api.push_many(3);
    wait_until("it is logged", || has_line(&process, "cannot deliver"));
    let told = lines(&process.stderr(), "webhook_failing");
    assert_eq!(told[0].0, "last_error");
    assert!(told[0].1.contains("Connection refused") && told[0].1.contains("ringhook"), "{told:?}");
    assert_eq!(told[1].0, "pending");
    assert!(told[1].1.contains("3 update(s) wait"), "{told:?}");
    let found = incidents(&process);
    assert!(found.iter().any(|(kind, _)| kind == "webhook_failing"), "{found:?}");
    // In the report of a signal as in that of the end.
    process.signal("USR1");
    wait_until("the table shows it", || has_line(&process, "shop: 3 pending, failing for"));
    let ended = process.terminate();
    assert_eq!(ended.status.code(), Some(0));
    assert_no_token(&ended);
    let report = stage.report();
    let webhook = &report["webhook"]["shop"];
    assert_eq!((&webhook["pending"], &webhook["mode"]), (&3.into(), &"webhook".into()));
    assert!(webhook["last_error"].as_str().unwrap().contains("Connection refused"));
    assert!(webhook["last_error_age_s"].is_u64() && webhook["failing_for_s"].is_u64());
    assert_eq!(stage.webhook(), stage.url(), "nothing was changed");
}

#[test]
fn it_ends_when_updates_arrive_again() {
    let mut stage = Stage::new();
    stage.configure("");
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    let ids = stage.api.push_many(3);
    wait_until("it is logged", || has_line(&process, "cannot deliver"));
    stage.way.open();
    stage.api.wait_delivered();
    wait_until("it is logged", || has_line(&process, "can deliver to the webhook again"));
    assert!(process.terminate().status.success());
    assert!(stage.report()["webhook"]["shop"]["failing_for_s"].is_null());
    stage.check_sink(&ids);
}

#[test]
fn what_changes_behind_its_back_is_noticed_and_left_alone() {
    let stage = Stage::new();
    stage.configure("");
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.api.set_webhook_behind_back("https://other.example/a-secret-path");
    wait_until("it is logged", || has_line(&process, "at another URL"));
    stage.wait_looks(3);
    stage.api.remove_webhook_behind_back();
    wait_until("it is logged", || has_line(&process, "no webhook is set"));
    stage.wait_looks(3);
    assert_eq!(stage.webhook(), "");
    stage.set();
    wait_until("it is logged", || has_line(&process, "as the config has it again"));
    let ended = process.terminate();
    assert_no_token(&ended);
    let told = lines(&ended.stderr, "webhook_changed");
    let details: Vec<_> = told.iter().map(|(detail, _)| detail.as_str()).collect();
    assert_eq!(details, ["url", "gone"]);
    assert!(told[0].1.contains("other.example:443") && !told[0].1.contains("secret-path"));
    assert!(told.iter().all(|(_, text)| text.contains("webhook.repair = true")), "{told:?}");
    assert_eq!(stage.report()["webhook"]["shop"]["repaired"], 0);
    assert_eq!(stage.api.calls_of("setWebhook").len(), 2, "the test's own");
}

#[test]
fn what_changes_behind_its_back_is_set_again_three_times_an_hour() {
    let stage = Stage::new();
    stage.configure("repair = true");
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    for host in ["a", "b"] {
        stage.api.set_webhook_behind_back(&format!("https://{host}.example/"));
        wait_until("it is set again", || stage.webhook() == stage.url());
        stage.wait_looks(1);
    }
    let certificate = stage.api.webhook().unwrap().certificate.unwrap();
    assert_eq!(certificate, stage.pki.cert.as_bytes(), "all of it");
    assert_eq!(stage.api.webhook().unwrap().secret_token, SECRET);
    // A change that comes again is on purpose.
    stage.api.set_webhook_behind_back("https://a.example/");
    wait_until("it is logged", || has_line(&process, "so it is set on purpose"));
    stage.wait_looks(3);
    assert_eq!(stage.webhook(), "https://a.example/");
    stage.api.remove_webhook_behind_back();
    wait_until("it is set again", || stage.webhook() == stage.url());
    stage.wait_looks(1);
    stage.api.remove_webhook_behind_back();
    wait_until("it is logged", || has_line(&process, "three times within an hour"));
    stage.wait_looks(3);
    assert_eq!(stage.webhook(), "");
    let found = incidents(&process);
    for kind in ["webhook_changed", "webhook_repair"] {
        assert!(found.iter().any(|(is, _)| is == kind), "{found:?}");
    }
    // It serves all the while.
    stage.set();
    let ids = stage.api.push_many(5);
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink(&ids);
    assert_eq!(stage.report()["webhook"]["shop"]["repaired"], 3);
}

#[test]
fn a_webhook_that_was_never_its_own_is_not_taken() {
    let stage = Stage::new();
    stage.configure("repair = true");
    stage.api.set_webhook_behind_back("https://other.example/");
    let process = stage.start();
    wait_until("it is logged", || has_line(&process, "it is left alone"));
    stage.wait_looks(3);
    assert_eq!(stage.webhook(), "https://other.example/");
    assert!(process.terminate().status.success());
}

#[test]
fn an_api_that_cannot_be_reached_stops_nothing() {
    for how in [Reachable::Refused, Reachable::Silent, Reachable::BadGateway] {
        let stage = Stage::new();
        stage.configure("repair = true");
        stage.set();
        stage.api.reach(how);
        let process = stage.start();
        // Whatever it calls meanwhile, it serves, reloads and stops.
        let ids = stage.api.push_many(3);
        stage.api.wait_delivered();
        if how != Reachable::Silent {
            wait_until("it is logged", || has_line(&process, "cannot be looked at"));
        }
        process.signal("HUP");
        wait_until("it has reloaded", || has_line(&process, "config reloaded"));
        let told_at = Instant::now();
        let ended = process.terminate();
        assert!(told_at.elapsed() < Duration::from_secs(5), "{how:?}");
        assert_eq!(ended.status.code(), Some(0));
        assert_no_token(&ended);
        stage.check_sink(&ids);
    }
}

#[test]
fn a_reload_is_followed() {
    let stage = Stage::new();
    stage.configure("watch = false");
    stage.set();
    let process = stage.start();
    // Looks that must not come have so long to come.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(stage.api.calls_of("getWebhookInfo").len(), 0);
    stage.configure("repair = true");
    process.signal("HUP");
    stage.wait_looks(1);
    stage.api.remove_webhook_behind_back();
    wait_until("it is set again", || stage.webhook() == stage.url());
    stage.configure("watch = false");
    process.signal("HUP");
    wait_until("it has reloaded", || {
        process.stderr().iter().filter(|line| line.contains("config reloaded")).count() >= 2
    });
    let calls = || stage.api.calls().len();
    let before = wait_still("the last look is over", Duration::from_millis(1500), calls);
    // None may come after that, either.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(stage.api.calls().len(), before);
    assert!(process.terminate().status.success());
    assert!(stage.report().get("webhook").is_none());
}

const FALLBACK: &str = "fallback = 'poll'\nfallback_after = '2s'";

#[test]
fn while_telegram_cannot_deliver_it_polls_and_each_update_comes_once() {
    for ack in ["memory", "written"] {
        let mut stage = Stage::with(FakeBotApi::builder().time_scale(20).connections(4).start());
        stage.configure(&format!("{FALLBACK}\n[journal]\nack = '{ack}'"));
        stage.set();
        let process = stage.start();
        stage.wait_looks(1);
        stage.allow(&["message", "poll"]);
        let mut ids = stage.api.push_many(200);
        stage.api.wait_delivered();
        // In the middle of the work.
        ids.extend(stage.api.push_many(2000));
        stage.way.shut();
        wait_until("it polls", || has_line(&process, "updates are fetched"));
        assert_eq!(stage.webhook(), "");
        assert!(
            stage
                .api
                .calls_of("deleteWebhook")
                .iter()
                .all(|call| { matches!(call.text("drop_pending_updates"), "" | "false") })
        );
        ids.extend(stage.api.push_many(300));
        stage.api.wait_delivered();
        wait_until("it has checked", || has_line(&process, "still polling"));
        ids.extend(stage.api.push_many(50));
        // In the middle of it again.
        stage.way.open();
        let start = Instant::now();
        while stage.webhook().is_empty() {
            assert!(start.elapsed() < PATIENCE, "still waiting until the webhook is set");
            ids.extend(stage.api.push_many(5));
            // The pace of those that come meanwhile.
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(stage.webhook(), stage.url());
        assert_eq!(stage.api.webhook().unwrap().secret_token, SECRET);
        ids.extend(stage.api.push_many(300));
        stage.api.wait_delivered();
        wait_until("it is logged", || has_line(&process, "fetched no more"));
        let ended = process.terminate();
        assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
        assert_no_token(&ended);
        stage.check_sink(&ids);
        let told = lines(&ended.stderr, "webhook_fallback");
        let details: Vec<_> = told.iter().map(|(detail, _)| detail.as_str()).collect();
        assert_eq!(details, ["poll", "ended"]);
        let report = stage.report();
        let webhook = &report["webhook"]["shop"];
        assert_eq!((&webhook["fallbacks"], &webhook["returns"]), (&1.into(), &1.into()));
        assert_eq!(webhook["mode"], "webhook");
        assert!(webhook["polled"].as_u64().unwrap() >= 300, "{webhook}");
        assert_ne!(stage.noted(), "fallback");
        // What was said of kinds by others than the config holds all the while.
        assert!(stage.api.push(r#"{"inline_query":{"id":"1"}}"#).is_none());
    }
}

#[test]
fn a_fallback_outlives_a_kill_and_a_stop() {
    let mut stage = Stage::new();
    stage.configure(FALLBACK);
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    let mut ids = stage.api.push_many(20);
    let under_way = ids.clone();
    wait_until("it polls", || has_line(&process, "updates are fetched"));
    stage.api.wait_delivered();
    assert_eq!(stage.noted(), "fallback");
    process.kill();
    ids.extend(stage.api.push_many(20));
    let process = stage.start();
    wait_until("it polls", || has_line(&process, "updates are fetched"));
    stage.api.wait_delivered();
    let told_at = Instant::now();
    assert!(process.terminate().status.success());
    assert!(told_at.elapsed() < Duration::from_secs(5), "no wait for the long poll");
    assert_eq!(stage.webhook(), "", "a stop changes nothing");
    ids.extend(stage.api.push_many(20));
    stage.way.open();
    let process = stage.start();
    wait_until("it goes back", || stage.webhook() == stage.url());
    ids.extend(stage.api.push_many(20));
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink_after_kill(&ids, &under_way);
    assert_ne!(stage.noted(), "fallback");
}

/// Also where a disk, or the reader of a pipe, keeps its poller for good.
#[test]
fn a_stop_does_not_wait_for_a_fallback_that_is_stuck_in_its_dead_letters() {
    let mut stage = Stage::new();
    stage.configure(&format!("{FALLBACK}\n[dispatch]\ndead_letters = 'letters'"));
    let letters = StuckPipe::make(&stage.pki.dir().join("letters"));
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.api.answer_next("getUpdates", 200, StuckPipe::unreadable_answer(11));
    stage.way.shut();
    stage.api.push_many(20);
    letters.wait_until_stuck();
    let ended = process.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);
}

#[test]
fn a_fallback_that_is_not_wanted_any_more_ends_at_once() {
    let mut stage = Stage::new();
    stage.configure(FALLBACK);
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    let mut ids = stage.api.push_many(20);
    wait_until("it polls", || has_line(&process, "updates are fetched"));
    stage.configure("");
    process.signal("HUP");
    wait_until("it goes back", || stage.webhook() == stage.url());
    ids.extend(stage.api.push_many(20));
    stage.way.open();
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink(&ids);
}

#[test]
fn without_the_bot_api_there_is_no_fallback() {
    let mut stage = Stage::new();
    stage.configure(FALLBACK);
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.api.reach(Reachable::Refused);
    stage.way.shut();
    let ids = stage.api.push_many(20);
    // Longer than `fallback_after`: what must not happen has the time to happen.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(stage.webhook(), stage.url());
    stage.way.open();
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink(&ids);
}

#[test]
fn a_webhook_that_another_client_sets_ends_the_fallback() {
    let mut stage = Stage::new();
    stage.configure(FALLBACK);
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    let mut ids = stage.api.push_many(20);
    wait_until("it polls", || has_line(&process, "updates are fetched"));
    stage.way.open();
    stage.set();
    wait_until("it is logged", || has_line(&process, "another client has set a webhook"));
    ids.extend(stage.api.push_many(20));
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink(&ids);
    assert_ne!(stage.noted(), "fallback");
}

#[test]
fn a_way_that_is_shut_from_the_start_is_told_of() {
    let mut stage = Stage::new();
    stage.configure(FALLBACK);
    stage.set();
    stage.way.shut();
    let process = stage.start();
    wait_until("it is logged", || has_line(&process, "would not end by itself"));
    assert!(process.terminate().status.success());
}

#[test]
fn what_a_command_does_is_on_purpose() {
    let stage = Stage::new();
    stage.configure("repair = true");
    let run = |args: &[&str]| stage.command(args);
    run(&["set"]);
    assert!(!stage.pki.dir().join("ringhook-data").exists(), "no server is there to read a note");
    let process = stage.start();
    stage.wait_looks(1);
    run(&["set", "--allowed-updates", "message"]);
    wait_until("it is logged", || has_line(&process, "allowed_updates"));
    stage.wait_looks(3);
    assert!(stage.api.push(r#"{"poll":{"id":"1"}}"#).is_none(), "it stays so");
    run(&["set", "--url", "https://localhost:8443/elsewhere"]);
    stage.wait_looks(3);
    assert_eq!(stage.webhook(), "https://localhost:8443/elsewhere");
    run(&["delete"]);
    stage.wait_looks(3);
    assert_eq!(stage.webhook(), "");
    run(&["set"]);
    wait_until("it is logged", || has_line(&process, "as the config has it again"));
    // What others do is not.
    stage.api.remove_webhook_behind_back();
    wait_until("it is set again", || has_line(&process, "the webhook was set again"));
    assert_eq!(stage.webhook(), stage.url());
    assert!(process.terminate().status.success());
    assert_eq!(stage.report()["webhook"]["shop"]["repaired"], 1);
}

#[test]
fn a_certificate_that_is_replaced_is_uploaded_again() {
    let stage = Stage::new();
    stage.configure("repair = true");
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    let next = stage.replace_certificate();
    stage.wait_uploaded(&next);
    // The Bot API knows of it before the watch has had its answer.
    wait_until("it is logged", || has_line(&process, "the webhook was set again"));
    let ids = stage.api.push_many(5);
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink(&ids);
    assert_eq!(stage.report()["webhook"]["shop"]["repaired"], 1);
}

#[test]
fn a_return_that_is_refused_is_tried_again_later() {
    let mut stage = Stage::new();
    stage.configure(FALLBACK);
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    let mut ids = stage.api.push_many(20);
    wait_until("it polls", || has_line(&process, "updates are fetched"));
    let refusal = r#"{"ok":false,"error_code":500,"description":"Internal Server Error"}"#;
    stage.api.answer_next("setWebhook", 500, refusal);
    stage.way.open();
    wait_until("it is logged", || has_line(&process, "could not be set again after a fallback"));
    assert_eq!(stage.webhook(), "");
    ids.extend(stage.api.push_many(20));
    stage.api.wait_delivered();
    wait_until("it goes back", || stage.webhook() == stage.url());
    ids.extend(stage.api.push_many(20));
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink(&ids);
}

/// The token of a second bot.
const OTHER: &str = "654321:TEST-token_of_the_other_bot_000000000000";

#[test]
fn each_bot_is_looked_at_by_itself() {
    let api = FakeBotApi::builder().token(TOKEN).token(OTHER).time_scale(20).start();
    let stage = Stage::with(api);
    stage.configure("repair = true");
    let file = stage.pki.dir().join("ringhook.toml");
    let other = format!("{}other", stage.url());
    let bots = format!(
        "[[bot]]\nname = 'news'\npath = '{PATH}other'\nsecret_token = '{SECRET}'\nurl = '{other}'\n\
         token = '{OTHER}'\n\
         [[bot]]\nname = 'none'\npath = '/none'\nsecret_token = '{SECRET}'\n"
    );
    fs::write(&file, fs::read_to_string(&file).unwrap() + &bots).unwrap();
    stage.set();
    let process = stage.start();
    assert!(has_line(&process, "looked at every 1s"));
    assert!(has_line(&process, "for 2 of 3 bots, set again where it was changed"));
    stage.wait_looks(4);
    stage.api.remove_webhook_behind_back();
    wait_until("it is set again", || stage.webhook() == stage.url());
    wait_until("it is logged", || has_line(&process, "as the config has it again"));
    assert!(stage.api.bot(OTHER).webhook().is_none(), "it was never seen to be set");
    assert!(process.terminate().status.success());
    let report = stage.report();
    let names: Vec<_> = report["webhook"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["news", "shop"]);
    assert_eq!(report["webhook"]["news"]["changed"], "gone");
    assert!(report["webhook"]["shop"]["changed"].is_null());
}

#[test]
fn a_token_that_cannot_be_used_is_told_of_at_the_start() {
    let stage = Stage::new();
    stage.configure("");
    for (token, expected) in [(None, "token_file"), (Some("nonsense"), "(hidden)")] {
        let path = stage.pki.dir().join("token");
        match token {
            None => fs::remove_file(path).unwrap(),
            Some(text) => fs::write(path, text).unwrap(),
        }
        let args = ["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"];
        let (code, _, stderr) = process::run(stage.pki.dir(), &args);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("nonsense"), "{stderr}");
    }
}

#[test]
fn a_token_that_was_revoked_stops_nothing() {
    let stage = Stage::new();
    stage.configure("");
    stage.set();
    stage.api.revoke();
    let process = stage.start();
    wait_until("it is logged", || has_line(&process, "the token is wrong or was revoked"));
    let ended = process.terminate();
    assert_eq!(ended.status.code(), Some(0));
    assert_no_token(&ended);
    assert!(stage.report()["webhook"]["shop"]["looks_failed"].as_u64().unwrap() > 0);
}

#[test]
fn what_was_on_purpose_is_not_after_the_certificate_is_replaced() {
    let stage = Stage::new();
    stage.configure("repair = true");
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.command(&["set", "--allowed-updates", "message"]);
    stage.wait_looks(3);
    assert_eq!(stage.noted(), "set");
    let next = stage.replace_certificate();
    stage.wait_uploaded(&next);
    wait_until("it is noted", || stage.noted() == "own");
    assert!(process.terminate().status.success());
    // Nor is one overlooked that is replaced meanwhile.
    let next = stage.replace_certificate();
    let process = stage.start();
    stage.wait_uploaded(&next);
    assert!(process.terminate().status.success());
}

#[test]
fn what_a_command_does_during_a_fallback_stays() {
    let mut stage = Stage::new();
    stage.configure(FALLBACK);
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    let mut ids = stage.api.push_many(20);
    wait_until("it polls", || has_line(&process, "updates are fetched"));
    stage.command(&["delete"]);
    stage.way.open();
    wait_until("it is logged", || has_line(&process, "deleted on purpose"));
    stage.wait_looks(6);
    assert_eq!((stage.webhook(), stage.noted()), (String::new(), "deleted".to_owned()));
    ids.extend(stage.api.push_many(20));
    stage.api.wait_delivered();
    stage.command(&["set", "--allowed-updates", "message"]);
    wait_until("it is logged", || has_line(&process, "another client has set a webhook"));
    stage.wait_looks(2);
    assert_eq!((stage.webhook(), stage.noted()), (stage.url(), "set".to_owned()));
    ids.extend(stage.api.push_many(20));
    stage.api.wait_delivered();
    assert!(process.terminate().status.success());
    stage.check_sink(&ids);
}

#[test]
fn another_token_ends_a_fallback_and_the_first_one_goes_on_with_it() {
    let api = FakeBotApi::builder().token(TOKEN).token(OTHER).time_scale(20).start();
    let mut stage = Stage::with(api);
    stage.configure(FALLBACK);
    stage.set();
    let process = stage.start();
    stage.wait_looks(1);
    stage.way.shut();
    stage.api.push_many(20);
    wait_until("it polls", || has_line(&process, "updates are fetched"));
    stage.api.wait_delivered();
    fs::write(stage.pki.dir().join("token"), OTHER).unwrap();
    process.signal("HUP");
    wait_until("it is logged", || has_line(&process, "of the bot before stays deleted"));
    stage.wait_looks(2);
    assert_eq!(stage.noted(), "fallback");
    let waits = stage.api.push_many(5);
    stage.wait_looks(3);
    assert!(stage.sunk().iter().all(|(_, id)| !waits.contains(id)), "no poller fetches for it");
    fs::write(stage.pki.dir().join("token"), TOKEN).unwrap();
    process.signal("HUP");
    stage.api.wait_delivered();
    stage.way.open();
    wait_until("it goes back", || stage.webhook() == stage.url());
    assert!(process.terminate().status.success());
}

#[test]
fn who_is_asked_to_wait_for_one_bot_looks_at_the_others() {
    let api = FakeBotApi::builder().token(TOKEN).token(OTHER).time_scale(20).start();
    let stage = Stage::with(api);
    stage.configure("");
    let file = stage.pki.dir().join("ringhook.toml");
    let bot = format!(
        "[[bot]]\nname = 'news'\npath = '/news'\nsecret_token = '{SECRET}'\ntoken = '{OTHER}'\n"
    );
    fs::write(&file, fs::read_to_string(&file).unwrap() + &bot).unwrap();
    stage.set();
    stage.api.flood(1, 50);
    let process = stage.start();
    stage.wait_looks(4);
    assert!(process.terminate().status.success());
}
