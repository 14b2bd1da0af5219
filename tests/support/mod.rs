//! What the integration tests share.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | servers on port 0, updates, waiting for conditions |
//! | `client`, `raw` | clients that send the bytes they are told to, one of them over any stream |
//! | `pki` | certificates made for one test |
//! | `valve` | what holds a handler back and notes what it did |
//! | `probe` | requests to the admin listener |
//! | `crowd`, `drill` | thousands of connections at once; load while servers come and go |
//! | `bot_api` | a Bot API server, with Telegram's sender |
//! | `binary` | running the program `ringhook`; only for `cli/tests/` |
//! | `external` | programs of other projects as clients |
//! | `sunk` | what a sink has got from servers that were killed |
//! | `disk`, `faulty` | small disks; a disk that fails, and whose power is cut |
//! | `stuck_pipe` | a pipe whose reader has stopped |
//! | `port`, `way` | a port for servers that come and go; a way to a server that is shut |
//! | `terminal`, `chance` | a terminal; random numbers that can be had again |
//! | `allocator` | an allocator that counts |

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub(crate) mod bot_api;
pub(crate) mod chance;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod disk;
pub(crate) mod drill;
pub(crate) mod external;
pub(crate) mod faulty;
pub(crate) mod load;
pub(crate) mod pki;
pub(crate) mod port;
pub(crate) mod probe;
pub(crate) mod raw;
pub(crate) mod stuck_pipe;
pub(crate) mod sunk;
pub(crate) mod terminal;
pub(crate) mod valve;
pub(crate) mod way;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ringhook::{
    Bot, DriverChoice, Limits, Outcome, Report, Server, ServerBuilder, TlsConfig, Update,
};

use self::{client::Client, pki::Pki};

