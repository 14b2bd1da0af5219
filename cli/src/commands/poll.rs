//! `ringhook poll`: fetches updates by getUpdates until it is told to stop.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use clap::Args;

use super::webhook;
use crate::{
    config::AllowedUpdates,
    process::{stderr::log, threads::ended_in_time},
    server::{
        bots::{Bots, BotsArgs, ChosenBot},
        greeting::greet_poller,
        service::{self, EarlyHangup, Event, Service, ServiceArgs},
        written_files,
    },
    telegram::{
        bot_api::{ApiError, Client, WebhookInfo},
        polling::{Conflict, Poller, Stop, Stopper},
    },
};
use ringhook::{Error, ErrorKind, Server};

/// How long a stop waits for the Bot API to take what is confirmed last.
const CONFIRM: Duration = Duration::from_secs(2);

/// Fetch updates from Telegram where it cannot reach this machine, and hand them on.
///
/// Long polling by getUpdates, into the same queues, journal and outputs as "ringhook serve", in
/// the same order and without duplicates: no public address, certificate or open port is needed. An
/// update is confirmed to Telegram once it is as safe as --ack says, so none is lost and Telegram
/// keeps what was not taken for 24 hours. All bots of the config are polled for, each with its
/// token; without a config, the one whose token is in TELEGRAM_BOT_TOKEN. SIGTERM and SIGINT stop
/// it without losing an update, SIGUSR1 prints a table of latencies.
#[derive(Args, Debug)]
#[command(
    mut_arg("all", |arg| arg.help("All bots of the config, as where no --bot is given")),
    mut_arg("data_dir", |arg| arg.help("Where the journal is kept [default: ringhook-data]")),
    mut_arg("webhook.local", |arg| arg.hide(true)),
    mut_arg("server.workers", |arg| arg.help("Worker threads [default: one for each CPU]"))
)]
pub(crate) struct PollArgs {
    #[command(flatten)]
    bots: BotsArgs,
    /// Which kinds of updates are wanted, such as message,callback_query, or "all" [default:
    /// allowed_updates of the config, or else what was asked for last]
    #[arg(long, value_name = "KINDS")]
    allowed_updates: Option<AllowedUpdates>,
    /// Delete the webhook first, where one is set; updates that wait are kept
    #[arg(long)]
    delete_webhook: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(args: &PollArgs) -> Result<(), Error> {
    let hangup = EarlyHangup::watch()?;
    let mut chosen = args.bots.clone();
    chosen.all = chosen.bot.is_none();
    let bots = Bots::load_with(&chosen, |file| {
        args.service.apply_to(file);
        let sections = file.bots.iter_mut().enumerate();
        sections.for_each(|(number, section)| section.complete_for_poller(number));
    })?;
    let asked = asked_for(args, &bots)?;
    let setup = &bots.setup;
    written_files::check(
        setup,
        args.service.report.as_deref(),
        &setup.inputs(args.bots.config.as_deref()),
    )?;
    let identity = service::identity(setup)?;
    let config = setup.to_config_of_poller(identity.as_ref())?;
    let ack = config.journal.ack;
    let mut service = Service::begin(&args.service, setup, identity, &hangup)?;
    let server = service.start(config, setup, |server| server)?;
    // Not before it is sure that a poller will run.
    if args.delete_webhook
        && let Err(error) = delete_webhooks(&bots, &asked)
    {
        server.stop();
        return Err(error);
    }
    let names: Vec<_> = asked.iter().map(|asked| asked.bot.as_str()).collect();
    tracing::info!(bots = names.len(), "started");
    greet_poller(&server, &setup.file, &names, ack, &service.descriptors);
    let ready = format!("polling for {} bot(s)", names.len());
    let pollers = Pollers::start(&server, asked, &service.events)?;
    service.notifier.ready(&ready);
    let failure = service.run(&server, |_| {
        log("the config is read at the start only: start again for another one");
    });
    let stopping = pollers.stop();
    let report = service.stop(server);
    let mut ended = stopping.ended();
    if report.updates_abandoned == 0 {
        ended.confirm();
    }
    service.finish(&report, failure.or(ended.failure))
}

/// Deletes the webhooks of those that are polled for, and keeps what waits.
fn delete_webhooks(bots: &Bots, asked: &[Asked]) -> Result<(), Error> {
    for (Asked { bot, client, .. }, chosen) in asked.iter().zip(&bots.chosen) {
        client.delete_webhook(false).map_err(|error| explained(bot, &error))?;
        webhook::note(bots, chosen, &WebhookInfo::default());
        log(format_args!("bot {bot:?} has no webhook now; updates that wait are kept"));
    }
    Ok(())
}

/// What is polled for.
struct Asked {
    allowed: Option<Vec<String>>,
    bot: String,
    client: Client,
}

/// The chosen bots, each with its client.
fn asked_for(args: &PollArgs, bots: &Bots) -> Result<Vec<Asked>, Error> {
    let root = &bots.file().webhook.api_root;
    let flag = args.allowed_updates.as_ref();
    let mut names = HashMap::new();
    let asked = bots.chosen.iter().map(|chosen| {
        let ChosenBot { name, section, token } = chosen;
        let client = chosen.client(root)?;
        if let Some(other) = token.as_ref().and_then(|token| names.insert(token.bot_id(), name)) {
            let key = format!("the token of bot {name:?}");
            let expected = format!("another one: it is of the same bot as that of {other:?}");
            return Err(Error::config(&key, "(hidden)", &expected));
        }
        let allowed = flag.or(section.allowed_updates.as_ref());
        let allowed = allowed.map(AllowedUpdates::names);
        Ok(Asked { allowed, bot: name.clone(), client })
    });
    asked.collect()
}

/// The threads that poll, one for each bot.
struct Pollers {
    stopper: Stopper,
    threads: Vec<JoinHandle<(Poller, Option<Error>)>>,
}

/// Those that have ended.
struct Ended {
    /// Why the first one ended that was not stopped.
    failure: Option<Error>,
    pollers: Vec<Poller>,
}

impl Pollers {
    /// Starts them. A bot whose first call is refused for good ends the service; with one that has
    /// been polled for before, the others go on.
    fn start(
        server: &Server,
        asked: Vec<Asked>,
        events: &mpsc::Sender<Event>,
    ) -> Result<Self, Error> {
        let (stopper, stop) = Stop::new();
        let alive = Arc::new(AtomicUsize::new(asked.len()));
        let mut threads = Vec::new();
        for Asked { allowed, bot, client } in asked {
            let mut poller = Poller::new(server, &bot, client, allowed)?;
            let (alive, events, stop) = (Arc::clone(&alive), events.clone(), stop.clone());
            let run = move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| poller.run(&stop)));
                let failure = match outcome {
                    Ok(Ok(())) if stop.is_told() => None,
                    Ok(Err(error)) => Some(explained(&bot, &error)),
                    Ok(Ok(())) | Err(_) => {
                        let message = "polling has ended by itself: this is a bug of ringhook";
                        Some(Error::new(ErrorKind::Thread, format!("bot {bot:?}: {message}")))
                    }
                };
                let is_last = alive.fetch_sub(1, SeqCst) == 1;
                let Some(failure) = failure else { return (poller, None) };
                if is_last || !poller.has_begun() {
                    let _ = events.send(Event::Failure(copy(&failure)));
                } else {
                    tracing::error!(bot, error = %failure, "not polled for any more");
                }
                (poller, Some(failure))
            };
            let thread = thread::Builder::new().name("ringhook-poll".into()).spawn(run);
            threads.push(thread.map_err(|source| {
                Error::with_source(ErrorKind::Thread, "cannot start a thread", source)
            })?);
        }
        Ok(Self { stopper, threads })
    }

    /// Tells them to end; none begins another call.
    fn stop(self) -> Stopping {
        drop(self.stopper);
        Stopping(self.threads)
    }
}

