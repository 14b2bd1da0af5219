//! What `serve` and `poll` have in common: flags, signals, the log, the server's beginning and its
//! end.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::PathBuf,
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use humantime::parse_duration;
use ringhook_status::Status;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ},
    iterator::Signals,
};

use super::{
    final_report::{self, FinalReport, forwarded, handed_out, kept, with_dropped},
    live_outputs::LiveOutputs,
    profile::Profiler,
    setup::Setup,
    shown_config::LiveConfig,
    surroundings,
};
use crate::{
    config::{ConfigFile, LogFormat, LogLevel},
    process::{
        logging,
        notify::Notifier,
        privileges::{self, Identity},
        stderr::{self, log},
    },
};
use ringhook::{
    Ack, Config, Error, ErrorKind, RecoveryProgress, Report, Server, ServerBuilder, ShutdownHandle,
};

/// Shortest wait between two checks whether the server is healthy.
const WATCH_STEP: Duration = Duration::from_millis(100);

/// Flags of every command that runs a server.
#[derive(Args, Debug)]
pub(crate) struct ServiceArgs {
    /// Address on which /healthz, /readyz and /incidents are answered over plain HTTP, such as
    /// 127.0.0.1:9464 [default: none]
    #[arg(long, id = "admin.listen", value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// What a line of the log looks like: text or json [default: text]
    #[arg(long, id = "log.format", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// The least important lines of the log: off, error, warn, info, debug or trace [default: info]
    #[arg(long, id = "log.level", value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// Who to become once everything is opened that needs it, by name or number; needs a start as
    /// root
    #[arg(long, id = "server.user", value_name = "USER")]
    user: Option<String>,
    /// The group to become with --user [default: the user's own]
    #[arg(long, id = "server.group", value_name = "GROUP")]
    group: Option<String>,
    /// Worker threads [default: one for each CPU without a shard]
    #[arg(long, id = "server.workers", value_name = "N")]
    workers: Option<usize>,
    /// How safe an update is once it is acknowledged: memory (lost with the process), written
    /// (outlives the process) or synced (outlives a power cut) [default: written]
    #[arg(long, id = "journal.ack", value_name = "MODE")]
    ack: Option<Ack>,
    /// How long to wait for another server to let go of the data directory [default: 0s]
    #[arg(long, id = "journal.lock_wait", value_name = "TIME", value_parser = parse_duration)]
    wait_for_lock: Option<Duration>,
    /// Where all updates go, whatever outputs and routes the config has: a bot's URL such as
    /// http://127.0.0.1:3000/webhook or http+unix:/run/bot.sock:/webhook,
    /// getupdates://127.0.0.1:8081 for bots that poll there, a broker's such as
    /// redis://127.0.0.1:6379, ndjson:- (stdout), ndjson:FILE or null [default: ndjson:-]
    #[arg(long, id = "output.to", value_name = "URL")]
    output: Option<String>,
    /// Write lines that tell bot, kind and time beside the update [default: where there is more
    /// than one bot]
    #[arg(long, id = "output.meta", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    meta: Option<bool>,
    /// Write latency profiles of every stage into this directory while the server runs
    #[arg(long, id = "profile.dir", value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Name requests in the report that take longer than this, such as 50ms
    #[arg(long, id = "profile.slow", value_name = "TIME", value_parser = parse_duration)]
    profile_slow: Option<Duration>,
    /// How long a stop may take [default: 10s]
    #[arg(long, id = "server.drain_timeout", value_name = "TIME", value_parser = parse_duration)]
    drain_timeout: Option<Duration>,
    /// Write counters and latency percentiles as JSON at exit
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

impl ServiceArgs {
    /// Writes what the flags say over what the file says.
    pub(crate) fn apply_to(&self, file: &mut ConfigFile) {
        over(&self.admin, &mut file.admin.listen);
        over(&self.log_format, &mut file.log.format);
        over(&self.log_level, &mut file.log.level);
        over(&self.user, &mut file.server.user);
        over(&self.group, &mut file.server.group);
        over(&self.workers, &mut file.server.workers);
        over(&self.drain_timeout, &mut file.server.drain_timeout);
        over(&self.ack, &mut file.journal.ack);
        over(&self.wait_for_lock, &mut file.journal.lock_wait);
        if let Some(to) = &self.output {
            file.set_output(to);
        }
        if let Some(meta) = self.meta {
            file.set_meta(meta);
        }
        over(&self.profile, &mut file.profile.dir);
        over(&self.profile_slow, &mut file.profile.slow);
    }
}

/// A flag that is given wins.
pub(crate) fn over<T: Clone + Into<S>, S>(flag: &Option<T>, setting: &mut S) {
    if let Some(value) = flag {
        *setting = value.clone().into();
    }
}

/// What the main thread waits for.
pub(crate) enum Event {
    /// The config file or one with a secret is another one.
    Changed,
    Failure(Error),
    Signal(i32),
}

/// Why a reload was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// Files have changed.
    Files,
    /// A signal.
    Signal,
}

