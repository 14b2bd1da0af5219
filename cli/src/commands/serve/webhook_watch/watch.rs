//! The thread: asks each machine what is due, does it, and tells what came of it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    log::EventLog,
    look::{Action, Event, Look, Outcome, Place, Terms, Trouble},
    machine::Machine,
    note::{Note, Sum},
    polling::Pollers,
    signal::{Signal, Woken},
    watched_bot::WatchedBot,
};
use crate::{
    net::url::without_userinfo,
    telegram::{
        bot_api::{ApiError, WebhookInfo},
        webhook::{Plan, WebhookUrl},
    },
};
use ringhook::{Error, internals::bots::BotRegistry};

/// Time between the first looks at two bots, so that a thousand of them do not begin at once.
const STAGGER: Duration = Duration::from_millis(200);
/// How long the last updates may take to be confirmed before a webhook is set.
const CONFIRM: Duration = Duration::from_secs(10);
/// The longest wait, so that the number of lines left out of the log is reported.
const PAUSE: Duration = Duration::from_secs(10);
/// Characters of an error in Telegram's words.
const TEXT_MAX: usize = 300;

/// All bots that are watched over.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) epoch: Instant,
    pub(super) pollers: Arc<Pollers>,
    pub(super) registry: Arc<BotRegistry>,
    pub(super) signal: Arc<Signal>,
    pub(super) events: EventLog,
    watched: Vec<Watched>,
}

/// One bot.
struct Watched {
    machine: Machine,
    /// What its webhook is to be; `None` where the config does not say.
    plan: Option<Plan>,
    /// The note that was read last, and the plan when it came while this process looked on.
    known: (Option<Note>, Option<Sum>),
    /// The certificate that is taken to be uploaded, as in [`Sum`].
    uploaded: Option<u32>,
    bot: WatchedBot,
}

impl Watch {
    pub(super) fn new(
        pollers: Arc<Pollers>,
        registry: Arc<BotRegistry>,
        signal: Arc<Signal>,
        events: EventLog,
    ) -> Self {
        let epoch = Instant::now();
        Self { epoch, pollers, registry, signal, events, watched: Vec::new() }
    }

    /// Watches until it is stopped.
    pub(super) fn run(mut self) {
        loop {
            let due = self.watched.iter().map(|watched| watched.machine.next()).min();
            let wait = due.map_or(PAUSE, |due| due.saturating_sub(self.epoch.elapsed()));
            match self.signal.wait(wait.min(PAUSE)) {
                Woken::Stop => return,
                Woken::Follow(bots) => self.follow(bots),
                Woken::Due => self.act(),
            }
            self.events.incidents.tell_suppressed(Instant::now());
        }
    }

    /// Watches over `bots` from now on. Those that were there before keep what is known of them.
    fn follow(&mut self, bots: Vec<WatchedBot>) {
        let now = self.epoch.elapsed();
        let mut before = std::mem::take(&mut self.watched);
        for (index, bot) in bots.into_iter().enumerate() {
            let known = before.iter().position(|watched| watched.bot.name == bot.name);
            self.watched.push(match known.map(|place| before.swap_remove(place)) {
                Some(watched) if !watched.bot.is_same_bot(&bot) => {
                    self.leave(&watched, "another bot has its name now");
                    Watched::new(bot, now)
                }
                Some(mut watched) => {
                    let is_replaced = !watched.bot.is_same_webhook(&bot);
                    let is_polled_as = watched.bot.is_polled_as(&bot);
                    watched.bot = bot;
                    watched.plan_anew();
                    watched.machine.set_terms(watched.terms(), is_replaced, now);
                    if watched.machine.is_polling() && !is_polled_as {
                        self.pollers.end(&watched.bot.name, Some(CONFIRM));
                        // Where it cannot be started, the next look does.
                        let _ = watched.poll(&self.pollers);
                    }
                    watched
                }
                None => {
                    let stagger = STAGGER.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
                    Watched::new(bot, now + stagger)
                }
            });
        }
        for gone in &before {
            self.leave(gone, "no longer watched");
        }
        let is_kept = |bot: &str| self.watched.iter().any(|watched| watched.bot.name == bot);
        self.events.webhooks.keep(is_kept);
    }

