//! `ringhook webhook info`: what Telegram says of a webhook, and what that means.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::{expected::Expected, failed, report::Report, without_name};
use crate::{
    server::bots::{Bots, BotsArgs, ChosenBot},
    telegram::webhook::undelivered,
};
use ringhook::{Error, ErrorKind, internals::redact::hide_tokens};

/// How long a wait is cut short by a signal at the latest.
const STEP: Duration = Duration::from_millis(50);

/// Show what Telegram says of the webhook of a bot (getWebhookInfo), and what it means
///
/// The exit code is 1 where something is wrong: no webhook is set, it is not as the config says, an
/// error is younger than 10 minutes, or what waits grows. The last error is never cleared by a
/// success, only by changing or deleting the webhook: its age tells whether it still matters.
#[derive(Args, Debug)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    bots: BotsArgs,
    /// Print a line of JSON for each bot (with --watch, for each look)
    #[arg(long)]
    json: bool,
    /// Look again and again, a line for each look, with how what waits changes; until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Time between two looks, at least 1s [default: 10s]
    #[arg(long, value_name = "TIME", requires = "watch", value_parser = humantime::parse_duration)]
    interval: Option<Duration>,
    /// End after so many looks
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(super) fn run(args: &InfoArgs) -> Result<(), Error> {
    let interval = args.interval.unwrap_or(Duration::from_secs(10));
    if interval < Duration::from_secs(1) {
        let typed = humantime::format_duration(interval);
        return Err(Error::config("--interval", typed, "1s or more"));
    }
    let bots = Bots::load(&args.bots)?;
    if !args.bots.all {
        // Without a token there is nothing to look at, and that is no fault of the webhook.
        for bot in &bots.chosen {
            bot.client(&bots.file().webhook.api_root)?;
        }
    }
    let expected: Vec<_> = bots.chosen.iter().map(|bot| Expected::new(&bots, bot)).collect();
    if args.watch {
        return watch(args, &bots, &expected, interval);
    }
    let mut faults = Faults::default();
    for (place, (bot, expected)) in bots.chosen.iter().zip(&expected).enumerate() {
        let report = look(&bots, bot, expected);
        let gap = if place > 0 { "\n" } else { "" };
        let text = if args.json { json(&report)? } else { format!("{gap}{report}") };
        print(&text)?;
        faults.add(&report);
    }
    faults.outcome(bots.chosen.len())
}

/// Which bots something is wrong with, at the last look.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, report: &Report) {
        if !report.ok {
            self.0.push(format!("bot {:?}: {}", report.bot, report.wrong.join("; ")));
        }
    }

    fn outcome(self, bots: usize) -> Result<(), Error> {
        let message = match self.0.as_slice() {
            [] => return Ok(()),
            [only] => only.clone(),
            several => {
                format!("something is wrong with {} of {bots} bots, see above", several.len())
            }
        };
        Err(Error::new(ErrorKind::BotApi, message))
    }
}

/// What is kept of the looks before.
#[derive(Default)]
struct Before {
    waiting: Option<u64>,
    /// How many times in a row it has grown.
    growths: u32,
    /// The text whose meaning was shown.
    shown: Option<String>,
}

impl Before {
    /// Adds to `report` what only several looks show.
    fn compare(&mut self, report: &mut Report) {
        let Some(waiting) = report.pending_update_count else { return };
        let change =
            self.waiting.map(|before| waiting.cast_signed().saturating_sub(before.cast_signed()));
        report.pending_change = change;
        self.waiting = Some(waiting);
        self.growths = if change.is_some_and(|change| change > 0) { self.growths + 1 } else { 0 };
        if self.growths > 1 {
            report.fault("what waits grows: updates come faster than they are delivered");
        }
    }

    /// The meaning of the last error, once for each text.
    fn explain(&mut self, report: &Report) -> Option<String> {
        if self.shown == report.last_error_message {
            return None;
        }
        self.shown.clone_from(&report.last_error_message);
        let (what, fix) = report.meaning.zip(report.fix)?;
        Some(format!("  that means: {what}\n  to do: {fix}\n"))
    }
}

/// Looks until a signal comes or it has looked often enough. The last look tells the outcome.
fn watch(
    args: &InfoArgs,
    bots: &Bots,
    expected: &[Expected],
    interval: Duration,
) -> Result<(), Error> {
    let is_ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends it in the middle of a call.
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_ended))
            .and_then(|_| flag::register(signal, Arc::clone(&is_ended)))
            .map_err(|source| {
                Error::with_source(ErrorKind::Thread, "cannot watch signals", source)
            })?;
    }
    let is_ended = || is_ended.load(Ordering::Relaxed);
    let mut before: HashMap<&str, Before> = HashMap::new();
    let mut looks = 0_u64;
    loop {
        let begun = Instant::now();
        let mut faults = Faults::default();
        for (bot, expected) in bots.chosen.iter().zip(expected) {
            let mut report = look(bots, bot, expected);
            let before = before.entry(&bot.name).or_default();
            before.compare(&mut report);
            let text = if args.json {
                json(&report)?
            } else {
                let line = report.line(SystemTime::now());
                format!("{line}\n{}", before.explain(&report).unwrap_or_default())
            };
            if !print(&text)? {
                return Ok(());
            }
            faults.add(&report);
        }
        looks += 1;
        let is_last = || is_ended() || args.count.is_some_and(|count| looks >= count);
        while !is_last() && begun.elapsed() < interval {
            thread::sleep(STEP.min(interval.saturating_sub(begun.elapsed())));
        }
        if is_last() {
            return faults.outcome(bots.chosen.len());
        }
    }
}

fn look(bots: &Bots, bot: &ChosenBot, expected: &Expected) -> Report {
    let info = bot
        .client(&bots.file().webhook.api_root)
        .and_then(|client| client.get_webhook_info().map_err(|error| failed(bot, &error)));
    let named = bots.kinds_named(bot);
    match info.and_then(|info| Ok((info, named?))) {
        Ok((info, named)) => {
            let missing = undelivered(named.iter(), expected.plan(), &info);
            let is_set = !info.url.is_empty();
            let mut report = Report::new(&bot.name, info, expected, SystemTime::now());
            if is_set && !missing.is_empty() {
                report.fault(&format!(
                    "routes name kinds that Telegram does not deliver: {} (add them to \
                     bot.allowed_updates, or make it \"auto\", then `ringhook webhook set`)",
                    missing.join(", ")
                ));
            }
            report
        }
        Err(error) => Report::failed(&bot.name, without_name(&error.to_string(), &bot.name)),
    }
}

fn json(report: &Report) -> Result<String, Error> {
    let text = serde_json::to_string(report).map_err(|error| no_stdout(error.into()))?;
    Ok(format!("{text}\n"))
}

/// Writes to standard output; false where its reader has gone (`| head`), which is no failure.
fn print(text: &str) -> Result<bool, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(hide_tokens(text).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        outcome => outcome.map(|()| true).map_err(no_stdout),
    }
}

fn no_stdout(source: io::Error) -> Error {
    Error::with_source(ErrorKind::Sink, "standard output", source)
}
