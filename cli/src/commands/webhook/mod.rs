//! `ringhook webhook`: what the Bot API is told of the bots of a config, and what it says of them.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | what the subcommands have in common |
//! | `set`, `info`, `delete` | the subcommands |
//! | `expected` | what the config says of a webhook |
//! | `report` | what getWebhookInfo says, as lines or as JSON |

mod delete;
mod expected;
mod info;
mod report;
mod set;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::{Args, Subcommand};

use super::serve::webhook_watch::{Note, NoteFile};
use crate::{
    process::stderr::log,
    server::bots::{Bots, ChosenBot},
    telegram::{
        bot_api::{ApiError, Client, WebhookInfo},
        webhook::{Plan, Upload, meaning_of_refusal},
    },
};
use ringhook::{Error, ErrorKind};

/// Set, look at and delete the webhooks of the bots of a config.
///
/// The token of a bot is never given on the command line: it is read from token_file, token_env or
/// token of its [[bot]], or, where there is one bot, from TELEGRAM_BOT_TOKEN in the environment.
#[derive(Args, Debug)]
pub(crate) struct WebhookArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Set(Box<set::SetArgs>),
    Info(info::InfoArgs),
    Delete(delete::DeleteArgs),
}

pub(super) fn run(args: &WebhookArgs) -> Result<(), Error> {
    match &args.command {
        Command::Delete(args) => delete::run(args),
        Command::Info(args) => info::run(args),
        Command::Set(args) => set::run(args),
    }
}

/// Tells a server with the same data directory that the webhook of `bot` is on purpose as `info`
/// has it, so that it does not set it again.
pub(super) fn note(bots: &Bots, bot: &ChosenBot, info: &WebhookInfo) {
    let data_dir = &bots.file().server.data_dir;
    // As the config has it, whatever flags say: that is what the server compares it with.
    let section = bots.file().bots.iter().find(|section| section.name == bot.name);
    let plan = section.and_then(|section| {
        Plan::new(bots.file(), &bots.config, section, Upload::IfSelfSigned).ok()
    });
    if let Some(token) = &bot.token
        && let Err(error) =
            NoteFile::new(data_dir, token.bot_id()).leave(&Note::new(info, plan.as_ref()))
    {
        let dir = data_dir.display();
        log(format_args!("note: nothing is kept in {dir} for a server that looks on: {error}"));
    }
}

/// Whether what waits at Telegram is deleted, and who was asked.
#[derive(Args, Clone, Copy, Debug)]
struct Drop {
    /// Delete the updates that wait at Telegram: they are lost. Asks first
    #[arg(long)]
    drop_pending: bool,
    /// Answer yes to the question of --drop-pending; needed where there is no terminal
    #[arg(long, requires = "drop_pending")]
    yes: bool,
}

impl Drop {
    /// To be called before anything is done.
    ///
    /// # Errors
    /// Where a question would have to be asked and there is no terminal.
    fn check(self) -> Result<(), Error> {
        let is_asked = self.drop_pending && !self.yes;
        if !is_asked || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(());
        }
        let message = "--drop-pending deletes updates that no server has seen: add --yes where \
                       there is no terminal";
        Err(Error::new(ErrorKind::Config, message))
    }

    /// Asks whether what waits for `bot` may be deleted, where that was asked for.
    ///
    /// # Errors
    /// Where the answer is no.
    fn ask(self, bot: &ChosenBot, client: &Client) -> Result<(), Error> {
        if !self.drop_pending || self.yes {
            return Ok(());
        }
        let waiting = client.get_webhook_info().map_err(|error| failed(bot, &error))?;
        let count = updates(waiting.pending_update_count);
        let question = format!(
            "bot {:?}: {count} at Telegram, to be deleted for good. Go on? [y/N] ",
            bot.name
        );
        let mut stderr = io::stderr();
        let _ = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        let answer = answer.trim().to_ascii_lowercase();
        if read.is_ok() && matches!(answer.as_str(), "y" | "yes") {
            return Ok(());
        }
        let message = format!("bot {:?}: left as it was: the answer was not yes", bot.name);
        Err(Error::new(ErrorKind::BotApi, message))
    }
}

/// So many updates, waiting.
fn updates(count: u64) -> String {
    match count {
        0 => "no update waits".to_owned(),
        1 => "1 update waits".to_owned(),
        count => format!("{count} updates wait"),
    }
}

/// Does `action` for each of the bots, one after the other, and tells what it says. With --all one
/// that fails does not keep the others from theirs.
///
/// # Errors
/// That of the only bot, or how many have failed.
fn each(
    bots: &Bots,
    is_all: bool,
    mut action: impl FnMut(&ChosenBot) -> Result<String, Error>,
) -> Result<(), Error> {
    let mut failures = 0;
    for bot in &bots.chosen {
        match action(bot) {
            Ok(line) => log(format_args!("bot {:?}: {line}", bot.name)),
            Err(error) if !is_all => return Err(error),
            Err(error) => {
                failures += 1;
                let text = error.to_string();
                log(format_args!("bot {:?}: failed: {}", bot.name, without_name(&text, &bot.name)));
            }
        }
    }
    match failures {
        0 => Ok(()),
        failures => {
            let message = format!("{failures} of {} bots failed", bots.chosen.len());
            Err(Error::new(ErrorKind::BotApi, message))
        }
    }
}

/// `text` without the name of the bot that it may begin with.
fn without_name<'a>(text: &'a str, bot: &str) -> &'a str {
    text.strip_prefix(&format!("bot {bot:?}: ")).unwrap_or(text)
}

/// Why a call for `bot` failed, with what its text means where that is known.
fn failed(bot: &ChosenBot, error: &ApiError) -> Error {
    let mut message = format!("bot {:?}: {error}", bot.name);
    if let ApiError::Refused { description, .. } = error
        && let Some(meaning) = meaning_of_refusal(description)
    {
        message += &format!(" ({}: {})", meaning.what, meaning.fix);
    }
    Error::new(ErrorKind::BotApi, message)
}