/// The secret token of every test server's bot.
pub(crate) const SECRET: &str = "test-secret_0123456789";
/// The path of every test server's bot.
pub(crate) const PATH: &str = "/webhook";
/// How long a condition may take to come true on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; fails the test after [`PATIENCE`], saying `what` was awaited.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `look` gives `true`, for as long as it goes on: fails the test where what else it
/// gives has been the same for [`PATIENCE`], saying `what` was awaited.
#[track_caller]
pub(crate) fn wait_going_on<T: PartialEq>(what: &str, mut look: impl FnMut() -> (bool, T)) {
    let (mut is_there, mut seen) = look();
    let mut since = Instant::now();
    while !is_there {
        assert!(since.elapsed() < PATIENCE, "still waiting until {what}, and nothing goes on");
        std::thread::sleep(Duration::from_millis(1));
        let now;
        (is_there, now) = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

/// Waits until what `look` sees has been the same for as long as `quiet`, and gives it; fails the
/// test after [`PATIENCE`], saying `what` was awaited.
#[track_caller]
pub(crate) fn wait_still<T: PartialEq>(
    what: &str,
    quiet: Duration,
    mut look: impl FnMut() -> T,
) -> T {
    let start = Instant::now();
    let (mut seen, mut since) = (look(), Instant::now());
    while since.elapsed() < quiet {
        assert!(start.elapsed() < PATIENCE, "still waiting until {what}");
        std::thread::sleep(quiet / 50);
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

/// The drivers to run a test with: both, unless this machine forbids rings. `RINGHOOK_TEST_DRIVER`
/// restricts them.
pub(crate) fn drivers() -> Vec<DriverChoice> {
    if let Some(driver) = only_driver() {
        return vec![driver];
    }
    match TestServer::try_with(|server| server.driver(DriverChoice::IoUring)) {
        Ok(_) => vec![DriverChoice::IoUring, DriverChoice::Epoll],
        Err(error) => {
            eprintln!("skipped for io_uring: {error}");
            vec![DriverChoice::Epoll]
        }
    }
}

/// The driver that `RINGHOOK_TEST_DRIVER` names.
pub(crate) fn only_driver() -> Option<DriverChoice> {
    let name = std::env::var("RINGHOOK_TEST_DRIVER").ok()?;
    Some(name.parse().expect("RINGHOOK_TEST_DRIVER"))
}

/// Runs `test` with a server on each driver, made with `limits`.
pub(crate) fn on_each_driver(limits: Limits, test: impl Fn(TestServer)) {
    for driver in drivers() {
        // Shown where the test fails.
        eprintln!("driver {driver}");
        test(TestServer::with(|server| server.driver(driver).limits(limits)));
    }
}

/// A server whose handler keeps what it gets.
pub(crate) struct TestServer {
    pub(crate) handle: Server,
    pub(crate) pki: Pki,
    pub(crate) handled: Handled,
}

/// The updates that reached the handler, as JSON, in the order of their arrival.
#[derive(Clone, Default)]
pub(crate) struct Handled(Arc<Mutex<Vec<serde_json::Value>>>);

impl Handled {
    pub(crate) fn push(&self, update: &Update) {
        self.0.lock().unwrap().push(serde_json::to_value(update.root()).unwrap());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn all(&self) -> Vec<serde_json::Value> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.0.lock().unwrap().iter().map(|update| update["update_id"].as_i64().unwrap()).collect()
    }

    /// Each id and how often it came.
    pub(crate) fn counts(&self) -> BTreeMap<i64, usize> {
        let mut counts = BTreeMap::new();
        for id in self.ids() {
            *counts.entry(id).or_default() += 1;
        }
        counts
    }
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::with(|server| server)
    }

    /// A server after `change`, which may replace the handler that keeps updates.
    pub(crate) fn with(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        Self::try_with(change).expect("a test server starts")
    }

    pub(crate) fn try_with(
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Result<Self, ringhook::Error> {
        let pki = Pki::ecdsa();
        let handled = Handled::default();
        let keep = handled.clone();
        let server = Server::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .driver(only_driver().unwrap_or_default())
            .tls(TlsConfig::from_pem(pki.cert.as_bytes(), pki.key.as_bytes())?)
            .bot(Bot::new("test", PATH, SECRET)?)
            .handler(move |update: &Update| {
                keep.push(update);
                Outcome::Done
            });
        Ok(Self { handle: change(server).start()?, pki, handled })
    }

    /// A TLS connection to the server.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.handle.local_addr().unwrap(), &self.pki)
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}{PATH}", self.handle.local_addr().unwrap())
    }

    /// Waits until the handler has got `count` updates.
    #[track_caller]
    pub(crate) fn wait_handled(&self, count: usize) {
        wait_until(&format!("{count} updates are handled"), || self.handled.len() >= count);
    }

    /// Stops the server.
    pub(crate) fn stop(self) -> (Report, Handled) {
        (self.handle.stop(), self.handled)
    }
}

/// Limits with every timeout at `timeout`.
pub(crate) fn timeouts(timeout: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.handshake_timeout = timeout;
    limits.head_timeout = timeout;
    limits.body_timeout = timeout;
    limits.answer_timeout = timeout;
    limits.idle_timeout = timeout;
    limits
}

/// A small update's JSON, of one of seven chats.
pub(crate) fn update(id: i64) -> String {
    update_of(id % 7, id)
}

/// A small update's JSON, of the chat given.
pub(crate) fn update_of(chat: i64, id: i64) -> String {
    format!(
        "{{\"update_id\":{id},\n\"message\":{{\"message_id\":{id},\"date\":1700000000,\
         \"chat\":{{\"id\":{chat},\"type\":\"private\"}},\"text\":\"hello \\u0416 {id}\"}}}}"
    )
}

/// As [`update_of`], of `length` bytes.
pub(crate) fn long(chat: i64, id: i64, length: usize) -> String {
    let short = update_of(chat, id);
    short.replacen("hello", &"h".repeat(5 + length - short.len()), 1)
}

/// `body` as a request of Telegram's sender.
pub(crate) fn request(body: &str) -> Vec<u8> {
    request_to(PATH, SECRET, body)
}

/// `body` as a request of Telegram's sender to another bot than that of the test servers.
pub(crate) fn request_to(path: &str, secret: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         X-Telegram-Bot-Api-Secret-Token: {secret}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n\
         {body}",
        body.len()
    )
    .into_bytes()
}
