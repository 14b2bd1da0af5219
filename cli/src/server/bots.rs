//! The bots of a config, as commands that speak to the Bot API see them.

use std::{
    env::{self, VarError},
    path::PathBuf,
};

use clap::Args;

use super::{service::over, setup::Setup};
use crate::{
    config::{ApiRoot, BotSection, BotToken, ConfigFile, Secrets},
    process::stderr::log,
    telegram::{
        bot_api::Client,
        webhook::{Plan, Upload},
    },
};
use ringhook::{Config, Error, ErrorKind, internals::redact::hide_tokens, update::BotId};
use ringhook_outputs::routes::KindSet;

/// Where the token is looked for where the config has none and there is one bot.
const TOKEN_VARIABLE: &str = "TELEGRAM_BOT_TOKEN";

/// Which bots a command is about.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct BotsArgs {
    /// Config file in TOML, the same that "ringhook serve" gets
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where "ringhook serve" keeps certificate, key and secret token [default: ringhook-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Only the bot of this name
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub(crate) bot: Option<String>,
    /// All bots of the config
    #[arg(long)]
    pub(crate) all: bool,
    /// Where the Bot API is [default: Telegram's own]
    #[arg(long, id = "webhook.api_root", value_name = "URL")]
    pub(crate) api_root: Option<ApiRoot>,
    /// The Bot API server runs with --local: any port, plain HTTP, more connections
    #[arg(long, id = "webhook.local")]
    pub(crate) local: bool,
}

/// The config, and the bots of it that a command is about.
pub(crate) struct Bots {
    pub(crate) setup: Setup,
    /// Checked, but without secrets.
    pub(crate) config: Config,
    pub(crate) chosen: Vec<ChosenBot>,
}

/// One of the bots that a command is about.
#[derive(Clone, Debug)]
pub(crate) struct ChosenBot {
    pub(crate) name: String,
    /// As typed; of the default bot, as `serve` has it.
    pub(crate) section: BotSection,
    pub(crate) token: Option<BotToken>,
}

impl Bots {
    /// Reads the config and picks the bots. Nothing is made, and of secrets only the tokens of the
    /// Bot API are read.
    ///
    /// # Errors
    /// A wrong setting, no bot of the name, or several bots and none chosen.
    pub(crate) fn load(args: &BotsArgs) -> Result<Self, Error> {
        Self::load_with(args, |_| {})
    }

