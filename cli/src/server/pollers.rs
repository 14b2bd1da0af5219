//! The outputs for bots that poll, while a server runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::greeting::reachable;
use crate::{config::OutputSection, process::stderr::log};
use ringhook::{Error, Output, OutputState, Updates};
use ringhook_outputs::{
    forward::BotTerms,
    getupdates::{
        ConsumerStatus, GetUpdates, GetUpdatesSettings, GetUpdatesStatus, Place, PollListener,
    },
};

/// Updates that wait between the workers and the output's thread.
const CAPACITY: usize = 1024;
/// How long one may take to end after the server has.
const END: Duration = Duration::from_secs(1);
/// How long requests may take that are under way where a reload has replaced one.
const RETIRE: Duration = Duration::from_secs(3600);
/// After how long without a request the updates of a bot count as stuck.
const SILENCE: Duration = Duration::from_secs(60);

/// The outputs for bots that poll which run.
#[derive(Clone, Default)]
pub(crate) struct Pollers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    running: Vec<Running>,
    /// What those have counted that have ended, by name.
    past: BTreeMap<String, GetUpdatesStatus>,
}

/// One that is to be started.
pub(crate) struct Planned {
    name: String,
    place: Place,
    settings: GetUpdatesSettings,
    consumers: usize,
    updates: Updates,
}

/// One that has been started, and is not looked at yet.
pub(crate) struct Started {
    name: String,
    output: GetUpdates,
}

struct Running {
    name: String,
    output: GetUpdates,
    /// Whether another destination has taken its place.
    is_replaced: bool,
    state: Arc<OutputState>,
}

/// The output of `section`, and what hands its updates out at `place`.
pub(crate) fn plan(section: &OutputSection, place: &Place) -> (Output, Planned) {
    let (output, updates) = Output::stream(&section.name, CAPACITY);
    // This has to be said before the server runs, which is before it is started.
    let updates = GetUpdates::prepare(updates);
    let consumers = section.consumers.unwrap_or(1);
    let mut settings = GetUpdatesSettings::new()
        .consumers(consumers)
        .renumber(section.renumber.unwrap_or_default());
    if let Some(connections) = section.connections {
        settings = settings.connections(connections);
    }
    if let Some(timeout) = section.timeout {
        settings = settings.timeout(timeout);
    }
    if let Some(timeout) = section.client_timeout {
        settings = settings.client_timeout(timeout);
    }
    let (name, place) = (section.name.clone(), place.clone());
    (output.workers(1), Planned { name, place, settings, consumers, updates })
}

impl Pollers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one for `bots`, on the listener of another that has the same place.
    ///
    /// # Errors
    /// A setting is wrong, no bot has a token, or its address or a thread is not to be had.
    pub(crate) fn start(&self, planned: Planned, bots: &[BotTerms]) -> Result<Started, Error> {
        let Planned { name, place, settings, consumers, updates } = planned;
        if !bots.iter().any(BotTerms::has_token) {
            let expected = "the token of a bot, by which its process is known (token_env or \
                            token_file in [[bot]])";
            return Err(Error::config("bot.token", "(none)", expected));
        }
        let known = {
            let all = self.lock();
            let mut listeners = all.running.iter().map(|running| running.output.listener());
            listeners.find(|listener| *listener.place() == place).cloned()
        };
        let listener = known.map_or_else(|| PollListener::bind(&place), Ok)?;
        let output = GetUpdates::start(updates, listener, settings.bots(bots.to_vec()))?;
        log(hints(&name, &output.listener().local_place(), consumers).join("\n"));
        Ok(Started { name, output })
    }

    /// What is to be called a few times a second, to say which outputs no client asks and to let go
    /// of those that have ended.
    pub(crate) fn look(&self) -> impl FnMut() + Send + 'static {
        let this = self.clone();
        move || {
            let State { running, past } = &mut *this.lock();
            for ended in running.extract_if(.., |running| !running.output.is_running()) {
                add_to(past, &ended.name, ended.output.status());
            }
            for Running { output, state, .. } in running.iter().filter(|it| !it.is_replaced) {
                match trouble(&output.status()) {
                    Some(reason) => state.set_down(&reason),
                    None => state.set_up(),
                }
            }
        }
    }

    /// Leaves the outputs with these names to another destination, which the server is about to
    /// give them.
    pub(crate) fn leave(&self, names: &[&str]) {
        let mut all = self.lock();
        let is_left = |running: &&mut Running| names.contains(&&*running.name);
        all.running.iter_mut().filter(is_left).for_each(|running| running.is_replaced = true);
    }

    /// Ends those whose outputs were left, once that destination is in force.
    pub(crate) fn retire_left(&self) {
        let all = self.lock();
        let left = all.running.iter().filter(|running| running.is_replaced);
        left.for_each(|running| running.output.retire(RETIRE));
    }

    /// Looks at one from now on, which says how its output is by `state`.
    pub(crate) fn add(&self, started: Started, state: Arc<OutputState>) {
        let Started { name, output } = started;
        self.lock().running.push(Running { name, output, is_replaced: false, state });
    }

    /// Takes over what a reload says of bots.
    ///
    /// # Errors
    /// A setting is wrong.
    pub(crate) fn set_bots(&self, bots: &[BotTerms]) -> Result<(), Error> {
        let all = self.lock();
        all.running.iter().try_for_each(|running| running.output.set_bots(bots.to_vec()))
    }

    /// To be called right before the server is stopped.
    pub(crate) fn drain(&self) {
        let all = self.lock();
        for running in all.running.iter().filter(|running| !running.is_replaced) {
            running.output.drain(Arc::clone(&running.state));
        }
    }

    /// To be called once the server has stopped.
    pub(crate) fn stop(&self) {
        for running in &self.lock().running {
            if !running.output.stop(END) {
                tracing::warn!(output = running.name, "the thread of the output has not ended");
            }
        }
    }

    /// What each has counted, by name.
    pub(crate) fn status(&self) -> BTreeMap<String, GetUpdatesStatus> {
        let all = self.lock();
        let mut status = all.past.clone();
        all.running.iter().for_each(|it| add_to(&mut status, &it.name, it.output.status()));
        status
    }
}

