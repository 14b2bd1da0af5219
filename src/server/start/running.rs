//! The third step of a start: the threads.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, OnceLock, mpsc as std_mpsc},
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use futures_channel::mpsc;

use super::{bound::Bound, opened::Opened};
use crate::{
    config::{Config, DriverChoice, DriverKind, ListenAddress},
    delivery::sink::BotNames,
    dispatch::Dispatcher,
    error::{Error, ErrorKind},
    io::{
        acceptor::{Acceptor, ConnectionLimits, ShardLink},
        config_snapshot::ConfigSnapshot,
        connection::IngestPath,
        cpu_affinity,
        listener::{ListeningSocket, Names},
        peer_limit::PeerConnectionLimit,
        preflight,
        runtime::Runtime,
        shard::Seed,
    },
    observe::metrics::Metrics,
    proto::update::{ParserLimits, Recycled, UpdateParser},
    server::{
        Server,
        feeder::{FeedPath, Feeder, Inlet},
        files::Files,
        hangs::{self, Hangs},
        journal::{IntakeEnd, OpenedJournal},
        outputs::RunningOutputs,
        reload::ReloadLock,
        threads::spawn,
        watch::{self, Watcher},
    },
    tls::{FileWatch, TlsConfig},
};

/// Messages that may wait for a shard. Connections beyond them go to another one.
const MAILBOX: usize = 1024;
/// Recycled bodies and tapes that may wait for a shard; the others are freed.
const RETURNS: usize = 1024;

impl Opened {
    /// Starts all threads. Where one cannot be, dropping the handle stops those that were.
    ///
    /// # Errors
    /// A thread that cannot be started, or a driver that cannot be built.
    pub(super) fn run(self) -> Result<Server, Error> {
        let Self { bound, journal: opened, letters, outputs, permits, registry, snapshot } = self;
        let Bound {
            admin,
            config,
            control,
            health,
            incidents,
            listeners,
            notices,
            on_drop,
            outputs: destinations,
            placement,
            recent,
            sockets,
            tls,
            view,
            watch_certificates,
            mut watched,
            ..
        } = bound;
        let shards = placement.shards.len();
        let local_addrs = listeners.iter().filter_map(|listener| match &listener.address {
            ListenAddress::Tcp(address) => Some(*address),
            _ => None,
        });
        let dispatcher = |shard| Dispatcher::to_outputs(outputs.clone(), shard);
        let metrics = Metrics { outputs: Arc::clone(&outputs.counts), ..Metrics::new(shards, 0) };
        // Where a step fails, dropping the handle stops what has started.
        let (returns, taken_back): (Vec<_>, Vec<_>) = (0..shards).map(|_| bounded(RETURNS)).unzip();
        let files = Files::new(letters.clone());
        let inlet = Inlet::closed(&metrics, &registry);
        let running = RunningOutputs {
            all: Mutex::default(),
            backlog: OnceLock::new(),
            control: Arc::clone(&control),
            shard_cpus: placement.shards.clone(),
            cpus: placement.workers.clone(),
            files: files.clone(),
            health: Arc::clone(&health),
            inlet: inlet.clone(),
            journal: opened.as_ref().map(|opened| Arc::clone(&opened.journal)),
            letters: letters.clone(),
            metrics: metrics.workers.clone(),
            names: BotNames::new(&registry),
            on_drop,
            outputs: outputs.clone(),
            returns: returns.clone(),
            threads: Mutex::default(),
        };
        let mut handle = Server {
            acceptor: None,
            admin,
            control,
            driver: DriverKind::Epoll,
            files,
            hangs: None,
            health,
            incidents,
            inlet,
            is_started: false,
            journal: None,
            outputs: outputs.clone(),
            local_addrs: local_addrs.collect(),
            listeners: listeners.clone(),
            metrics,
            notices,
            acceptor_config: Arc::default(),
            placement,
            recent,
            registry,
            permits: Arc::clone(&permits),
            settings: Arc::new(Mutex::new(config.clone())),
            reload_lock: ReloadLock::default(),
            running: Arc::new(running),
            shards: Vec::new(),
            shard_threads: Vec::new(),
            started_at: Instant::now(),
            stopped: false,
            watcher: None,
        };
        handle.watch_hangs()?;
        if let Some(tls) = &tls {
            handle.check_certificates(&config, tls);
        }
        handle.running.start_all(&destinations)?;
        // A stream ends with the last of its workers.
        drop(destinations);
        handle.metrics.set_slow(config.profile.slow);
        let (paths, feed_path) = match opened {
            Some(opened) => handle.start_journal(opened, || dispatcher(shards), returns)?,
            None => {
                let paths =
                    (0..shards).map(|shard| IngestPath::Memory(dispatcher(shard))).collect();
                (paths, FeedPath::Memory(dispatcher(0).for_replay()))
            }
        };
        handle.inlet.open(Feeder {
            end: handle.inlet.end(),
            letters,
            parser: UpdateParser::new(ParserLimits { ..ParserLimits::default() }),
            path: feed_path,
        });
        let names = Names::new(
            &sockets,
            &handle.acceptor_config,
            &handle.control,
            handle.incidents.writer(),
        );
        let shards =
            handle.start_shards(&config, &snapshot, tls.as_ref(), &permits, paths, taken_back)?;
        if config.listens {
            handle.start_acceptor(ConnectionLimits::new(&config, permits), sockets, shards)?;
        }
        if let Some(tls) = tls.filter(|_| watch_certificates) {
            let mut files = FileWatch::new(tls);
            watched.push(Box::new(move |at| files.poll(at, SystemTime::now())));
        }
        if let Some(mut names) = names {
            names.all().for_each(|name| handle.health.watch_name(name));
            watched.push(Box::new(move |at| names.look(at)));
        }
        let operation = Arc::default();
        handle.health.watch(&operation);
        let spawn = |run| handle.spawn("ringhook-watch".to_owned(), None, run);
        handle.watcher = Watcher::start(watch::PAUSE, watched, operation, spawn)?;
        handle.health.serving();
        let _ = view.set(handle.view());
        handle.is_started = true;
        Ok(handle)
    }
}