    /// Ends what is done for `watched`.
    fn leave(&self, watched: &Watched, why: &str) {
        let bot = &watched.bot.name;
        if watched.machine.is_polling() {
            tracing::warn!(
                bot,
                "{why}: polling ends, and the webhook of the bot before stays deleted"
            );
            self.pollers.end(bot, Some(CONFIRM));
        }
        self.events.webhooks.change(bot, |gauges| {
            gauges.changed = None;
            gauges.failing_since = None;
            gauges.is_polling = false;
        });
    }

    /// Does one thing for each bot for which something is due.
    fn act(&mut self) {
        for watched in &mut self.watched {
            if self.signal.is_set() {
                return;
            }
            let Some(action) = watched.machine.due(self.epoch.elapsed()) else { continue };
            let heard = || {
                let bot = self.registry.id_of(&watched.bot.name);
                bot.is_some_and(|bot| self.registry.take_active(bot))
            };
            let outcome = match action {
                Action::Look => {
                    let is_active = heard();
                    let outcome = watched.look(is_active, &self.events);
                    let is_gone = outcome.as_ref().is_ok_and(|look| look.place == Place::Gone);
                    if is_gone && watched.machine.is_polling() {
                        // One that has ended without need; where it cannot be started, the next
                        // look leads here again.
                        let _ = watched.poll(&self.pollers);
                    }
                    Outcome::Looked(outcome)
                }
                Action::Check | Action::GoBack if watched.is_told_otherwise() => Outcome::Held,
                Action::Check => Outcome::Checked(watched.check()),
                Action::FallBack => Outcome::FellBack(watched.fall_back(&self.pollers)),
                Action::GoBack => Outcome::WentBack(watched.go_back(&self.pollers)),
                Action::LetGo => {
                    self.pollers.end(&watched.bot.name, None);
                    if watched.bot.note.read() == Some(Note::Fallback) {
                        watched.forget();
                    }
                    Outcome::LetGo
                }
                Action::Repair => Outcome::Repaired(watched.set(true)),
            };
            if self.signal.is_stopped() {
                return;
            }
            let now = self.epoch.elapsed();
            let events = watched.machine.done(now, outcome);
            let bot = &watched.bot.name;
            events.iter().for_each(|event| self.events.write(bot, event));
            let machine = &watched.machine;
            let ago = machine.failing_since().map(|since| now.saturating_sub(since));
            let is_told = events.iter().any(|event| matches!(event, Event::Fails(..)));
            self.events.webhooks.change(bot, |gauges| {
                gauges.is_polling = machine.is_polling();
                match ago {
                    None => gauges.failing_since = None,
                    Some(_) if gauges.failing_since.is_some() && !is_told => {}
                    Some(ago) => gauges.failing_since = SystemTime::now().checked_sub(ago),
                }
            });
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl Watched {
    fn new(bot: WatchedBot, at: Duration) -> Self {
        let note = bot.note.read();
        let is_noted = note == Some(Note::Fallback);
        let noted = note.as_ref().and_then(Note::certificate);
        let machine = Machine::new(bot.terms, at, bot.seed, is_noted);
        let mut watched = Self { machine, plan: None, known: (note, None), uploaded: None, bot };
        watched.plan_anew();
        let planned = watched.plan.as_ref().and_then(|plan| Sum::new(plan).certificate);
        watched.uploaded = noted.or(planned);
        watched.machine.set_terms(watched.terms(), false, at);
        watched
    }

    /// Reads the plan again, and says so where there is none.
    fn plan_anew(&mut self) {
        let bot = &self.bot.name;
        match self.bot.plan() {
            Ok(plan) => self.plan = Some(plan),
            Err(error) => {
                self.plan = None;
                let terms = self.bot.terms;
                if terms.can_repair || terms.can_fall_back {
                    tracing::warn!(bot, %error, "the webhook is only looked at, never set");
                } else {
                    tracing::info!(bot, %error, "the webhook is not compared with the config");
                }
            }
        }
    }

    /// Where it is not known how to set a webhook, none is set or deleted.
    fn terms(&self) -> Terms {
        let mut terms = self.bot.terms;
        terms.can_fall_back &= self.plan.is_some();
        terms.can_repair &= self.plan.is_some();
        terms
    }

    fn look(&mut self, is_active: bool, events: &EventLog) -> Result<Look, Trouble> {
        let bot = &self.bot.name;
        let info = self.bot.client.get_webhook_info().map_err(|error| {
            events.webhooks.change(bot, |gauges| gauges.looks_failed += 1);
            trouble(&error)
        })?;
        // Secrets and certificates may be others than at the last look.
        if let Ok(plan) = self.bot.plan() {
            self.plan = Some(plan);
        }
        let error = error_of(&info);
        events.webhooks.change(bot, |gauges| {
            gauges.looked_at = Some(SystemTime::now());
            gauges.pending = info.pending_update_count;
            gauges.last_error = error.clone().and_then(|(date, text)| {
                let since = Duration::from_secs(u64::try_from(date).ok()?);
                Some((SystemTime::UNIX_EPOCH.checked_add(since)?, text))
            });
        });
        let place = place(self.plan.as_ref(), &info);
        let is_on_purpose = self.is_on_purpose(&info, &place);
        Ok(Look {
            differences: self.differences(&info),
            error,
            is_active,
            is_on_purpose,
            pending: info.pending_update_count,
            place,
        })
    }

    /// Whether a command of this machine has made it as `info` says, and the config asks for the
    /// same as then. Forgets a note that is of no use any more.
    fn is_on_purpose(&mut self, info: &WebhookInfo, place: &Place) -> bool {
        let (note, sum) = (self.bot.note.read(), self.plan.as_ref().map(Sum::new));
        if note != self.known.0 {
            self.uploaded = note.as_ref().and_then(Note::certificate).or(self.uploaded);
            // A command may have read a config that is yet to be loaded here.
            self.known = (note.clone(), sum);
        }
        let is_here = matches!(place, Place::Moved | Place::Ours);
        match note {
            None | Some(Note::Fallback) => false,
            Some(Note::Own { .. }) if is_here => false,
            Some(note) if note.is_of(info) => {
                let is_same = |then: Option<Sum>| then.is_some() && then == sum;
                let then = note.plan();
                then.is_none() || sum.is_none() || is_same(then) || is_same(self.known.1)
            }
            // Another client has changed it since.
            Some(_) if self.machine.is_polling() => {
                let _ = self.bot.note.write(&Note::Fallback);
                false
            }
            Some(_) => {
                self.forget();
                false
            }
        }
    }

    /// While it polls: whether a command has set or deleted the webhook since.
    fn is_told_otherwise(&self) -> bool {
        let note = self.bot.note.read();
        self.machine.is_polling() && matches!(note, Some(Note::Deleted | Note::Set(_)))
    }

    fn differences(&self, info: &WebhookInfo) -> Vec<String> {
        let Some(plan) = self.plan.as_ref().filter(|_| !info.url.is_empty()) else {
            return Vec::new();
        };
        let mut differences = plan.differences(info);
        if info.has_custom_certificate && plan.certificate.is_some() {
            let is_another = Sum::new(plan).certificate != self.uploaded;
            let what = "certificate: another one is served than the one that was uploaded";
            differences.extend(is_another.then(|| what.to_owned()));
        }
        differences
    }

    fn check(&self) -> Result<(), String> {
        let plan = self.plan.as_ref().ok_or("the config does not say where the webhook is")?;
        self.bot.check(plan)
    }

    /// Sets the webhook as the config has it; `with_kinds` also those of updates, which are
    /// Telegram's usual ones where the config names none.
    fn set(&mut self, with_kinds: bool) -> Result<(), Trouble> {
        // The certificate may be another one by now.
        let mut plan = self.bot.plan().map_err(|error| config_trouble(&error))?;
        // A call that is refused may have deleted the webhook all the same.
        if let Some(problem) = plan.problems().into_iter().find(|problem| problem.is_fatal) {
            return Err(failure(problem.to_string()));
        }
        if !with_kinds {
            plan.allowed_updates = None;
        }
        plan.apply(&self.bot.client, false).map_err(|error| trouble(&error))?;
        let certificate = Sum::new(&plan).certificate;
        self.uploaded = certificate;
        self.plan = Some(plan);
        // In place of any other note. Without it, the next process takes its own certificate for
        // the one that is uploaded.
        if let Err(error) = self.bot.note.leave(&Note::Own { certificate }) {
            let bot = &self.bot.name;
            tracing::warn!(bot, %error, "that the webhook was set cannot be noted");
            self.forget();
        }
        Ok(())
    }

    /// Deletes the webhook and polls. It is noted first: a process that dies in between leaves it
    /// to the next one.
    fn fall_back(&self, pollers: &Pollers) -> Result<(), Trouble> {
        self.bot.note.write(&Note::Fallback).map_err(|error| {
            failure(format!("nothing can be written to the data directory: {error}"))
        })?;
        self.bot.client.delete_webhook(false).map_err(|error| trouble(&error))?;
        self.poll(pollers)
    }

    fn poll(&self, pollers: &Pollers) -> Result<(), Trouble> {
        let plan = self.plan.as_ref().filter(|_| self.bot.says_kinds());
        let allowed = plan.and_then(|plan| plan.allowed_updates.clone());
        let (bot, client) = (&self.bot.name, self.bot.client.clone());
        pollers.start(bot, client, allowed).map_err(|error| config_trouble(&error))
    }

    /// Stops polling and sets the webhook; polls on where that fails.
    fn go_back(&mut self, pollers: &Pollers) -> Result<(), Trouble> {
        pollers.end(&self.bot.name, Some(CONFIRM));
        let outcome = self.set(self.bot.says_kinds());
        if outcome.is_err() && self.machine.is_polling() {
            self.poll(pollers)?;
        }
        outcome
    }

    fn forget(&self) {
        if let Err(error) = self.bot.note.forget() {
            let bot = &self.bot.name;
            tracing::warn!(bot, %error, "the note on the webhook cannot be removed");
        }
    }
}

/// Where the webhook of `info` is, seen from the plan.
fn place(plan: Option<&Plan>, info: &WebhookInfo) -> Place {
    if info.url.is_empty() {
        return Place::Gone;
    }
    let Some(plan) = plan else { return Place::Ours };
    let is = WebhookUrl::parse(&info.url);
    let (Some(is), Some(planned)) = (is, WebhookUrl::parse(&plan.url)) else {
        return if info.url == plan.url { Place::Ours } else { other(info) };
    };
    let path = |url: &WebhookUrl| url.target.split('?').next().map(str::to_owned);
    match () {
        () if is == planned => Place::Ours,
        () if is.host == planned.host && path(&is) == path(&planned) => Place::Moved,
        () => other(info),
    }
}

fn other(info: &WebhookInfo) -> Place {
    Place::Other(without_userinfo(&info.url))
}

/// The last error with its date, on one line of bounded length.
fn error_of(info: &WebhookInfo) -> Option<(i64, String)> {
    let text = info.last_error_message.as_deref().unwrap_or_default();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Some((info.last_error_date?, text.chars().take(TEXT_MAX).map(plain).collect()))
}

fn trouble(error: &ApiError) -> Trouble {
    let retry_after = match error {
        ApiError::Refused { retry_after, .. } => *retry_after,
        ApiError::Odd(_) | ApiError::Unreachable(_) => None,
    };
    Trouble { is_outage: error.is_outage(), retry_after, text: error.to_string() }
}

fn config_trouble(error: &Error) -> Trouble {
    failure(error.to_string())
}

fn failure(text: String) -> Trouble {
    Trouble { is_outage: false, retry_after: None, text }
}
