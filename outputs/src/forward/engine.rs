//! What is done with each update, and what its outcome means. One thread owns all of it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use ringhook::{PendingUpdate, Update};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    choice::preference,
    condition::{Condition, Evidence, State},
    exchange::{self, Event, Exchange, Outcome},
    outlet::{Item, Outlet},
    relay::Relay,
    retry::{Memory, ladder},
    settings::ForwardSettings,
    status::Counters,
    upstream::Upstream,
};
use crate::client::{dial::Lost, terms::Bots};

/// All targets, and the requests to them that are under way.
pub(super) struct Engine {
    pub(super) settings: ForwardSettings,
    pub(super) bots: Arc<Bots>,
    pub(super) counters: Arc<Counters>,
    pub(super) relay: Arc<Relay>,
    pub(super) events: UnboundedSender<Event>,
    outlets: Vec<Outlet>,
    /// The hashes of their targets.
    hashes: Vec<u64>,
    memory: Memory,
    running: HashMap<u64, Running>,
    next_id: u64,
    /// When the next look for what is too old is due.
    sweep_at: Instant,
    /// When an update last came, or a request that was no probe ended.
    active_at: Instant,
}

/// An update whose requests are under way.
struct Running {
    item: Item,
    outlet: usize,
    started_at: Instant,
    is_probe: bool,
    /// False once the target has taken it.
    is_at_target: bool,
}

impl Engine {
    pub(super) fn new(
        settings: ForwardSettings,
        upstreams: Vec<Arc<Upstream>>,
        bots: Arc<Bots>,
        relay: Relay,
        counters: Arc<Counters>,
        events: UnboundedSender<Event>,
    ) -> Self {
        let now = Instant::now();
        let hashes = upstreams.iter().map(|it| it.target().hash64()).collect();
        let outlet = |upstream| Outlet::new(upstream, Condition::new(settings.pacing, now));
        let outlets = upstreams.into_iter().map(outlet).collect();
        Self {
            settings,
            bots,
            counters,
            relay: Arc::new(relay),
            events,
            outlets,
            hashes,
            memory: Memory::default(),
            running: HashMap::new(),
            next_id: 0,
            sweep_at: now,
            active_at: now,
        }
    }

    /// Takes an update from the stream.
    pub(super) fn take(&mut self, pending: PendingUpdate, now: Instant) {
        let key = (pending.bot(), pending.id());
        let delivered = self.memory.delivered(key);
        self.active_at = now;
        self.assign(Item { pending, key, delivered, wrongs: 0, ends: 0 }, now);
    }

    /// Puts an update behind those that wait for the same target.
    fn assign(&mut self, item: Item, now: Instant) {
        let chosen = self.choose(&item.pending, now);
        if let Some(outlet) = self.outlets.get_mut(chosen) {
            outlet.waiting.push_back(item);
        }
    }

    /// The first target in the chat's order that takes it; where none does, the first of all.
    fn choose(&self, update: &Update, now: Instant) -> usize {
        if self.outlets.len() < 2 {
            return 0;
        }
        let order = preference(update.bot(), update.chat_key(), &self.hashes);
        let takes = |index: &&usize| {
            let outlet = self.outlets.get(**index);
            outlet.is_some_and(|outlet| outlet.takes(self.settings.move_after, now))
        };
        order.iter().find(takes).or(order.first()).copied().unwrap_or(0)
    }

    /// Sends what can be sent, and moves what waits for too long.
    pub(super) fn work(&mut self, now: Instant) {
        if self.settings.move_after.is_some() && self.outlets.len() > 1 {
            self.move_on(now);
        }
        for index in 0..self.outlets.len() {
            while let Some((item, is_probe)) = self
                .outlets
                .get_mut(index)
                .and_then(|outlet| outlet.next(self.settings.connections, now))
            {
                self.start(index, item, is_probe, now);
            }
        }
        if now >= self.sweep_at {
            self.sweep(now);
        }
    }

