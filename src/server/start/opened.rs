//! The second step of a start: the journal is read, and the files are open.

use std::sync::Arc;

use super::bound::Bound;
use crate::{
    bots::BotRegistry,
    delivery::dead_letters::DeadLetters,
    dispatch::Outputs,
    error::Error,
    io::{config_snapshot::ConfigSnapshot, peer_limit::PeerConnectionLimit},
    server::{
        admin::AdminThread,
        journal::{OnRecovery, OpenedJournal},
        output::Output,
        outputs::queue,
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
        let outputs = Outputs::to(self.router.take());
        for Output { name, workers, .. } in &self.outputs {
            let workers = workers.unwrap_or(self.placement.workers.len());
            outputs.add(queue(name, workers, config, config.bots.len(), shards));
        }
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
