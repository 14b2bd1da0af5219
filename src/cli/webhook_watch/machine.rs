//! What to do about one bot's webhook: looks and times in, actions and events out. It knows no
//! socket and no clock; times are counted from any one moment.
//!
//! Two looks in a row must show a change before it is mended: whoever replaces a webhook may delete
//! it first, and whoever changes the config and the webhook does one after the other.
//!
//! What is mended, where `webhook.repair` asks for it:
//!
//! | what is seen | mended where |
//! |---|---|
//! | no webhook | this process has seen the config's own before |
//! | another URL | the same, and it is not one that came back after it was replaced: whoever sets it again does so on purpose |
//! | another port, user or scheme, the host and path of the config | always |
//! | other settings or another certificate | always, unless setting them again did not help |
//!
//! Never more than [`REPAIRS`] times in an hour, and never what this machine's own commands have
//! noted as their doing (see `note`).

use std::{collections::VecDeque, time::Duration};

/// The most repairs in one [`HOUR`].
const REPAIRS: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);
/// Looks in a row that must show the same change.
const LOOKS: u32 = 2;
/// The longest time between two tries of Telegram's; an error that has not moved for longer, and an
/// interval, is over.
const RETRY_MAX: Duration = Duration::from_secs(125);
/// Checks in a row that must be well before a return.
const WELLS: u32 = 3;
/// The longest time between two checks.
const CHECK_MAX: Duration = Duration::from_secs(30);
/// The longest wait after returns that have failed, unless `fallback_after` is longer.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// A return has failed where deliveries do for so many times `fallback_after` after it.
const STEADY: u32 = 10;
/// Looks in a row that must fail for an outage that begins the count of failing deliveries anew.
const OUTAGE_LOOKS: u32 = 3;
/// The longest that the Bot API is waited for where it asks for that.
const DEFER_MAX: Duration = Duration::from_secs(600);
/// URLs of others that are left alone; a bound on memory.
const YIELDED: usize = 16;

/// What the config asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Terms {
    pub(super) can_fall_back: bool,
    pub(super) can_repair: bool,
    pub(super) fallback_after: Duration,
    pub(super) interval: Duration,
}

/// Where the webhook points.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Nowhere: there is none.
    Gone,
    /// At the host and path of the config, in another way.
    Moved,
    /// Somewhere else, at this URL.
    Other(String),
    /// Where the config says.
    Ours,
}

/// How a webhook is other than the config has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Gone,
    /// What is different, for people.
    Moved(Vec<String>),
    /// The URL.
    Other(String),
    /// What is different, for people.
    Settings(Vec<String>),
}

/// What getWebhookInfo and the server's own ears say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Look {
    /// What is different from the config, for people; empty where there is no webhook.
    pub(super) differences: Vec<String>,
    /// The last error: its date, and its text.
    pub(super) error: Option<(i64, String)>,
    /// Whether an update has come over the wire since the look before.
    pub(super) is_heard: bool,
    /// Whether somebody of this machine has made it so on purpose.
    pub(super) is_on_purpose: bool,
    pub(super) pending: u64,
    pub(super) place: Place,
}

impl Look {
    fn change(&self) -> Option<Change> {
        match &self.place {
            Place::Gone => Some(Change::Gone),
            Place::Moved => Some(Change::Moved(self.differences.clone())),
            Place::Other(url) => Some(Change::Other(url.clone())),
            Place::Ours if self.differences.is_empty() => None,
            Place::Ours => Some(Change::Settings(self.differences.clone())),
        }
    }

    fn is_ours(&self) -> bool {
        matches!(self.place, Place::Moved | Place::Ours)
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// See whether the public way to this server works.
    Check,
    /// Note it, delete the webhook without dropping anything, and poll.
    FallBack,
    /// Stop polling, set the webhook, forget the note. Where that fails, poll on.
    GoBack,
    /// Stop polling, and forget the note: somebody has set a webhook.
    LetGo,
    /// Call getWebhookInfo.
    Look,
    /// Set the webhook again.
    Repair,
}

/// What has come of an action.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Why it is not well, if it is not.
    Checked(Result<(), String>),
    FellBack(Result<(), Trouble>),
    /// A check or a return was not made: a command has left a note since. A look tells what it is.
    Held,
    LetGo,
    Looked(Result<Look, Trouble>),
    Repaired(Result<(), Trouble>),
    WentBack(Result<(), Trouble>),
}

/// Why a call did not succeed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Trouble {
    /// Whether the Bot API could not be had at all.
    pub(super) is_outage: bool,
    /// How long the Bot API asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) text: String,
}

