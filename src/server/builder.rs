//! A server that has not started yet.

use std::{fmt, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use super::{admin::AdminPages, journal::OnRecovery, output::Output, watch::Watched};
use crate::{
    config::{
        AllowList, Bot, Config, Dispatch, DriverChoice, Journal, Limits, Listener, Pin, Profile,
    },
    control::OnFailure,
    delivery::{
        handler::Handler,
        sink::Sink,
        stream::{OnDrop, Updates},
    },
    dispatch::OutputRouter,
    error::Error,
    files::User,
    io::listener::Inherited,
    journal::RecoveryProgress,
    tls::TlsConfig,
};

/// A receiver of webhooks that has not started yet.
///
/// ```no_run
/// use ringhook::{Bot, Outcome, ServerBuilder, Server, TlsConfig, Update};
///
/// # fn main() -> Result<(), ringhook::Error> {
/// let server = Server::builder()
///     .listen("127.0.0.1:8443".parse().expect("an address"))
///     .tls(TlsConfig::from_pem_files("cert.pem".as_ref(), "key.pem".as_ref())?)
///     .bot(Bot::new("shop", "/webhook", "secret")?)
///     .handler(|update: &Update| {
///         println!("update {} is a {}", update.id(), update.kind());
///         Outcome::Done
///     })
///     .start()?;
/// println!("listening on {:?}", server.local_addr());
/// # server.stop();
/// # Ok(())
/// # }
/// ```
pub struct ServerBuilder {
    pub(super) admin_pages: Option<Box<dyn AdminPages>>,
    pub(super) config: Config,
    pub(super) inherited: Vec<Inherited>,
    pub(super) on_bound: Option<OnBound>,
    pub(super) on_drop: OnDrop,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) on_recovery: Option<OnRecovery>,
    pub(super) outputs: Vec<Output>,
    pub(super) router: Option<Arc<dyn OutputRouter>>,
    /// The user that gets the files of Unix sockets that root makes.
    pub(super) socket_heir: Option<User>,
    pub(super) tls: Option<TlsConfig>,
    pub(super) watch_certificates: bool,
    /// What else is looked at a few times a second.
    pub(super) watched: Vec<Watched>,
}

/// Called when all addresses are bound.
pub(super) type OnBound = Box<dyn FnOnce() -> Result<(), Error> + Send>;

impl ServerBuilder {
    /// A server with the defaults of [`Config`] and no bot, certificate or handler.
    #[must_use]
    pub(super) fn new() -> Self {
        Self {
            admin_pages: None,
            config: Config::default(),
            inherited: Vec::new(),
            on_bound: None,
            on_drop: OnDrop::default(),
            on_failure: None,
            on_recovery: None,
            outputs: Vec::new(),
            router: None,
            socket_heir: None,
            tls: None,
            watch_certificates: false,
            watched: Vec::new(),
        }
    }

