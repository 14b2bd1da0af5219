//! A bot behind HTTP: what it gets, and what `serve` tells of it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::{
    binary::{process::run, service::Service},
    support::{PATH, SECRET, client::Client, request_to, update_of, wait_until},
};

/// What a bot has got: the head and the body of a request.
pub(super) type Got = Arc<Mutex<Vec<(String, String)>>>;

/// A bot that answers with a status that can be changed.
#[derive(Clone)]
pub(super) struct FakeBotProcess {
    pub(super) got: Got,
    pub(super) status: Arc<AtomicU16>,
}

impl FakeBotProcess {
    pub(super) fn new(status: u16) -> Self {
        Self { got: Arc::default(), status: Arc::new(AtomicU16::new(status)) }
    }

    /// Serves on a port of its own, with connections that stay open.
    pub(super) fn on_tcp(&self) -> SocketAddr {
        self.on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(super) fn on(&self, listener: TcpListener) -> SocketAddr {
        let address = listener.local_addr().unwrap();
        let bot = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (bot, stream) = (bot.clone(), stream.unwrap());
                thread::spawn(move || bot.serve(BufReader::new(stream), TcpStream::try_clone));
            }
        });
        address
    }

    fn on_unix(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        let bot = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (bot, stream) = (bot.clone(), stream.unwrap());
                thread::spawn(move || {
                    bot.serve(BufReader::new(stream), std::os::unix::net::UnixStream::try_clone)
                });
            }
        });
    }

    fn serve<S: std::io::Read + std::io::Write>(
        &self,
        mut stream: BufReader<S>,
        clone: impl Fn(&S) -> std::io::Result<S>,
    ) {
        let mut answers = clone(stream.get_ref()).unwrap();
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let length = header(&head, "content-length").unwrap().parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let status = self.status.load(Ordering::SeqCst);
            self.got.lock().unwrap().push((head, String::from_utf8(body).unwrap()));
            let answer = format!("HTTP/1.1 {status} Some\r\nContent-Length: 0\r\n\r\n");
            if answers.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        let id = |body: &String| {
            serde_json::from_str::<Value>(body).unwrap()["update_id"].as_i64().unwrap()
        };
        self.got.lock().unwrap().iter().map(|(_, body)| id(body)).collect()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

#[track_caller]
pub(super) fn accept(client: &mut Client, path: &str, body: &str) {
    client.send(&request_to(path, SECRET, body));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_bot_gets_what_telegram_sent_byte_for_byte_over_tcp_and_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    for unix in [false, true] {
        let bot = FakeBotProcess::new(200);
        let to = match unix {
            false => format!("http://{}/hook", bot.on_tcp()),
            true => {
                let socket = dir.path().join("bot.sock");
                bot.on_unix(&socket);
                format!("http+unix:{}:/hook", socket.display())
            }
        };
        let service = Service::new("", &["--output", &to]);
        let server = service.start();
        let mut client = service.connect();
        let bodies: Vec<_> = (1..=20).map(|id| update_of(id % 3, id)).collect();
        bodies.iter().for_each(|body| accept(&mut client, PATH, body));
        wait_until("the bot has all", || bot.got.lock().unwrap().len() == 20);
        assert!(server.terminate().status.success());
        let got = bot.got.lock().unwrap().clone();
        for (head, body) in &got {
            assert!(bodies.contains(body), "{body}");
            assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
            assert_eq!(header(head, "content-type"), Some("application/json"));
            assert_eq!(header(head, "x-telegram-bot-api-secret-token"), Some(SECRET));
        }
        for chat in 0..3 {
            let ids: Vec<_> = bot.ids().into_iter().filter(|id| id % 3 == chat).collect();
            assert!(ids.is_sorted(), "{ids:?}");
        }
    }
}

#[test]
fn a_target_with_another_secret_holds_updates_and_a_reload_that_mends_it_delivers_them() {
    let bot = FakeBotProcess::new(401);
    let address = bot.on_tcp();
    let config = format!(
        "[admin]\nlisten = '127.0.0.1:0'\n[dispatch]\nmax_attempts = 2\n\
         [[output]]\nname = 'bot'\nto = 'http://{address}/'\n"
    );
    let service = Service::new(&config, &[]);
    let server = service.start();
    let mut client = service.connect();
    (1..=10).for_each(|id| accept(&mut client, PATH, &update_of(id, id)));
    let says = |what: &str| server.stderr().iter().any(|line| line.contains(what));
    wait_until("it is told", || says("output bot: down since "));
    assert!(says("answers 401: its URL or its secret token is wrong; "));
    let admin = server.stderr().iter().find_map(|line| {
        line.trim_start().strip_prefix("admin")?.trim().strip_prefix("http://").map(str::to_owned)
    });
    let ready = get(&admin.unwrap(), "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains("degraded: output bot: down since "), "{ready}");
    assert!(ready.contains("10 update(s) wait, the oldest for "), "{ready}");
    // A mistake in what only the forward asks for changes nothing.
    let at = service.pki.dir().join("ringhook.toml");
    let config = fs::read_to_string(&at).unwrap();
    let other = "[[bot]]\nname = 'other'\npath = '/other'\nauth = 'none'\ntoken_file = 'nowhere'\n";
    fs::write(&at, format!("{config}{other}")).unwrap();
    server.signal("HUP");
    wait_until("the mistake is told", || {
        says("config not reloaded, the one before stays in force")
    });
    client.send(&request_to("/other", SECRET, &update_of(1, 100)));
    assert_eq!(client.response().status, 404);
    fs::write(&at, config).unwrap();
    // The bot has the same secret from now on: it is tried again at the latest by a reload.
    bot.got.lock().unwrap().clear();
    bot.status.store(200, Ordering::SeqCst);
    server.signal("HUP");
    wait_until("the bot has all", || {
        let mut ids = bot.ids();
        ids.sort_unstable();
        ids == (1..=10).collect::<Vec<_>>()
    });
    assert!(server.terminate().status.success());
    let report = service.report();
    assert_eq!((&report["updates_failed"], &report["updates_handled"]), (&0.into(), &10.into()));
    assert_eq!(report["forwards"]["bot"]["delivered"], 10);
}

/// The whole answer to a GET over plain HTTP.
pub(super) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn routes_and_fields_lead_to_several_outputs_and_one_that_is_down_holds_up_no_other() {
    let bot = FakeBotProcess::new(200);
    let address = bot.on_tcp();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "[[output]]\nname = 'bot'\nto = 'http://{address}/'\n\
         [output.fields]\nX-Chat = 'message.chat.id'\nX-Text = 'message.text'\n\
         [[output]]\nname = 'audit'\nto = 'ndjson:audit'\nmeta = true\n\
         [[output]]\nname = 'gone'\nto = 'http://{closed}/'\n\
         [[route]]\nchat = [1]\nto = ['bot', 'audit', 'gone']\n\
         [[route]]\nchat = [2]\nto = 'drop'\n\
         [[route]]\nto = 'audit'\n"
    );
    let service = Service::new(&config, &["--drain-timeout", "5s"]);
    let server = service.start();
    let mut client = service.connect();
    for id in 1..=30 {
        accept(&mut client, PATH, &update_of(id % 4, id));
    }
    let audited = || {
        let text = fs::read_to_string(service.pki.dir().join("audit")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["update_id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let of = |chats: &'static [i64]| (1..=30).filter(move |id| chats.contains(&(id % 4)));
    wait_until("the bot has its chat", || bot.ids() == of(&[1]).collect::<Vec<_>>());
    wait_until("the audit has all but what is dropped", || {
        let mut ids = audited();
        ids.sort_unstable();
        ids == of(&[0, 1, 3]).collect::<Vec<_>>()
    });
    for (head, _) in &*bot.got.lock().unwrap() {
        assert_eq!(header(head, "x-chat"), Some("1"));
        assert!(header(head, "x-text").unwrap().starts_with("hello "), "{head}");
    }
    assert!(server.terminate().status.success());
    let report = service.report();
    let outputs: BTreeMap<_, _> = report["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| (output["name"].as_str().unwrap(), output["handled"].as_u64().unwrap()))
        .collect();
    assert_eq!(outputs, BTreeMap::from([("audit", 22), ("bot", 8), ("gone", 0)]));
    assert_eq!(report["updates_dropped"], 8);
    assert_eq!(report["journal"]["lag_records"], 8, "what the one that is down has not got");

    // What is left of the last run goes to the one that has not got it, and to no other.
    let late = FakeBotProcess::new(200);
    let to = late.on_tcp();
    let config = service.pki.dir().join("ringhook.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&closed.to_string(), &to.to_string())).unwrap();
    let server = service.start();
    wait_until("it has what was left", || late.ids() == of(&[1]).collect::<Vec<_>>());
    assert!(server.terminate().status.success());
    assert_eq!(service.report()["journal"]["lag_records"], 0);
    assert_eq!((bot.ids().len(), audited().len()), (8, 22), "nothing came again");
}

/// A URL may have a password or a bot's token in it, whatever else is wrong with it.
#[test]
fn a_destination_that_is_none_is_refused_without_what_is_secret_in_it() {
    let dir = tempfile::tempdir().unwrap();
    for to in [
        "redis://:hunter2@127.0.0.1/0",
        "http://shop:hunter2@127.0.0.1:3000/",
        "https://shop:hunter2@bot.example.com:99999/123456:hunter2hunter2hunter2hunter2hunter2abc",
        "kafka:123456:hunter2hunter2hunter2hunter2hunter2abc",
    ] {
        for command in [&["serve"][..], &["journal", "replay", "--data-dir", "."]] {
            let (code, _, stderr) = run(dir.path(), &[command, &["--output", to]].concat());
            assert_eq!((code, stderr.lines().count()), (2, 1), "{to}: {stderr}");
            assert!(!stderr.contains("hunter2"), "{stderr}");
        }
    }
}