impl Outcome {
    fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::FellBack(Err(trouble))
            | Self::Looked(Err(trouble))
            | Self::Repaired(Err(trouble))
            | Self::WentBack(Err(trouble)) => Some(trouble),
            _ => None,
        }
    }
}

/// Something to be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// It is as the config has it again.
    AsConfigured,
    /// The public way does not work yet.
    CheckFailed(String),
    /// It was changed, and what is done about it.
    Changed(Change, Remedy),
    /// Updates arrive again, or none waits.
    Delivers,
    /// A last error that was not there before.
    Error(String),
    /// Telegram cannot deliver: how many updates wait, and the last error.
    Fails(u64, String),
    /// From now on updates are fetched.
    FellBack,
    FallBackFailed(String),
    /// Somebody has asked for no webhook during a fallback: updates are fetched until one is set.
    Held,
    /// The look did not succeed.
    Outage(String),
    OutageOver,
    /// The public way does not work from here, so that no fallback would end.
    ProbeFailed(String),
    Repaired,
    RepairFailed(String),
    /// Nothing is repaired until an hour has fewer repairs.
    RepairsUsedUp,
    /// Somebody else has set a webhook, so nothing is fetched any more.
    LetGo,
    WentBack,
    ReturnFailed(String),
}

/// What is done about a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Remedy {
    /// Nothing: it was never seen as the config has it, so it may belong to somebody else.
    NotOurs,
    /// Nothing: it was made so on purpose.
    OnPurpose,
    /// Nothing: `webhook.repair` is off.
    Off,
    /// It will be set again.
    Repair,
    /// Nothing: setting it again did not help, or somebody sets it again each time.
    Useless,
    /// Nothing until an hour has fewer repairs.
    UsedUp,
}

/// How updates come.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Mode {
    Hooked,
    Polling {
        check_at: Duration,
        /// Whether somebody has asked for no webhook, so that none is set.
        is_held: bool,
        /// Whether it was told why the check is not well.
        is_told: bool,
        wells: u32,
    },
}

/// One bot's webhook over time.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    terms: Terms,
    chance: Chance,
    mode: Mode,
    queued: Option<Action>,
    look_at: Duration,
    /// The date of the last error, once there was a look.
    error_date: Option<Option<i64>>,
    /// When that was last seen to move, where nothing came since.
    error_moved_at: Option<Duration>,
    /// The last error that was told, and when.
    error_told: Option<(Duration, String)>,
    /// Since when, without the outages in between.
    failing_since: Option<Duration>,
    /// Whether it was told that Telegram cannot deliver.
    is_failing_told: bool,
    /// The first look in a row that did not succeed.
    out_since: Option<Duration>,
    /// Whether a fallback of an earlier process has deleted it.
    is_noted: bool,
    /// Whether it was seen as the config has it.
    is_owned: bool,
    /// Whether a check was made while there was no need for one.
    is_probed: bool,
    seen: Option<Seen>,
    repairs: Repairs,
    /// Returns in a row that have failed.
    returns_failed: u32,
    returned_at: Option<Duration>,
}

/// The change that was seen last.
#[derive(Clone, Debug)]
struct Seen {
    change: Change,
    /// What was told of it.
    remedy: Remedy,
    /// How often in a row, since it was last set again.
    times: u32,
}

#[derive(Clone, Debug, Default)]
struct Repairs {
    /// When, within the last hour.
    at: VecDeque<Duration>,
    is_told_used_up: bool,
    /// Settings that setting it again did not change.
    useless: Option<Vec<String>>,
    /// URLs that were replaced once.
    yielded: VecDeque<String>,
}

impl Machine {
    /// The first look is due within an interval from `now`. `is_noted` says that a fallback of an
    /// earlier process has deleted the webhook.
    pub(super) fn new(terms: Terms, now: Duration, seed: u64, is_noted: bool) -> Self {
        Self {
            terms,
            chance: Chance(seed),
            mode: Mode::Hooked,
            queued: None,
            look_at: now,
            error_date: None,
            error_moved_at: None,
            error_told: None,
            failing_since: None,
            is_failing_told: false,
            out_since: None,
            is_noted,
            is_owned: false,
            is_probed: false,
            seen: None,
            repairs: Repairs::default(),
            returns_failed: 0,
            returned_at: None,
        }
    }

