//! Bots on the frameworks that people use, as `examples/` has them, behind `ringhook serve` with a
//! journal: everything reaches them once and in the order of its chat, and what they reply reaches
//! the Bot API, also where the bot or ringhook is killed.
//!
//! `RINGHOOK_TEST_FRAMEWORKS` names a directory with a Python in `python` and the dependencies of
//! the bots for Node in `grammy` and `telegraf`, and what cargo has built of the one on teloxide in
//! `teloxide`. Without it `python3` is used, and what `npm ci` and cargo have put into `examples/`.
//! What is missing is skipped with its reason, unless `RINGHOOK_TEST_CLIENTS` lists it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    net::TcpStream,
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    binary::{process::Process, service::Service},
    support::{
        SECRET,
        drill::under_load,
        external::{Running, program, skip, succeed},
        port::Port,
        wait_going_on, wait_until,
    },
};

/// Of all 27 kinds.
const UPDATES: usize = 5000;
const CHATS: usize = 500;
const TOKEN: &str = "123456:sample-token-of-a-bot-that-does-not-exist";
/// Of the sender to ringhook, each with one update under way.
const SENDER_CONNECTIONS: usize = 16;
/// Of ringhook to the bot: so many updates are in its hands at most.
const BOT_CONNECTIONS: usize = 16;
/// How many milliseconds a handler takes at most. It differs, so that order is not kept by chance.
const WORK: &str = "10";
/// How many updates in one fail at the bot before they are handled, where that is asked for: half
/// of them at once, half after five seconds, which is longer than ringhook waits then.
const FAULTS: &str = "0.01";
const TIMEOUT: &str = "3s";

/// What a bot does for an update with a reply.
enum Calls {
    /// `sendMessage` for each `/start`, in the answer.
    InTheAnswer,
    /// The same by a call of its own.
    ByTheBot,
    /// `sendMessage` by a call of its own, and in the answer what goes with it; answers to queries.
    Both,
}

struct Framework {
    /// What it says to `/start`.
    greeting: &'static str,
    calls: Calls,
    /// Whether its answer can leave before its handler has ended, so that a kill between the two
    /// loses what the handler would still have done.
    is_early: bool,
    is_on_a_socket: bool,
    /// Kinds of which its handlers get nothing.
    unknown: &'static [&'static str],
    /// Kinds that it does not handle in the order in which they come.
    unordered: &'static [&'static str],
    command: Box<dyn Fn() -> Command>,
}

impl Framework {
    /// One that is started by no command yet.
    fn new(greeting: &'static str) -> Self {
        Self {
            greeting,
            calls: Calls::InTheAnswer,
            is_early: false,
            is_on_a_socket: false,
            unknown: &[],
            unordered: &[],
            command: Box::new(|| Command::new("false")),
        }
    }
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn example(name: &str) -> PathBuf {
    root().join("examples").join(name)
}

/// Where `name` is installed, if anything is.
pub(super) fn installed(name: &str) -> Option<PathBuf> {
    std::env::var_os("RINGHOOK_TEST_FRAMEWORKS").map(|dir| Path::new(&dir).join(name))
}

/// A bot in Python whose framework is the package `module`; `None` where that is missing.
fn in_python(
    name: &'static str,
    module: &str,
    greeting: &'static str,
    calls: Calls,
) -> Option<Framework> {
    let python = installed("python").map_or("python3".into(), |dir| dir.join("bin/python"));
    let mut probe = Command::new(&python);
    probe.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        skip(name, "not installed");
        return None;
    }
    let command = move || {
        let mut command = Command::new(&python);
        command.arg("bot.py").current_dir(example(name));
        command
    };
    let command = Box::new(command);
    Some(Framework { calls, command, ..Framework::new(greeting) })
}

/// A bot for Node, made in `dir`; `None` where Node or the framework is missing.
fn in_node(dir: &Path, name: &str, greeting: &'static str, calls: Calls) -> Option<Framework> {
    program("node").or_else(|| {
        skip(name, "not installed: no node");
        None
    })?;
    let modules = installed(name).unwrap_or_else(|| example(name)).join("node_modules");
    if !modules.join(name).is_dir() {
        skip(name, "not installed");
        return None;
    }
    // Node looks for modules beside the program.
    fs::copy(example(name).join("bot.mjs"), dir.join("bot.mjs")).unwrap();
    symlink(&modules, dir.join("node_modules")).unwrap();
    let dir = dir.to_owned();
    let command = move || {
        let mut command = Command::new("node");
        command.arg("bot.mjs").current_dir(&dir);
        command
    };
    let command = Box::new(command);
    let framework = Framework::new(greeting);
    Some(Framework { calls, is_early: true, is_on_a_socket: true, command, ..framework })
}

