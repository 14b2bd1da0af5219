//! The second step of a start: the journal is read, and the files are open.

use std::{sync::Arc, time::Instant};

use super::bound::Bound;
use crate::{
    bots::BotRegistry,
    delivery::dead_letters::DeadLetters,
    dispatch::{Budget, FullChats, OutputKey, OutputQueue, Outputs, Scheduler},
    error::Error,
    io::{config_snapshot::ConfigSnapshot, peer_limit::PeerConnectionLimit},
    server::{
        admin::AdminThread,
        journal::{OnRecovery, OpenedJournal},
        output::Output,
    },
};

/// A server with all that its threads share.
pub(super) struct Opened {
    pub(super) bound: Bound,
    /// `None` where updates are kept in memory alone.
    pub(super) journal: Option<OpenedJournal>,
    pub(super) letters: Option<Arc<DeadLetters>>,
    pub(super) outputs: Outputs,
    pub(super) permits: Arc<PeerConnectionLimit>,
    pub(super) registry: Arc<BotRegistry>,
    pub(super) snapshot: Arc<ConfigSnapshot>,
}

impl Bound {
    /// Reads the journal and opens the files.
    ///
    /// # Errors
    /// A name that is one too many, a journal that cannot be read, or a file that cannot be opened.
    pub(super) fn open(mut self) -> Result<Opened, Error> {
        let config = &self.config;
        let shards = self.placement.shards.len();
        let limits = &config.limits;
        let queue = |output: &Output| {
            let workers = output.workers.unwrap_or(self.placement.workers.len());
            // Two of the shards' kind more: for the journal's threads, or for updates that are fed
            // in.
            let budget = Budget::new(limits.queue_updates as u64, limits.queue_bytes as u64)
                .shared_by(shards + 2 + workers, limits.body_bytes as u64);
            let full = Arc::new(FullChats::new());
            let (bots, settings) = (config.bots.len(), config.dispatch.clone());
            let (scheduler, inboxes) =
                Scheduler::new(workers, bots, limits, settings, &full, Instant::now());
            let scheduler = Arc::new(scheduler);
            OutputQueue { budget: Arc::new(budget), full, inboxes, scheduler }
        };
        let outputs = Outputs {
            counts: Arc::default(),
            keys: self.outputs.iter().map(|output| OutputKey::from_name(&output.name)).collect(),
            queues: self.outputs.iter().map(queue).collect(),
            router: self.router.take(),
        };
        let registry = Arc::new(BotRegistry::default());
        let ids = registry.register(config.bot_names())?;
        registry.configure(&ids);
        let snapshot = Arc::new(ConfigSnapshot::new(config, &ids));
        let mut on_recovery = self.on_recovery.take();
        let on_recovery: OnRecovery = Box::new({
            let health = Arc::clone(&self.health);
            move |progress| {
                health.recovering(progress);
                on_recovery.iter_mut().for_each(|call| call(progress));
            }
        });
        let journal = OpenedJournal::open(&config.journal, &registry, &outputs, on_recovery)?;
        self.notices.extend(journal.iter().flat_map(OpenedJournal::notices));
        self.notices.extend(self.admin.as_ref().and_then(AdminThread::notice));
        let permits = Arc::new(PeerConnectionLimit::new(limits.connections_per_address));
        let letters = config.dispatch.dead_letters.as_deref();
        let letters = letters
            .map(|path| DeadLetters::open(path, &registry, config.journal.ack).map(Arc::new))
            .transpose()?;
        Ok(Opened { bound: self, journal, letters, outputs, permits, registry, snapshot })
    }
}