    /// Goes on by `terms`. Where `is_replaced`, the config has another webhook than before, which has
    /// not been seen yet.
    pub(super) fn set_terms(&mut self, terms: Terms, is_replaced: bool, now: Duration) {
        self.terms = terms;
        self.look_at = now;
        self.is_probed = false;
        self.repairs.useless = None;
        self.repairs.yielded.clear();
        if is_replaced {
            self.is_owned = false;
            self.seen = None;
            self.failing_since = None;
            self.is_failing_told = false;
        }
        if let (Mode::Polling { check_at, .. }, false) = (&mut self.mode, terms.can_fall_back) {
            *check_at = now;
        }
    }

    /// When the next action is due.
    pub(super) fn next(&self) -> Duration {
        match (self.queued, &self.mode) {
            (Some(_), _) => Duration::ZERO,
            (None, Mode::Polling { check_at, .. }) => self.look_at.min(*check_at),
            (None, Mode::Hooked) => self.look_at,
        }
    }

    /// What is to be done at `now`; its outcome is given to [`done`](Self::done) before this is asked
    /// again.
    pub(super) fn due(&mut self, now: Duration) -> Option<Action> {
        if let Some(action) = self.queued.take() {
            return Some(action);
        }
        match &self.mode {
            Mode::Polling { check_at, .. } if *check_at <= now => {
                Some(if self.terms.can_fall_back { Action::Check } else { Action::GoBack })
            }
            _ => (self.look_at <= now).then_some(Action::Look),
        }
    }

    /// Since when Telegram cannot deliver.
    pub(super) fn failing_since(&self) -> Option<Duration> {
        self.failing_since
    }

    pub(super) fn is_polling(&self) -> bool {
        matches!(self.mode, Mode::Polling { .. })
    }

    /// Takes what has come of an action at `now`; what is to be told of it.
    pub(super) fn done(&mut self, now: Duration, outcome: Outcome) -> Vec<Event> {
        let retry_after = outcome.trouble().and_then(|trouble| trouble.retry_after);
        let events = self.take(now, outcome);
        if let Some(after) = retry_after {
            let at = now + after.min(DEFER_MAX);
            self.look_at = self.look_at.max(at);
            if let Mode::Polling { check_at, .. } = &mut self.mode {
                *check_at = at.max(*check_at);
            }
        }
        events
    }

    fn take(&mut self, now: Duration, outcome: Outcome) -> Vec<Event> {
        match outcome {
            Outcome::Checked(outcome) => self.checked(now, outcome),
            Outcome::FellBack(outcome) => self.fell_back(now, outcome),
            Outcome::Held => {
                if let Mode::Polling { check_at, .. } = &mut self.mode {
                    *check_at = now + self.terms.interval.min(CHECK_MAX);
                }
                self.look_at = now;
                Vec::new()
            }
            Outcome::LetGo => {
                let was_polling = self.is_polling();
                self.mode = Mode::Hooked;
                self.begin_anew();
                if was_polling { vec![Event::LetGo] } else { Vec::new() }
            }
            Outcome::Looked(outcome) => {
                let tenth = self.terms.interval / 10;
                let jitter = tenth.mul_f64(2.0 * self.chance.next());
                self.look_at = now + self.terms.interval - tenth + jitter;
                self.looked(now, outcome)
            }
            Outcome::Repaired(outcome) => self.repaired(now, outcome),
            Outcome::WentBack(outcome) => self.went_back(now, outcome),
        }
    }

    fn looked(&mut self, now: Duration, outcome: Result<Look, Trouble>) -> Vec<Event> {
        let look = match outcome {
            Ok(look) => look,
            Err(trouble) => {
                let is_news = self.out_since.is_none();
                let since = *self.out_since.get_or_insert(now);
                self.mind_outage(now.saturating_sub(since));
                return if is_news { vec![Event::Outage(trouble.text)] } else { Vec::new() };
            }
        };
        let mut events = Vec::new();
        if let Some(since) = self.out_since.take() {
            let lasted = now.saturating_sub(since);
            self.mind_outage(lasted);
            // What nobody saw counts for nothing.
            for at in [&mut self.failing_since, &mut self.error_moved_at].into_iter().flatten() {
                *at += lasted;
            }
            events.push(Event::OutageOver);
        }
        let is_gone_on_purpose = look.is_on_purpose && look.place == Place::Gone;
        if std::mem::take(&mut self.is_noted) && !look.is_on_purpose {
            self.queued = Some(match (&look.place, self.terms.can_fall_back) {
                (Place::Gone, true) => Action::FallBack,
                (Place::Gone, false) => Action::GoBack,
                _ => Action::LetGo,
            });
            return events;
        }
        if self.is_polling() {
            if look.place != Place::Gone {
                self.queued = Some(Action::LetGo);
            }
            self.mind_hold(now, is_gone_on_purpose, &mut events);
            return events;
        }
        self.mind_changes(now, &look, &mut events);
        self.mind_deliveries(now, &look, &mut events);
        events
    }