/// A line of what a bot has handled, or of what was sent: an update's id, kind and chat.
pub(super) type Line = (u64, String, String);

fn line(text: &str) -> Line {
    let words: Vec<_> = text.split(' ').collect();
    let [id, kind, chat] = words[..] else { panic!("expected three words: {text:?}") };
    (id.parse().unwrap(), kind.to_owned(), chat.to_owned())
}

/// What a bot has handled, read as it grows.
pub(super) struct Log {
    pub(super) path: PathBuf,
    read: u64,
    rest: String,
    pub(super) lines: Vec<Line>,
    pub(super) ids: BTreeSet<u64>,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        File::create(&path).unwrap();
        Self { path, read: 0, rest: String::new(), lines: Vec::new(), ids: BTreeSet::new() }
    }

    pub(super) fn look(&mut self) {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        self.read += file.read_to_string(&mut self.rest).unwrap() as u64;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        for text in self.rest[..whole].lines() {
            let line = line(text);
            self.ids.insert(line.0);
            self.lines.push(line);
        }
        self.rest.drain(..whole);
    }

    /// Waits until so many updates are handled, for as long as it goes on.
    #[track_caller]
    pub(super) fn wait_handled(&mut self, count: usize) {
        wait_going_on(&format!("{count} updates are handled"), || {
            self.look();
            (self.ids.len() >= count, self.lines.len())
        });
    }
}

/// A bot with a Bot API and a ringhook of its own.
struct Setting<'a> {
    framework: &'a Framework,
    /// Whether the bot fails now and then.
    has_faults: bool,
    service: Service,
    where_it_listens: Listens,
    api_root: String,
    calls: PathBuf,
    log: Log,
    sent: Vec<Line>,
    _api: Running,
}

enum Listens {
    At(Port),
    On(PathBuf),
}

