//! The journal's threads: how they start and stop.

use std::{
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    bots::BotRegistry,
    config::{self, Ack},
    control::Control,
    dispatch::{Dispatcher, Outputs},
    duration::deadline,
    error::{Error, ErrorKind},
    journal::{
        Backlog, Batch, BatchReturn, Commits, Committer, Directory, Housekeeper, Intake, Journal,
        Log, MaintenanceTask, ReadBack, Recovered, RecoveryError, RecoveryProgress, Settings,
        is_held_here, recover,
    },
    observe::metrics::JournalMetrics,
    proto::update::Recycled,
};

/// Called while a start reads the journal.
pub(super) type OnRecovery = Box<dyn FnMut(RecoveryProgress) + Send>;

/// How often a start looks whether the journal can be had.
const LOCK_STEP: Duration = Duration::from_millis(20);

/// A journal that was read, before its threads run.
pub(super) struct Opened {
    pub(super) journal: Arc<Journal>,
    /// Whether what is read back keeps its bodies as received.
    keep_bodies: bool,
    maintenance: Receiver<MaintenanceTask>,
    recovered: Recovered,
}

/// Takes the directory, or waits up to `wait` until another process lets go of it.
fn own(dir: &Path, wait: Duration) -> io::Result<Directory> {
    let deadline = deadline(wait);
    let mut is_logged = false;
    loop {
        match Directory::own(dir) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                if !std::mem::replace(&mut is_logged, true) {
                    let dir = dir.display();
                    tracing::info!(%dir, "the journal belongs to another process: waiting");
                }
                thread::sleep(LOCK_STEP);
            }
            outcome => return outcome,
        }
    }
}

/// The running threads.
#[derive(Debug)]
pub(super) struct JournalThreads {
    pub(super) journal: Arc<Journal>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) committer: Vec<JoinHandle<()>>,
    pub(super) housekeeper: Vec<JoinHandle<()>>,
    pub(super) read_back: Vec<JoinHandle<()>>,
}

/// A place from which batches go to the committer and to which they come back.
pub(super) struct IntakeEnd {
    pub(super) batches: Sender<Batch>,
    pub(super) returned: Receiver<Batch>,
    waker: Arc<AtomicWaker>,
}

/// Starts a thread of this name.
pub(super) type Spawn<'a> =
    &'a dyn Fn(&str, Box<dyn FnOnce() + Send>) -> Result<JoinHandle<()>, Error>;

impl Opened {
    /// Takes the directory, reads what is in it and passes the known ids to the outputs; `None`
    /// where nothing is to be kept.
    pub(super) fn open(
        settings: &config::Journal,
        keep_bodies: bool,
        registry: &Arc<BotRegistry>,
        outputs: &Outputs,
        on_recovery: OnRecovery,
    ) -> Result<Option<Self>, Error> {
        let Some(dir) = settings.dir.as_deref().filter(|_| settings.ack != Ack::Memory) else {
            return Ok(None);
        };
        let storage = own(dir, settings.lock_wait).map_err(|error| not_owned(dir, error))?;
        let names: Vec<_> = registry.names().map(str::to_owned).collect();
        let recovered = recover(&storage, &names, |bot, id| outputs.remember(bot, id), on_recovery);
        let mut recovered = recovered.map_err(|error| unreadable(dir, error))?;
        let settings = Settings {
            ack: settings.ack,
            max_bytes: settings.max_bytes,
            segment_bytes: settings.segment_bytes,
            sync_interval: settings.sync_interval,
        };
        let segments = std::mem::take(&mut recovered.segments);
        let registry = Arc::clone(registry);
        let (journal, maintenance) = Journal::new(Arc::new(storage), settings, registry, segments);
        journal.parts().set_outputs(outputs.keys.clone(), &recovered.parts);
        Ok(Some(Self { journal, keep_bodies, maintenance, recovered }))
    }

    /// Notices about what was found.
    pub(super) fn notices(&self) -> Vec<String> {
        let found = &self.recovered;
        let mut notices = Vec::new();
        if found.records > 0 {
            let seconds = found.elapsed.as_secs_f64();
            let rate = found.scanned.records as f64 / seconds.max(1e-6);
            let mib = found.scanned.bytes as f64 / f64::from(1 << 20);
            notices.push(format!(
                "journal: {} update(s) to be delivered again of {} read ({mib:.1} MiB in \
                 {seconds:.3} s, {rate:.0} records/s)",
                found.records, found.scanned.records
            ));
        }
        if found.torn > 0 {
            notices.push(format!(
                "journal: {} unfinished record(s) cut off: they were not acknowledged",
                found.torn
            ));
        }
        for damage in &found.damages {
            notices.push(format!(
                "journal: {} bytes at offset {} of {} are no record any more, passed over",
                damage.bytes, damage.offset, damage.file
            ));
        }
        notices.extend(found.aside.iter().map(|aside| format!("journal: {}", aside.describe())));
        if found.orphans > 0 {
            notices.push(format!(
                "journal: {} update(s) of bots that are not configured stay where they are",
                found.orphans
            ));
        }
        notices
    }

