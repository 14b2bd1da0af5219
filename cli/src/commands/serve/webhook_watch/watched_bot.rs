//! A bot that is watched over: what the config says of it.

use std::sync::Arc;

use super::{look::Terms, note::NoteFile};
use crate::{
    commands::doctor,
    config::{BotSection, ConfigFile, Fallback, Secrets},
    server::{
        bots::{ChosenBot, check_tokens},
        setup::Setup,
    },
    telegram::{
        bot_api::Client,
        webhook::{Plan, Upload},
    },
};
use ringhook::{Config, Error};

/// A bot with a token.
#[derive(Clone, Debug)]
pub(crate) struct WatchedBot {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) note: NoteFile,
    pub(super) terms: Terms,
    /// Differs between bots.
    pub(super) seed: u64,
    config: Arc<Config>,
    file: Arc<ConfigFile>,
    section: BotSection,
}

impl WatchedBot {
    /// All of `setup` that are to be watched over: those with a token, unless `webhook.watch` is
    /// off.
    ///
    /// # Errors
    /// A token that cannot be read or is none.
    pub(crate) fn all(setup: &Setup) -> Result<Vec<Self>, Error> {
        let file = Arc::new(setup.file.clone());
        if !file.webhook.watch {
            return Ok(Vec::new());
        }
        let config = Arc::new(file.to_config(Secrets::Leave)?);
        let (root, webhook) = (&file.webhook.api_root, &file.webhook);
        let terms = Terms {
            can_fall_back: webhook.fallback == Fallback::Poll,
            can_repair: webhook.repair,
            fallback_after: webhook.fallback_after,
            interval: webhook.interval,
        };
        let data_dir = file.server.data_dir.clone();
        let is_only_one = file.bots.len() == 1;
        let chosen = file.bots.iter().map(|section| ChosenBot::new(section, is_only_one));
        let chosen = chosen.collect::<Result<Vec<_>, _>>()?;
        check_tokens(chosen.iter().filter_map(|bot| Some((&*bot.name, bot.token.as_ref()?))))?;
        let mut bots = Vec::new();
        for ChosenBot { name, section, token } in chosen {
            let Some(token) = token else { continue };
            let bot_id = token.bot_id();
            bots.push(Self {
                client: Client::new(root, token)?.impatient(),
                name,
                note: NoteFile::new(&data_dir, bot_id),
                terms,
                seed: bot_id,
                config: Arc::clone(&config),
                file: Arc::clone(&file),
                section,
            });
        }
        Ok(bots)
    }

    /// What is done for `bots`, for people; `None` where there are none.
    pub(crate) fn describe(bots: &[Self]) -> Option<String> {
        let Self { file, terms, .. } = bots.first()?;
        let mut text = format!(
            "looked at every {} at {}",
            humantime::format_duration(terms.interval),
            file.webhook.api_root
        );
        if bots.len() < file.bots.len() {
            text += &format!(" for {} of {} bots", bots.len(), file.bots.len());
        }
        if terms.can_repair {
            text += ", set again where it was changed";
        }
        if terms.can_fall_back {
            let after = humantime::format_duration(terms.fallback_after);
            text += &format!(", polled instead after {after} of failures");
        }
        Some(text)
    }

    /// What its webhook is to be, by the files as they are now.
    pub(super) fn plan(&self) -> Result<Plan, Error> {
        Plan::new(&self.file, &self.config, &self.section, Upload::IfSelfSigned)
    }

    /// Whether the way to this server works by which Telegram would come by `plan`; why not.
    pub(super) fn check(&self, plan: &Plan) -> Result<(), String> {
        let setup = Setup::new(self.file.as_ref().clone()).map_err(|error| error.to_string())?;
        doctor::self_check(&setup, &self.config, &self.section, plan)
    }

    /// Whether the config says which kinds of updates are wanted. Where it does not, those stay
    /// that Telegram was told of last.
    pub(super) fn says_kinds(&self) -> bool {
        self.section.allowed_updates.is_some()
    }

    /// True where both are for the same bot of the same Bot API server.
    pub(super) fn is_same_bot(&self, other: &Self) -> bool {
        let root = |bot: &Self| bot.file.webhook.api_root.clone();
        self.seed == other.seed && root(self) == root(other)
    }

    /// True where both, of one bot, are polled for in the same way.
    pub(super) fn is_polled_as(&self, other: &Self) -> bool {
        let kinds = |bot: &Self| bot.plan().ok().and_then(|plan| plan.allowed_updates);
        self.client.has_token_of(&other.client)
            && self.says_kinds() == other.says_kinds()
            && kinds(self) == kinds(other)
    }

    /// True where both, of one bot, are for the same webhook, as far as the config says.
    pub(super) fn is_same_webhook(&self, other: &Self) -> bool {
        let url = |bot: &Self| bot.plan().ok().map(|plan| plan.url);
        url(self) == url(other)
    }
}
