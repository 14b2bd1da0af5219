//! A reload adds outputs, changes them and takes them out, while updates come.

use std::{
    collections::HashSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    ops::Range,
    path::Path,
    sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    thread,
};

use serde_json::Value;

use super::forward::{FakeBotProcess, accept, get};
use crate::{
    binary::{process::Process, service::Service},
    support::{PATH, port::Port, update_of, wait_until},
};

const CHATS: i64 = 7;
const TOKEN: &str = "123456:sample-token-of-a-bot-that-does-not-exist";

/// A server whose config is written anew.
struct Reloaded {
    server: Process,
    service: Service,
    bot: String,
}

impl Reloaded {
    fn start(outputs: &str) -> Self {
        Self::with_bot(outputs, "")
    }

    /// With more keys of its bot.
    fn with_bot(outputs: &str, keys: &str) -> Self {
        let service = Service::new("", &[]);
        let bot = fs::read_to_string(service.pki.dir().join("ringhook.toml")).unwrap();
        let bot = format!("[admin]\nlisten = '127.0.0.1:0'\n{bot}{keys}");
        fs::write(service.pki.dir().join("ringhook.toml"), format!("{outputs}\n{bot}")).unwrap();
        Self { server: service.start(), service, bot }
    }

    /// What the log says of a reload with these outputs and routes.
    fn reload(&self, outputs: &str) -> String {
        let told = || {
            let lines = self.server.stderr().into_iter();
            lines.filter(|line| line.contains("config ") && line.contains("reloaded")).collect()
        };
        let before = Vec::len(&told());
        let config = self.service.pki.dir().join("ringhook.toml");
        let new = self.service.pki.dir().join("new.toml");
        fs::write(&new, format!("{outputs}\n{}", self.bot)).unwrap();
        fs::rename(new, config).unwrap();
        self.server.signal("HUP");
        wait_until("the reload is told of", || told().len() > before);
        told().pop().unwrap()
    }

    #[track_caller]
    fn change(&self, outputs: &str) {
        let said = self.reload(outputs);
        assert!(said.contains("config reloaded: changed: "), "{said}");
        assert!(said.contains("output") && !said.contains("restart"), "{said}");
    }

    fn ready(&self) -> String {
        let admin = self.server.stderr().iter().find_map(|line| {
            line.trim_start()
                .strip_prefix("admin")?
                .trim()
                .strip_prefix("http://")
                .map(str::to_owned)
        });
        get(&admin.unwrap(), "/readyz")
    }

    /// What the process has open that has `part` in its name.
    fn open_files(&self, part: &str) -> usize {
        let fds = format!("/proc/{}/fd", self.server.child.id());
        let names =
            fs::read_dir(fds).unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        names.filter(|name| name.to_string_lossy().contains(part)).count()
    }

    /// How many of its threads have this name.
    fn threads(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.server.child.id())).unwrap();
        let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
        tasks.filter_map(|task| comm(task.unwrap()).ok()).filter(|comm| comm.trim() == name).count()
    }
}

fn http(name: &str, to: impl std::fmt::Display) -> String {
    format!("[[output]]\nname = '{name}'\nto = 'http://{to}/'\n")
}

fn lines(name: &str, file: &str) -> String {
    format!("[[output]]\nname = '{name}'\nto = 'ndjson:{file}'\nmeta = false\n")
}

fn route(to: &str) -> String {
    format!("[[route]]\nto = {to}\n")
}

fn ids_in(path: &Path) -> Vec<i64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["update_id"].as_i64();
    text.lines().map(|line| id(line).unwrap()).collect()
}

/// All of `ids`, each once, in order in each chat.
#[track_caller]
fn assert_each_once_in_order(got: &[i64], ids: &Range<i64>) {
    for chat in 0..CHATS {
        let of_chat = got.iter().copied().filter(|id| id % CHATS == chat).collect::<Vec<_>>();
        let expected = ids.clone().filter(|id| id % CHATS == chat).collect::<Vec<_>>();
        assert_eq!(of_chat, expected, "chat {chat}");
    }
}

