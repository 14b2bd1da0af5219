//! Bots that poll, on the libraries that people use, with their own loops and no change but the API
//! root: behind `ringhook serve` under load, with ids that come out of order, they get every
//! update, each chat's in its order, also where the bot or ringhook is killed. The webhook stays.
//!
//! Where the libraries are is told as for [`frameworks`](super::frameworks).

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::frameworks::{Line, Log, installed, root};
use crate::{
    binary::service::Service,
    support::{
        drill::under_load,
        external::{Running, program, skip},
        port::Port,
        wait_going_on, wait_until,
    },
};

const UPDATES: usize = 2000;
const CHATS: usize = 50;
const TOKEN: &str = "123456:sample-token-of-a-bot-that-does-not-exist";
/// Of the sender to ringhook, each with one update under way.
const CONNECTIONS: usize = 16;

struct Poller {
    command: Command,
    /// Whether it confirms updates before it has handled them, so that a kill of it loses some.
    is_early: bool,
    /// Whether it needs numbers that only grow.
    renumber: bool,
}

/// Of chats in turn, but in each turn the ids fall.
fn sent() -> Vec<(String, String, Line)> {
    let update = |index: usize| {
        let (turn, chat) = (index / CHATS, index % CHATS);
        let id = 1000 + turn * CHATS + (CHATS - 1 - chat);
        let body = format!(
            "{{\"update_id\":{id},\"message\":{{\"message_id\":{id},\"date\":1700000000,\"chat\":\
             {{\"id\":{chat},\"type\":\"private\",\"first_name\":\"A\"}},\"from\":{{\"id\":{chat},\
             \"is_bot\":false,\"first_name\":\"A\"}},\"text\":\"hello\"}}}}",
            chat = chat + 1
        );
        let chat = (chat + 1).to_string();
        (chat.clone(), body, (id as u64, "message".to_owned(), chat))
    };
    (0..UPDATES).map(update).collect()
}

#[track_caller]
fn gets_everything(mut poller: Poller) {
    let dir = tempfile::tempdir().unwrap();
    let calls = dir.path().join("calls");
    let mut api = Command::new("python3");
    api.arg(root().join("tests/clients/frameworks/fake_bot_api.py"));
    let api = Running::start(api.args(["--port", "0", "--log"]).arg(&calls));
    api.wait_for("listening on http://127.0.0.1:");
    wait_until("the whole line is there", || api.so_far().ends_with('\n'));
    let api_root = api.so_far().split_whitespace().last().unwrap().to_owned();
    let place = Port::reserve();
    let config = format!(
        "[webhook]\napi_root = '{api_root}'\n[[output]]\nname = 'bot'\n\
         to = 'getupdates://{}'\nrenumber = {}\n",
        place.addr, poller.renumber
    );
    let service = Service::new(&config, &[]);
    let config = service.pki.dir().join("ringhook.toml");
    // The bot's section is the last one.
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}token = '{TOKEN}'\n")).unwrap();
    let mut log = Log::new(dir.path().join("log"));
    poller
        .command
        .env("BOT_TOKEN", TOKEN)
        .env("BOT_API_ROOT", format!("http://{}", place.addr))
        .env("BOT_LOG", &log.path);
    let sent = sent();
    let mut load = service.load(UPDATES as u64);
    load.own = sent.iter().map(|(chat, body, _)| (chat.clone(), body.clone())).collect();
    load.connections = CONNECTIONS;
    load.has_copies = false;
    let server = service.start();
    let bot = Running::start(&mut poller.command);
    let (outcome, (server, bot)) = under_load(&load, || {
        log.wait_handled(UPDATES / 10);
        server.kill();
        let server = service.start();
        log.wait_handled(UPDATES / 10 * 4);
        bot.signal("TERM");
        let said = bot.finish();
        assert!(said.status.success(), "{}: {}{}", said.status, said.stdout, said.stderr);
        let mut bot = Running::start(&mut poller.command);
        if !poller.is_early {
            log.wait_handled(UPDATES / 10 * 7);
            bot.signal("KILL");
            bot.finish();
            bot = Running::start(&mut poller.command);
        }
        (server, bot)
    });
    assert_eq!(outcome.acknowledged, UPDATES as u64);
    wait_going_on("all updates are handled", || {
        log.look();
        (log.ids.len() == UPDATES, log.lines.len())
    });
    bot.signal("TERM");
    let said = bot.finish();
    assert!(said.status.success(), "{}: {}{}", said.status, said.stdout, said.stderr);
    let ended = server.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
    check_handled(&sent, &log);
    let report = service.report();
    let counts = &report["getupdates"]["bot"];
    assert_eq!(counts["conflicts"], 0, "{counts:#}");
    assert_eq!(counts["failed"], 0, "{counts:#}");
    // Some libraries do not confirm their last answer when they stop.
    let left = report["journal"]["lag_records"].as_u64().unwrap();
    assert!(left <= 100, "{report:#}");
    let calls = fs::read_to_string(&calls).unwrap_or_default();
    for call in calls.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let method = call["method"].as_str().unwrap().to_ascii_lowercase();
        // ringhook itself asks for getWebhookInfo.
        assert!(!["deletewebhook", "setwebhook", "getupdates"].contains(&&*method), "{call}");
    }
}