/// What a shard's thread is told when all have tried to build their driver.
enum Verdict {
    Go,
    ReplaceIdle(DriverKind),
}

impl Server {
    /// Starts the thread that says what hangs, in all others and in a stop as well. It also ends
    /// outputs that were taken out.
    fn watch_hangs(&mut self) -> Result<(), Error> {
        let (health, incidents) = (Arc::clone(&self.health), self.incidents.writer());
        let mut hangs = Hangs::new(health, incidents, Arc::clone(&self.metrics.hangs));
        let look: watch::Watched = Box::new(move |now| hangs.look(now));
        let running = Arc::clone(&self.running);
        let end: watch::Watched = Box::new(move |_| running.look());
        let spawn = |run| self.spawn("ringhook-health".to_owned(), None, run);
        // No thread watches this one: it would have to report itself.
        self.hangs = Watcher::start(hangs::PAUSE, vec![look, end], Arc::default(), spawn)?;
        self.inlet.operations().for_each(|operation| self.health.watch(operation));
        Ok(())
    }

    /// Looks for what the owner of the certificates should know, and has them counted.
    fn check_certificates(&mut self, config: &Config, tls: &TlsConfig) {
        tls.expect_hosts(config.bots.iter().filter_map(|bot| bot.host.as_deref()));
        let findings = tls.findings(SystemTime::now());
        self.notices.extend(findings.iter().map(ToString::to_string));
        self.metrics.tls = Some(tls.clone());
    }

    /// Starts the journal's threads; for each shard its way into the journal, and the feeder's.
    fn start_journal(
        &mut self,
        opened: OpenedJournal,
        dispatcher: impl Fn() -> Dispatcher,
        returns: Vec<Sender<Recycled>>,
    ) -> Result<(Vec<IngestPath>, FeedPath), Error> {
        let spawn = |name: &str, run| self.spawn(name.to_owned(), None, run);
        let (threads, metrics, mut intakes) =
            opened.start(dispatcher, returns, &self.control, &spawn)?;
        let journal = Arc::clone(&threads.journal);
        if let Some(workers) = self.outputs.schedulers().next() {
            journal.set_helpers(workers);
        }
        self.health.watch_journal(&journal);
        let _ = self.running.backlog.set(Arc::clone(&threads.backlog));
        self.journal = Some(threads);
        self.metrics.journal = Some(metrics);
        let home = intakes.len() - 1;
        let missing = || Error::new(ErrorKind::Journal, "no way into the journal is left");
        let IntakeEnd { batches, returned, .. } = intakes.pop().ok_or_else(missing)?;
        let paths = intakes.into_iter().enumerate();
        let paths =
            paths.map(|(shard, intake)| IngestPath::Journal(intake.into_intake(&journal, shard)));
        Ok((paths.collect(), FeedPath::Journal { batches, home, journal, returned }))
    }