#[test]
fn an_output_is_added_with_its_route_and_taken_out_again() {
    let bot = FakeBotProcess::new(200);
    let to_bot = http("bot", bot.on_tcp());
    let it = Reloaded::start(&to_bot);
    let audit = it.service.pki.dir().join("audit");
    let mut client = it.service.connect();
    let mut post = |ids: Range<i64>| {
        ids.for_each(|id| accept(&mut client, PATH, &update_of(id % CHATS, id)));
    };
    post(0..20);
    let both = format!("{}{to_bot}{}", lines("audit", "audit"), route("['bot', 'audit']"));
    it.change(&both);
    post(20..40);
    wait_until("the new one has what has come since", || ids_in(&audit).len() == 20);
    assert_eq!(it.open_files("/audit"), 1);
    it.change(&to_bot);
    post(40..60);
    wait_until("its file is closed", || it.open_files("/audit") == 0);
    wait_until("the bot has all", || bot.ids().len() == 60);
    assert_each_once_in_order(&bot.ids(), &(0..60));
    assert_each_once_in_order(&ids_in(&audit), &(20..40));
    // Where it is the first one, it gets what no route takes.
    it.change(&format!("{}{to_bot}", lines("audit", "audit")));
    post(60..70);
    wait_until("it has it", || ids_in(&audit).len() == 30);
    // Another destination under a name that is there, behind HTTP where there was none.
    let other = FakeBotProcess::new(200);
    it.change(&format!("{}{to_bot}", http("audit", other.on_tcp())));
    post(70..80);
    wait_until("it has it", || other.ids().len() == 10);
    assert_eq!((it.open_files("/audit"), bot.ids().len()), (0, 60));
    assert_eq!(it.threads("ringhook-forwar"), 2);
    it.change(&lines("audit", "audit"));
    wait_until("no forward is left", || it.threads("ringhook-forwar") == 0);
    post(80..90);
    wait_until("it has it", || ids_in(&audit).len() == 40);
    assert!(it.server.terminate().status.success());
    let report = it.service.report();
    assert_eq!((&report["updates_handled"], &report["updates_failed"]), (&110.into(), &0.into()));
    assert_eq!(report["forwards"]["bot"]["delivered"], 60);
    assert_eq!(report["journal"]["lag_records"], 0);
}

/// Ends the load, also where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_forward_goes_elsewhere_under_load_and_loses_nothing() {
    // What both have got is one list.
    let one = FakeBotProcess::new(200);
    let other = FakeBotProcess { status: FakeBotProcess::new(200).status, ..one.clone() };
    let targets = [one.on_tcp(), other.on_tcp()];
    let it = Reloaded::start(&http("bot", targets[0]));
    let (next, is_over) = (AtomicI64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let over = Over(&is_over);
        scope.spawn(|| {
            let mut client = it.service.connect();
            while !is_over.load(SeqCst) {
                let id = next.load(SeqCst);
                accept(&mut client, PATH, &update_of(id % CHATS, id));
                next.store(id + 1, SeqCst);
            }
        });
        for round in 1..=6 {
            let until = next.load(SeqCst) + 50;
            wait_until("updates go by", || next.load(SeqCst) >= until);
            // One that is down in between hands on what it holds.
            one.status.store(if round == 3 { 503 } else { 200 }, SeqCst);
            let timeout = format!("timeout = '{}s'\n", 10 + round);
            it.change(&(http("bot", targets[round % 2]) + &timeout));
        }
        drop(over);
    });
    one.status.store(200, SeqCst);
    let all = next.load(SeqCst);
    let first_times = || {
        let mut seen = HashSet::new();
        one.ids().into_iter().filter(|id| seen.insert(*id)).collect::<Vec<_>>()
    };
    wait_until("they have all", || first_times().len() as i64 == all);
    assert_each_once_in_order(&first_times(), &(0..all));
    wait_until("one forward is left", || it.threads("ringhook-forwar") == 1);
    assert!(it.server.terminate().status.success());
    let report = it.service.report();
    assert_eq!(report["forwards"]["bot"]["delivered"], all, "of all of them");
    assert_eq!((&report["updates_handled"], &report["updates_failed"]), (&all.into(), &0.into()));
}