impl<'a> Setting<'a> {
    fn new(dir: &Path, framework: &'a Framework, has_faults: bool) -> Option<Self> {
        let mut python = program("python3")?;
        let harness = root().join("tests/clients/frameworks");
        let calls = dir.join("calls");
        let mut api = Command::new("python3");
        api.arg(harness.join("fake_bot_api.py")).args(["--port", "0", "--log"]).arg(&calls);
        let api = Running::start(&mut api);
        api.wait_for("listening on http://127.0.0.1:");
        wait_until("the whole line is there", || api.so_far().ends_with('\n'));
        let api_root = api.so_far().split_whitespace().last().unwrap().to_owned();

        let (count, chats) = (UPDATES.to_string(), CHATS.to_string());
        python.arg(harness.join("updates.py")).args(["--count", &count, "--chats", &chats]);
        python.args(["--updates", "updates", "--sent", "sent"]).current_dir(dir);
        succeed(&mut python);
        let sent = fs::read_to_string(dir.join("sent")).unwrap().lines().map(line).collect();

        let where_it_listens = match framework.is_on_a_socket {
            true => Listens::On(dir.join("bot.sock")),
            false => Listens::At(Port::reserve()),
        };
        let to = match &where_it_listens {
            Listens::At(port) => format!("http://{}/webhook", port.addr),
            Listens::On(socket) => format!("http+unix:{}:/webhook", socket.display()),
        };
        let timeout = if has_faults { format!("timeout = '{TIMEOUT}'\n") } else { String::new() };
        let config = format!(
            "[webhook]\napi_root = '{api_root}'\n\
             [[output]]\nname = 'bot'\nto = '{to}'\nconnections = {BOT_CONNECTIONS}\n{timeout}"
        );
        let service = Service::new(&config, &[]);
        let config = service.pki.dir().join("ringhook.toml");
        // The bot's section is the last one.
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}token = '{TOKEN}'\n")).unwrap();
        let log = Log::new(dir.join("log"));
        Some(Self {
            framework,
            has_faults,
            service,
            where_it_listens,
            api_root,
            calls,
            log,
            sent,
            _api: api,
        })
    }

    /// Starts the bot and waits until it listens.
    #[track_caller]
    fn start_bot(&self) -> Running {
        let mut command = (self.framework.command)();
        command
            .env("BOT_TOKEN", TOKEN)
            .env("BOT_SECRET", SECRET)
            .env("BOT_API_ROOT", &self.api_root)
            .env("BOT_LOG", &self.log.path)
            .env("BOT_WORK", WORK)
            .env("BOT_FAULTS", if self.has_faults { FAULTS } else { "0" });
        match &self.where_it_listens {
            Listens::At(port) => command.env("BOT_PORT", port.addr.port().to_string()),
            Listens::On(socket) => command.env("BOT_SOCKET", socket),
        };
        let mut bot = Running::start(&mut command);
        wait_until("the bot listens", || {
            assert!(!bot.has_ended(), "the bot has ended: {}", bot.so_far());
            match &self.where_it_listens {
                Listens::At(port) => TcpStream::connect(port.addr).is_ok(),
                Listens::On(socket) => UnixStream::connect(socket).is_ok(),
            }
        });
        bot
    }

    /// Sends all updates while `disturb` has its way with the bot and ringhook, and until the bot
    /// has handled all.
    fn run(
        &mut self,
        disturb: impl FnOnce(&mut Self, Process, Running) -> (Process, Running),
    ) -> (Value, Running) {
        let (bot, server) = (self.start_bot(), self.service.start());
        let mut load = self.service.load(UPDATES as u64);
        let texts = fs::read_to_string(self.log.path.with_file_name("updates")).unwrap();
        let chats = self.sent.iter().map(|line| line.2.clone());
        load.own = chats.zip(texts.lines().map(str::to_owned)).collect();
        assert_eq!(load.own.len(), UPDATES);
        load.connections = SENDER_CONNECTIONS;
        load.has_copies = false;
        let (sent, (server, bot)) = under_load(&load, || disturb(self, server, bot));
        assert_eq!(sent.acknowledged, UPDATES as u64);
        wait_going_on("all updates are handled", || {
            self.log.look();
            (self.missing().is_empty(), self.log.lines.len())
        });
        let ended = server.terminate();
        assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
        self.log.look();
        (self.service.report(), bot)
    }

    /// Nothing is lost, and nothing of a chat overtakes what came before it. Gives the updates that
    /// were handled more than once, and how many lines there were before the first time and the
    /// second.
    #[track_caller]
    fn check_handled(&self) -> BTreeMap<u64, (usize, usize)> {
        let sent: BTreeMap<u64, &Line> = self.sent.iter().map(|line| (line.0, line)).collect();
        let kinds: BTreeSet<_> = self.sent.iter().map(|line| &line.1).collect();
        assert_eq!((sent.len(), kinds.len()), (UPDATES, 27));
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut seen, mut copies) = (BTreeMap::new(), BTreeMap::new());
        for (number, line) in self.log.lines.iter().enumerate() {
            assert_eq!(sent.get(&line.0), Some(&line), "a bot has it otherwise than it was sent");
            // The first time counts: a copy that comes later is no disorder.
            if let Some(first) = seen.get(&line.0) {
                copies.entry(line.0).or_insert((*first, number));
                continue;
            }
            seen.insert(line.0, number);
            if self.framework.unordered.contains(&&*line.1) {
                continue;
            }
            if let Some(before) = newest.insert(&line.2, line.0) {
                assert!(before < line.0, "{} comes after {before} in {}", line.0, line.2);
            }
        }
        let lost = self.missing();
        assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
        copies
    }

    /// What was not handled. Where the framework answers before the handler has ended, a message
    /// whose reply has come to the Bot API is not among it: what is missing then is the rest of the
    /// handler, which a kill has ended.
    fn missing(&self) -> Vec<u64> {
        let is_missing = |line: &&Line| {
            !self.log.ids.contains(&line.0) && !self.framework.unknown.contains(&&*line.1)
        };
        let missing: Vec<_> = self.sent.iter().filter(is_missing).collect();
        // It is about what is in the bot's hands.
        let is_early = self.framework.is_early && missing.len() <= BOT_CONNECTIONS;
        let (wanted, made) = match is_early && !missing.is_empty() {
            true => (self.wanted_calls(), self.calls_made()),
            false => Default::default(),
        };
        let is_replied = |line: &Line| {
            let calls = self.calls_for(line);
            !calls.is_empty() && calls.iter().all(|call| made.get(call) >= wanted.get(call))
        };
        let missing = missing.into_iter().filter(|line| !is_early || !is_replied(line));
        missing.map(|line| line.0).collect()
    }

    /// The calls of the Bot API that an update leads to.
    fn calls_for(&self, (id, kind, chat): &Line) -> Vec<Call> {
        let Framework { greeting, calls, .. } = self.framework;
        let call = |method: &str, about: &str, what: &str| {
            (method.to_owned(), about.to_owned(), what.to_owned())
        };
        let is_both = matches!(calls, Calls::Both);
        match &**kind {
            "message" if is_both => {
                vec![call("sendMessage", chat, greeting), call("sendChatAction", chat, "typing")]
            }
            "message" => vec![call("sendMessage", chat, greeting)],
            // The ids of the queries are those of the samples.
            "callback_query" if is_both => {
                vec![call("answerCallbackQuery", &format!("5302428732{id}"), greeting)]
            }
            "inline_query" if is_both => {
                vec![call("answerInlineQuery", &format!("5302428731{id}"), "[]")]
            }
            _ => Vec::new(),
        }
    }

    fn wanted_calls(&self) -> BTreeMap<Call, usize> {
        count(self.sent.iter().flat_map(|line| self.calls_for(line)))
    }

    /// The calls that have come to the Bot API, each with the bot's token.
    #[track_caller]
    fn calls_made(&self) -> BTreeMap<Call, usize> {
        let text = fs::read_to_string(&self.calls).unwrap_or_default();
        // The last line may be half there.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        count(whole.lines().filter_map(|line| {
            let call: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&call["token"], &call["fault"]), (&TOKEN.into(), &Value::Null), "{call}");
            // Names of methods are case-insensitive: teloxide writes SendMessage.
            let mut method = call["method"].as_str().unwrap().to_owned();
            method[..1].make_ascii_lowercase();
            let value = |names: &[&str]| {
                let value = names.iter().find_map(|name| call["values"][name].as_str());
                value.unwrap_or_default().to_owned()
            };
            let is_reply = method.starts_with("send") || method.starts_with("answer");
            is_reply.then(|| {
                let about = value(&["chat_id", "callback_query_id", "inline_query_id"]);
                (method, about, value(&["text", "action", "results"]))
            })
        }))
    }
}

