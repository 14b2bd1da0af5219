//! Whether a webhook that was changed is set again.
//!
//! Two looks in a row must show a change before it is repaired: a client that replaces a
//! webhook may delete it first, and an operator changes config and webhook one after the other.
//!
//! What is repaired, where `webhook.repair` asks for it:
//!
//! * No webhook: where this process has seen the config's own before.
//! * Another URL: the same, unless it came back after it was replaced. Then it is set on purpose.
//! * Another port, user or scheme with the host and path of the config: always.
//! * Other settings or another certificate: always, unless setting them again did not help.
//!
//! Never more than [`REPAIRS`] times in an hour, and never what this machine's own commands have
//! noted as their doing (see `note`).

use std::{collections::VecDeque, time::Duration};

use super::look::{Change, Event, Fix, Look, Terms, Trouble};

/// The most repairs in one [`HOUR`].
const REPAIRS: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);
/// Looks in a row that must show the same change.
const LOOKS: u32 = 2;
/// URLs of others that are left alone; a bound on memory.
const YIELDED: usize = 16;

/// The changes of a webhook over time, and what setting it again has come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Repairs {
    owner: Owner,
    state: State,
    quota: Quota,
    /// Settings that setting it again did not change.
    useless: Option<Vec<String>>,
    /// URLs that were replaced once.
    yielded: VecDeque<String>,
}

/// Whose webhook it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Owner {
    /// It was seen as the config has it.
    Config,
    /// It may belong to another program.
    #[default]
    Unknown,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    AsConfigured,
    /// `fix` is what was reported of it, `times` how often in a row it was seen since it was last
    /// set again.
    Changed { change: Change, fix: Fix, times: u32 },
}

/// How much may be repaired.
#[derive(Clone, Debug, Default)]
struct Quota {
    /// When something was, within the last hour.
    at: VecDeque<Duration>,
    is_told_used_up: bool,
}

/// What a look says of the settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    AsConfigured,
    /// There is a change that is left alone, for now at least.
    Changed,
    /// It is to be set again now.
    Repair,
}

impl Repairs {
    /// The config has other terms.
    pub(super) fn set_terms(&mut self) {
        self.useless = None;
        self.yielded.clear();
    }

    /// The config has another webhook than before, which has not been seen yet.
    pub(super) fn replace(&mut self) {
        self.owner = Owner::Unknown;
        self.state = State::AsConfigured;
    }

    /// This process has set the webhook.
    pub(super) fn own(&mut self) {
        self.owner = Owner::Config;
    }

    /// Takes a look at `now`.
    pub(super) fn look(
        &mut self,
        now: Duration,
        look: &Look,
        terms: &Terms,
        events: &mut Vec<Event>,
    ) -> Verdict {
        let before = std::mem::take(&mut self.state);
        let Some(change) = look.change() else {
            self.owner = Owner::Config;
            if let State::Changed { .. } = before {
                events.push(Event::AsConfigured);
            }
            self.useless = None;
            return Verdict::AsConfigured;
        };
        let mut fix = self.fix(&change, look.is_on_purpose, terms);
        if fix == Fix::Repair && !self.quota.has_room(now) {
            fix = Fix::UsedUp;
        }
        let (reported, times) = match before {
            State::Changed { change: same, fix, times } if same == change => (Some(fix), times),
            _ => (None, 0),
        };
        if reported != Some(fix) {
            events.push(Event::Changed(change.clone(), fix));
        }
        let times = times.saturating_add(1);
        self.state = State::Changed { change, fix, times };
        match fix {
            _ if times < LOOKS => Verdict::Changed,
            Fix::Repair => Verdict::Repair,
            Fix::UsedUp if !std::mem::replace(&mut self.quota.is_told_used_up, true) => {
                events.push(Event::RepairsUsedUp);
                Verdict::Changed
            }
            _ => Verdict::Changed,
        }
    }

    fn fix(&self, change: &Change, is_on_purpose: bool, terms: &Terms) -> Fix {
        let is_ours =
            matches!(change, Change::Moved(_) | Change::Settings(_)) || self.owner == Owner::Config;
        let is_useless = match change {
            Change::Gone => false,
            Change::Moved(what) | Change::Settings(what) => self.useless.as_ref() == Some(what),
            Change::Other(url) => self.yielded.contains(url),
        };
        match () {
            () if is_on_purpose => Fix::OnPurpose,
            () if !terms.can_repair => Fix::Off,
            () if !is_ours => Fix::NotOurs,
            () if is_useless => Fix::Useless,
            () => Fix::Repair,
        }
    }

    /// Takes what has come of a repair at `now`.
    pub(super) fn repaired(&mut self, now: Duration, outcome: &Result<(), Trouble>) {
        let change = match &mut self.state {
            State::AsConfigured => None,
            State::Changed { change, times, .. } => {
                *times = 0;
                Some(change.clone())
            }
        };
        // An outage: it was not tried.
        if matches!(outcome, Err(Trouble { is_outage: true, .. })) {
            return;
        }
        self.quota.at.push_back(now);
        self.quota.is_told_used_up = false;
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

impl Quota {
    fn has_room(&mut self, now: Duration) -> bool {
        while self.at.front().is_some_and(|at| now.saturating_sub(*at) >= HOUR) {
            self.at.pop_front();
        }
        self.at.len() < REPAIRS
    }
}
