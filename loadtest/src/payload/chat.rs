//! Which chat an update belongs to.

use super::Skew;
use crate::rng::Rng;

/// What Telegram calls the type of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChatType {
    Channel,
    Group,
    Private,
    Supergroup,
}

impl ChatType {
    pub(super) const ALL: [Self; 4] = [Self::Channel, Self::Group, Self::Private, Self::Supergroup];

    /// What stands before the ten digits of a chat's identifier.
    pub(super) fn id_prefix(self) -> &'static str {
        match self {
            Self::Private => "",
            Self::Group => "-",
            Self::Channel | Self::Supergroup => "-100",
        }
    }

    /// How it is called in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Group => "group",
            Self::Private => "private",
            Self::Supergroup => "supergroup",
        }
    }
}

/// One of the chats of a run.
pub(super) struct Chat {
    pub(super) kind: ChatType,
    /// The ten digits of its identifier.
    pub(super) number: u64,
}

impl Chat {
    /// The rank of one of `chats` chats from 0, the first ones far more often than the last: the
    /// share of a chat falls about as one over its rank, as in Zipf's law.
    fn pick_rank(chats: u32, rng: &mut Rng) -> u64 {
        // All ranks between two powers of two together are as likely as those between the next two.
        // That is Zipf's law in steps, in integers, so it is the same on every machine.
        let octaves = u64::from(u32::BITS - chats.leading_zeros());
        let first = 1_u64 << rng.below(octaves);
        let last = (2 * first - 1).min(u64::from(chats));
        rng.between(first, last) - 1
    }

    /// One of the first `chats` chats or, if none of these has one of the types that `fits`, the
    /// next that does. Chances are as `skew` says.
    pub(super) fn pick_fitting(
        chats: u32,
        skew: Option<&Skew>,
        rng: &mut Rng,
        fits: impl Fn(ChatType) -> bool,
    ) -> Self {
        let first = match skew {
            Some(skew) => skew.pick(chats, rng),
            None => Self::pick_rank(chats, rng),
        };
        // Types come again after twenty chats.
        let found = (first..first + 20).map(Self::ranked).find(|chat| fits(chat.kind));
        found.unwrap_or_else(|| Self::ranked(first))
    }

    fn ranked(rank: u64) -> Self {
        let kind = match rank % 20 {
            0 | 3 | 7 | 10 | 13 | 17 => ChatType::Supergroup,
            5 => ChatType::Group,
            9 => ChatType::Channel,
            _ => ChatType::Private,
        };
        Self { kind, number: number(rank) }
    }

    /// Its identifier with its prefix.
    pub(super) fn id(&self) -> i64 {
        // Ten digits by construction, and thirteen at most with the prefix.
        let number = self.number as i64;
        match self.kind {
            ChatType::Private => number,
            ChatType::Group => -number,
            ChatType::Channel | ChatType::Supergroup => -1_000_000_000_000 - number,
        }
    }

    /// The ten digits of the user who sent the update: in a private chat the chat itself.
    pub(super) fn sender(&self, rng: &mut Rng) -> u64 {
        match self.kind {
            ChatType::Private => self.number,
            _ => number(rng.below(1_000_000)),
        }
    }
}

/// Ten digits for each of a million ranks, spread out so that they do not look like a counter.
fn number(rank: u64) -> u64 {
    1_000_000_000 + rank * 7919
}