/// Nothing is lost, and nothing of a chat comes before what came before it.
#[track_caller]
fn check_handled(sent: &[(String, String, Line)], log: &Log) {
    let known: BTreeMap<u64, &Line> = sent.iter().map(|(_, _, line)| (line.0, line)).collect();
    let lost: Vec<_> = known.keys().filter(|id| !log.ids.contains(id)).collect();
    assert!(lost.is_empty(), "{lost:?} are lost");
    let (mut newest, mut seen) = (BTreeMap::new(), std::collections::BTreeSet::new());
    let mut again = 0;
    for line in &log.lines {
        assert_eq!(known.get(&line.0), Some(&line));
        if !seen.insert(line.0) {
            // A copy that comes later is no disorder.
            again += 1;
        } else if let Some(before) = newest.insert(&line.2, line.0) {
            assert!(before < line.0, "{} comes after {before} in {}", line.0, line.2);
        }
    }
    eprintln!("{again} were handled again");
    // An answer for each end, and one that was under way.
    assert!(again <= 400, "{again} were handled again");
}

fn bots() -> PathBuf {
    root().join("tests/clients/polling")
}

fn in_python(name: &'static str, module: &str, bot: &str, is_early: bool) {
    let python = installed("python").map_or("python3".into(), |dir| dir.join("bin/python"));
    let mut probe = Command::new(&python);
    probe.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return skip(name, "not installed");
    }
    let mut command = Command::new(&python);
    command.arg(bots().join(bot));
    gets_everything(Poller { command, is_early, renumber: false });
}

fn in_node(dir: &Path, name: &'static str) {
    if program("node").is_none() {
        return skip(name, "not installed: no node");
    }
    let modules = installed(name).unwrap_or_else(|| root().join("examples").join(name));
    let modules = modules.join("node_modules");
    if !modules.join(name).is_dir() {
        return skip(name, "not installed");
    }
    // Node looks for modules beside the program.
    fs::copy(bots().join(format!("bot_{name}.mjs")), dir.join("bot.mjs")).unwrap();
    symlink(&modules, dir.join("node_modules")).unwrap();
    let mut command = Command::new("node");
    command.arg("bot.mjs").current_dir(dir);
    gets_everything(Poller { command, is_early: false, renumber: false });
}

#[test]
fn aiogram_gets_everything_by_its_own_polling() {
    in_python("aiogram", "aiogram", "bot_aiogram.py", false);
}

#[test]
fn python_telegram_bot_gets_everything_by_its_own_polling() {
    in_python("python-telegram-bot", "telegram.ext", "bot_ptb.py", true);
}

#[test]
fn pytelegrambotapi_gets_everything_by_its_own_polling() {
    in_python("pyTelegramBotAPI", "telebot", "bot_telebot.py", false);
}

#[test]
fn grammy_gets_everything_by_its_own_polling() {
    in_node(tempfile::tempdir().unwrap().path(), "grammy");
}

#[test]
fn telegraf_gets_everything_by_its_own_polling() {
    in_node(tempfile::tempdir().unwrap().path(), "telegraf");
}
