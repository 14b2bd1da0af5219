//! A server whose bots poll, and a client that does.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use ringhook::{Bot, Output, Report, Server, ServerBuilder, update::BotId};
use ringhook_outputs::{
    forward::BotTerms,
    getupdates::{GetUpdates, GetUpdatesSettings, GetUpdatesStatus, Place, PollListener},
};
use serde_json::Value;

use super::{PATIENCE, update, wait_until};

pub(crate) const TOKEN: &str = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
pub(crate) const OTHER_TOKEN: &str = "234567:BBbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";

/// No updates.
pub(crate) const NONE: [i64; 0] = [];

pub(crate) struct PollBench {
    pub(crate) server: Server,
    pub(crate) output: GetUpdates,
    pub(crate) address: SocketAddr,
}

/// The bots, whose Bot API is at `root`.
pub(crate) fn bots(root: &str) -> Vec<BotTerms> {
    let bot = |name: &str, id, token: &str| {
        BotTerms::new(name, BotId::new(id)).token(token).api_root(root.parse().unwrap())
    };
    vec![bot("shop", 0, TOKEN), bot("other", 1, OTHER_TOKEN)]
}

impl PollBench {
    /// Without a Bot API.
    pub(crate) fn start(settings: GetUpdatesSettings) -> Self {
        Self::with(settings.bots(bots("http://127.0.0.1:1")), |server| server)
    }

    pub(crate) fn with(
        settings: GetUpdatesSettings,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let (output, updates) = Output::stream("bot", 64);
        let server = Server::builder()
            .without_listeners()
            .bot(Bot::without_secret("shop", "/webhook"))
            .bot(Bot::without_secret("other", "/other"))
            .shards(1)
            .output(output.workers(1));
        let place = "getupdates://127.0.0.1:0".parse().unwrap();
        let listener = PollListener::bind(&place).unwrap();
        let Place::Tcp(address) = listener.local_place() else { panic!("no address") };
        let updates = GetUpdates::prepare(updates);
        let output = GetUpdates::start(updates, listener, settings).unwrap();
        Self { server: change(server).start().unwrap(), output, address }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Update `id` of `chat`.
    pub(crate) fn send(&self, chat: i64, id: i64) {
        self.deliver(&[update(chat, id)]);
    }

    pub(crate) fn deliver(&self, updates: &[String]) {
        assert_eq!(self.server.deliver("shop", updates), Ok(updates.len()));
    }

    pub(crate) fn status(&self) -> GetUpdatesStatus {
        self.output.status()
    }

    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut condition: impl FnMut(&GetUpdatesStatus) -> bool) {
        wait_until(what, || condition(&self.status()));
    }

    /// Waits until so many updates wait or are handed out.
    #[track_caller]
    pub(crate) fn wait_pending(&self, count: u64) {
        self.wait(&format!("{count} updates are pending"), |status| {
            status.consumers.iter().map(|it| it.waiting + it.unconfirmed).sum::<u64>() == count
        });
    }

    #[track_caller]
    pub(crate) fn wait_handled(&self, count: u64) {
        wait_until(&format!("{count} updates are settled"), || {
            self.server.report().updates_handled >= count
        });
    }

    /// Stops both, and gives the server's report.
    pub(crate) fn stop(self) -> Report {
        self.server.outputs().for_each(|output| self.output.drain(output.clone()));
        let report = self.server.stop();
        assert!(self.output.stop(Duration::from_secs(20)), "the output ends");
        report
    }
}

/// One connection of a client, which is kept.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    host: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The ids of the updates that it has.
    #[track_caller]
    pub(crate) fn ids(&self) -> Vec<i64> {
        let json = self.json();
        assert_eq!((self.status, &json["ok"]), (200, &Value::Bool(true)), "{json}");
        let updates = json["result"].as_array().unwrap();
        updates.iter().map(|update| update["update_id"].as_i64().unwrap()).collect()
    }

    /// Whether it is a failure with this status and description.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, description: &str) {
        let json = self.json();
        let said = json["description"].as_str().unwrap();
        assert_eq!((self.status, &json["ok"]), (status, &Value::Bool(false)), "{json}");
        assert_eq!(json["error_code"], status, "{json}");
        assert!(said.starts_with(description), "{said}");
    }
}

impl Client {
    pub(crate) fn connect(host: SocketAddr) -> Self {
        let stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream), host }
    }

    /// Calls a method of the bot by GET with a query.
    pub(crate) fn call(&mut self, method: &str, query: &str) -> Said {
        self.request("GET", &format!("/bot{TOKEN}/{method}?{query}"), "", b"")
    }

    /// The ids that getUpdates gives.
    #[track_caller]
    pub(crate) fn poll(&mut self, query: &str) -> Vec<i64> {
        self.call("getUpdates", query).ids()
    }

    /// `headers` has the line ends of each.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Said {
        self.send(method, path, headers, body);
        self.receive()
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let (host, length) = (self.host, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.write(&[head.as_bytes(), body].concat());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn receive(&mut self) -> Said {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.reader.read_line(&mut head).unwrap() > 0, "it ends within {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.expect("a length")];
        self.reader.read_exact(&mut body).unwrap();
        Said { status, head, body }
    }
}
