//! `ringhook serve`: receives updates until it is told to stop.

mod reload;
pub(super) mod webhook_watch;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use clap::Args;

use self::{
    reload::Reloader,
    webhook_watch::{WatchedBot, WebhookWatch},
};
use crate::{
    config::ConfigFile,
    process::activation,
    server::{
        greeting::greet,
        service::{self, EarlyHangup, Event, Service, ServiceArgs, over},
        setup::Setup,
        written_files,
    },
};
use ringhook::{
    DriverChoice, Error, ErrorKind, ListenAddress, Pin,
    internals::{files::watch::Watch, redact::hide_tokens},
};

/// Receive updates over TLS and hand them on.
///
/// Without any flag: listens on 127.0.0.1:8443, path /webhook, with a certificate and a secret
/// token that it makes on its first run, and writes each update as a line of JSON to stdout.
/// SIGTERM and SIGINT stop it without losing an update, SIGHUP reads the config again, SIGUSR1
/// prints a table of latencies and has the profile written.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Config file in TOML; flags win over it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print the effective config as TOML and exit; secrets in it are hidden, and so are bots'
    /// tokens in paths and URLs
    #[arg(long)]
    print_config: bool,
    /// Where to listen: IP:PORT, unix:PATH, or fd:NAME for a socket that systemd passes
    /// [default: 127.0.0.1:8443]
    #[arg(long, id = "server.listen", value_name = "ADDRESS")]
    listen: Option<ListenAddress>,
    /// Let another server listen on the same port at the same time, to follow this one without a
    /// gap
    #[arg(long, id = "server.reuse_port")]
    reuse_port: bool,
    /// How to talk to the kernel: auto, io-uring or epoll [default: auto]
    #[arg(long, id = "server.driver", value_name = "DRIVER")]
    driver: Option<DriverChoice>,
    /// Shard threads [default: one for two CPUs]
    #[arg(long, id = "server.shards", value_name = "N")]
    shards: Option<usize>,
    /// CPUs of the threads, one thread for each, like shards=0-7,workers=8-15; either part may be
    /// missing [default: all that the process may use]
    #[arg(long, id = "server.pin", value_name = "CPUS")]
    pin: Option<Pin>,
    /// Where journal, certificate, key and secret token are kept [default: ringhook-data]
    #[arg(long, id = "server.data_dir", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Certificate chain in PEM, leaf first; needs --key
    #[arg(long, id = "tls.cert", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key in PEM (PKCS#8, SEC1 or PKCS#1); needs --cert
    #[arg(long, id = "tls.key", value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the password of an encrypted key; needs --key
    #[arg(long, id = "tls.key_password_file", value_name = "FILE", requires = "tls.key")]
    key_password_file: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Error> {
    let hangup = EarlyHangup::watch()?;
    // Before there is any other thread: it changes the environment.
    let inherited = activation::sockets()?;
    let setup = args.setup()?;
    if args.print_config {
        return print(&hide_tokens(&setup.effective()?));
    }
    written_files::check(
        &setup,
        args.service.report.as_deref(),
        &setup.inputs(args.config.as_deref()),
    )?;
    let identity = service::identity(&setup)?;
    let config = setup.to_config(identity.as_ref())?;
    let tls = setup.to_tls()?;
    let watched_bots = WatchedBot::all(&setup)?;
    let files = Arc::new(Mutex::new(Watch::new(setup.files(args.config.as_deref()))));
    let mut service = Service::begin(&args.service, &setup, identity, &hangup)?;
    let ack = config.journal.ack;
    let (watched, changes, mut quiet) = (Arc::clone(&files), service.events.clone(), None);
    let server = service.start(config, &setup, |mut server| {
        server = server.watch(move |_| {
            if reload::settled(&watched, &mut quiet) {
                let _ = changes.send(Event::Changed);
            }
        });
        if let Some(tls) = tls.clone() {
            server = server.tls(tls).watch_certificates(true);
        }
        inherited.into_iter().fold(server, |server, (name, socket)| server.inherit(&name, socket))
    })?;
    let address = server.listeners().first().map(|listener| listener.address.to_string());
    let address = address.unwrap_or_default();
    tracing::info!(
        address,
        admin = server.admin_addr().map(tracing::field::display),
        driver = %server.driver(),
        bots = setup.file.bots.len(),
        "started"
    );
    let (own, descriptors) = (setup.has_own_certificate, &service.descriptors);
    greet(&server, &setup.file, ack, own, descriptors, WatchedBot::describe(&watched_bots));
    let webhooks = WebhookWatch::start(&server, watched_bots);
    let ready = format!("receiving on {address}");
    service.notifier.ready(&ready);
    let reloader = Reloader::new(args, &setup, tls.as_ref(), &files, &webhooks, &service);
    let reload = |cause| {
        service.notifier.reloading();
        reloader.reload(&server, cause);
        service.notifier.ready(&ready);
    };
    let failure = service.run(&server, reload);
    let pollers = webhooks.stop();
    let report = service.stop(server);
    if report.updates_abandoned == 0 {
        pollers.confirm();
    }
    service.finish(&report, failure)
}

impl ServeArgs {
    /// Reads the config file; the flags win over it.
    pub(super) fn setup(&self) -> Result<Setup, Error> {
        Setup::from_files(self.config.as_deref(), None, |file| self.apply_to(file))
    }

    /// Writes what the flags say over what the file says.
    fn apply_to(&self, file: &mut ConfigFile) {
        self.service.apply_to(file);
        over(&self.listen, &mut file.server.listen);
        file.server.reuse_port |= self.reuse_port;
        over(&self.driver, &mut file.server.driver);
        over(&self.shards, &mut file.server.shards);
        if let Some(pin) = &self.pin {
            over(&pin.shards, &mut file.server.pin.shards);
            over(&pin.workers, &mut file.server.pin.workers);
        }
        over(&self.data_dir, &mut file.server.data_dir);
        // A pair: one of them alone never meets the file's other one.
        if self.cert.is_some() || self.key.is_some() {
            file.tls.cert.clone_from(&self.cert);
            file.tls.key.clone_from(&self.key);
            file.tls.key_password = None;
            file.tls.key_password_env = None;
            file.tls.key_password_file.clone_from(&self.key_password_file);
        }
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::with_source(ErrorKind::Sink, "standard output", source))
}
