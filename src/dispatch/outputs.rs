//! The outputs of a server: which of them an update goes to, and what leads to each.

use std::{fmt, sync::Arc};

use crossbeam_channel::Sender;

use super::{Budget, Delivery, FullChats, Scheduler, dedup::Window};
use crate::{
    bots::BotId,
    observe::metrics::OutputCounts,
    proto::update::{Update, UpdateId},
};

/// A set of outputs. An output is named by its number: they count up from 0 in the order in which
/// they were added to the [`ServerBuilder`](crate::ServerBuilder).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct OutputSet(u64);

impl OutputSet {
    /// The most outputs of a server.
    pub const MAX: usize = u64::BITS as usize;
    /// No output.
    pub const NONE: Self = Self(0);

    /// The set of `output` alone; none where its number is [`MAX`](Self::MAX) or more.
    #[must_use]
    pub const fn only(output: usize) -> Self {
        if output < Self::MAX { Self(1 << output) } else { Self::NONE }
    }

    /// The set with `output` in it.
    #[must_use]
    pub const fn with(self, output: usize) -> Self {
        Self(self.0 | Self::only(output).0)
    }

    /// The set without `output`.
    #[must_use]
    pub const fn without(self, output: usize) -> Self {
        Self(self.0 & !Self::only(output).0)
    }

    /// The set without the outputs of `others`.
    #[must_use]
    pub const fn minus(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// True where `output` is in it.
    #[must_use]
    pub const fn contains(self, output: usize) -> bool {
        self.0 & Self::only(output).0 != 0
    }

    /// True where no output is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many outputs are in it.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The outputs in it, the lowest number first.
    pub fn iter(self) -> impl Iterator<Item = usize> + Clone {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then_some(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(next)
        })
    }
}

impl FromIterator<usize> for OutputSet {
    fn from_iter<I: IntoIterator<Item = usize>>(outputs: I) -> Self {
        outputs.into_iter().fold(Self::NONE, Self::with)
    }
}

/// An output in the journal: the CRC32C of its name, which stays the same over restarts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct OutputKey(u32);

impl OutputKey {
    pub(crate) fn from_name(name: &str) -> Self {
        Self(crc32c::crc32c(name.as_bytes()))
    }

    pub(crate) fn from_crc(crc: u32) -> Self {
        Self(crc)
    }

    pub(crate) fn crc(self) -> u32 {
        self.0
    }
}

/// Chooses the outputs of updates.
///
/// It is asked on the threads that take updates, for each of them: it must neither block nor
/// panic. What it says of an update may change from one call to the next, such as after a reload:
/// what has gone to an output stays there.
pub trait OutputRouter: Send + Sync + 'static {
    /// The outputs that `update` goes to. It is settled when all of them have taken it; with none,
    /// at once.
    fn outputs(&self, update: &Update) -> OutputSet;

    /// True where everything goes to the first output for now, so that it need not be asked.
    fn is_trivial(&self) -> bool {
        false
    }
}

/// What leads to the workers of one output.
#[derive(Clone, Debug)]
pub(crate) struct OutputQueue {
    pub(crate) budget: Arc<Budget>,
    pub(crate) full: Arc<FullChats>,
    pub(crate) inboxes: Vec<Sender<Delivery>>,
    pub(crate) key: OutputKey,
    pub(crate) scheduler: Arc<Scheduler>,
}

/// All outputs that a server has had since its start, by their numbers. One that is taken out of
/// the configuration stays here: no other one gets its number.
#[derive(Clone)]
pub(crate) struct Outputs {
    pub(crate) counts: Arc<OutputCounts>,
    pub(crate) queues: Arc<boxcar::Vec<OutputQueue>>,
    /// `None` where everything goes to the first.
    pub(crate) router: Option<Arc<dyn OutputRouter>>,
}

impl Outputs {
    /// None yet; `router` chooses among them.
    pub(crate) fn to(router: Option<Arc<dyn OutputRouter>>) -> Self {
        Self { counts: Arc::default(), queues: Arc::default(), router }
    }

    /// Adds one and returns its number. To be called by one thread at a time.
    pub(crate) fn add(&self, queue: OutputQueue) -> usize {
        self.queues.push(queue)
    }

    /// Their keys, by their numbers.
    pub(crate) fn keys(&self) -> impl Iterator<Item = OutputKey> {
        self.queues.iter().map(|(_, queue)| queue.key)
    }

    pub(crate) fn schedulers(&self) -> impl Iterator<Item = &Arc<Scheduler>> {
        self.queues.iter().map(|(_, queue)| &queue.scheduler)
    }

    /// Records an id that was accepted by an earlier run; false where it is known.
    pub(crate) fn remember(&self, bot: BotId, id: UpdateId) -> bool {
        // Each of them, so not by `any`.
        self.schedulers().filter(|scheduler| scheduler.remember(bot, id)).count() > 0
    }

    /// What an earlier run has seen of a bot that was not configured at the start.
    pub(crate) fn install(&self, bot: BotId, seen: &Window) {
        self.schedulers().for_each(|scheduler| scheduler.install(bot, seen.clone()));
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs").field("queues", &self.queues.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::OutputSet;

    #[test]
    fn a_set_has_what_was_put_into_it_and_nothing_beyond_the_most() {
        let set = OutputSet::only(3).with(0).with(63).with(3);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 63]);
        assert_eq!(set.len(), 3);
        assert_eq!(set.without(3).without(5), OutputSet::only(0).with(63));
        assert!(set.contains(63) && !set.contains(62) && !set.contains(64));
        assert!(OutputSet::only(64).is_empty() && OutputSet::NONE.iter().next().is_none());
    }
}