/// Method, what it is about, and what it says.
type Call = (String, String, String);

fn count(calls: impl Iterator<Item = Call>) -> BTreeMap<Call, usize> {
    let mut counts = BTreeMap::new();
    calls.for_each(|call| *counts.entry(call).or_default() += 1);
    counts
}

/// The same calls, however often each.
#[track_caller]
fn assert_same_calls(wanted: &BTreeMap<Call, usize>, made: &BTreeMap<Call, usize>) {
    let missing: Vec<_> = wanted.keys().filter(|call| !made.contains_key(*call)).collect();
    let strange: Vec<_> = made.keys().filter(|call| !wanted.contains_key(*call)).collect();
    assert!(missing.is_empty() && strange.is_empty(), "missing {missing:?}, strange {strange:?}");
}

/// Where nothing is killed, all is once.
#[track_caller]
fn everything_comes_once(framework: &Framework) {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut setting) = Setting::new(dir.path(), framework, false) else { return };
    let (report, _bot) = setting.run(|_, server, bot| (server, bot));
    let copies = setting.check_handled();
    assert!(copies.is_empty(), "{copies:?} were handled again");
    let (wanted, made) = (setting.wanted_calls(), setting.calls_made());
    assert_same_calls(&wanted, &made);
    let more: Vec<_> = made.iter().filter(|(call, count)| wanted[*call] != **count).collect();
    assert!(more.is_empty(), "{more:?} are not so many");
    let forward = &report["forwards"]["bot"];
    let of = |kinds: &[&str]| {
        setting.sent.iter().filter(|(_, kind, _)| kinds.contains(&&**kind)).count()
    };
    let relayed = match framework.calls {
        Calls::InTheAnswer => of(&["message"]),
        Calls::ByTheBot => 0,
        Calls::Both => of(&["message", "callback_query", "inline_query"]),
    };
    assert_eq!(forward["delivered"], UPDATES, "{report:#}");
    assert_eq!(forward["retried"], 0, "{report:#}");
    assert_eq!(forward["replies"]["relayed"], relayed, "{report:#}");
    assert_eq!(report["updates_handled"], UPDATES, "{report:#}");
    assert_eq!(report["journal"]["lag_records"], 0, "{report:#}");
}