    /// A short outage is a pause; after a long one the count begins anew: who cannot reach the Bot API
    /// is not reached by it either, as a rule.
    fn mind_outage(&mut self, lasted: Duration) {
        let long = self.terms.interval.saturating_mul(OUTAGE_LOOKS);
        if lasted >= long.max(self.terms.fallback_after / 2) {
            self.failing_since = None;
        }
    }

    /// While polling: sets no webhook as long as somebody has asked for none.
    fn mind_hold(&mut self, now: Duration, is_asked_for: bool, events: &mut Vec<Event>) {
        let anew = self.polling(now);
        let Mode::Polling { check_at, is_held, .. } = &mut self.mode else { return };
        match (is_asked_for, *is_held) {
            (true, _) => {
                *check_at = Duration::MAX;
                if !std::mem::replace(is_held, true) {
                    events.push(Event::Held);
                }
            }
            (false, true) => self.mode = anew,
            _ => {}
        }
    }

    fn mind_changes(&mut self, now: Duration, look: &Look, events: &mut Vec<Event>) {
        let Some(change) = look.change() else {
            self.is_owned = true;
            if self.seen.take().is_some() {
                events.push(Event::AsConfigured);
            }
            self.repairs.useless = None;
            if self.terms.can_fall_back && !std::mem::replace(&mut self.is_probed, true) {
                self.queued = Some(Action::Check);
            }
            return;
        };
        let mut remedy = self.remedy(&change, look.is_on_purpose);
        if remedy == Remedy::Repair && !self.repairs.has_room(now) {
            remedy = Remedy::UsedUp;
        }
        let before = self.seen.take().filter(|seen| seen.change == change);
        if before.as_ref().is_none_or(|seen| seen.remedy != remedy) {
            events.push(Event::Changed(change.clone(), remedy));
        }
        let times = before.map_or(0, |seen| seen.times).saturating_add(1);
        self.seen = Some(Seen { change, remedy, times });
        match remedy {
            _ if times < LOOKS => {}
            Remedy::Repair => self.queued = Some(Action::Repair),
            Remedy::UsedUp if !std::mem::replace(&mut self.repairs.is_told_used_up, true) => {
                events.push(Event::RepairsUsedUp);
            }
            _ => {}
        }
    }

    fn remedy(&self, change: &Change, is_on_purpose: bool) -> Remedy {
        let is_ours = matches!(change, Change::Moved(_) | Change::Settings(_)) || self.is_owned;
        let is_useless = match change {
            Change::Gone => false,
            Change::Moved(what) | Change::Settings(what) => {
                self.repairs.useless.as_ref() == Some(what)
            }
            Change::Other(url) => self.repairs.yielded.contains(url),
        };
        match () {
            () if is_on_purpose => Remedy::OnPurpose,
            () if !self.terms.can_repair => Remedy::Off,
            () if !is_ours => Remedy::NotOurs,
            () if is_useless => Remedy::Useless,
            () => Remedy::Repair,
        }
    }

    fn mind_deliveries(&mut self, now: Duration, look: &Look, events: &mut Vec<Event>) {
        let date = look.error.as_ref().map(|(date, _)| *date);
        // The first look may find an error of last year.
        let has_moved = date.is_some() && self.error_date.is_some_and(|known| known != date);
        self.error_date = Some(date);
        let text = || look.error.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
        if has_moved {
            self.error_moved_at = Some(now);
            let is_known = self
                .error_told
                .as_ref()
                .is_some_and(|(at, told)| *told == text() && now.saturating_sub(*at) < HOUR);
            if !is_known {
                self.error_told = Some((now, text()));
                events.push(Event::Error(text()));
            }
        }
        if look.is_heard {
            self.error_moved_at = None;
        }
        let fresh = RETRY_MAX + self.terms.interval.mul_f64(1.1);
        let is_fresh = self.error_moved_at.is_some_and(|at| now.saturating_sub(at) <= fresh);
        if !(look.is_ours() && look.pending > 0 && is_fresh) {
            self.failing_since = None;
            if std::mem::take(&mut self.is_failing_told) {
                self.error_told = None;
                events.push(Event::Delivers);
            }
            return;
        }
        if !std::mem::replace(&mut self.is_failing_told, true) {
            events.push(Event::Fails(look.pending, text()));
        }
        let since = *self.failing_since.get_or_insert(now);
        let is_long = now.saturating_sub(since) >= self.terms.fallback_after;
        if self.terms.can_fall_back && is_long {
            self.queued = Some(Action::FallBack);
        }
    }

