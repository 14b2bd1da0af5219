//! `ringhook serve`: receives updates until it is told to stop.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ},
    iterator::Signals,
};

use super::{profile::Profiler, setup::Setup, tell};
use crate::{
    Ack, DriverChoice, Hurrier, RecoveryProgress, Report, Server, ServerHandle, TlsConfig,
    config::{
        Config,
        file::{BotSection, ConfigFile, Span},
    },
    error::{Error, ErrorKind},
    journal::{Directory, inspect::Inspection},
};

/// Where data is kept unless the config says otherwise.
pub(super) const DATA_DIR: &str = "ringhook-data";
/// Path of the bot that is there when the config has none.
pub(super) const DEFAULT_PATH: &str = "/webhook";
/// The update that the ready-made curl line sends.
const SAMPLE: &str = r#"{"update_id":1,"message":{"message_id":1,"date":1700000000,"chat":{"id":1,"type":"private"},"text":"hello"}}"#;

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
    /// Address to listen on [default: 127.0.0.1:8443]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
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
    /// Certificate chain in PEM, leaf first; needs --key
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key in PEM (PKCS#8, SEC1 or PKCS#1); needs --cert
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
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
    let setup = Setup::read(args)?;
    if args.print_config {
        return print(&setup.effective()?);
    }
    let config = setup.to_config()?;
    let report_file = args.report.as_deref().map(create_report).transpose()?;
    log_to_stderr();
    raise_descriptors();
    let (events, arrived) = mpsc::channel();
    let hurrier = Arc::new(OnceLock::new());
    let signals = watch_signals(events.clone(), Arc::clone(&hurrier))?;
    let ack = config.journal.ack;
    let server = start(config, &setup, events)?;
    let hurrier = hurrier.get_or_init(|| server.hurrier());
    let profiler = setup
        .profile_dir()
        .map(|dir| Profiler::start(dir, setup.file.profile.interval(), server.intervals()));
    let profiler = profiler.transpose()?;
    greet(&server, &setup.file, ack, setup.has_own_certificate);
    let failure = serve(&server, args, &setup, profiler.as_ref(), &arrived);
    let report = server.stop();
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
    Failure(Error),
    Signal(i32),
}

fn start(
    config: Config,
    setup: &Setup,
    events: mpsc::Sender<Event>,
) -> Result<ServerHandle, Error> {
    let (Some(cert), Some(key)) = (&setup.file.tls.cert, &setup.file.tls.key) else {
        return Err(Error::config("tls", "(none)", "cert and key"));
    };
    let ack = config.journal.ack;
    let server = Server::builder()
        .config(config)
        .tls(TlsConfig::from_pem_files(cert, key)?)
        .on_failure(move |error| {
            // The receiver is gone only when the process is about to end.
            let _ = events.send(Event::Failure(Error::new(error.kind(), error.to_string())));
        });
    server.on_recovery(recovery_progress()).sink(setup.sink.open(ack)?).start()
}

/// Tells how far the reading of the journal has got: nothing in the first second, then a line a
/// second.
fn recovery_progress() -> impl FnMut(RecoveryProgress) + Send {
    let mut told_at = Instant::now();
    move |progress| {
        if told_at.elapsed() >= Duration::from_secs(1) {
            told_at = Instant::now();
            let mib = |bytes: u64| bytes >> 20;
            let (done, all) = (mib(progress.bytes), mib(progress.of));
            tell(format_args!(
                "reading the journal: {done} of {all} MiB, {} records",
                progress.records
            ));
        }
    }
}

/// Prints reports on SIGUSR1 and reads the config again on SIGHUP, until a signal or a failure ends
/// the service.
fn serve(
    server: &ServerHandle,
    args: &ServeArgs,
    setup: &Setup,
    profiler: Option<&Profiler>,
    arrived: &mpsc::Receiver<Event>,
) -> Option<Error> {
    loop {
        match arrived.recv() {
            Ok(Event::Signal(SIGUSR1)) => {
                let report = server.report();
                tell(&report);
                profiler.into_iter().for_each(|profiler| profiler.dump(report.clone()));
            }
            Ok(Event::Signal(SIGHUP)) => reload(server, args, setup),
            Ok(Event::Signal(signal)) => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                tell(format_args!("{name}: stopping, a second one leaves at once"));
                return None;
            }
            Ok(Event::Failure(error)) => return Some(error),
            // The signal thread lives as long as this function.
            Err(mpsc::RecvError) => return None,
        }
    }
}

