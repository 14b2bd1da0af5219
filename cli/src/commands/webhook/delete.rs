//! `ringhook webhook delete`: Telegram keeps updates from then on, for getUpdates or the next
//! webhook.

use clap::Args;

use super::{Drop, each, failed, note, updates};
use crate::{
    net::url::without_userinfo,
    server::bots::{Bots, BotsArgs, ChosenBot},
};
use ringhook::{Error, ErrorKind};

/// Delete the webhook of a bot (deleteWebhook); Telegram keeps its updates for 24 hours
///
/// Nothing else deletes one: "ringhook serve" leaves it when it stops, so that what comes meanwhile
/// is delivered at the next start.
#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    bots: BotsArgs,
    #[command(flatten)]
    drop: Drop,
}

pub(super) fn run(args: &DeleteArgs) -> Result<(), Error> {
    args.drop.check()?;
    let bots = Bots::load(&args.bots)?;
    each(&bots, args.bots.all, |bot| delete(&bots, bot, args.drop))
}

fn delete(bots: &Bots, bot: &ChosenBot, drop: Drop) -> Result<String, Error> {
    let client = bot.client(&bots.file().webhook.api_root)?;
    drop.ask(bot, &client)?;
    let before = client.get_webhook_info().map_err(|error| failed(bot, &error))?;
    client.delete_webhook(drop.drop_pending).map_err(|error| failed(bot, &error))?;
    let after = client.get_webhook_info().map_err(|error| failed(bot, &error))?;
    if !after.url.is_empty() {
        let message = format!(
            "bot {:?}: deleted, but getWebhookInfo has {} already: something else sets it",
            bot.name,
            without_userinfo(&after.url)
        );
        return Err(Error::new(ErrorKind::BotApi, message));
    }
    note(bots, bot, &after);
    let mut line = match before.url.as_str() {
        "" => "no webhook was set".to_owned(),
        url => format!("deleted {}", without_userinfo(url)),
    };
    if drop.drop_pending {
        line += ", what waited is deleted";
    }
    Ok(format!("{line}; {}", updates(after.pending_update_count)))
}
