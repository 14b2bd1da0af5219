//! Changing a running server: bots, credentials and limits. No connection is dropped for it.

use std::{
    fmt,
    io::Write as _,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

use super::Server;
use crate::{
    bots::{BotId, BotKey},
    config::Config,
    error::{Error, ErrorKind},
    io::{config_snapshot::ConfigSnapshot, shard::Message},
};

/// How long a reload waits for the one before it, whose configuration is brought by foreign code.
const RELOAD_WAIT: Duration = Duration::from_secs(10);

/// Bots that a line names.
const NAMED: usize = 10;

/// What a reload has changed, and what it could not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reload {
    /// Names of the bots that are new.
    pub bots_added: Vec<String>,
    /// Names of the bots that were there and have changed.
    pub bots_changed: Vec<String>,
    /// Names of the bots whose requests are answered 404 now. What was acknowledged of them before
    /// is still handled.
    pub bots_removed: Vec<String>,
    /// Keys of the settings that have changed and are in force.
    pub changed: Vec<&'static str>,
    /// Keys of the settings that differ and are not in force before the next start.
    pub needs_restart: Vec<&'static str>,
}

impl Reload {
    /// True where nothing was different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One line for people.
impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing has changed");
        }
        let lists = [
            ("bots added", some_of(&self.bots_added)),
            ("bots changed", some_of(&self.bots_changed)),
            ("bots removed", some_of(&self.bots_removed)),
            ("changed", self.changed.join(", ")),
            (
                "changed in the config, but in force only after a restart",
                self.needs_restart.join(", "),
            ),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        for (index, (what, list)) in lists.enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{what}: {list}")?;
        }
        Ok(())
    }
}

/// The first of many names.
fn some_of(names: &[String]) -> String {
    let (first, more) = names.split_at(names.len().min(NAMED));
    let rest = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    first.join(", ") + &rest
}

/// The lock of reloads: they run one after the other, so that what was read last is in force.
#[derive(Debug, Default)]
pub(super) struct ReloadLock {
    /// The thread that reloads.
    holder: Mutex<Option<ThreadId>>,
    over: Condvar,
}

/// The held lock; released when dropped.
struct Held<'a>(&'a ReloadLock);

impl ReloadLock {
    /// Takes the lock within `wait`; fails at once where the holder is this very thread.
    fn take(&self, wait: Duration) -> Result<Held<'_>, Error> {
        let me = thread::current().id();
        let holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        let is_others = |holder: &mut Option<ThreadId>| holder.is_some_and(|holder| holder != me);
        let waited = self.over.wait_timeout_while(holder, wait, is_others);
        let (mut holder, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if holder.is_some() {
            return Err(Error::new(ErrorKind::Reload, "another reload is under way"));
        }
        *holder = Some(me);
        Ok(Held(self))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.holder.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.over.notify_one();
    }
}

impl Server {
    /// Serves by `config` from now on: its bots with their hosts, credentials and lists, its other
    /// allow-lists, limits and drain timeout. The shards learn of it within a moment. Requests that
    /// are under way are finished by what they began with.
    ///
    /// All other settings stay as they are until a restart, and the result names those that differ.
    ///
    /// # Errors
    /// A setting that is wrong, too many bots, or another reload that is under way; then everything
    /// stays as it was, and the report counts it.
    pub fn reload(&self, config: &Config) -> Result<Reload, Error> {
        self.reload_from(|| Ok(config.clone()))
    }

    /// The same with what `load` brings, whose failure is counted as well. Other reloads wait for
    /// it, up to 10 s, and one that `load` itself asks for is refused at once.
    ///
    /// # Errors
    /// Those of `load` and of [`reload`](Self::reload).
    pub fn reload_from(
        &self,
        load: impl FnOnce() -> Result<Config, Error>,
    ) -> Result<Reload, Error> {
        // No lock is held while foreign code runs.
        let lock = self.reload_lock.take(RELOAD_WAIT);
        let loaded = lock.and_then(|lock| Ok((load()?, lock)));
        let mut settings = self.settings();
        let outcome = loaded.and_then(|(config, _lock)| self.put_in_force(&mut settings, config));
        match &outcome {
            Ok(reload) if reload.is_empty() => {}
            Ok(_) => self.metrics.reloads.increment(),
            Err(_) => self.metrics.reload_failures.increment(),
        }
        outcome
    }

    fn put_in_force(&self, settings: &mut Config, mut next: Config) -> Result<Reload, Error> {
        let mut reload =
            Reload { needs_restart: settings.keep_fixed(&mut next), ..Reload::default() };
        next.validate()?;
        let ids = self.registry.register(next.bot_names())?;
        // Before an update of a new bot can come: its line contains the bot's name.
        self.registry.configure(&ids);
        reload.compare(settings, &next);
        if let Some(tls) = &self.metrics.tls {
            tls.expect_hosts(next.bots.iter().filter_map(|bot| bot.host.as_deref()));
        }
        // The windows of new bots are there before the first update can come.
        self.outputs.schedulers().for_each(|it| it.cover(self.registry.len()));
        // So are their updates that the journal has kept.
        if let Some(journal) = &self.journal {
            let keys = next.bots.iter().map(|bot| BotKey::from_name(&bot.name));
            let install = |bot, window| self.outputs.install(bot, &window);
            journal.backlog.adopt(ids.iter().copied().zip(keys), install);
        }
        self.outputs.schedulers().for_each(|it| it.set_chat_updates(next.limits.chat_updates));
        self.metrics.set_slow(next.profile.slow);
        if next.keep_bodies {
            self.inlet.keep_bodies();
            self.journal.iter().for_each(|journal| journal.backlog.keep_bodies());
        }
        let snapshot = Arc::new(ConfigSnapshot::new(&next, &ids));
        for mailbox in &self.shards {
            // A sender of its own always finds room. A closed mailbox belongs to a shard that ends.
            let _ = mailbox.clone().try_send(Message::ConfigSnapshot(Arc::clone(&snapshot)));
        }
        self.permits.set_most(next.limits.connections_per_address);
        self.acceptor_config.give(&next);
        if let Some((stop, _)) = &self.acceptor {
            // Where the pair is full, the acceptor is about to look anyway.
            let _ = (&*stop).write(&[1]);
        }
        *settings = next;
        Ok(reload)
    }

    /// The name of `bot`, also where a reload has removed it; `None` where there never was one.
    #[must_use]
    pub fn bot_name(&self, bot: BotId) -> Option<&str> {
        self.registry.name(bot)
    }

    /// What the server runs by now.
    pub(super) fn settings(&self) -> MutexGuard<'_, Config> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reload {
    fn compare(&mut self, old: &Config, new: &Config) {
        for bot in &new.bots {
            match old.bots.iter().find(|before| before.name == bot.name) {
                None => self.bots_added.push(bot.name.clone()),
                Some(before) if !before.is_same(bot) => self.bots_changed.push(bot.name.clone()),
                Some(_) => {}
            }
        }
        let is_gone = |name: &str| !new.bots.iter().any(|bot| bot.name == name);
        let gone = old.bots.iter().map(|bot| &bot.name).filter(|name| is_gone(name));
        self.bots_removed = gone.cloned().collect();
        self.changed = old.changed(new);
    }
}