    fn repaired(&mut self, now: Duration, outcome: Result<(), Trouble>) -> Vec<Event> {
        let change = self.seen.as_mut().map(|seen| {
            seen.times = 0;
            seen.change.clone()
        });
        match &outcome {
            // It was not tried.
            Err(Trouble { is_outage: true, .. }) => {}
            _ => self.repairs.count(now, change),
        }
        match outcome {
            Ok(()) => {
                self.begin_anew();
                vec![Event::Repaired]
            }
            Err(trouble) => vec![Event::RepairFailed(trouble.text)],
        }
    }

    fn fell_back(&mut self, now: Duration, outcome: Result<(), Trouble>) -> Vec<Event> {
        if let Err(trouble) = outcome {
            // It may have been deleted all the same: the next look tells.
            self.is_noted = true;
            return vec![Event::FallBackFailed(trouble.text)];
        }
        let steady = self.terms.fallback_after.saturating_mul(STEADY);
        match self.returned_at.take() {
            Some(at) if now.saturating_sub(at) < steady => self.returns_failed += 1,
            _ => self.returns_failed = 0,
        }
        self.begin_anew();
        self.mode = self.polling(now);
        vec![Event::FellBack]
    }

    fn checked(&mut self, now: Duration, outcome: Result<(), String>) -> Vec<Event> {
        let pause = self.terms.interval.min(CHECK_MAX);
        let Mode::Polling { check_at, is_told, wells, .. } = &mut self.mode else {
            return outcome.err().map(Event::ProbeFailed).into_iter().collect();
        };
        *check_at = now + pause;
        match outcome {
            Ok(()) => {
                *wells += 1;
                *is_told = false;
                if *wells >= WELLS {
                    self.queued = Some(Action::GoBack);
                }
                Vec::new()
            }
            Err(why) => {
                *wells = 0;
                let is_news = !std::mem::replace(is_told, true);
                if is_news { vec![Event::CheckFailed(why)] } else { Vec::new() }
            }
        }
    }

    fn went_back(&mut self, now: Duration, outcome: Result<(), Trouble>) -> Vec<Event> {
        match outcome {
            Ok(()) => {
                self.mode = Mode::Hooked;
                self.is_owned = true;
                self.returned_at = Some(now);
                self.begin_anew();
                vec![Event::WentBack]
            }
            Err(trouble) => {
                self.returns_failed += 1;
                if self.is_polling() {
                    self.mode = self.polling(now);
                } else {
                    // The note stands; the next look leads here again.
                    self.is_noted = true;
                }
                vec![Event::ReturnFailed(trouble.text)]
            }
        }
    }

    /// Polling from `now` on: the first check comes after a wait that doubles with each return that
    /// has failed.
    fn polling(&self, now: Duration) -> Mode {
        let wait = match self.returns_failed {
            0 => self.terms.interval.min(CHECK_MAX),
            failed => {
                let after = self.terms.fallback_after;
                after.saturating_mul(1 << failed.min(12)).min(WAIT_MAX.max(after))
            }
        };
        Mode::Polling { check_at: now + wait, is_held: false, is_told: false, wells: 0 }
    }

    /// The webhook was set or deleted.
    fn begin_anew(&mut self) {
        // Setting what is set already leaves the last error.
        self.error_date = None;
        self.error_moved_at = None;
        self.error_told = None;
        self.failing_since = None;
        self.is_failing_told = false;
        self.queued = None;
    }
}

impl Repairs {
    fn has_room(&mut self, now: Duration) -> bool {
        while self.at.front().is_some_and(|at| now.saturating_sub(*at) >= HOUR) {
            self.at.pop_front();
        }
        self.at.len() < REPAIRS
    }

    fn count(&mut self, now: Duration, change: Option<Change>) {
        self.at.push_back(now);
        self.is_told_used_up = false;
        match change {
            Some(Change::Moved(what) | Change::Settings(what)) => self.useless = Some(what),
            Some(Change::Other(url)) => {
                self.yielded.push_back(url);
                if self.yielded.len() > YIELDED {
                    self.yielded.pop_front();
                }
            }
            Some(Change::Gone) | None => {}
        }
    }
}

/// Numbers that need not be random for anybody but several machines of one config, which must not all
/// call at the same moment.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    /// One of 0 to 1 (splitmix64).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}