#[test]
fn a_bot_that_polls_goes_on_at_the_same_address_and_loses_nothing() {
    let place = Port::reserve();
    let output = |seconds: u32| {
        format!(
            "[webhook]\napi_root = 'http://127.0.0.1:1'\n[[output]]\nname = 'bot'\n\
             to = 'getupdates://{}'\nclient_timeout = '{seconds}s'\n",
            place.addr
        )
    };
    let it = Reloaded::with_bot(&output(60), &format!("token = '{TOKEN}'\n"));
    let poll = |offset: i64| {
        let mut stream = TcpStream::connect(place.addr).unwrap();
        let path = format!("/bot{TOKEN}/getUpdates?timeout=1&offset={offset}");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let answer: Value = serde_json::from_str(said.split_once("\r\n\r\n").unwrap().1).unwrap();
        let updates = answer["result"].as_array().unwrap().clone();
        updates.iter().map(|update| update["update_id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let (mut client, mut got, mut offset) = (it.service.connect(), HashSet::new(), 0);
    for round in 0..4 {
        let ids = round * 50..(round + 1) * 50;
        ids.for_each(|id| accept(&mut client, PATH, &update_of(id % CHATS, id)));
        // Some of them are handed out and not confirmed when the next one takes its place.
        let given = poll(offset);
        offset = given.last().map_or(offset, |last| last + 1);
        got.extend(given);
        it.change(&output(61 + round as u32));
    }
    while got.len() < 200 {
        let given = poll(offset);
        offset = given.last().map_or(offset, |last| last + 1);
        got.extend(given);
    }
    poll(201);
    wait_until("one output is left", || it.threads("ringhook-getupd") == 1);
    assert!(it.server.terminate().status.success());
    let report = it.service.report();
    assert_eq!((&report["updates_handled"], &report["updates_failed"]), (&200.into(), &0.into()));
}

#[test]
fn an_output_that_is_down_is_taken_out_and_gets_what_it_holds_when_it_is_back() {
    let bot = FakeBotProcess::new(200);
    let to_bot = http("bot", bot.on_tcp());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let both = format!("{to_bot}{}{}", http("gone", closed), route("['bot', 'gone']"));
    let it = Reloaded::start(&both);
    let mut client = it.service.connect();
    (0..20).for_each(|id| accept(&mut client, PATH, &update_of(id % CHATS, id)));
    wait_until("the other has all", || bot.ids().len() == 20);
    it.change(&to_bot);
    (20..40).for_each(|id| accept(&mut client, PATH, &update_of(id % CHATS, id)));
    wait_until("the other has all", || bot.ids().len() == 40);
    wait_until("what is left is told", || {
        it.ready().contains("output gone: removed, 20 update(s) left; down since ")
    });
    assert!(it.ready().starts_with("HTTP/1.1 200"));
    let back = FakeBotProcess::new(200);
    back.on(TcpListener::bind(closed).unwrap());
    wait_until("it has what was for it", || back.ids().len() == 20);
    wait_until("it has ended", || {
        !it.ready().contains("gone") && it.threads("ringhook-forwar") == 1
    });
    assert_each_once_in_order(&back.ids(), &(0..20));
    assert!(it.server.terminate().status.success());
    assert_eq!(it.service.report()["journal"]["lag_records"], 0);
}

#[test]
fn a_mistake_anywhere_leaves_all_outputs_as_they_were() {
    let bot = FakeBotProcess::new(200);
    let to_bot = http("bot", bot.on_tcp());
    let it = Reloaded::start(&(lines("audit", "audit") + &to_bot + &route("['bot', 'audit']")));
    let audit = it.service.pki.dir().join("audit");
    let elsewhere = http("bot", FakeBotProcess::new(200).on_tcp());
    let added = lines("more", "more");
    let all = "['bot', 'audit', 'more']";
    for (wrong, why) in [
        (lines("audit", "nowhere/audit") + &elsewhere + &added + &route(all), "nowhere"),
        (lines("audit", "more") + &elsewhere + &added + &route(all), "are one file"),
        (lines("audit", "audit") + &elsewhere + &route(all), "more"),
        (lines("audit", "ringhook.toml") + &elsewhere, "which is read"),
        (lines("audit", "other") + &http("bot", "x y"), "expected"),
        (
            lines("audit", "other")
                + &elsewhere
                + "[output.fields]\n'bad header' = 'message.text'\n",
            "bad header",
        ),
    ] {
        let said = it.reload(&wrong);
        assert!(said.contains("config not reloaded, the one before stays in force"), "{said}");
        assert!(said.contains(why), "{said}");
    }
    let mut client = it.service.connect();
    (0..20).for_each(|id| accept(&mut client, PATH, &update_of(id % CHATS, id)));
    wait_until("both have all", || bot.ids().len() == 20 && ids_in(&audit).len() == 20);
    assert_eq!(it.threads("ringhook-forwar"), 1);
    wait_until("nothing else is open", || it.open_files("/more") + it.open_files("/other") == 0);
    assert!(it.server.terminate().status.success());
}

#[test]
fn a_crash_right_after_a_reload_loses_nothing() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bot = FakeBotProcess::new(200);
    let address = bot.on_tcp();
    let mut it = Reloaded::start(&http("bot", closed));
    let mut client = it.service.connect();
    (0..50).for_each(|id| accept(&mut client, PATH, &update_of(id % CHATS, id)));
    it.change(&(http("bot", address) + &lines("audit", "audit") + &route("['bot', 'audit']")));
    (50..60).for_each(|id| accept(&mut client, PATH, &update_of(id % CHATS, id)));
    drop(client);
    it.server.signal("KILL");
    wait_until("it is dead", || it.server.child.try_wait().unwrap().is_some());
    it.server = it.service.start();
    let audit = it.service.pki.dir().join("audit");
    let first_times = |ids: Vec<i64>| {
        let mut seen = HashSet::new();
        ids.into_iter().filter(|id| seen.insert(*id)).collect::<Vec<_>>()
    };
    wait_until("the bot has all", || first_times(bot.ids()).len() == 60);
    assert_each_once_in_order(&first_times(bot.ids()), &(0..60));
    let has_new = || (50..60).all(|id| ids_in(&audit).contains(&id));
    wait_until("so has the other one what was led to it", has_new);
    assert!(it.server.terminate().status.success());
    assert_eq!(it.service.report()["journal"]["lag_records"], 0);
}