    /// Replaces all settings, bots included.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens on `address`; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.config.listen = Some(address.into());
        self
    }

    /// Listens there as well, or there alone where [`listen`](Self::listen) is not called.
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.config.listeners.push(listener);
        self
    }

    /// Listens nowhere: updates come by [`deliver`](crate::Server::deliver) alone.
    #[must_use]
    pub fn without_listeners(mut self) -> Self {
        self.config.listens = false;
        self
    }

    /// Takes over a stream socket that listens already, for the listener that names it (`fd:NAME`,
    /// or `fd:N` for the N-th of these calls, from 0 on) or has its address. It stays what it is
    /// when the server stops: clients that wait there are left to the next process that listens on
    /// it.
    #[must_use]
    pub fn inherit(mut self, name: &str, socket: OwnedFd) -> Self {
        self.inherited.push(Inherited { name: name.to_owned(), socket });
        self
    }

    /// Lets other processes of the same user listen on the same addresses at the same time, and
    /// takes Unix sockets over from them.
    #[must_use]
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.config.reuse_port = reuse_port;
        self
    }

    /// Makes the files of Unix sockets for `user`, whom the process becomes once they are bound.
    #[doc(hidden)]
    #[must_use]
    pub fn give_sockets_to(mut self, user: User) -> Self {
        self.socket_heir = Some(user);
        self
    }

    /// Lets only the peers on `list` connect.
    #[must_use]
    pub fn allow(mut self, list: AllowList) -> Self {
        self.config.allow = Some(list);
        self
    }

    /// Answers `/healthz`, `/readyz`, `/incidents` and `/requests` on `address` over plain HTTP;
    /// see [`Admin`](crate::Admin). It does so from before the journal is read until everything is
    /// drained.
    #[must_use]
    pub fn admin(mut self, address: SocketAddr) -> Self {
        self.config.admin.listen = Some(address);
        self
    }

    /// Adds pages to that listener, such as metrics; without it they are never asked for. From the
    /// start until the server runs they are answered 503. A thread of their own, `ringhook-pages`,
    /// calls them: the server's pages are answered whatever these do.
    ///
    /// ```
    /// use std::{io::{Read as _, Write as _}, net::TcpStream};
    ///
    /// use ringhook::{
    ///     AdminPage, AdminPages, AdminRequest, Bot, Outcome, Server, ServerView, Update,
    /// };
    ///
    /// struct Handled;
    ///
    /// impl AdminPages for Handled {
    ///     fn answer(
    ///         &mut self,
    ///         request: &AdminRequest<'_>,
    ///         server: &ServerView,
    ///     ) -> Option<AdminPage> {
    ///         let text = || server.report().updates_handled.to_string();
    ///         (request.path == "/handled").then(|| AdminPage::new("text/plain", text()))
    ///     }
    /// }
    ///
    /// let server = Server::builder()
    ///     .without_listeners()
    ///     .admin("127.0.0.1:0".parse()?)
    ///     .admin_pages(Handled)
    ///     .bot(Bot::without_secret("shop", "/webhook"))
    ///     .handler(|_: &Update| Outcome::Done)
    ///     .start()?;
    /// let mut client = TcpStream::connect(server.admin_addr().ok_or("no listener")?)?;
    /// client.write_all(b"GET /handled HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer)?;
    /// assert!(answer.ends_with("\r\n\r\n0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn admin_pages(mut self, pages: impl AdminPages + 'static) -> Self {
        self.admin_pages = Some(Box::new(pages));
        self
    }

    /// Adds a bot; its [`BotId`](crate::bots::BotId) counts up from 0.
    #[must_use]
    pub fn bot(mut self, bot: Bot) -> Self {
        self.config.bots.push(bot);
        self
    }

    /// What happens between an update's 200 and the handler.
    #[must_use]
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.config.dispatch = dispatch;
        self
    }

    /// What a 200 promises, and where updates are kept until they are handled.
    #[must_use]
    pub fn journal(mut self, journal: Journal) -> Self {
        self.config.journal = journal;
        self
    }

    /// Calls `call` when all addresses are bound, before the journal is opened and before any
    /// thread of the server is started: the place to give up privileges. An error of it ends the
    /// start.
    #[must_use]
    pub fn on_bound(mut self, call: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Self {
        self.on_bound = Some(Box::new(call));
        self
    }

    /// Calls `call` now and then while the start reads the journal.
    #[must_use]
    pub fn on_recovery(mut self, call: impl FnMut(RecoveryProgress) + Send + 'static) -> Self {
        self.on_recovery = Some(Box::new(call));
        self
    }

    /// Which driver to use.
    #[must_use]
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.config.driver = driver;
        self
    }

    /// Bounds on what a peer can make the server hold or wait for.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Which requests the report names as slow.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.config.profile = profile;
        self
    }

    /// How many shard threads.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.config.shards = Some(shards);
        self
    }

    /// How many worker threads.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = Some(workers);
        self
    }

    /// Which CPUs shards and workers are pinned to, and by that how many of them there are.
    #[must_use]
    pub fn pin(mut self, pin: Pin) -> Self {
        self.config.pin = pin;
        self
    }

    /// Lets a read that finds nothing look into the network card's queue; see
    /// [`Config::busy_poll`].
    #[must_use]
    pub fn busy_poll(mut self, time: Duration) -> Self {
        self.config.busy_poll = Some(time);
        self
    }

    /// Whether answers have a `Date`; see [`Config::date`].
    #[must_use]
    pub fn date(mut self, date: bool) -> Self {
        self.config.date = date;
        self
    }

    /// How long a stop may take before what is left is abandoned.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// Certificates and keys.
    #[must_use]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Whether the files of certificates and keys are watched, by a thread of the server, and
    /// [reloaded](TlsConfig::reload) within a second when they change. They are not by default.
    /// What comes of it is told by `tracing` and counted in the [report](crate::Server::report).
    #[must_use]
    pub fn watch_certificates(mut self, watch: bool) -> Self {
        self.watch_certificates = watch;
        self
    }

    /// Gives the updates to `handler`, and to no other output.
    #[must_use]
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.outputs = vec![Output::handler("handler", handler)];
        self
    }

    /// Gives the updates to `sink`, and to no other output.
    #[must_use]
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.outputs = vec![Output::sink("sink", sink)];
        self
    }

    /// Gives the updates to a stream that holds up to `capacity` of them, for programs that
    /// live in an async runtime, and to no other output. An update that is dropped unsettled comes
    /// again, unless [`on_drop`](Self::on_drop) says otherwise.
    #[must_use]
    pub fn updates(mut self, capacity: usize) -> (Self, Updates) {
        let (output, updates) = Output::stream("stream", capacity);
        self.outputs = vec![output];
        (self, updates)
    }

    /// Adds an output, with workers, queues and limits of its own: one that takes nothing holds up
    /// no other. Its number counts up from 0; there are at most
    /// [`OutputSet::MAX`](crate::OutputSet::MAX).
    ///
    /// Without a [`router`](Self::router) all updates go to the first one.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.outputs.push(output);
        self
    }

    /// Has `router` choose the outputs of each update. One that goes to several is settled when all
    /// of them have settled it. After a crash it may come again to those that had.
    #[must_use]
    pub fn router(mut self, router: Arc<dyn OutputRouter>) -> Self {
        self.router = Some(router);
        self
    }

    /// What it means that a program drops an update of the stream without settling it.
    #[must_use]
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Calls `call`, on a thread of the server, when it has met an error from which it cannot
    /// recover, such as a sink whose reader is gone. The server goes on as far as it can; to stop
    /// it is the owner's to decide.
    #[must_use]
    pub fn on_failure(mut self, call: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Box::new(call));
        self
    }

    /// Has the server's thread for that look at something a few times a second.
    #[doc(hidden)]
    pub fn watch(mut self, look: impl FnMut(std::time::Instant) + Send + 'static) -> Self {
        self.watched.push(Box::new(look));
        self
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
