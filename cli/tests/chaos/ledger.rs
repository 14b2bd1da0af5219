//! What was sent and acknowledged, what was put out, and what must be true of both.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Chats of each bot.
pub(crate) const CHATS: u64 = 30;
/// Ids of a bot begin behind so many for each bot before it, so that an id tells its bot.
const IDS_OF_A_BOT: u64 = 1_000_000_000;

/// The id of a bot's update; `number` counts from 1.
pub(crate) fn id_of(bot: usize, number: u64) -> u64 {
    bot as u64 * IDS_OF_A_BOT + number
}

/// Bot and number of an update.
pub(crate) fn parts_of(id: u64) -> (usize, u64) {
    ((id / IDS_OF_A_BOT) as usize, id % IDS_OF_A_BOT)
}

/// The chat of an update, from 0 on.
pub(crate) fn chat_of(id: u64) -> u64 {
    (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % CHATS
}

/// What the senders have met.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) acknowledged: HashSet<u64>,
    /// Those of which no order is promised.
    loose: HashSet<u64>,
    loose_until: Option<Instant>,
    /// When a bot's update was acknowledged last.
    pub(crate) last: BTreeMap<usize, Instant>,
    /// How often what happened to a request.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// What must not happen, whatever the server goes through.
    pub(crate) complaints: Vec<String>,
}

impl Ledger {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn acknowledge(&self, id: u64) {
        let mut entries = self.entries();
        let now = Instant::now();
        entries.acknowledged.insert(id);
        if entries.loose_until.is_some_and(|until| now < until) {
            entries.loose.insert(id);
        }
        entries.last.insert(parts_of(id).0, now);
        *entries.outcomes.entry("200".to_owned()).or_default() += 1;
    }

    pub(crate) fn failed(&self, how: &str) {
        *self.entries().outcomes.entry(how.to_owned()).or_default() += 1;
    }

    pub(crate) fn complain(&self, what: String) {
        self.entries().complaints.push(what);
    }

    /// What is acknowledged for so long may be put out in any order.
    pub(crate) fn loosen(&self, time: Duration) {
        self.entries().loose_until = Instant::now().checked_add(time);
    }

    /// What is missing in `lines`.
    pub(crate) fn lost(&self, lines: &Lines) -> Vec<u64> {
        let entries = self.entries();
        let mut lost: Vec<_> = entries
            .acknowledged
            .iter()
            .filter(|id| !lines.seen.contains_key(id))
            .copied()
            .collect();
        lost.sort_unstable();
        lost
    }

    /// What of `lines` is out of its chat's order.
    pub(crate) fn out_of_order(&self, lines: &Lines) -> Vec<String> {
        let entries = self.entries();
        let mut wrong = Vec::new();
        let mut newest: HashMap<(usize, u64), u64> = HashMap::new();
        let mut known = HashSet::new();
        for id in lines.ids.iter().filter(|id| known.insert(**id)) {
            let chat = (parts_of(*id).0, chat_of(*id));
            let before = newest.entry(chat).or_default();
            if *before > *id && !entries.loose.contains(id) && !entries.loose.contains(before) {
                wrong.push(format!("{id} of chat {chat:?} comes after {before}"));
            }
            *before = (*before).max(*id);
        }
        wrong
    }
}

