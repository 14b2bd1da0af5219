//! `ringhook serve`: receives updates until it is told to stop.

use std::{
    fs::File,
    io::{self, Write as _},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ},
    iterator::Signals,
};

use super::{
    activation,
    greeting::greet,
    log,
    notify::Notifier,
    privileges::{self, Identity},
    profile::Profiler,
    reload::{self, Cause, Reloader},
    setup::Setup,
    tell,
};
use crate::{
    Ack, DriverChoice, Hurrier, ListenAddress, RecoveryProgress, Report, Server, ServerHandle,
    TlsConfig,
    config::{
        Config,
        file::{Address, ConfigFile, LogFormat, LogLevel, Span},
    },
    error::{Error, ErrorKind},
    watch::Watch,
};

/// Where data is kept unless the config says otherwise.
pub(super) const DATA_DIR: &str = "ringhook-data";
/// Path of the bot that is there when the config has none.
pub(super) const DEFAULT_PATH: &str = "/webhook";
/// Shortest wait between two looks whether the server is well.
const WATCH_STEP: Duration = Duration::from_millis(100);

/// Receive updates over TLS and hand them on.
///
/// Without any flag: listens on 127.0.0.1:8443, path /webhook, with a certificate and a secret
/// token that it makes on its first run, and writes each update as a line of JSON to stdout.
/// SIGTERM and SIGINT stop it without losing an update, SIGHUP reads the config again, SIGUSR1 prints
/// a table of latencies and has the profile written.
#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// Config file in TOML; flags win over it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print the effective config as TOML and exit
    #[arg(long)]
    print_config: bool,
    /// Where to listen: IP:PORT, unix:PATH, or fd:NAME for a socket that systemd passes
    /// [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<ListenAddress>,
    /// Let another server listen on the same port at the same time, to follow this one without a gap
    #[arg(long)]
    reuse_port: bool,
    /// Address on which /healthz, /readyz and /incidents are answered over plain HTTP, such as
    /// 127.0.0.1:9464 [default: none]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// What a line of the log looks like: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// The least important lines of the log: off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// Who to become once the address is bound, by name or number; needs a start as root
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The group to become with --user [default: the user's own]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// How to talk to the kernel: auto, io-uring or epoll [default: auto]
    #[arg(long, value_name = "DRIVER")]
    driver: Option<DriverChoice>,
    /// Shard threads [default: one for two CPUs]
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Worker threads [default: one for each CPU without a shard]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Where journal, certificate, key and secret token are kept [default: ringhook-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What a 200 promises: memory (nothing), written (outlives the process) or synced (outlives a
    /// power cut) [default: written]
    #[arg(long, value_name = "MODE")]
    ack: Option<Ack>,
    /// How long to wait for another server to let go of the data directory [default: 0s]
    #[arg(long, value_name = "TIME")]
    wait_for_lock: Option<Span>,
    /// Certificate chain in PEM, leaf first; needs --key
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key in PEM (PKCS#8, SEC1 or PKCS#1); needs --cert
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the password of an encrypted key; needs --key
    #[arg(long, value_name = "FILE", requires = "key")]
    key_password_file: Option<PathBuf>,
    /// Where updates go: ndjson:- (stdout), ndjson:FILE or null [default: ndjson:-]
    #[arg(long, value_name = "SINK")]
    sink: Option<String>,
    /// Write latency profiles of every stage into this directory while serving
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Name requests in the report that take longer than this, such as 50ms
    #[arg(long, value_name = "TIME")]
    profile_slow: Option<Span>,
    /// How long a stop may take [default: 10s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,
    /// Write counters and latency percentiles as JSON at exit
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Error> {
    // From the first moment: one that comes before there is anything to reload must not end it.
    let early_hangup = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&early_hangup)).map_err(unwatched)?;
    // Before there is any other thread: it changes the environment.
    let inherited = activation::sockets()?;
    let setup = Setup::read(args)?;
    if args.print_config {
        return print(&setup.effective()?);
    }
    let server_section = &setup.file.server;
    let identity = Identity::find(server_section.user.as_deref(), server_section.group.as_deref())?;
    // Before there is any other thread: each has a flag of its own.
    privileges::never_more()?;
    let config = setup.to_config(identity.as_ref())?;
    let tls = setup.to_tls()?;
    let files = Arc::new(Mutex::new(Watch::new(setup.files(args))));
    let report_file = args.report.as_deref().map(create_report).transpose()?;
    if let (Some(identity), Some((_, file))) = (&identity, &report_file) {
        identity.own(file).map_err(not_given)?;
    }
    log::to_stderr(&setup.file.log);
    let notifier = Arc::new(Notifier::from_env());
    let descriptors = raise_descriptors();
    let (events, arrived) = mpsc::channel();
    let hurrier = Arc::new(OnceLock::new());
    let signals = watch_signals(events.clone(), Arc::clone(&hurrier))?;
    if early_hangup.load(Ordering::Relaxed) {
        // What it has read may be older than the signal.
        let _ = events.send(Event::Signal(SIGHUP));
    }
    let ack = config.journal.ack;
    let asked = Asked { config, tls: tls.clone(), inherited, identity, files: Arc::clone(&files) };
    let server = start(asked, &setup, &notifier, events)?;
    let hurrier = hurrier.get_or_init(|| server.hurrier());
    let address = server.listeners().first().map(|listener| listener.address.to_string());
    let address = address.unwrap_or_default();
    tracing::info!(
        address,
        admin = server.admin_addr().map(tracing::field::display),
        driver = %server.driver(),
        bots = setup.file.bots.len(),
        "started"
    );
    let profiler = setup
        .profile_dir()
        .map(|dir| Profiler::start(dir, setup.file.profile.interval(), server.intervals()));
    let profiler = profiler.transpose()?;
    greet(&server, &setup.file, ack, setup.has_own_certificate, &descriptors);
    let ready = format!("receiving on {address}");
    notifier.ready(&ready);
    let reloader = Reloader::new(args, &setup, tls.as_ref(), &files);
    let reload = |cause| {
        notifier.reloading();
        reloader.reload(&server, cause);
        notifier.ready(&ready);
    };
    let failure = serve(&server, reload, profiler.as_ref(), &arrived, &notifier);
    notifier.stopping();
    tracing::info!("stopping");
    let report = server.stop();
    tracing::info!(handled = report.updates_handled, "stopped");
    signals.close();
    profiler.into_iter().for_each(|profiler| profiler.finish(&report));
    finish(&report, report_file)?;
    match failure {
        Some(failure) => Err(failure),
        None if hurrier.is_hurried() => {
            let message = match kept(&report) {
                Some(kept) => format!("left at the second signal: {kept}"),
                None => {
                    let left = report.updates_abandoned;
                    format!("left at the second signal with {left} update(s) not handled")
                }
            };
            Err(Error::new(ErrorKind::Thread, message))
        }
        None => Ok(()),
    }
}

/// What the main thread waits for.
enum Event {
    /// The config file or one with a secret is another one.
    Changed,
    Failure(Error),
    Signal(i32),
}

/// What a server is started with.
struct Asked {
    config: Config,
    files: Arc<Mutex<Watch>>,
    identity: Option<Identity>,
    inherited: Vec<(String, OwnedFd)>,
    tls: Option<TlsConfig>,
}

fn start(
    asked: Asked,
    setup: &Setup,
    notifier: &Arc<Notifier>,
    events: mpsc::Sender<Event>,
) -> Result<ServerHandle, Error> {
    let Asked { config, files, identity, inherited, tls } = asked;
    let ack = config.journal.ack;
    let changes = events.clone();
    let mut server = Server::builder().config(config).on_failure(move |error| {
        // The receiver is gone only when the process is about to end.
        let _ = events.send(Event::Failure(Error::new(error.kind(), error.to_string())));
    });
    let mut quiet = None;
    server = server.watch(move |_| {
        if reload::settled(&files, &mut quiet) {
            let _ = changes.send(Event::Changed);
        }
    });
    if let Some(tls) = tls {
        server = server.tls(tls).watch_certificates(true);
    }
    for (name, socket) in inherited {
        server = server.inherit(&name, socket);
    }
    let server = server.on_recovery(recovery_progress(Arc::clone(notifier)));
    let is_new = setup.sink.file().is_some_and(|path| !path.exists());
    let server = server.sink(setup.sink.open(ack)?);
    let Some(identity) = identity else { return server.start() };
    if let Some(path) = setup.sink.file().filter(|_| is_new) {
        identity.own_path(path).map_err(not_given)?;
    }
    let sockets = setup.unix_sockets();
    server
        .on_bound(move || {
            sockets.iter().try_for_each(|path| identity.own_entry(path)).map_err(not_given)?;
            identity.assume()
        })
        .start()
}

/// Tells how far the reading of the journal has got: nothing in the first second, then a line a
/// second.
fn recovery_progress(notifier: Arc<Notifier>) -> impl FnMut(RecoveryProgress) + Send {
    let mut told_at = Instant::now();
    move |progress| {
        if told_at.elapsed() >= Duration::from_secs(1) {
            told_at = Instant::now();
            let mib = |bytes: u64| bytes >> 20;
            let (done, all) = (mib(progress.bytes), mib(progress.of));
            let line =
                format!("reading the journal: {done} of {all} MiB, {} records", progress.records);
            notifier.starting(&line);
            tell(line);
        }
    }
}

/// Prints reports on SIGUSR1 and calls `reload` on SIGHUP and when files have changed, until a signal
/// or a failure ends the service.
fn serve(
    server: &ServerHandle,
    reload: impl Fn(Cause),
    profiler: Option<&Profiler>,
    arrived: &mpsc::Receiver<Event>,
    notifier: &Notifier,
) -> Option<Error> {
    let mut alive_at = Instant::now();
    loop {
        let event = match notifier.alive_every() {
            None => arrived.recv().map_err(RecvTimeoutError::from),
            Some(every) => {
                if alive_at.elapsed() >= every && server.is_well() {
                    notifier.alive();
                    alive_at = Instant::now();
                }
                arrived.recv_timeout(every.saturating_sub(alive_at.elapsed()).max(WATCH_STEP))
            }
        };
        match event {
            Ok(Event::Signal(SIGUSR1)) => {
                let report = server.report();
                tell(&report);
                profiler.into_iter().for_each(|profiler| profiler.dump(report.clone()));
            }
            Ok(Event::Changed) => reload(Cause::Files),
            Ok(Event::Signal(SIGHUP)) => reload(Cause::Signal),
            Ok(Event::Signal(signal)) => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                tell(format_args!("{name}: stopping, a second one leaves at once"));
                return None;
            }
            Ok(Event::Failure(error)) => return Some(error),
            // The signal thread lives as long as this function.
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn finish(report: &Report, file: Option<(PathBuf, File)>) -> Result<(), Error> {
    tell(report.to_string().trim_end());
    if let Some(kept) = kept(report) {
        tell(kept);
    }
    let Some((path, mut file)) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(report).map_err(io::Error::from);
    text.and_then(|text| writeln!(file, "{text}")).map_err(|source| {
        Error::with_source(ErrorKind::Sink, format!("--report {}", path.display()), source)
    })
}

/// What the journal keeps, for people; `None` where that is nothing, or nothing is kept.
fn kept(report: &Report) -> Option<String> {
    let left = report.journal.as_ref().map(|journal| journal.lag_records).filter(|n| *n > 0)?;
    Some(format!("{left} update(s) stay in the journal for the next start"))
}

/// The file is made at the start, so that a wrong path is found before the service, not after.
fn create_report(path: &Path) -> Result<(PathBuf, File), Error> {
    match File::create(path) {
        Ok(file) => Ok((path.to_owned(), file)),
        Err(source) => Err(Error::with_source(
            ErrorKind::Config,
            format!("--report {}", path.display()),
            source,
        )),
    }
}

impl ServeArgs {
    /// Writes what the flags say over what the file says.
    pub(super) fn apply_to(&self, file: &mut ConfigFile) {
        fn over<T: Clone>(flag: &Option<T>, setting: &mut Option<T>) {
            if flag.is_some() {
                setting.clone_from(flag);
            }
        }
        over(&self.listen.clone().map(Address), &mut file.server.listen);
        over(&self.reuse_port.then_some(true), &mut file.server.reuse_port);
        over(&self.admin, &mut file.admin.listen);
        over(&self.log_format, &mut file.log.format);
        over(&self.log_level, &mut file.log.level);
        over(&self.user, &mut file.server.user);
        over(&self.group, &mut file.server.group);
        over(&self.driver, &mut file.server.driver);
        over(&self.shards, &mut file.server.shards);
        over(&self.workers, &mut file.server.workers);
        over(&self.data_dir, &mut file.server.data_dir);
        over(&self.drain_timeout, &mut file.server.drain_timeout);
        over(&self.ack, &mut file.journal.ack);
        over(&self.wait_for_lock, &mut file.journal.lock_wait);
        over(&self.sink, &mut file.sink.to);
        over(&self.profile, &mut file.profile.dir);
        over(&self.profile_slow, &mut file.profile.slow);
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

/// Raises the soft limit of descriptors to the hard one: the low one is for programs that use
/// `select`, and every connection and every file of the journal needs one. What came of it, for
/// people.
fn raise_descriptors() -> String {
    let limit = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    if limit.current == limit.maximum {
        return number(limit.current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => {
            format!("{} (soft limit raised from {})", number(limit.maximum), number(limit.current))
        }
        // Accepting pauses when they are used up, and says so.
        Err(error) => {
            let (soft, hard) = (number(limit.current), number(limit.maximum));
            format!("{soft} (soft limit not raised to {hard}: {error})")
        }
    }
}

/// A file that was made for another user could not be given to them.
fn not_given(source: impl Into<io::Error>) -> Error {
    let message = "a new file cannot be given to server.user";
    Error::with_source(ErrorKind::Privileges, message, source.into())
}

/// Sends signals to the main thread. The second request to stop cuts the drain short, the third one
/// ends the process where it is, and so does the first one where the start is not over: it may be
/// reading a journal, or waiting for another process to let go of it.
fn watch_signals(
    events: mpsc::Sender<Event>,
    hurrier: Arc<OnceLock<Hurrier>>,
) -> Result<signal_hook::iterator::Handle, Error> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]).map_err(unwatched)?;
    // A file that reaches its limit (ulimit -f) is a full disk, not the end of the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(unwatched)?;
    let handle = signals.handle();
    let watch = move || {
        let mut stops = 0;
        for signal in signals.forever() {
            let is_stop = matches!(signal, SIGINT | SIGTERM);
            stops += u32::from(is_stop);
            match (stops, hurrier.get()) {
                (2, Some(hurrier)) if is_stop => {
                    tell("second signal: leaving at once, what was not handled is abandoned");
                    hurrier.hurry();
                }
                (2.., _) if is_stop => process::exit(1),
                // Nothing was promised yet, and the journal is as it was.
                (_, None) if is_stop => {
                    tell("leaving before the start was over");
                    process::exit(0);
                }
                _ => {}
            }
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("ringhook-signal".into()).spawn(watch).map_err(unwatched)?;
    Ok(handle)
}

fn unwatched(source: io::Error) -> Error {
    Error::with_source(ErrorKind::Thread, "cannot watch signals", source)
}

fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::with_source(ErrorKind::Sink, "standard output", source))
}
