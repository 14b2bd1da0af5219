//! A Bot API server for tests: it answers the methods that have to do with webhooks and getUpdates
//! as the public source of telegram-bot-api does, and delivers what it has to the webhook as
//! Telegram's sender does, over real TLS.
//!
//! What it knows and a reader of the documentation may not:
//! - A setWebhook that is refused for its URL or its token has already deleted the webhook before
//!   it, and has dropped the pending updates where that was asked for.
//! - A setWebhook that changes nothing answers `Webhook is already set` and leaves the last error.
//! - allowed_updates that are not given stay as they were, also where getUpdates or deleteWebhook
//!   came between.
//! - Kinds that are not allowed are never stored, so allowing them later does not bring them.
//! - An update is forgotten by a 2xx of the webhook, by a later getUpdates with a higher offset, or
//!   by age; age counts from [`FakeBot::push`]. So what is under way while the webhook is deleted
//!   comes again by getUpdates, even if the receiver has just taken it.
//! - An offset that lies more than ten beyond the last update is taken for none.
//! - For an address in the URL, a certificate has to have the address as common name or as a name
//!   of type DNS; one of type IP is none. So [`Pki::ecdsa`](super::pki::Pki::ecdsa) is one for
//!   `https://localhost:PORT`, not for `https://127.0.0.1:PORT`.
//!
//! Names without an address by [`Builder::name`] lead to 127.0.0.1 (those under
//! `.invalid` are unknown); [`FakeBot::route`] leads all deliveries to one address, as NAT does.

mod answer;
pub(crate) mod bot;
pub(crate) mod calls;
pub(crate) mod delivery;
pub(crate) mod door;
mod http;
mod kinds;
mod methods;
mod queue;
mod trust;
mod url;
mod wire;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use self::{
    bot::FakeBot,
    calls::Call,
    door::{Door, Reachable},
    methods::Service,
};

/// The token that is accepted where a test names none.
pub(crate) const TOKEN: &str = "123456:TEST-token_of_the_fake_server_0000000";

/// A running server, gone with this. The methods of [`FakeBot`] can be called on it: they are about
/// the bot of the first token.
pub(crate) struct FakeBotApi {
    service: Arc<Service>,
    door: Door,
    senders: Vec<JoinHandle<()>>,
}

/// What a server is like.
pub(crate) struct Builder {
    tokens: Vec<String>,
    connections: usize,
    rules: Rules,
}

/// What holds for all bots of a server.
#[derive(Clone)]
struct Rules {
    is_local: bool,
    is_loopback_permitted: bool,
    /// What the sender's delays are divided by.
    time_scale: u32,
    read_timeout: Option<Duration>,
    /// How much time has to lie between two calls of setWebhook.
    pause: Duration,
    names: BTreeMap<String, IpAddr>,
    /// Certificates in PEM that sign for webhooks whose own was not uploaded.
    roots: Vec<String>,
}

impl FakeBotApi {
    /// A server for [`TOKEN`] whose sender is ten times as fast as Telegram's.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    pub(crate) fn builder() -> Builder {
        let rules = Rules {
            is_local: false,
            is_loopback_permitted: true,
            time_scale: 10,
            read_timeout: None,
            pause: Duration::from_secs(1),
            names: BTreeMap::new(),
            roots: Vec::new(),
        };
        Builder { tokens: Vec::new(), connections: 1, rules }
    }

    /// The API root: `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.door.addr()
    }

    /// The bot that `token` is of.
    #[track_caller]
    pub(crate) fn bot(&self, token: &str) -> &FakeBot {
        let bot = self.service.bots.iter().find(|bot| bot.token() == token);
        bot.expect("a token that the server was started with")
    }

    /// Whether and how the API can be reached from now on. Updates are delivered all the same.
    pub(crate) fn reach(&self, how: Reachable) {
        self.door.set(how);
    }

    /// How many calls were read and, since it was silent, not answered.
    pub(crate) fn silenced(&self) -> usize {
        self.door.silenced()
    }

    /// Answers the next `calls` calls, whatever they are, with 429 and `retry_after` in seconds.
    pub(crate) fn flood(&self, calls: usize, retry_after: u64) {
        self.service.flood(calls, retry_after);
    }

    /// Answers the next call of `method` with `status` and `body`. Several are used in turn.
    pub(crate) fn answer_next(&self, method: &str, status: u16, body: impl AsRef<[u8]>) {
        self.service.answer_next(method, status, body);
    }

    /// All calls that came, in the order of their arrival.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.service.calls()
    }

    /// Those of them that are of `method`.
    pub(crate) fn calls_of(&self, method: &str) -> Vec<Call> {
        let is_meant = |call: &Call| call.method.eq_ignore_ascii_case(method);
        self.calls().into_iter().filter(is_meant).collect()
    }
}

