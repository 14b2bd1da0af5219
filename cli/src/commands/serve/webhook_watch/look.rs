//! The words of the machines: what is seen of a webhook, what is done about it, what is reported.

use std::time::Duration;

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
    pub(super) is_active: bool,
    /// Whether a command on this machine has made it so on purpose.
    pub(super) is_on_purpose: bool,
    pub(super) pending: u64,
    pub(super) place: Place,
}

impl Look {
    pub(super) fn change(&self) -> Option<Change> {
        match &self.place {
            Place::Gone => Some(Change::Gone),
            Place::Moved => Some(Change::Moved(self.differences.clone())),
            Place::Other(url) => Some(Change::Other(url.clone())),
            Place::Ours if self.differences.is_empty() => None,
            Place::Ours => Some(Change::Settings(self.differences.clone())),
        }
    }

    pub(super) fn is_ours(&self) -> bool {
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
    /// Stop polling, and forget the note: another client has set a webhook.
    LetGo,
    /// Call getWebhookInfo.
    Look,
    /// Set the webhook again.
    Repair,
}

/// What has come of an action.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Why it is not healthy, if it is not.
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
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::FellBack(Err(trouble))
            | Self::Looked(Err(trouble))
            | Self::Repaired(Err(trouble))
            | Self::WentBack(Err(trouble)) => Some(trouble),
            _ => None,
        }
    }
}

/// Something to be reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// It is as the config has it again.
    AsConfigured,
    /// The public way does not work yet.
    CheckFailed(String),
    /// It was changed, and what is done about it.
    Changed(Change, Fix),
    /// Updates arrive again, or none waits.
    Delivers,
    /// A last error that was not there before.
    Error(String),
    /// Telegram cannot deliver: how many updates wait, and the last error.
    Fails(u64, String),
    /// From now on updates are fetched.
    FellBack,
    FallBackFailed(String),
    /// A command has asked for no webhook during a fallback: updates are fetched until one is set.
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
    /// Another client has set a webhook, so nothing is fetched any more.
    LetGo,
    WentBack,
    ReturnFailed(String),
}

/// What is done about a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fix {
    /// Nothing: it was never seen as the config has it, so it may belong to another client.
    NotOurs,
    /// Nothing: it was made so on purpose.
    OnPurpose,
    /// Nothing: `webhook.repair` is off.
    Off,
    /// It will be set again.
    Repair,
    /// Nothing: setting it again did not help, or another client sets it again each time.
    Useless,
    /// Nothing until an hour has fewer repairs.
    UsedUp,
}
