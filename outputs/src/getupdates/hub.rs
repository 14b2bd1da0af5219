//! All queues, and the polls that wait for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ringhook::{PendingUpdate, Update, update::BotId};
use tokio::sync::oneshot;

use super::{
    answer::{self, Answer},
    item::Item,
    params::Allowed,
    queue::{Poll, Queue},
    settings::GetUpdatesSettings,
    status::{ConsumerStatus, Counters},
};

/// A poll that repeats an offset within this time waits for as long at least, as at Telegram.
const REPEAT_WAIT: Duration = Duration::from_secs(3);
/// Of two conflicts within this time, the second one is told this much later, as at Telegram.
const CONFLICT_WAIT: Duration = Duration::from_secs(3);

/// One consumer of a bot; consumers count from 0.
pub(super) type Consumer = (BotId, usize);

pub(super) struct Hub {
    consumers: usize,
    counters: Arc<Counters>,
    client_timeout: Duration,
    renumber: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bots: HashMap<BotId, BotQueues>,
    polls: u64,
    /// When a client has last asked for something.
    asked_at: Option<Instant>,
    is_closed: bool,
}

/// What there is for one bot.
struct BotQueues {
    allowed: Allowed,
    consumers: Vec<ConsumerQueue>,
}

/// What there is for one consumer.
struct ConsumerQueue {
    queue: Queue<Item>,
    /// The poll that waits.
    waiting: Option<(u64, oneshot::Sender<Signal>)>,
    /// When the last poll began or ended.
    polled_at: Option<Instant>,
    /// The offset of the last poll, and when it began.
    last: Option<(i64, Instant)>,
    /// When the next conflict may be told at once.
    conflict_at: Option<Instant>,
}

/// What ends the wait of a poll.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// There may be something for it.
    Look,
    /// Another one has taken its place; to be told after this time.
    Conflict(Duration),
}

/// What there is for a poll.
pub(super) enum Look {
    Answer(Answer),
    Wait(oneshot::Receiver<Signal>),
}

/// What a poll asks for.
pub(super) struct Ask {
    pub(super) poll: Poll,
    pub(super) timeout: Duration,
    pub(super) allowed: Option<Allowed>,
}

/// A poll that is under way. Its place is free again when it is dropped.
pub(super) struct PendingPoll<'a> {
    hub: &'a Hub,
    consumer: Consumer,
    number: u64,
    poll: Poll,
    pub(super) deadline: Instant,
}

impl Hub {
    pub(super) fn new(settings: &GetUpdatesSettings, counters: &Arc<Counters>) -> Self {
        Self {
            consumers: settings.consumers,
            counters: Arc::clone(counters),
            client_timeout: settings.client_timeout,
            renumber: settings.renumber,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bot_queues<'a>(&self, state: &'a mut State, bot: BotId) -> &'a mut BotQueues {
        state.bots.entry(bot).or_insert_with(|| {
            let one = |_| ConsumerQueue {
                queue: Queue::new(self.renumber),
                waiting: None,
                polled_at: None,
                last: None,
                conflict_at: None,
            };
            BotQueues { allowed: Allowed::All, consumers: (0..self.consumers).map(one).collect() }
        })
    }

    /// Takes an update from the stream, and wakes who waits for it.
    pub(super) fn take(&self, pending: PendingUpdate) {
        let consumer = self.consumer_of(&pending);
        let mut settled = Vec::new();
        {
            let state = &mut *self.lock();
            if state.is_closed {
                return pending.postpone(Duration::ZERO);
            }
            let BotQueues { allowed, consumers } = self.bot_queues(state, pending.bot());
            let Some(one) = consumers.get_mut(consumer) else { return };
            for item in Item::all_of(pending) {
                let update = item.update();
                if !allowed.has(update.kind()) {
                    self.counters.unwanted.increment();
                    settled.push(item);
                    continue;
                }
                let (id, bytes) = (update.id().get(), update.byte_len());
                let received_at = update.received_at();
                let forgotten = one.queue.push(id, item, bytes, received_at);
                self.counters.forgotten.add(u64::from(forgotten.is_some()));
                settled.extend(forgotten);
            }
            if !one.queue.is_empty()
                && let Some((_, waiting)) = one.waiting.take()
            {
                let _ = waiting.send(Signal::Look);
            }
        }
        settled.into_iter().for_each(Item::settle);
    }