impl Deref for FakeBotApi {
    type Target = FakeBot;

    fn deref(&self) -> &FakeBot {
        &self.service.bots[0]
    }
}

impl Drop for FakeBotApi {
    fn drop(&mut self) {
        for bot in &self.service.bots {
            bot.end();
        }
        self.door.set(Reachable::Refused);
        for sender in self.senders.drain(..) {
            let ended = sender.join();
            // A panic of the sender must not pass for a quiet webhook.
            assert!(ended.is_ok() || std::thread::panicking(), "the fake sender has failed");
        }
    }
}

impl Builder {
    /// One more token that is accepted; the first one replaces [`TOKEN`].
    pub(crate) fn token(mut self, token: &str) -> Self {
        self.tokens.push(token.to_owned());
        self
    }

    /// As a server that was started with `--local`.
    pub(crate) fn local(mut self, is_local: bool) -> Self {
        self.rules.is_local = is_local;
        self
    }

    /// Divides the delays of the sender, and the pauses before a repeated 409, by `scale`. Timeouts
    /// of long polls, the second between calls of setWebhook and the lives of updates stay.
    pub(crate) fn time_scale(mut self, scale: u32) -> Self {
        assert!(scale > 0, "a time scale divides");
        self.rules.time_scale = scale;
        self
    }

    /// How long connecting, and then an answer, may take: 60 s by the time scale, and no less than
    /// 5 s, where this is not called.
    pub(crate) fn read_timeout(mut self, timeout: Duration) -> Self {
        self.rules.read_timeout = Some(timeout);
        self
    }

    /// How much time has to lie between two calls of setWebhook: 1 s at Telegram, and where this is
    /// not called. `retry_after` is 1 at any rate.
    pub(crate) fn set_webhook_every(mut self, pause: Duration) -> Self {
        self.rules.pause = pause;
        self
    }

    /// False where addresses that are reserved are to be refused as Telegram does. Otherwise
    /// loopback may have any port, and the networks for documentation (203.0.113.0/24 and the like)
    /// pass.
    pub(crate) fn permit_loopback(mut self, is_permitted: bool) -> Self {
        self.rules.is_loopback_permitted = is_permitted;
        self
    }

    /// What the name resolves to.
    pub(crate) fn name(mut self, name: &str, address: &str) -> Self {
        self.rules.names.insert(name.to_owned(), address.parse().expect("an address"));
        self
    }

    /// Another certificate in PEM that signs for webhooks whose own was not uploaded. Without any,
    /// no such webhook works.
    pub(crate) fn trusts(mut self, root: &str) -> Self {
        self.rules.roots.push(root.to_owned());
        self
    }

    /// How many connections to one webhook are used at the same time, as far as max_connections
    /// lets it: 1 where this is not called.
    pub(crate) fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    pub(crate) fn start(mut self) -> FakeBotApi {
        if self.tokens.is_empty() {
            self.tokens.push(TOKEN.to_owned());
        }
        let rules = Arc::new(self.rules);
        let bot = |token: &String| Arc::new(FakeBot::new(token, Arc::clone(&rules)));
        let bots: Vec<_> = self.tokens.iter().map(bot).collect();
        let senders = bots.iter().flat_map(|bot| {
            (0..self.connections).map(|number| delivery::start(Arc::clone(bot), number))
        });
        let senders = senders.collect();
        let service = Arc::new(Service::new(bots));
        FakeBotApi { door: Door::open(Arc::clone(&service)), service, senders }
    }
}

impl Rules {
    /// What takes `time` at Telegram.
    fn scaled(&self, time: Duration) -> Duration {
        time / self.time_scale
    }

    fn read_timeout(&self) -> Duration {
        let scaled = || self.scaled(Duration::from_secs(60)).max(Duration::from_secs(5));
        self.read_timeout.unwrap_or_else(scaled)
    }

    /// The address of `host`, or what getaddrinfo says.
    fn resolve(&self, host: &str) -> Result<IpAddr, &'static str> {
        const UNKNOWN: &str = "Failed to resolve host: Name or service not known";
        if let Some(address) = self.names.get(host) {
            return Ok(*address);
        }
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Ok(address);
        }
        let is_known = self.is_loopback_permitted && !host.ends_with(".invalid");
        if is_known || host == "localhost" { Ok([127, 0, 0, 1].into()) } else { Err(UNKNOWN) }
    }
}