    /// Starts the threads for `shards` shards and one feeder, and returns their ends of the
    /// journal.
    pub(super) fn start(
        self,
        dispatcher: impl Fn() -> Dispatcher,
        recycled: Vec<Sender<Recycled>>,
        control: &Arc<Control>,
        spawn: Spawn<'_>,
    ) -> Result<(JournalThreads, JournalMetrics, Vec<IntakeEnd>), Error> {
        let Self { journal, keep_bodies, maintenance, recovered } = self;
        // Each of them has one batch that is out, so none ever waits to send one.
        let (batches, gathered) = bounded(recycled.len() + 1);
        let (mut returns, mut intakes) = (Vec::new(), Vec::new());
        for recycled in recycled.into_iter().map(Some).chain([None]) {
            let (back, returned) = bounded(1);
            let waker = Arc::new(AtomicWaker::new());
            returns.push(BatchReturn { batches: back, recycled, waker: Arc::clone(&waker) });
            intakes.push(IntakeEnd { batches: batches.clone(), returned, waker });
        }
        let metrics = JournalMetrics {
            ack: journal.ack(),
            committer: Arc::default(),
            journal: Arc::<Journal>::clone(&journal),
            read_back: Arc::default(),
            recovered: (&recovered).into(),
        };
        let committed = recovered.previous.unwrap_or_default();
        let backlog = Arc::new(Backlog::new(recovered.from, committed).with(recovered.orphaned));
        let mut log = Log::new(Arc::clone(&journal), recovered.last, recovered.previous);
        log.open(Instant::now());
        let committer = Committer {
            backlog: Arc::clone(&backlog),
            batches: Some(gathered),
            committed: Vec::new(),
            dispatcher: dispatcher(),
            gathered: Vec::new(),
            returns,
            journal: Arc::clone(&journal),
            log,
            metrics: Arc::clone(&metrics.committer),
        };
        let commits = Commits::new(committer);
        let mut read_back = ReadBack::new(
            Arc::clone(&journal),
            Arc::clone(&backlog),
            dispatcher(),
            Arc::clone(&metrics.read_back),
        );
        read_back.set_keep_bodies(keep_bodies);
        let housekeeper = Housekeeper::new(Arc::clone(&journal), recovered.ids);
        let mut threads = JournalThreads {
            journal,
            backlog,
            committer: Vec::new(),
            housekeeper: Vec::new(),
            read_back: Vec::new(),
        };
        let start = || {
            let run: Box<dyn FnOnce() + Send> = Box::new(move || housekeeper.run(&maintenance));
            threads.housekeeper.push(spawn("ringhook-house", run)?);
            let run: Box<dyn FnOnce() + Send> = Box::new(move || commits.run());
            threads.committer.push(spawn("ringhook-commit", run)?);
            let control = Arc::clone(control);
            let run: Box<dyn FnOnce() + Send> = Box::new(move || read_back.run(&control));
            threads.read_back.push(spawn("ringhook-read", run)?);
            Ok(())
        };
        if let Err(error) = start() {
            // Those that run would wait for ever, and the directory would stay locked.
            drop((batches, intakes));
            threads.journal.stop();
            threads.journal.wake_committer();
            return Err(error);
        }
        Ok((threads, metrics, intakes))
    }
}

impl IntakeEnd {
    /// The shard's end of it.
    pub(super) fn into_intake(self, journal: &Arc<Journal>, shard: usize) -> Intake {
        Intake::new(Arc::clone(journal), shard, self.batches, self.returned, self.waker)
    }
}

/// Why the journal's directory cannot be had.
pub fn not_owned(dir: &Path, error: io::Error) -> Error {
    if is_held_here(&error) {
        let message = format!(
            "the journal in {} is still held by this process: a server that was stopped has left a \
             thread behind, such as that of a handler that has not returned, or it still runs; use \
             another data directory, or start a new process",
            dir.display()
        );
        return Error::new(ErrorKind::Journal, message);
    }
    if error.kind() == io::ErrorKind::WouldBlock {
        let message = format!(
            "the journal in {} belongs to another process that runs: stop it, or use another \
             data directory",
            dir.display()
        );
        return Error::new(ErrorKind::Journal, message);
    }
    Error::with_source(ErrorKind::Journal, format!("the journal in {}", dir.display()), error)
}

/// Why the journal in `dir` cannot be used.
pub fn unreadable(dir: &Path, error: RecoveryError) -> Error {
    match error {
        RecoveryError::Io(None, error) => {
            let message = format!("the journal in {}", dir.display());
            Error::with_source(ErrorKind::Journal, message, error)
        }
        RecoveryError::Io(Some(file), error) => {
            let message =
                format!("the journal's {} ({})", dir.join(&file).display(), advice(&file, &error));
            Error::with_source(ErrorKind::Journal, message, error)
        }
        RecoveryError::Number(file) => {
            let message = format!(
                "the journal's {} has a number that no segment of a journal gets: it is not of this \
                 journal, move it elsewhere",
                dir.join(file).display()
            );
            Error::new(ErrorKind::Journal, message)
        }
        RecoveryError::Version(file, version) => {
            let message = format!(
                "the journal's {} is of version {version} of the format, which this ringhook does \
                 not know: use the one that wrote it",
                dir.join(file).display()
            );
            Error::new(ErrorKind::Journal, message)
        }
    }
}

/// What helps where `file` cannot be used, and what becomes of the updates without it.
fn advice(file: &str, error: &io::Error) -> String {
    let cost = match file.split_once('.') {
        Some((_, "settled")) => {
            "its updates are delivered again, those that were handled as well; none is lost"
        }
        Some((_, "ids")) => "an update that comes again may not be known; none is lost",
        _ => "its updates are not delivered and the others are; moved back later, they are",
    };
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "let it belong to the user that the server runs as, or else move it elsewhere: then"
        }
        _ => "moved elsewhere,",
    };
    format!("{help} {cost}")
}