    /// Gives the updates of targets that have been down for long to others.
    fn move_on(&mut self, now: Instant) {
        let move_after = self.settings.move_after;
        let is_up = self.outlets.iter().any(|outlet| outlet.condition.is_up());
        for index in 0..self.outlets.len() {
            let Some(outlet) = self.outlets.get_mut(index) else { continue };
            let is_over = outlet.moved_at(move_after).is_some_and(|moved_at| moved_at <= now);
            if is_up && is_over && !outlet.waiting.is_empty() {
                let waiting = std::mem::take(&mut outlet.waiting);
                waiting.into_iter().for_each(|item| self.assign(item, now));
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        let idle_timeout = self.settings.idle_timeout;
        self.sweep_at =
            now + (idle_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(15));
        if let Some(since) = now.checked_sub(idle_timeout) {
            self.outlets.iter().for_each(|outlet| outlet.upstream.idle().sweep(since));
            self.relay.sweep(since);
        }
        self.memory.sweep(now);
    }

    /// When there is something to do unless something happens before.
    pub(super) fn due_at(&self, now: Instant) -> Instant {
        let probes = self.outlets.iter().filter_map(Outlet::next_probe_at);
        let is_moving = self.outlets.len() > 1;
        let moves = self.outlets.iter().filter_map(|outlet| {
            // Where all targets are down, the time to move is over and there is none to move to.
            let moved_at = outlet.moved_at(self.settings.move_after)?;
            (is_moving && !outlet.waiting.is_empty() && moved_at > now).then_some(moved_at)
        });
        probes.chain(moves).min().map_or(self.sweep_at, |at| at.min(self.sweep_at))
    }

    fn start(&mut self, index: usize, item: Item, is_probe: bool, now: Instant) {
        let Some(outlet) = self.outlets.get_mut(index) else { return };
        let id = self.next_id;
        self.next_id += 1;
        outlet.in_flight += 1;
        if is_probe {
            outlet.probe = Some((id, item.pending.received_at()));
        }
        let (upstream, bot) = (Arc::clone(&outlet.upstream), item.pending.bot());
        let secret = self.bots.get(bot).and_then(|terms| terms.secret.clone());
        let updates = item.pending.updates().skip(item.delivered);
        let mapping = self.settings.headers.as_ref();
        let request = |update| exchange::request(&upstream, update, secret.as_ref(), mapping);
        let requests = updates.map(request).collect();
        let exchange = Exchange {
            id,
            bot,
            requests,
            upstream,
            relay: Arc::clone(&self.relay),
            counters: Arc::clone(&self.counters),
            timeout: self.settings.timeout,
            events: self.events.clone(),
        };
        let running =
            Running { item, outlet: index, started_at: now, is_probe, is_at_target: true };
        self.running.insert(id, running);
        tokio::spawn(exchange.run());
    }

    /// Takes what an exchange tells.
    pub(super) fn hear(&mut self, event: Event, now: Instant) {
        match event {
            Event::Taken { id } => {
                if let Some(mut running) = self.running.remove(&id) {
                    self.leave_target(id, &mut running);
                    self.learn(&running, Evidence::Answer, "", now);
                    self.running.insert(id, running);
                }
            }
            Event::Finished { id, taken, outcome } => {
                if let Some(mut running) = self.running.remove(&id) {
                    let was_at_target = running.is_at_target;
                    self.leave_target(id, &mut running);
                    running.item.delivered += taken;
                    if !running.is_probe || matches!(outcome, Outcome::Delivered) {
                        self.active_at = now;
                    }
                    match outcome {
                        Outcome::Delivered => {
                            if was_at_target {
                                self.learn(&running, Evidence::Answer, "", now);
                            }
                            self.memory.forget(running.item.key);
                            running.item.pending.done();
                        }
                        Outcome::Status { status, retry_after } => {
                            self.answered(running, status, retry_after, now);
                        }
                        Outcome::Lost(lost) => self.lost(running, &lost, now),
                    }
                }
            }
        }
    }

    fn leave_target(&mut self, id: u64, running: &mut Running) {
        if std::mem::take(&mut running.is_at_target)
            && let Some(outlet) = self.outlets.get_mut(running.outlet)
        {
            outlet.in_flight -= 1;
            outlet.probe = outlet.probe.filter(|(probe, _)| *probe != id);
        }
    }

    /// A target answered, and not with 2xx.
    fn answered(
        &mut self,
        mut running: Running,
        number: u16,
        asked: Option<Duration>,
        now: Instant,
    ) {
        let why = number.to_string();
        match number {
            500.. => {
                self.counters.status_5xx.increment();
                let is_alone = self.is_alone(&running);
                self.learn(&running, Evidence::Failure, &why, now);
                // A proxy's word for a bot that is not there says nothing of the update.
                let says_down = matches!(number, 502..=504);
                if running.is_probe && (says_down || !is_alone) {
                    self.hold(running, asked, now);
                } else {
                    self.retry(running, asked, now);
                }
            }
            ..=399 | 401 | 403 | 404 | 405 => {
                self.counters.misconfigured.increment();
                if !running.is_probe {
                    running.item.wrongs += 1;
                }
                if running.item.wrongs > 1 && !running.is_probe {
                    // The target has taken others in between: it is this update that it refuses.
                    self.retry(running, asked, now);
                } else {
                    self.learn(&running, Evidence::Wrong(number), &why, now);
                    self.hold(running, asked, now);
                }
            }
            _ => {
                self.counters.status_4xx.increment();
                self.learn(&running, Evidence::Answer, "", now);
                self.retry(running, asked, now);
            }
        }
    }

    /// A request had no answer.
    fn lost(&mut self, mut running: Running, lost: &Lost, now: Instant) {
        let counters = &self.counters;
        let (counter, evidence, why) = match lost {
            Lost::Refused => (&counters.connect, Evidence::Refused, "nothing listens there"),
            Lost::Unconnected(why) => (&counters.connect, Evidence::Unconnected, why.as_str()),
            Lost::Reset => (&counters.reset, Evidence::Failure, "it ends its connections"),
            Lost::Ended => (&counters.reset, Evidence::Refused, "its process has ended"),
            Lost::Timeout => (&counters.timeout, Evidence::Failure, "it does not answer in time"),
        };
        counter.increment();
        let is_alone = self.is_alone(&running);
        self.learn(&running, evidence, why, now);
        let is_down = self.outlets.get(running.outlet).is_some_and(|it| !it.condition.is_up());
        if *lost == Lost::Ended {
            running.item.ends += 1;
        }
        match evidence {
            // Nothing was sent, or what was sent came while the target was stopped: that is no
            // attempt. A second time it may be the update that ends the process.
            Evidence::Refused if *lost == Lost::Refused || running.item.ends < 2 => {
                self.hold(running, None, now);
            }
            Evidence::Unconnected if is_down => self.hold(running, None, now),
            Evidence::Unconnected => {
                let wait = self.next_wait(&running.item, None, now);
                running.item.pending.postpone(wait);
            }
            _ if running.is_probe && !is_alone => self.hold(running, None, now),
            _ => self.retry(running, None, now),
        }
    }

    /// True where no other update has failed at the target since this one did: then it may be the
    /// update that makes it fail, and it must not be tried for ever.
    fn is_alone(&self, running: &Running) -> bool {
        let outlet = self.outlets.get(running.outlet);
        outlet.is_some_and(|outlet| outlet.condition.has_failed_last(running.item.key))
    }

    /// Gives an update back for another attempt, or for the server to give up.
    fn retry(&mut self, running: Running, asked: Option<Duration>, now: Instant) {
        self.counters.retried.increment();
        self.put_off_probe(&running, asked, now);
        let wait = self.next_wait(&running.item, asked, now);
        let (bot, id) = running.item.key;
        tracing::debug!(%bot, update_id = %id, ?wait, "an update comes again");
        running.item.pending.retry(wait);
    }

    fn next_wait(&mut self, item: &Item, asked: Option<Duration>, now: Instant) -> Duration {
        let unit = self.settings.retry_unit;
        let wait = |failures| ladder(failures, unit).max(asked.unwrap_or_default());
        self.memory.fail(item.key, item.delivered, now, wait)
    }

    /// Keeps an update until its target is up; no attempt is counted.
    fn hold(&mut self, running: Running, asked: Option<Duration>, now: Instant) {
        self.put_off_probe(&running, asked, now);
        let Running { item, outlet: index, is_probe, .. } = running;
        let move_after = self.settings.move_after.filter(|_| self.outlets.len() > 1);
        match self.outlets.get_mut(index) {
            Some(outlet) if outlet.takes(move_after, now) => outlet.take_back(item, is_probe),
            _ => self.assign(item, now),
        }
    }

    fn put_off_probe(&mut self, running: &Running, asked: Option<Duration>, now: Instant) {
        if running.is_probe
            && let Some(outlet) = self.outlets.get_mut(running.outlet)
        {
            outlet.condition.put_off_probe(asked, now);
        }
    }

    /// Takes what a request tells of its target, and logs what changes.
    fn learn(&mut self, running: &Running, evidence: Evidence, why: &str, now: Instant) {
        let Some(outlet) = self.outlets.get_mut(running.outlet) else { return };
        let (key, started_at) = (running.item.key, running.started_at);
        let Some(state) = outlet.condition.learn(evidence, key, started_at, now) else { return };
        if state != State::Up {
            // They are of no use for a process that is not there any more.
            outlet.upstream.idle().clear();
        }
        if !outlet.is_news(state, now) {
            return;
        }
        let (to, waiting) = (outlet.upstream.target(), outlet.waiting.len());
        match state {
            State::Up => tracing::info!(%to, waiting, "the target takes updates again"),
            State::Down => tracing::warn!(
                %to,
                why,
                "the target is down: its updates wait, and one is tried every few seconds"
            ),
            State::Misconfigured(status) => tracing::error!(
                %to,
                status,
                "the target is wrongly set up: its updates wait. {}",
                advice(status)
            ),
        }
    }

    /// Makes probes due.
    pub(super) fn probe_now(&mut self, now: Instant) {
        self.outlets.iter_mut().for_each(|outlet| outlet.condition.probe_now(now));
    }

    /// Since when nothing has happened but probes, where all that is left waits for targets which
    /// are down; `None` where something else is left, or nothing at all.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let is_held = |outlet: &Outlet| outlet.waiting.is_empty() || !outlet.condition.is_up();
        let is_holding =
            !self.running.is_empty() || self.outlets.iter().any(|it| !it.waiting.is_empty());
        let is_quiet =
            self.running.values().all(|running| running.is_probe && running.is_at_target)
                && self.outlets.iter().all(is_held);
        (is_holding && is_quiet).then_some(self.active_at)
    }

    /// True where no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Gives back what waits; no attempt is counted.
    pub(super) fn release_waiting(&mut self) {
        for outlet in &mut self.outlets {
            outlet.waiting.drain(..).for_each(|item| item.pending.postpone(Duration::ZERO));
        }
    }

    /// Gives back all of it, requests under way included: what they lead to is not known.
    pub(super) fn release(&mut self) {
        self.release_waiting();
        let running = self.running.drain();
        running.for_each(|(_, running)| running.item.pending.postpone(Duration::ZERO));
    }

    /// Shows the targets' states to other threads.
    pub(super) fn publish(&self) {
        self.counters.in_flight.store(self.running.len() as u64, Relaxed);
        let mut views = self.counters.targets.lock().unwrap_or_else(PoisonError::into_inner);
        views.clear();
        views.extend(self.outlets.iter().map(Outlet::view));
    }
}

/// What to do about a target that answers with `status`.
fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "Give the bot here and its process the same secret token",
        404 => "Give the target the path on which the bot's process takes its webhook",
        405 => "Let the bot's process take POST on the target's path",
        _ => "Give the target the URL that it redirects to: redirects are not followed",
    }
}