/// Adds what one has counted that came after others of its name.
fn add_to(sums: &mut BTreeMap<String, GetUpdatesStatus>, name: &str, later: GetUpdatesStatus) {
    let earlier = sums.remove(name).unwrap_or_default();
    sums.insert(name.to_owned(), later.after(&earlier));
}

/// What keeps updates of some bot from being asked for; `None` where all are.
fn trouble(status: &GetUpdatesStatus) -> Option<String> {
    let stuck = |it: &&ConsumerStatus| {
        let (oldest, silent) = (it.oldest.unwrap_or_default(), it.silent.unwrap_or_default());
        it.waiting > 0 && oldest >= SILENCE && (!it.has_asked || silent >= SILENCE)
    };
    let ConsumerStatus { bot, consumer, waiting, oldest, silent, .. } =
        status.consumers.iter().find(stuck)?;
    let is_one = !status.consumers.iter().any(|it| it.bot == *bot && it.consumer > 1);
    let of = if is_one { String::new() } else { format!(", consumer {consumer},") };
    let since = match silent {
        Some(silent) => format!("has not asked for updates for {} s", silent.as_secs()),
        None => "has never asked for updates".to_owned(),
    };
    let oldest = oldest.unwrap_or_default().as_secs();
    Some(format!("bot {bot}{of} {since}; {waiting} update(s) wait, the oldest for {oldest} s"))
}

/// What each well-known library needs to poll at `place`.
fn hints(name: &str, place: &Place, consumers: usize) -> Vec<String> {
    let (address, consumer) = match place {
        Place::Tcp(address) => {
            let consumer = if consumers > 1 { "/consumer/1" } else { "" };
            (reachable(*address), consumer)
        }
        Place::Unix(path) => {
            return vec![format!(
                "output {name}: bots that poll connect to the Unix socket {}",
                path.display()
            )];
        }
    };
    let root = format!("http://{address}{consumer}");
    let mut lines = vec![format!("output {name}: bots that poll have the API root {root}")];
    if consumers > 1 {
        lines
            .push(format!("  of {consumers} processes each has its own: .. /consumer/{consumers}"));
    }
    for (library, line) in [
        (
            "aiogram",
            format!(
                "AiohttpSession(api=TelegramAPIServer.from_base(\"{root}\")) as session of Bot"
            ),
        ),
        (
            "python-telegram-bot",
            format!(".base_url(\"{root}/bot\").base_file_url(\"{root}/file/bot\")"),
        ),
        ("pyTelegramBotAPI", format!("telebot.apihelper.API_URL = \"{root}/bot{{0}}/{{1}}\"")),
        ("grammY", format!("new Bot(token, {{ client: {{ apiRoot: \"{root}\" }} }})")),
        ("Telegraf", format!("new Telegraf(token, {{ telegram: {{ apiRoot: \"{root}\" }} }})")),
        (
            "go-telegram-bot-api",
            format!("NewBotAPIWithAPIEndpoint(token, \"{root}/bot%s/%s\"), and renumber = true"),
        ),
        ("gotgbot", format!("RequestOpts{{APIURL: \"{root}\"}} as DefaultRequestOpts")),
        ("teloxide", format!("TELOXIDE_API_URL={root} or .set_api_url(\"{root}\".parse()?)")),
    ] {
        lines.push(format!("  {library:<21}{line}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_library_is_told_of_the_root() {
        let place: Place = "getupdates://0.0.0.0:8081".parse().unwrap();
        let lines = hints("bot", &place, 1);
        assert_eq!(lines.len(), 9);
        assert!(lines.iter().all(|line| line.contains("http://127.0.0.1:8081")), "{lines:?}");
        let lines = hints("bot", &place, 2);
        assert!(lines.iter().any(|line| line.contains("/consumer/1/bot{0}/{1}")), "{lines:?}");
        let place: Place = "getupdates+unix:/run/x.sock".parse().unwrap();
        assert!(hints("bot", &place, 1).concat().ends_with("/run/x.sock"));
    }
}
