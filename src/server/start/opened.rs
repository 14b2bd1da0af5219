//! The second step of a start: the journal is read, and the files are open.

use std::{sync::Arc, time::Instant};

use crossbeam_channel::Sender;

use super::bound::Bound;
use crate::{
    bots::BotRegistry,
    delivery::dead_letters::DeadLetters,
    dispatch::{Budget, Delivery, FullChats, Scheduler},
    error::Error,
    io::{config_snapshot::ConfigSnapshot, peer_limit::PeerConnectionLimit},
    server::{
        admin::AdminThread,
        journal::{self, OnRecovery},
    },
};

/// A server with all that its threads share.
pub(super) struct Opened {
    pub(super) bound: Bound,
    pub(super) budget: Arc<Budget>,
    pub(super) full: Arc<FullChats>,
    pub(super) inboxes: Vec<Sender<Delivery>>,
    /// `None` where updates are kept in memory alone.
    pub(super) journal: Option<journal::Opened>,
    pub(super) letters: Option<Arc<DeadLetters>>,
    pub(super) permits: Arc<PeerConnectionLimit>,
    pub(super) registry: Arc<BotRegistry>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) snapshot: Arc<ConfigSnapshot>,
}

impl Bound {
    /// Reads the journal and opens the files.
    ///
    /// # Errors
    /// A name that is one too many, a journal that cannot be read, or a file that cannot be opened.
    pub(super) fn open(mut self) -> Result<Opened, Error> {
        let config = &self.config;
        let (shards, workers) = (self.placement.shards.len(), self.placement.workers.len());
        let limits = &config.limits;
        // Two of the shards' kind more: for the journal's threads, or for updates that are fed in.
        let budget = Budget::new(limits.queue_updates as u64, limits.queue_bytes as u64)
            .shared_by(shards + 2 + workers, limits.body_bytes as u64);
        let (budget, full) = (Arc::new(budget), Arc::new(FullChats::new()));
        let settings = config.dispatch.clone();
        let (scheduler, inboxes) =
            Scheduler::new(workers, config.bots.len(), limits, settings, &full, Instant::now());
        let scheduler = Arc::new(scheduler);
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
        let journal = journal::Opened::open(
            &config.journal,
            config.keep_bodies,
            &registry,
            &scheduler,
            on_recovery,
        )?;
        self.notices.extend(journal.iter().flat_map(journal::Opened::notices));
        self.notices.extend(self.admin.as_ref().and_then(AdminThread::notice));
        let permits = Arc::new(PeerConnectionLimit::new(limits.connections_per_address));
        let letters = config.dispatch.dead_letters.as_deref();
        let letters = letters
            .map(|path| DeadLetters::open(path, &registry, config.journal.ack).map(Arc::new))
            .transpose()?;
        Ok(Opened {
            bound: self,
            budget,
            full,
            inboxes,
            journal,
            letters,
            permits,
            registry,
            scheduler,
            snapshot,
        })
    }
}