/// Puts in force what config file and secrets say now. Where something in them is wrong, everything
/// stays as it was.
fn reload(server: &ServerHandle, args: &ServeArgs, setup: &Setup) {
    let mut read = None;
    let outcome = server.reload_from(|| {
        let next = Setup::read(args)?;
        let config = next.to_config()?;
        read = Some(next);
        Ok(config)
    });
    match (outcome, read) {
        (Ok(mut reload), Some(next)) => {
            // What is not in force stays what the next reload is compared with.
            setup.compare(&next, &mut reload);
            tracing::info!("config reloaded: {reload}");
        }
        (Ok(_), None) => {}
        (Err(error), _) => {
            tracing::error!("config not reloaded, the one before stays in force: {error}");
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
        over(&self.listen, &mut file.server.listen);
        over(&self.driver, &mut file.server.driver);
        over(&self.shards, &mut file.server.shards);
        over(&self.workers, &mut file.server.workers);
        over(&self.data_dir, &mut file.server.data_dir);
        over(&self.drain_timeout, &mut file.server.drain_timeout);
        over(&self.ack, &mut file.journal.ack);
        over(&self.sink, &mut file.sink.to);
        over(&self.profile, &mut file.profile.dir);
        over(&self.profile_slow, &mut file.profile.slow);
        // A pair: one of them alone never meets the file's other one.
        if self.cert.is_some() || self.key.is_some() {
            file.tls.cert.clone_from(&self.cert);
            file.tls.key.clone_from(&self.key);
        }
    }
}

/// Raises the soft limit of descriptors to the hard one: the low one is for programs that use
/// `select`, and every connection and every file of the journal needs one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where that is not allowed, accepting pauses when they are used up, and says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

fn log_to_stderr() {
    // Where somebody has set a subscriber already, theirs stays.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would report that stderr is gone to stderr, and panic.
        .log_internal_errors(false)
        .with_max_level(tracing::Level::INFO)
        .try_init();
}

/// Sends signals to the main thread. The second request to stop cuts the drain short, the third one
/// or one before the start is over ends the process where it is.
fn watch_signals(
    events: mpsc::Sender<Event>,
    hurrier: Arc<OnceLock<Hurrier>>,
) -> Result<signal_hook::iterator::Handle, Error> {
    let error = |source| Error::with_source(ErrorKind::Thread, "cannot watch signals", source);
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]).map_err(error)?;
    // A file that reaches its limit (ulimit -f) is a full disk, not the end of the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(error)?;
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
                _ => {}
            }
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("ringhook-signal".into()).spawn(watch).map_err(error)?;
    Ok(handle)
}

/// Tells a person what is running; the last line begins with `ready`.
fn greet(server: &ServerHandle, file: &ConfigFile, ack: Ack, own_certificate: bool) {
    let address = reachable(server.local_addr());
    let mut lines = vec![format!("ringhook {}", env!("CARGO_PKG_VERSION"))];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<11}{text}"));
    for bot in &file.bots {
        line("url", format!("https://{address}{}  ({})", bot.path, bot.name));
    }
    if let Some(allow) = &file.server.allow {
        line("allow", allow.join(", "));
    }
    line("driver", server.driver().to_string());
    let placement = server.placement();
    line("shards", on_cpus(&placement.shards));
    line("workers", on_cpus(&placement.workers));
    if let Some(sink) = &file.sink.to {
        line("sink", sink.clone());
    }
    line("200 means", promise(ack).to_owned());
    for (name, path) in [("cert", &file.tls.cert), ("key", &file.tls.key)] {
        if let Some(path) = path {
            line(name, path.display().to_string());
        }
    }
    for bot in &file.bots {
        line("secret", bot.secret_source());
    }
    for notice in server.notices().iter().cloned().chain(left_by_an_earlier_run(file, ack)) {
        line("notice", notice);
    }
    if let Some(bot) = file.bots.first() {
        line("try", curl_line(file, bot, &address, own_certificate));
    }
    lines.push(format!("ready https://{address}{}", file.bots.first().map_or("", |bot| &bot.path)));
    tell(lines.join("\n"));
}

/// What a journal holds that is not used now.
fn left_by_an_earlier_run(file: &ConfigFile, ack: Ack) -> Option<String> {
    let dir = file.server.data_dir.as_deref().filter(|_| ack == Ack::Memory)?.join("journal");
    let storage = Directory::look_into(&dir).ok()?;
    let left = Inspection::new(&storage).ok()?.unsettled();
    (left > 0).then(|| {
        format!(
            "{left} update(s) that an earlier run has left in {} are not delivered: see `ringhook \
             journal replay`",
            dir.display()
        )
    })
}

/// What an update's 200 promises.
fn promise(ack: Ack) -> &'static str {
    match ack {
        Ack::Memory => "in memory: lost with the process",
        Ack::Synced => "synced to the journal: outlives a power cut",
        Ack::Written => "written to the journal: outlives the process",
    }
}

fn on_cpus(cpus: &[usize]) -> String {
    let list = cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{} (CPU {list})", cpus.len())
}

/// An address that a client on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A line for a shell that sends [`SAMPLE`] as Telegram would.
fn curl_line(
    file: &ConfigFile,
    bot: &BotSection,
    address: &SocketAddr,
    own_certificate: bool,
) -> String {
    let trust = match &file.tls.cert {
        Some(cert) if own_certificate => {
            format!("--cacert {}", quoted(&cert.display().to_string()))
        }
        _ => "--insecure".to_owned(),
    };
    let cat = |path: &Path| format!("$(cat {})", quoted(&path.display().to_string()));
    let fetched = |file: &Option<PathBuf>, variable: &Option<String>, typed: &str| {
        let named = variable.as_ref().map(|name| format!("${name}"));
        file.as_deref().map(cat).or(named).unwrap_or_else(|| typed.to_owned())
    };
    let mut credentials = String::new();
    if bot.has_secret_token() {
        let token = fetched(&bot.secret_token_file, &bot.secret_token_env, "$SECRET_TOKEN");
        credentials += &format!(" -H \"X-Telegram-Bot-Api-Secret-Token: {token}\"");
    }
    if bot.has_basic_auth() {
        let user = fetched(&bot.basic_auth_file, &bot.basic_auth_env, "$USER_AND_PASSWORD");
        credentials += &format!(" -u \"{user}\"");
    }
    format!(
        "curl {trust}{credentials} -H 'Content-Type: application/json' -d '{SAMPLE}' \
         https://{address}{}",
        bot.path
    )
}

/// `text` as one word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::with_source(ErrorKind::Sink, "standard output", source))
}
