//! `ringhook webhook set`: tells Telegram where to deliver, and looks whether it took that.

use std::{convert::Infallible, net::IpAddr, str::FromStr};

use clap::Args;

use super::{Drop, each, failed, note, updates};
use crate::{
    config::{AllowedUpdates, BotSection},
    process::stderr::log,
    server::bots::{Bots, BotsArgs, ChosenBot},
    telegram::{
        bot_api::ApiError,
        webhook::{Plan, Problem, Upload},
    },
};
use ringhook::{Error, ErrorKind, update::UpdateKind};

/// Set the webhook of a bot by its config (setWebhook), and look whether it is set so
///
/// URL, certificate, secret token and the rest come from the config; flags win over it. The
/// certificate is uploaded where it has signed itself. What is missing and "ringhook serve" would
/// make (certificate and secret token of the data directory, the file of secret_token_file) is
/// made. What the Bot API would refuse or silently change is found before anything is sent: then
/// the exit code is 2. It is 1 where the Bot API refuses, or where getWebhookInfo is not as it was
/// asked for.
#[derive(Args, Debug)]
pub(super) struct SetArgs {
    #[command(flatten)]
    bots: BotsArgs,
    /// The URL to deliver to [default: https://HOST[:PORT]PATH from bot.host, webhook.port or the
    /// listener's port, and bot.path]
    #[arg(long, value_name = "URL", conflicts_with = "all")]
    url: Option<String>,
    /// The address to connect to, in the place of what the host's name leads to
    #[arg(long, value_name = "IP")]
    ip_address: Option<IpAddr>,
    /// Most connections at a time: 1 to 100, with --local 1 to 100000 [default: 40]
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// Which kinds of updates to deliver: all, default, or names with commas between them
    #[arg(long, value_name = "KINDS", long_help = kinds_help())]
    allowed_updates: Option<Kinds>,
    /// Upload the certificate also where it has not signed itself
    #[arg(long)]
    upload: bool,
    #[command(flatten)]
    drop: Drop,
}

/// Kinds as typed in a flag.
#[derive(Clone, Debug)]
struct Kinds(AllowedUpdates);

impl FromStr for Kinds {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self(match text.trim() {
            "all" => AllowedUpdates::All,
            "auto" => AllowedUpdates::Auto,
            "default" => AllowedUpdates::List(Vec::new()),
            _ => AllowedUpdates::List(names.map(str::to_owned).collect()),
        }))
    }
}

fn kinds_help() -> String {
    let names: Vec<_> = UpdateKind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!(
        "Which kinds of updates to deliver: all, default (Telegram's: all but chat_member, \
         message_reaction and message_reaction_count), or names with commas between them, of: {}",
        names.join(", ")
    )
}

impl SetArgs {
    /// Writes what the flags say over what the config says.
    fn apply_to(&self, bot: &mut BotSection) {
        fn over<T: Clone>(flag: Option<&T>, setting: &mut Option<T>) {
            if let Some(flag) = flag {
                *setting = Some(flag.clone());
            }
        }
        over(self.url.as_ref(), &mut bot.url);
        over(self.ip_address.as_ref(), &mut bot.ip_address);
        over(self.max_connections.as_ref(), &mut bot.max_connections);
        over(self.allowed_updates.as_ref().map(|Kinds(kinds)| kinds), &mut bot.allowed_updates);
    }

    fn upload(&self) -> Upload {
        if self.upload { Upload::Always } else { Upload::IfSelfSigned }
    }
}

pub(super) fn run(args: &SetArgs) -> Result<(), Error> {
    args.drop.check()?;
    let mut bots = Bots::load(&args.bots)?;
    bots.check_tokens()?;
    for bot in &mut bots.chosen {
        args.apply_to(&mut bot.section);
    }
    let is_all = args.bots.all;
    let mut notes: Vec<String> = Vec::new();
    let outcome = each(&bots, is_all, |bot| set(&bots, bot, args, &mut notes));
    for note in notes {
        log(format_args!("note: {note}"));
    }
    if outcome.is_ok() {
        log(
            "that it is set does not mean that it works: `ringhook doctor` tries it now, `ringhook \
             webhook info` shows later whether deliveries fail",
        );
    }
    outcome
}

/// Sets the webhook of `bot`; what came of it, for people. What is good to know goes to `notes`,
/// each once.
fn set(
    bots: &Bots,
    bot: &ChosenBot,
    args: &SetArgs,
    notes: &mut Vec<String>,
) -> Result<String, Error> {
    let client = bot.client(&bots.file().webhook.api_root)?;
    // Before anything is made for it.
    check(&Plan::bare(bots.file(), &bots.config, &bot.section)?)?;
    for path in bots.setup.make_missing([&bot.section])? {
        log(format_args!("made {}", path.display()));
    }
    let plan = bots.plan(bot, args.upload())?;
    let advice = check(&plan)?;
    args.drop.ask(bot, &client)?;
    plan.apply(&client, args.drop.drop_pending).map_err(|error| refused(bot, &error))?;
    for note in advice.iter().map(ToString::to_string) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    let info = client.get_webhook_info().map_err(|error| failed(bot, &error))?;
    let differences = plan.differences(&info);
    if !differences.is_empty() {
        let message = format!(
            "bot {:?}: set, but getWebhookInfo says otherwise: {} (does something else set it, too?)",
            plan.bot,
            differences.join("; ")
        );
        return Err(Error::new(ErrorKind::BotApi, message));
    }
    note(bots, bot, &info);
    let mut line = format!("set to {}", plan.shown_url());
    if let (Some(path), true) = (&plan.certificate_file, plan.certificate.is_some()) {
        line += &format!(", with {} uploaded", path.display());
    }
    if args.drop.drop_pending {
        line += ", what waited is deleted";
    }
    Ok(format!("{line}; {}", updates(info.pending_update_count)))
}

/// What is good to know of `plan`.
///
/// # Errors
/// Where the call would be refused, changed or lead to nothing.
fn check(plan: &Plan) -> Result<Vec<Problem>, Error> {
    let (fatal, advice): (Vec<_>, Vec<_>) =
        plan.problems().into_iter().partition(|problem| problem.is_fatal);
    if fatal.is_empty() {
        return Ok(advice);
    }
    let fatal: Vec<_> = fatal.iter().map(ToString::to_string).collect();
    let message = format!("bot {:?}: nothing was sent: {}", plan.bot, fatal.join("; "));
    Err(Error::new(ErrorKind::Config, message))
}

/// Why setWebhook failed. One that is refused for its URL has removed the webhook before it.
fn refused(bot: &ChosenBot, error: &ApiError) -> Error {
    let failure = failed(bot, error);
    match error {
        ApiError::Refused { code: 400, .. } => {
            let message = format!(
                "{failure}; the webhook that was set before may be gone: `ringhook webhook info`"
            );
            Error::new(failure.kind(), message)
        }
        _ => failure,
    }
}
