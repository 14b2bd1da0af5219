//! The bots that a server has had since its start. A bot that is taken out of the configuration
//! stays here: updates of it that were acknowledged may still be under way.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use crate::{
    bots::{BotId, BotKey},
    error::Error,
};

/// Most names that one process remembers; a bound against a config that is generated anew with new
/// names again and again.
const NAMES_MAX: usize = 1 << 16;

/// All bots, by the [`BotId`]s that they got when their names were first seen. Reading takes no
/// lock.
#[derive(Debug, Default)]
pub struct BotRegistry {
    entries: boxcar::Vec<Entry>,
    /// Held while bots are added, so that no two get the same number.
    adding: Mutex<()>,
    /// One more than the index of the bot that is configured alone; 0 where none is.
    alone: AtomicU32,
}

#[derive(Debug)]
struct Entry {
    /// Whether an update of it has come over the wire since the last call of
    /// [`take_active`](BotRegistry::take_active).
    is_active: AtomicBool,
    key: BotKey,
    name: String,
}

impl BotRegistry {
    /// The ids of the bots with these names, in their order; new names are added.
    ///
    /// # Errors
    /// A name that is one too many, or that has the key of another one; nothing is added then.
    pub fn register<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Vec<BotId>, Error> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || names.clone().filter(|name| self.id_of(name).is_none());
        if self.len() + new().count() > NAMES_MAX {
            let expected = format!("no more than {NAMES_MAX} different names until a restart");
            return Err(Error::config("bot.name", names.count(), &expected));
        }
        for name in new() {
            if let Some(other) =
                self.id_of_key(BotKey::from_name(name)).and_then(|id| self.name(id))
            {
                let expected = format!("another name ({other:?} has the same CRC32C)");
                return Err(Error::config("bot.name", name, &expected));
            }
        }
        let id_of = |name: &str| {
            self.id_of(name).unwrap_or_else(|| {
                let (key, name) = (BotKey::from_name(name), name.to_owned());
                id_at(self.entries.push(Entry { is_active: AtomicBool::new(false), key, name }))
            })
        };
        Ok(names.map(id_of).collect())
    }

    /// Records that `bots` are those that are configured now.
    pub(crate) fn configure(&self, bots: &[BotId]) {
        let alone = match bots {
            [bot] => bot.index().saturating_add(1),
            _ => 0,
        };
        self.alone.store(alone, Relaxed);
    }

    /// Whether no other bot is configured than `bot`.
    pub(crate) fn is_alone(&self, bot: BotId) -> bool {
        self.alone.load(Relaxed) == bot.index().saturating_add(1)
    }

    /// Records that an update of `bot` has come over the wire. All shards may call it for each
    /// update: it writes only where the flag is not set already.
    #[inline]
    pub(crate) fn mark_active(&self, bot: BotId) {
        if let Some(entry) = self.entries.get(bot.index() as usize)
            && !entry.is_active.load(Relaxed)
        {
            entry.is_active.store(true, Relaxed);
        }
    }

    /// Whether an update of `bot` has come over the wire since this was last asked.
    pub fn take_active(&self, bot: BotId) -> bool {
        let entry = self.entries.get(bot.index() as usize);
        entry.is_some_and(|entry| entry.is_active.swap(false, Relaxed))
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.count()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of `bot`.
    pub(crate) fn name(&self, bot: BotId) -> Option<&str> {
        self.entries.get(bot.index() as usize).map(|entry| entry.name.as_str())
    }

    /// All names, in the order of the ids.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, entry)| entry.name.as_str())
    }

    /// The key of `bot` in the journal.
    #[inline]
    pub(crate) fn key_of(&self, bot: BotId) -> BotKey {
        let entry = self.entries.get(bot.index() as usize);
        entry.map_or_else(|| BotKey::from_name(""), |entry| entry.key)
    }

    /// The bot with this key.
    pub fn id_of_key(&self, key: BotKey) -> Option<BotId> {
        self.entries.iter().find(|(_, entry)| entry.key == key).map(|(index, _)| id_at(index))
    }

    /// The bot of this name.
    pub fn id_of(&self, name: &str) -> Option<BotId> {
        self.entries.iter().find(|(_, entry)| entry.name == name).map(|(index, _)| id_at(index))
    }
}

/// An index is below [`NAMES_MAX`].
fn id_at(index: usize) -> BotId {
    BotId::new(u32::try_from(index).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_name_keeps_its_id_however_the_configuration_changes() {
        let registry = BotRegistry::default();
        let ids = |names: &[&str]| {
            let ids = registry.register(names.iter().copied()).unwrap();
            ids.into_iter().map(BotId::index).collect::<Vec<_>>()
        };
        assert_eq!(ids(&["a", "b"]), [0, 1]);
        assert_eq!(ids(&["c", "b"]), [2, 1]);
        assert_eq!(ids(&["a"]), [0], "it was away");
        assert_eq!(registry.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        for (index, name) in [(0, Some("a")), (1, Some("b")), (2, Some("c")), (3, None)] {
            let id = BotId::new(index);
            assert_eq!(registry.name(id), name);
            assert_eq!(registry.id_of_key(registry.key_of(id)), name.map(|_| id));
        }
    }

    #[test]
    fn two_names_of_one_key_never_meet() {
        // Among as many names there are two by the birthday paradox.
        let mut seen = HashMap::new();
        let names = (0_u64..).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut pairs = names
            .filter_map(|name| Some((seen.insert(BotKey::from_name(&name), name.clone())?, name)));
        let (one, other) = pairs.next().unwrap();
        let registry = BotRegistry::default();
        registry.register([&*one].into_iter()).unwrap();
        let error = registry.register(["x", &other].into_iter()).unwrap_err().to_string();
        assert!(error.contains("same CRC32C"), "{error}");
        assert_eq!(registry.len(), 1, "nothing was added");
    }
}