    /// The consumer that has the chat of `update`.
    fn consumer_of(&self, update: &Update) -> usize {
        let count = u64::try_from(self.consumers).unwrap_or(1).max(1);
        usize::try_from(update.chat_key().hash64() % count).unwrap_or(0)
    }

    /// Begins a poll: what its offset confirms is settled.
    pub(super) fn begin(&self, consumer: Consumer, ask: Ask, now: Instant) -> PendingPoll<'_> {
        self.counters.polls.increment();
        let Ask { poll, mut timeout, allowed } = ask;
        let mut settled = Vec::new();
        let number = {
            let state = &mut *self.lock();
            state.polls += 1;
            state.asked_at = Some(now);
            let number = state.polls;
            let of_bot = self.bot_queues(state, consumer.0);
            if let Some(allowed) = allowed {
                of_bot.allowed = allowed;
            }
            if let Some(one) = of_bot.consumers.get_mut(consumer.1) {
                let is_repeated = one.last.is_some_and(|(offset, at)| {
                    offset == poll.offset && now.saturating_duration_since(at) < REPEAT_WAIT
                });
                if is_repeated {
                    timeout = timeout.max(REPEAT_WAIT);
                }
                one.last = Some((poll.offset, now));
                one.polled_at = Some(now);
                if poll.offset < 0 {
                    let keep = usize::try_from(poll.offset.unsigned_abs()).unwrap_or(usize::MAX);
                    settled = one.queue.forget(keep, now);
                    self.counters.forgotten.add(settled.len() as u64);
                } else {
                    settled = one.queue.confirm(&poll);
                    self.counters.confirmed.add(settled.len() as u64);
                }
            }
            number
        };
        settled.into_iter().for_each(Item::settle);
        PendingPoll { hub: self, consumer, number, poll, deadline: now + timeout }
    }

    /// Drops what is pending for a bot, or for one consumer of it.
    pub(super) fn forget(&self, bot: BotId, consumer: Option<usize>, now: Instant) {
        let mut settled = Vec::new();
        {
            let state = &mut *self.lock();
            let consumers = &mut self.bot_queues(state, bot).consumers;
            for (_, one) in consumers
                .iter_mut()
                .enumerate()
                .filter(|(index, _)| consumer.is_none_or(|it| it == *index))
            {
                settled.extend(one.queue.forget(0, now));
            }
        }
        self.counters.forgotten.add(settled.len() as u64);
        settled.into_iter().for_each(Item::settle);
    }

    /// How many updates of a bot are not confirmed.
    pub(super) fn pending(&self, bot: BotId) -> usize {
        let state = self.lock();
        let consumers = state.bots.get(&bot).map(|of_bot| of_bot.consumers.iter());
        consumers
            .into_iter()
            .flatten()
            .map(|one| one.queue.waiting() + one.queue.handed_out())
            .sum()
    }

    /// Has what clients were given that are gone handed out again. Gives when to look next.
    pub(super) fn sweep(&self, now: Instant) -> Option<Instant> {
        let state = &mut *self.lock();
        let mut next: Option<Instant> = None;
        for one in state.bots.values_mut().flat_map(|of_bot| &mut of_bot.consumers) {
            if one.waiting.is_some() || one.queue.handed_out() == 0 {
                continue;
            }
            let Some(gone_at) = one.polled_at.map(|at| at + self.client_timeout) else { continue };
            if gone_at <= now {
                one.queue.take_back();
            } else {
                next = next.into_iter().chain([gone_at]).min();
            }
        }
        next
    }

    pub(super) fn client_timeout(&self) -> Duration {
        self.client_timeout
    }

    /// When a client has last asked for something.
    pub(super) fn asked_at(&self) -> Option<Instant> {
        self.lock().asked_at
    }

    /// Ends all polls, and gives all updates back.
    pub(super) fn close(&self) {
        let mut released = Vec::new();
        {
            let state = &mut *self.lock();
            state.is_closed = true;
            for one in state.bots.values_mut().flat_map(|of_bot| &mut of_bot.consumers) {
                released.extend(one.queue.drain());
                if let Some((_, waiting)) = one.waiting.take() {
                    let _ = waiting.send(Signal::Look);
                }
            }
        }
        released.into_iter().for_each(Item::release);
    }

    /// What there is for each consumer; `name` names its bot.
    pub(super) fn view(
        &self,
        name: impl Fn(BotId) -> Option<String>,
        now: Instant,
    ) -> Vec<ConsumerStatus> {
        let state = self.lock();
        let mut all = Vec::new();
        for (id, of_bot) in &state.bots {
            for (index, one) in of_bot.consumers.iter().enumerate() {
                let first = one.queue.first().map(|item| item.update().received_at());
                let silent = one.polled_at.filter(|_| one.waiting.is_none());
                all.push(ConsumerStatus {
                    bot: name(*id).unwrap_or_else(|| id.to_string()),
                    consumer: index + 1,
                    waiting: one.queue.waiting() as u64,
                    unconfirmed: one.queue.handed_out() as u64,
                    oldest: first.map(|at| now.saturating_duration_since(at)),
                    silent: silent.map(|at| now.saturating_duration_since(at)),
                    has_asked: one.polled_at.is_some(),
                    id: *id,
                });
            }
        }
        all.sort_by_key(|it| (it.id.index(), it.consumer));
        all
    }
}