    /// The same with what `flags` write over the config file.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub(crate) fn load_with(
        args: &BotsArgs,
        flags: impl FnOnce(&mut ConfigFile),
    ) -> Result<Self, Error> {
        let (config, data_dir) = (args.config.as_deref(), args.data_dir.as_deref());
        let mut setup = Setup::from_files(config, data_dir, flags)?;
        let webhook = &mut setup.file.webhook;
        over(&args.api_root, &mut webhook.api_root);
        webhook.local |= args.local;
        let root = &webhook.api_root;
        if root.shows_tokens() {
            let root = hide_tokens(&root.to_string());
            log(format_args!(
                "notice: {root} is plain HTTP: each host on the way there can read the bots' tokens"
            ));
        }
        let config = setup.file.to_config(Secrets::Leave)?;
        let bots = &setup.file.bots;
        let names = || bots.iter().map(|bot| bot.name.as_str()).collect::<Vec<_>>().join(", ");
        let is_chosen = |bot: &&BotSection| args.bot.as_ref().is_none_or(|name| *name == bot.name);
        let chosen: Vec<_> = bots.iter().filter(is_chosen).collect();
        if let (Some(name), true) = (&args.bot, chosen.is_empty()) {
            return Err(Error::config("--bot", hide_tokens(name), &format!("one of {}", names())));
        }
        if chosen.len() > 1 && !args.all {
            let expected = format!("--all, or --bot with one of {}", names());
            return Err(Error::config("--bot", "(none)", &expected));
        }
        let is_only_one = bots.len() == 1;
        let chosen = chosen.into_iter().map(|section| ChosenBot::new(section, is_only_one));
        let chosen = chosen.collect::<Result<_, _>>()?;
        Ok(Self { setup, config, chosen })
    }

    /// What setWebhook is to be called with for `bot`. Nothing is made.
    ///
    /// # Errors
    /// Where the URL cannot be known, or a secret or certificate cannot be read.
    pub(crate) fn plan(&self, bot: &ChosenBot, upload: Upload) -> Result<Plan, Error> {
        Plan::new(&self.setup.file, &self.config, &bot.section, upload)
    }

    /// Whether each of the chosen bots has a token of its own.
    ///
    /// # Errors
    /// Where two have the same.
    pub(crate) fn check_tokens(&self) -> Result<(), Error> {
        let tokens = self.chosen.iter().filter_map(|bot| Some((&*bot.name, bot.token.as_ref()?)));
        check_tokens(tokens)
    }

    /// The kinds of updates that the routes ask for by name where `bot` gets them.
    ///
    /// # Errors
    /// A route is wrong.
    pub(crate) fn kinds_named(&self, bot: &ChosenBot) -> Result<KindSet, Error> {
        let routes = self.setup.routes(|number, _| u32::try_from(number).ok())?;
        let mut numbered = self.setup.file.bots.iter().zip(0..);
        let number =
            numbered.find(|(section, _)| section.name == bot.name).map(|(_, number)| number);
        Ok(number.map_or(KindSet::EMPTY, |number| routes.kinds_named(BotId::new(number))))
    }

    /// The config as typed, completed by flags.
    pub(crate) fn file(&self) -> &ConfigFile {
        &self.setup.file
    }
}

/// Whether no two of these bots have the same token. A bot at Telegram has one webhook: each of the
/// two would take it from the other.
///
/// # Errors
/// Where two have, with the names of both.
pub(crate) fn check_tokens<'a>(
    tokens: impl IntoIterator<Item = (&'a str, &'a BotToken)>,
) -> Result<(), Error> {
    let mut known: Vec<(u64, &str)> = Vec::new();
    for (name, token) in tokens {
        let id = token.bot_id();
        if let Some((_, other)) = known.iter().find(|(known, _)| *known == id) {
            let message = format!(
                "bots {other:?} and {name:?} have the token of the same bot ({id}), which has one \
                 webhook: give each its own token, or remove one of them"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        known.push((id, name));
    }
    Ok(())
}

impl ChosenBot {
    /// The bot of `section`, with the token of the environment where it `is_only_one` and has none.
    pub(crate) fn new(section: &BotSection, is_only_one: bool) -> Result<Self, Error> {
        let token = match section.bot_token()? {
            None if is_only_one => token_of(env::var(TOKEN_VARIABLE))?,
            token => token,
        };
        Ok(Self { name: section.name.clone(), section: section.clone(), token })
    }

    /// A client of the Bot API for this bot.
    ///
    /// # Errors
    /// Where there is no token; the message says where one can be put.
    pub(crate) fn client(&self, root: &ApiRoot) -> Result<Client, Error> {
        let Some(token) = &self.token else {
            let key = format!("the token of bot {:?}", self.name);
            let expected = "token_file, token_env or token in its [[bot]], or, where there is one \
                            bot, TELEGRAM_BOT_TOKEN in the environment";
            return Err(Error::config(&key, "(none)", expected));
        };
        let client = Client::new(root, token.clone())?;
        if let Some(note) = client.proxy_note() {
            log(format_args!("note: {note}"));
        }
        Ok(client)
    }
}

/// The token of the environment; `None` where the variable is not set or empty, as it is where a
/// service manager or container has been given none.
fn token_of(variable: Result<String, VarError>) -> Result<Option<BotToken>, Error> {
    match variable {
        Ok(token) if token.trim().is_empty() => Ok(None),
        Ok(token) => BotToken::new(token.trim(), TOKEN_VARIABLE).map(Some),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Error::config(TOKEN_VARIABLE, "(hidden)", "UTF-8")),
    }
}