    /// Starts the shards. Each builds its driver on its own thread, since a ring belongs to the
    /// thread that made it; all get the same one or none starts.
    fn start_shards(
        &mut self,
        config: &Config,
        snapshot: &Arc<ConfigSnapshot>,
        tls: Option<&TlsConfig>,
        permits: &Arc<PeerConnectionLimit>,
        paths: Vec<IngestPath>,
        returns: Vec<Receiver<Recycled>>,
    ) -> Result<Vec<ShardLink>, Error> {
        self.driver = match config.driver {
            DriverChoice::Epoll => DriverKind::Epoll,
            DriverChoice::Auto | DriverChoice::IoUring => DriverKind::IoUring,
        };
        let (built, outcomes) = std_mpsc::channel();
        let (mut verdicts, mut links) = (Vec::new(), Vec::new());
        let cpus = self.placement.shards.clone();
        let metrics = self.metrics.shards.clone();
        for (index, (((cpu, metrics), returns), ingest_path)) in
            cpus.into_iter().zip(metrics).zip(returns).zip(paths).enumerate()
        {
            let (mailbox, messages) = mpsc::channel(MAILBOX);
            let (idle, open) = (Arc::default(), Arc::default());
            self.shards.push(mailbox.clone());
            links.push(ShardLink { idle: Arc::clone(&idle), mailbox, open: Arc::clone(&open) });
            let seed = Seed {
                idle,
                incidents: self.incidents.writer(),
                snapshot: Arc::clone(snapshot),
                mailbox: messages,
                metrics,
                open,
                heartbeat: self.health.watch_shard(),
                returns,
                registry: Arc::clone(&self.registry),
                permits: Arc::clone(permits),
                recent: self.recent.writer(),
                tls: tls.cloned(),
                ingest_path,
            };
            let (tell, verdict) = std_mpsc::channel();
            verdicts.push(tell);
            let (kind, built) = (self.driver, built.clone());
            let run = move || run_shard(seed, kind, &built, &verdict);
            let thread = self.spawn(format!("ringhook-s{index}"), Some(cpu), run)?;
            self.shard_threads.push(thread);
        }
        drop(built);
        self.settle_driver(config.driver, &verdicts, &outcomes)?;
        Ok(links)
    }

    /// Waits until all shards have built their driver; where one could not, all take epoll if the
    /// choice allows it.
    fn settle_driver(
        &mut self,
        choice: DriverChoice,
        verdicts: &[std_mpsc::Sender<Verdict>],
        outcomes: &std_mpsc::Receiver<io::Result<()>>,
    ) -> Result<(), Error> {
        loop {
            let failure = outcomes.iter().take(verdicts.len()).filter_map(Result::err).last();
            let Some(error) = failure else {
                verdicts.iter().for_each(|tell| drop(tell.send(Verdict::Go)));
                return Ok(());
            };
            let advice = preflight::ring_advice(&error);
            if choice != DriverChoice::Auto || self.driver == DriverKind::Epoll {
                let message = format!("the {} driver is not to be had: {advice}", self.driver);
                return Err(Error::with_source(ErrorKind::Driver, message, error));
            }
            self.driver = DriverKind::Epoll;
            tracing::warn!(%error, advice, "io_uring is not to be had, using epoll");
            self.notices
                .push(format!("using epoll, io_uring is not to be had ({error}): {advice}"));
            verdicts.iter().for_each(|tell| drop(tell.send(Verdict::ReplaceIdle(self.driver))));
        }
    }

    fn start_acceptor(
        &mut self,
        limits: ConnectionLimits,
        sockets: Vec<ListeningSocket>,
        shards: Vec<ShardLink>,
    ) -> Result<(), Error> {
        let thread_error = |source| Error::with_source(ErrorKind::Thread, "socketpair", source);
        let (keep, stop) = UnixStream::pair().map_err(thread_error)?;
        keep.set_nonblocking(true).map_err(thread_error)?;
        let metrics = Arc::clone(&self.metrics.acceptor);
        let acceptor_config = Arc::clone(&self.acceptor_config);
        let incidents = self.incidents.writer();
        let acceptor =
            Acceptor::new(limits, incidents, sockets, metrics, acceptor_config, shards, stop);
        self.health.watch(acceptor.operation());
        let thread = self.spawn("ringhook-accept".to_owned(), None, || {
            cpu_affinity::be_patient();
            acceptor.run();
        })?;
        self.acceptor = Some((keep, thread));
        Ok(())
    }

    /// Starts a thread, pinned to `cpu`.
    fn spawn(
        &self,
        name: String,
        cpu: Option<usize>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        spawn(&self.control, name, cpu, run)
    }
}

/// A shard's thread: builds the driver it is told to, then runs.
fn run_shard(
    seed: Seed,
    mut kind: DriverKind,
    built: &std_mpsc::Sender<io::Result<()>>,
    verdict: &std_mpsc::Receiver<Verdict>,
) {
    loop {
        let (runtime, outcome) = match Runtime::new(kind) {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // A closed channel means that the start has failed elsewhere.
        if built.send(outcome).is_err() {
            return;
        }
        match (verdict.recv(), runtime) {
            (Ok(Verdict::Go), Some(runtime)) => return seed.run(runtime, kind),
            (Ok(Verdict::ReplaceIdle(other)), _) => kind = other,
            _ => return,
        }
    }
}