/// A hangup from the first moment on: one that comes before there is anything to reload must not
/// end the process.
pub(crate) struct EarlyHangup(Arc<AtomicBool>);

impl EarlyHangup {
    pub(crate) fn watch() -> Result<Self, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGHUP, Arc::clone(&flag)).map_err(unwatched)?;
        Ok(Self(flag))
    }
}

/// What surrounds a server, from before its start until after its end.
pub(crate) struct Service {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) notifier: Arc<Notifier>,
    /// How many descriptors there may be, for people.
    pub(crate) descriptors: String,
    arrived: mpsc::Receiver<Event>,
    shutdown_handle: Arc<OnceLock<ShutdownHandle>>,
    identity: Option<Identity>,
    profiler: Option<Profiler>,
    pub(crate) outputs: LiveOutputs,
    /// The config as the status page shows it.
    pub(crate) shown_config: Arc<LiveConfig>,
    report_file: Option<(PathBuf, File)>,
    signals: signal_hook::iterator::Handle,
}

/// Who the server of `setup` becomes. From now on nothing that the process starts has more
/// privileges than it has itself; no other thread may run yet, since each has a flag of its own.
pub(crate) fn identity(setup: &Setup) -> Result<Option<Identity>, Error> {
    let section = &setup.file.server;
    let identity = Identity::find(section.user.as_deref(), section.group.as_deref())?;
    privileges::never_more()?;
    Ok(identity)
}

