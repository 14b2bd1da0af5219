//! What the config says of a webhook, as far as it can be known.

use crate::{
    server::bots::{Bots, ChosenBot},
    telegram::webhook::{Plan, Upload},
};

/// What getWebhookInfo is compared with.
pub(super) enum Expected {
    Whole(Plan),
    /// Without certificate and credentials, and why they are not known.
    Partly(Plan, String),
    /// Nothing: the config names no host and no URL.
    Silent(String),
    /// It should say something, and does not: why.
    Unknown(String),
}

impl Expected {
    pub(super) fn new(bots: &Bots, bot: &ChosenBot) -> Self {
        let error = match bots.plan(bot, Upload::default()) {
            Ok(plan) => return Self::Whole(plan),
            Err(error) => error.to_string(),
        };
        let section = &bot.section;
        let has_host = section.host.as_ref().is_some_and(|host| !host.starts_with('*'));
        match Plan::bare(bots.file(), &bots.config, section) {
            Ok(plan) => Self::Partly(plan, error),
            Err(_) if section.url.is_none() && !has_host => Self::Silent(error),
            Err(_) => Self::Unknown(error),
        }
    }

    /// What there is to compare with.
    pub(super) fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Whole(plan) | Self::Partly(plan, _) => Some(plan),
            Self::Silent(_) | Self::Unknown(_) => None,
        }
    }

    /// Why not all of it is compared.
    pub(super) fn gap(&self) -> Option<&str> {
        match self {
            Self::Whole(_) => None,
            Self::Partly(_, why) | Self::Silent(why) | Self::Unknown(why) => Some(why),
        }
    }
}
