//! Which of several targets an update goes to.

use ringhook::update::{BotId, ChatKey};

/// The targets in the order in which a chat prefers them, by rendezvous hashing: a target that is
/// added or removed moves the chats of that target only.
///
/// `targets` are the targets' hashes. They decide, not the order in which targets are listed.
pub(super) fn preference(bot: BotId, chat: ChatKey, targets: &[u64]) -> Vec<usize> {
    let chat = mix(chat.hash64() ^ mix(u64::from(bot.index()).wrapping_add(1)));
    let mut order: Vec<(u64, usize)> =
        targets.iter().map(|target| mix(chat ^ mix(*target))).zip(0..).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    order.into_iter().map(|(_, index)| index).collect()
}

/// The finisher of SplitMix64: every bit of `value` reaches every bit of the hash.
const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(chat: i64, targets: &[u64]) -> Option<u64> {
        let order = preference(BotId::new(0), ChatKey::Chat(chat), targets);
        order.first().and_then(|index| targets.get(*index)).copied()
    }

    #[test]
    fn chats_spread_evenly_and_stay_where_they_are() {
        let targets = [11, 22, 33];
        let mut counts = [0_u32; 3];
        for chat in 0..3000 {
            let chosen = first(chat, &targets);
            for (count, target) in counts.iter_mut().zip(targets) {
                *count += u32::from(chosen == Some(target));
            }
            // The list's order says nothing, and one that leaves moves its own chats only.
            assert_eq!(chosen, first(chat, &[33, 11, 22]));
            if chosen != Some(22) {
                assert_eq!(chosen, first(chat, &[11, 33]));
            }
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