impl Service {
    /// Makes the file of the report, opens the log and watches for signals.
    pub(crate) fn begin(
        args: &ServiceArgs,
        setup: &Setup,
        identity: Option<Identity>,
        hangup: &EarlyHangup,
    ) -> Result<Self, Error> {
        let user = identity.as_ref().map(Identity::user);
        let report = args.report.as_deref();
        let report_file =
            report.map(|path| final_report::create(path, user.as_ref())).transpose()?;
        stderr::queue().map_err(|source| {
            Error::with_source(ErrorKind::Thread, "cannot start a thread", source)
        })?;
        logging::to_stderr(&setup.file.log);
        let notifier = Arc::new(Notifier::from_env());
        let descriptors = raise_descriptors();
        let (events, arrived) = mpsc::channel();
        let shutdown_handle = Arc::new(OnceLock::new());
        let signals = watch_signals(events.clone(), Arc::clone(&shutdown_handle))?;
        if hangup.0.load(Ordering::Relaxed) {
            // What was read may be older than the signal.
            let _ = events.send(Event::Signal(SIGHUP));
        }
        let profiler = None;
        let routes = setup.routes(|number, _| u32::try_from(number).ok())?;
        for warning in routes.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            events,
            notifier,
            descriptors,
            arrived,
            shutdown_handle,
            identity,
            profiler,
            outputs: LiveOutputs::new(routes),
            shown_config: Arc::default(),
            report_file,
            signals,
        })
    }

    /// Starts a server by `config`, to which `adapt` adds what is its own.
    pub(crate) fn start(
        &mut self,
        config: Config,
        setup: &Setup,
        adapt: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Result<Server, Error> {
        let ack = config.journal.ack;
        let events = self.events.clone();
        let server = Server::builder().config(config).on_failure(move |error| {
            // The receiver is gone only when the process is about to end.
            let _ = events.send(Event::Failure(Error::new(error.kind(), error.to_string())));
        });
        let server = adapt(server).on_recovery(recovery_progress(Arc::clone(&self.notifier)));
        let user = self.identity.as_ref().map(Identity::user);
        let mut server = self.outputs.add_to(server, setup, ack, user.as_ref())?;
        if let (Some(identity), Some(user)) = (self.identity.clone(), user) {
            server = server.give_sockets_to(user).on_bound(move || identity.assume());
        }
        self.shown_config.show(setup, &[])?;
        let surroundings = surroundings::of(&self.outputs, &self.shown_config);
        let pages = Status::new(env!("CARGO_PKG_VERSION"), surroundings);
        let server = server.admin_pages(pages).start()?;
        // Not before: the server has changed to the user whose threads these are to be.
        self.outputs.start(setup, &server)?;
        self.shutdown_handle.get_or_init(|| server.shutdown_handle());
        let profile = &setup.file.profile;
        self.profiler = setup
            .profile_dir()
            .map(|dir| Profiler::start(dir, profile.interval, server.intervals()))
            .transpose()?;
        Ok(server)
    }

    /// Prints reports on SIGUSR1 and calls `reload` on SIGHUP and when files have changed, until a
    /// signal or a failure ends the service.
    pub(crate) fn run(&self, server: &Server, reload: impl Fn(Cause)) -> Option<Error> {
        let failure = self.wait(server, reload);
        self.notifier.stopping();
        tracing::info!("stopping");
        failure
    }

    fn wait(&self, server: &Server, reload: impl Fn(Cause)) -> Option<Error> {
        let mut alive_at = Instant::now();
        loop {
            let event = match self.notifier.alive_every() {
                None => self.arrived.recv().map_err(RecvTimeoutError::from),
                Some(every) => {
                    if alive_at.elapsed() >= every && server.is_healthy() {
                        self.notifier.alive();
                        alive_at = Instant::now();
                    }
                    self.arrived
                        .recv_timeout(every.saturating_sub(alive_at.elapsed()).max(WATCH_STEP))
                }
            };
            match event {
                Ok(Event::Signal(SIGUSR1)) => {
                    let report = with_dropped(server.report());
                    log(&report);
                    for (name, status) in self.outputs.forwards.status() {
                        log(format_args!("{}", forwarded(&name, &status)));
                    }
                    for (name, status) in self.outputs.pollers.status() {
                        log(handed_out(&name, &status));
                    }
                    self.profiler.iter().for_each(|profiler| profiler.dump(report.clone()));
                }
                Ok(Event::Changed) => reload(Cause::Files),
                Ok(Event::Signal(SIGHUP)) => {
                    // Files may have been renamed to be written anew, whatever the config says.
                    server.reopen();
                    reload(Cause::Signal);
                }
                Ok(Event::Signal(signal)) => {
                    let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                    log(format_args!("{name}: stopping, a second one leaves at once"));
                    return None;
                }
                Ok(Event::Failure(error)) => return Some(error),
                // The signal thread lives as long as this function.
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Stops the server, and what its updates are forwarded by.
    pub(crate) fn stop(&self, server: Server) -> Report {
        self.outputs.drain();
        let report = server.stop();
        self.outputs.stop();
        report
    }

    /// Tells of the end of a server that was stopped; `failure` is why, where it is one.
    pub(crate) fn finish(self, report: &Report, failure: Option<Error>) -> Result<(), Error> {
        tracing::info!(handled = report.updates_handled, "stopped");
        // What is written now may take its time: further signals still end the process.
        let is_forced = self.shutdown_handle.get().is_some_and(ShutdownHandle::is_forced);
        self.profiler.into_iter().for_each(|profiler| profiler.finish(report));
        // What was logged before has all of the time that is left for it, so that there is room.
        stderr::flush();
        let report = &with_dropped(report.clone());
        let (forwards, getupdates) =
            (self.outputs.forwards.status(), self.outputs.pollers.status());
        FinalReport { report, forwards, getupdates }.tell(self.report_file)?;
        self.signals.close();
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !is_forced {
            return Ok(());
        }
        let message = match kept(report) {
            Some(kept) => format!("left at the second signal: {kept}"),
            None => {
                let left = report.updates_abandoned;
                format!("left at the second signal with {left} update(s) not handled")
            }
        };
        Err(Error::new(ErrorKind::Thread, message))
    }
}

/// Tells how far the reading of the journal has got: nothing in the first second, then a line a
/// second.
fn recovery_progress(notifier: Arc<Notifier>) -> impl FnMut(RecoveryProgress) + Send {
    let mut printed_at = Instant::now();
    move |progress| {
        if printed_at.elapsed() >= Duration::from_secs(1) {
            printed_at = Instant::now();
            let mib = |bytes: u64| bytes >> 20;
            let (done, all) = (mib(progress.bytes), mib(progress.of));
            let line =
                format!("reading the journal: {done} of {all} MiB, {} records", progress.records);
            notifier.starting(&line);
            log(line);
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

/// Sends signals to the main thread. The second request to stop cuts the drain short, the third one
/// ends the process where it is, and so does the first one where the start is not over: it may be
/// reading a journal, or waiting for another process to let go of it.
fn watch_signals(
    events: mpsc::Sender<Event>,
    shutdown_handle: Arc<OnceLock<ShutdownHandle>>,
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
            match (stops, shutdown_handle.get()) {
                (2, Some(shutdown_handle)) if is_stop => {
                    shutdown_handle.force();
                    log("second signal: leaving at once, what was not handled is abandoned");
                }
                (2.., _) if is_stop => process::exit(1),
                // Nothing was promised yet, and the journal is as it was.
                (_, None) if is_stop => {
                    log("leaving before the start was over");
                    stderr::flush();
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