impl PendingPoll<'_> {
    /// What there is for it at `now`. Where it has to wait, another poll that waits is ended.
    pub(super) fn look(&self, now: Instant) -> Look {
        let hub = self.hub;
        let state = &mut *hub.lock();
        let is_closed = state.is_closed;
        let nothing = || Look::Answer(answer::updates(std::iter::empty()));
        let of_bot = hub.bot_queues(state, self.consumer.0);
        let Some(one) = of_bot.consumers.get_mut(self.consumer.1) else { return nothing() };
        one.polled_at = Some(now);
        let given = one.queue.hand_out(&self.poll);
        if !given.is_empty() {
            hub.counters.handed_out.add(given.len() as u64);
            let number = |number| hub.renumber.then_some(number);
            let updates = given.iter().map(|(it, item)| (number(*it), item.update().body()));
            return Look::Answer(answer::updates(updates));
        }
        if is_closed || now >= self.deadline {
            return nothing();
        }
        let (sender, receiver) = oneshot::channel();
        if let Some((_, other)) = one.waiting.replace((self.number, sender)) {
            let is_soon = one.conflict_at.is_some_and(|at| now < at);
            if !is_soon {
                one.conflict_at = Some(now + CONFLICT_WAIT);
            }
            let _ =
                other.send(Signal::Conflict(if is_soon { CONFLICT_WAIT } else { Duration::ZERO }));
        }
        Look::Wait(receiver)
    }
}

impl Drop for PendingPoll<'_> {
    fn drop(&mut self) {
        let state = &mut *self.hub.lock();
        let of_bot = state.bots.get_mut(&self.consumer.0);
        if let Some(one) = of_bot.and_then(|of_bot| of_bot.consumers.get_mut(self.consumer.1)) {
            one.waiting.take_if(|(number, _)| *number == self.number);
            one.polled_at = one.polled_at.max(Some(Instant::now()));
        }
    }
}