/// ringhook is killed, and the bot is stopped and killed, and answers 500 or not at all now and
/// then: nothing is lost, and what comes again was in the bot's hands.
#[track_caller]
fn kills_lose_nothing(framework: &Framework) {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut setting) = Setting::new(dir.path(), framework, true) else { return };
    let mut ends = Vec::new();
    let (report, _bot) = setting.run(|setting, server, bot| {
        setting.log.wait_handled(UPDATES / 20);
        server.kill();
        setting.log.look();
        ends.push(setting.log.lines.len());
        let server = setting.service.start();
        let mut bot = bot;
        for (signal, tenths) in [("TERM", 3), ("KILL", 6)] {
            setting.log.wait_handled(UPDATES / 10 * tenths);
            bot.signal(signal);
            let said = bot.finish();
            assert!(signal == "KILL" || said.status.success(), "{}: {}", said.status, said.stderr);
            setting.log.look();
            ends.push(setting.log.lines.len());
            bot = setting.start_bot();
        }
        (server, bot)
    });
    let copies = setting.check_handled();
    eprintln!("handled before each end {ends:?}, handled again {copies:?}");
    // Those that it had, once for each end; and whose replies were on their way.
    let most = (ends.len() + 1) * BOT_CONNECTIONS;
    assert!(copies.len() <= most, "{copies:?} were handled again");
    assert!(copies.values().all(|(_, second)| *second >= ends[0]), "{copies:?} before any end");
    let (wanted, made) = (setting.wanted_calls(), setting.calls_made());
    assert_same_calls(&wanted, &made);
    let fewer: Vec<_> = wanted.iter().filter(|(call, count)| made[*call] < **count).collect();
    assert!(fewer.is_empty(), "{fewer:?} were made less often");
    assert_eq!(report["journal"]["lag_records"], 0, "{report:#}");
    assert_eq!(report["updates_failed"], 0, "{report:#}");
    let failed = &report["forwards"]["bot"]["failed"];
    let is_there = |class: &str| failed[class].as_u64().unwrap() > 0;
    assert!(is_there("status_5xx") && is_there("timeout"), "the bot has not failed: {report:#}");
}

fn aiogram() -> Option<Framework> {
    in_python("aiogram", "aiogram", "Hello from aiogram", Calls::InTheAnswer)
}

#[test]
fn aiogram_gets_everything_once_and_its_replies_arrive() {
    aiogram().iter().for_each(everything_comes_once);
}

#[test]
fn aiogram_loses_nothing_where_it_is_stopped_or_killed_or_ringhook_is() {
    aiogram().iter().for_each(kills_lose_nothing);
}

#[test]
fn python_telegram_bot_gets_everything_once_and_its_calls_arrive() {
    let greeting = "Hello from python-telegram-bot";
    let bot = in_python("python-telegram-bot", "telegram.ext, tornado", greeting, Calls::ByTheBot);
    bot.iter().for_each(everything_comes_once);
}

#[test]
fn grammy_gets_everything_once_and_its_replies_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let bot = in_node(dir.path(), "grammy", "Hello from grammY", Calls::InTheAnswer);
    bot.iter().for_each(everything_comes_once);
}

#[test]
fn grammy_loses_nothing_where_it_is_stopped_or_killed_or_ringhook_is() {
    let dir = tempfile::tempdir().unwrap();
    let bot = in_node(dir.path(), "grammy", "Hello from grammY", Calls::InTheAnswer);
    bot.iter().for_each(kills_lose_nothing);
}

#[test]
fn telegraf_gets_everything_once_and_its_replies_and_calls_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let bot = in_node(dir.path(), "telegraf", "Hello from Telegraf", Calls::Both);
    bot.iter().for_each(everything_comes_once);
}

#[test]
fn a_bot_in_go_gets_everything_once_and_its_replies_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut go) = program("go") else { return };
    let built = dir.path().join("bot");
    go.args(["build", "-buildvcs=false", "-o"]).arg(&built).arg(".").current_dir(example("go"));
    // With what is there: it needs nothing else.
    succeed(go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly"));
    let command = Box::new(move || Command::new(&built));
    everything_comes_once(&Framework { command, ..Framework::new("Hello from Go") });
}

#[test]
fn teloxide_gets_everything_once_and_its_calls_arrive() {
    let built = installed("teloxide").unwrap_or_else(|| example("teloxide").join("target"));
    let built = built.join("debug/ringhook-example-teloxide");
    if !built.is_file() {
        return skip("teloxide", "not built");
    }
    everything_comes_once(&Framework {
        calls: Calls::ByTheBot,
        // An update is in a queue of its own then.
        is_early: true,
        // It reads `message_ids` of deleted messages as objects, which Telegram does not send.
        unknown: &[
            "deleted_business_messages",
            "guest_message",
            "managed_bot",
            "stopped_message_generation",
            "subscription",
        ],
        // It handles those without a chat beside each other.
        unordered: &[
            "business_connection",
            "chosen_inline_result",
            "inline_query",
            "poll",
            "poll_answer",
            "pre_checkout_query",
            "purchased_paid_media",
            "shipping_query",
        ],
        command: Box::new(move || Command::new(&built)),
        ..Framework::new("Hello from teloxide")
    });
}