/// Lines that were put out, in their order.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) ids: Vec<u64>,
    /// Places of the first and the last time of each.
    seen: HashMap<u64, Vec<usize>>,
    /// Places whose updates may come again later: what a worker had in its hands when it was
    /// killed.
    excuses: Vec<(usize, usize)>,
    /// Updates that may come again wherever they came first.
    forgotten: HashSet<u64>,
    /// Lines that are no updates, each with the place that it would have.
    pub(crate) torn: Vec<usize>,
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn push(&mut self, id: u64) {
        self.seen.entry(id).or_default().push(self.ids.len());
        self.ids.push(id);
    }

    pub(crate) fn push_torn(&mut self) {
        self.torn.push(self.ids.len());
    }

    /// The updates from `from` up to `to` may come again.
    pub(crate) fn excuse(&mut self, from: usize, to: usize) {
        self.excuses.push((from, to));
    }

    /// What the server knew of ids is gone. An update whose 200 the sender has not got, since the
    /// network lost it, is sent again, and may be put out again.
    pub(crate) fn forget(&mut self, ledger: &Ledger) {
        let entries = ledger.entries();
        let open = self.seen.keys().filter(|id| !entries.acknowledged.contains(id));
        self.forgotten.extend(open);
    }

    /// What came again without an excuse.
    pub(crate) fn copies(&self) -> Vec<String> {
        let is_excused =
            |place: usize| self.excuses.iter().any(|(from, to)| (*from..*to).contains(&place));
        let mut copies = BTreeSet::new();
        for (id, places) in self.seen.iter().filter(|(_, places)| places.len() > 1) {
            for pair in places.windows(2) {
                if let [first, again] = pair
                    && !is_excused(*first)
                    && !self.forgotten.contains(id)
                {
                    copies.insert((*again, format!("{id} of line {first} again in line {again}")));
                }
            }
        }
        copies.into_iter().map(|(_, copy)| copy).collect()
    }

    /// How many came more than once.
    pub(crate) fn repeated(&self) -> usize {
        self.seen.values().filter(|places| places.len() > 1).count()
    }

    /// Torn lines that no kill and no full disk explains.
    pub(crate) fn torn_without_excuse(&self) -> usize {
        let is_excused =
            |place: &usize| self.excuses.iter().any(|(from, to)| (*from..=*to).contains(place));
        self.torn.iter().filter(|place| !is_excused(place)).count()
    }

    /// Those that were never made: `made` says how many a bot has.
    pub(crate) fn invented(&self, made: impl Fn(usize) -> u64) -> Vec<u64> {
        let is_made = |id: u64| {
            let (bot, number) = parts_of(id);
            number > 0 && number <= made(bot)
        };
        self.ids.iter().copied().filter(|id| !is_made(*id)).collect()
    }
}

mod tests {
    use super::*;

    fn lines(ids: &[u64]) -> Lines {
        let mut lines = Lines::default();
        ids.iter().for_each(|id| lines.push(*id));
        lines
    }

    /// The first updates of bot 0 that are of one chat.
    fn of_one_chat(count: usize) -> Vec<u64> {
        (1..).filter(|id| chat_of(*id) == 3).take(count).collect()
    }

    #[test]
    fn what_is_missing_is_lost() {
        let ledger = Ledger::default();
        (1..=4).for_each(|id| ledger.acknowledge(id));
        assert_eq!(ledger.lost(&lines(&[4, 2, 9])), [1, 3]);
        assert!(ledger.lost(&lines(&[4, 2, 1, 3])).is_empty());
    }

    #[test]
    fn a_chats_first_deliveries_are_in_order() {
        let ledger = Ledger::default();
        let ids = of_one_chat(3);
        let other = (1..).find(|id| chat_of(*id) == 4).unwrap();
        assert!(ledger.out_of_order(&lines(&[ids[0], ids[1], ids[0], other, ids[2]])).is_empty());
        let swapped = lines(&[ids[1], ids[0], ids[2]]);
        assert_eq!(ledger.out_of_order(&swapped).len(), 1);
        // The same number of another bot is another chat.
        assert!(ledger.out_of_order(&lines(&[id_of(1, ids[1]), ids[0]])).is_empty());
        ledger.loosen(Duration::from_secs(60));
        ledger.acknowledge(ids[0]);
        assert!(ledger.out_of_order(&swapped).is_empty());
    }

    #[test]
    fn a_copy_needs_an_excuse_for_the_time_before() {
        let mut lines = lines(&[1, 2, 3, 2, 1]);
        assert_eq!(lines.copies(), ["2 of line 1 again in line 3", "1 of line 0 again in line 4"]);
        lines.excuse(1, 3);
        assert_eq!(lines.copies(), ["1 of line 0 again in line 4"]);
        // The one that had an excuse gives none to a third time.
        lines.push(2);
        assert_eq!(lines.copies().len(), 2);
        assert_eq!(lines.repeated(), 2);
    }

    #[test]
    fn an_id_that_is_forgotten_comes_again_only_if_its_200_did_not_arrive() {
        let (ledger, mut lines) = (Ledger::default(), lines(&[1, 2]));
        ledger.acknowledge(1);
        lines.forget(&ledger);
        ledger.acknowledge(2);
        [2, 1].into_iter().for_each(|id| lines.push(id));
        assert_eq!(lines.copies(), ["1 of line 0 again in line 3"]);
    }

    #[test]
    fn a_torn_line_needs_an_excuse_too() {
        let mut lines = lines(&[1, 2]);
        lines.push_torn();
        assert_eq!(lines.torn_without_excuse(), 1);
        lines.excuse(0, 2);
        assert_eq!(lines.torn_without_excuse(), 0);
    }

    #[test]
    fn what_was_never_made_is_invented() {
        let lines = lines(&[1, 2, id_of(1, 1), id_of(2, 1), 0]);
        assert_eq!(lines.invented(|bot| [2, 1].get(bot).copied().unwrap_or(0)), [id_of(2, 1), 0]);
    }
}
