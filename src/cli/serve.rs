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
    consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ},
    iterator::Signals,
};

use super::{
    data_dir::DataDir,
    sink::{self, SinkSpec},
    tell,
};
use crate::{
    Ack, DriverChoice, Hurrier, RecoveryProgress, Report, Server, ServerHandle,
    config::{
        Config,
        file::{BotSection, ConfigFile, Secrets, Span},
    },
    error::{Error, ErrorKind},
    journal::{Directory, inspect::Inspection},
};

/// Where data is kept unless the config says otherwise.
pub(super) const DATA_DIR: &str = "ringhook-data";
/// Path of the bot that is there when the config has none.
const DEFAULT_PATH: &str = "/webhook";
/// The update that the ready-made curl line sends.
const SAMPLE: &str = r#"{"update_id":1,"message":{"message_id":1,"date":1700000000,"chat":{"id":1,"type":"private"},"text":"hello"}}"#;

/// Receive updates over TLS and hand them on.
///
/// Without any flag: listens on 127.0.0.1:8443, path /webhook, with a certificate and a secret
/// token that it makes on its first run, and writes each update as a line of JSON to stdout.
/// SIGTERM and SIGINT stop it without losing an update, SIGUSR1 prints a table of latencies.
#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// Config file in TOML; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// File with the password of an encrypted key; needs --key
    #[arg(long, value_name = "FILE", requires = "key")]
    key_password_file: Option<PathBuf>,
    /// Where updates go: ndjson:- (stdout), ndjson:FILE or null [default: ndjson:-]
    #[arg(long, value_name = "SINK")]
    sink: Option<String>,
    /// How long a stop may take [default: 10s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,
    /// Write counters and latency percentiles as JSON at exit
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Error> {
    let mut file = match &args.config {
        Some(path) => ConfigFile::read(path)?,
        None => ConfigFile::default(),
    };
    args.apply_to(&mut file);
    let data_dir_path = file.server.data_dir.get_or_insert_with(|| DATA_DIR.into()).clone();
    let data_dir = DataDir::at(&data_dir_path);
    if file.bots.is_empty() {
        file.bots.push(BotSection::with_secret_file(
            "default",
            DEFAULT_PATH,
            data_dir.secret_token(),
        ));
    }
    let own_secret = Some(data_dir.secret_token());
    let own_secret = file.bots.iter().any(|bot| bot.secret_token_file == own_secret);
    let own_certificate = own_certificate(&mut file, &data_dir)?;
    let sink = SinkSpec::parse(file.sink.to.get_or_insert_with(|| sink::DEFAULT.to_owned()))?;
    if args.print_config {
        let config = file.to_config(Secrets::Leave)?;
        return print(&file.effective(&config).to_toml()?);
    }
    // Everything that the user typed is checked before anything is made.
    file.to_config(Secrets::Leave)?;
    if own_secret {
        data_dir.ensure_secret_token()?;
    }
    if own_certificate {
        data_dir.ensure_certificate()?;
    }
    let config = file.to_config(Secrets::Read)?;
    let report_file = args.report.as_deref().map(create_report).transpose()?;
    log_to_stderr();
    raise_descriptors();
    let (events, arrived) = mpsc::channel();
    let hurrier = Arc::new(OnceLock::new());
    let signals = watch_signals(events.clone(), Arc::clone(&hurrier))?;
    let ack = config.journal.ack;
    let server = start(config, &file, &sink, events)?;
    let hurrier = hurrier.get_or_init(|| server.hurrier());
    greet(&server, &file, ack, own_certificate);
    let failure = serve(&server, &arrived);
    let report = server.stop();
    signals.close();
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
    file: &ConfigFile,
    sink: &SinkSpec,
    events: mpsc::Sender<Event>,
) -> Result<ServerHandle, Error> {
    let ack = config.journal.ack;
    let server =
        Server::builder().config(config).tls(file.to_tls()?).watch_certificates(true).on_failure(
            move |error| {
                // The receiver is gone only when the process is about to end.
                let _ = events.send(Event::Failure(Error::new(error.kind(), error.to_string())));
            },
        );
    server.on_recovery(recovery_progress()).sink(sink.open(ack)?).start()
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

/// Prints reports on SIGUSR1 until a signal or a failure ends the service.
fn serve(server: &ServerHandle, arrived: &mpsc::Receiver<Event>) -> Option<Error> {
    loop {
        match arrived.recv() {
            Ok(Event::Signal(SIGUSR1)) => tell(server.report()),
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
    fn apply_to(&self, file: &mut ConfigFile) {
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

/// True where certificate and key are those of the data directory. Their paths are filled in; where
/// they are written out, as `--print-config` does, they mean the same.
fn own_certificate(file: &mut ConfigFile, data_dir: &DataDir) -> Result<bool, Error> {
    match (&file.tls.cert, &file.tls.key) {
        (Some(cert), Some(key)) => Ok(*cert == data_dir.cert() && *key == data_dir.key()),
        (None, None) if file.has_certificate_of_bot() => Ok(false),
        (None, None) => {
            file.tls.cert = Some(data_dir.cert());
            file.tls.key = Some(data_dir.key());
            Ok(true)
        }
        (Some(cert), None) => {
            Err(Error::config("tls.cert", cert.display(), "tls.key (--key) beside it"))
        }
        (None, Some(key)) => {
            Err(Error::config("tls.key", key.display(), "tls.cert (--cert) beside it"))
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
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(error)?;
    // A file that reaches its limit (ulimit -f) is a full disk, not the end of the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(error)?;
    let handle = signals.handle();
    let watch = move || {
        let mut stops = 0;
        for signal in signals.forever() {
            stops += u32::from(signal != SIGUSR1);
            match (stops, hurrier.get()) {
                (2, Some(hurrier)) if signal != SIGUSR1 => {
                    tell("second signal: leaving at once, what was not handled is abandoned");
                    hurrier.hurry();
                }
                (2.., _) if signal != SIGUSR1 => process::exit(1),
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
        for (name, path) in [("cert", &bot.cert), ("key", &bot.key)] {
            if let Some(path) = path {
                line(name, format!("{}  ({})", path.display(), bot.name));
            }
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