/// Pollers that were stopped.
struct Stopping(Vec<JoinHandle<(Poller, Option<Error>)>>);

impl Stopping {
    /// To be called once the server has stopped. One that a disk keeps even then is left.
    fn ended(self) -> Ended {
        let ended = ended_in_time(self.0, Instant::now() + CONFIRM);
        let (pollers, failures): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        Ended { failure: failures.into_iter().flatten().next(), pollers }
    }
}

impl Ended {
    /// Confirms what was taken, all at the same time: one that is not answered must not keep the
    /// others from it.
    fn confirm(&mut self) {
        thread::scope(|scope| {
            for poller in &mut self.pollers {
                scope.spawn(|| {
                    if !poller.confirm(CONFIRM) {
                        tracing::warn!(
                            bot = poller.bot(),
                            "the last updates are not confirmed: \
                            they come again, and are dropped as duplicates where they were kept"
                        );
                    }
                });
            }
        });
    }
}

/// What a refusal means for the bot.
fn explained(bot: &str, error: &ApiError) -> Error {
    let meaning = Conflict::new(error).map(|conflict| format!(" ({})", conflict.meaning()));
    let message = format!("bot {bot:?}: {error}{}", meaning.unwrap_or_default());
    Error::new(ErrorKind::BotApi, message)
}

fn copy(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}
