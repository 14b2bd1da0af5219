//! The outputs behind HTTP while a server runs.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::setup::Setup;
use crate::config::OutputSection;
use ringhook::{Error, Output, OutputState, Server, Updates};
use ringhook_outputs::{
    forward::{
        BotTerms, Forward, ForwardSettings, ForwardStatus, Target, TargetState, TargetStatus,
    },
    routes::{FieldNames, Fields},
};

/// Updates that wait between the workers and the forward.
const CAPACITY: usize = 1024;
/// How long a forward may take to end after the server has.
const END: Duration = Duration::from_secs(1);
/// How long the requests of one may take that a reload has replaced. Each has a bound of its own.
const RETIRE: Duration = Duration::from_secs(3600);

/// The forwards that run.
#[derive(Clone, Default)]
pub(crate) struct Forwards(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    running: Vec<Running>,
    /// What those have counted that have ended, by name.
    past: BTreeMap<String, ForwardStatus>,
}

/// One that is to be started.
pub(crate) struct Planned {
    name: String,
    settings: ForwardSettings,
    updates: Updates,
}

/// One that has been started, and is not looked at yet.
pub(crate) struct Started {
    name: String,
    forward: Forward,
}

struct Running {
    name: String,
    forward: Forward,
    /// Whether another destination has taken its output's place.
    is_replaced: bool,
    state: Arc<OutputState>,
}

/// The output of `section`, to `targets`, and what it is forwarded by.
///
/// # Errors
/// A field is wrong.
pub(crate) fn plan(
    section: &OutputSection,
    targets: &[Target],
) -> Result<(Output, Planned), Error> {
    let (output, updates) = Output::stream(&section.name, CAPACITY);
    // Forwards are started when the server runs, and this has to be said before.
    let updates = updates.direct();
    let mut targets = targets.iter().cloned();
    let Some(first) = targets.next() else {
        return Err(Error::config("output.to", "[]", "a target"));
    };
    let mut settings = targets.fold(ForwardSettings::new(first), ForwardSettings::and_to);
    if let Some(connections) = section.connections {
        settings = settings.connections(connections);
    }
    if let Some(timeout) = section.timeout {
        settings = settings.timeout(timeout);
    }
    settings = settings.move_after(section.move_after);
    if !section.fields.is_empty() {
        let fields = section.fields.iter().map(|(name, path)| (&**name, &**path));
        settings = settings.fields(Fields::compile(&section.name, fields, FieldNames::Header)?);
    }
    Ok((output.workers(1), Planned { name: section.name.clone(), settings, updates }))
}

impl Planned {
    /// Starts it for `bots`.
    ///
    /// # Errors
    /// A setting is wrong, or a thread cannot be started.
    pub(crate) fn start(self, bots: &[BotTerms]) -> Result<Started, Error> {
        let Self { name, settings, updates } = self;
        let forward = Forward::start(updates, settings.bots(bots.to_vec()))?;
        Ok(Started { name, forward })
    }
}

impl Forwards {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be called a few times a second, to say which outputs are down and to let go of
    /// those that have ended.
    pub(crate) fn look(&self) -> impl FnMut() + Send + 'static {
        let this = self.clone();
        move || {
            let State { running, past } = &mut *this.lock();
            for ended in running.extract_if(.., |running| !running.forward.is_running()) {
                add_to(past, &ended.name, ended.forward.status());
            }
            for Running { forward, state, .. } in running.iter().filter(|it| !it.is_replaced) {
                match trouble(&forward.status()) {
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
        left.for_each(|running| running.forward.retire(RETIRE));
    }

    /// Looks at one from now on, which says how its output is by `state`.
    pub(crate) fn add(&self, started: Started, state: Arc<OutputState>) {
        let Started { name, forward } = started;
        self.lock().running.push(Running { name, forward, is_replaced: false, state });
    }

    /// Takes over what a reload says of bots.
    ///
    /// # Errors
    /// A setting is wrong.
    pub(crate) fn set_bots(&self, bots: &[BotTerms]) -> Result<(), Error> {
        let all = self.lock();
        all.running.iter().try_for_each(|running| running.forward.set_bots(bots.to_vec()))
    }

    /// To be called right before the server is stopped.
    pub(crate) fn drain(&self) {
        let all = self.lock();
        for running in all.running.iter().filter(|running| !running.is_replaced) {
            running.forward.drain(Arc::clone(&running.state));
        }
    }

    /// To be called once the server has stopped.
    pub(crate) fn stop(&self) {
        for running in &self.lock().running {
            if !running.forward.stop(END) {
                tracing::warn!(output = running.name, "the thread of the output has not ended");
            }
        }
    }

    /// What each has counted, by name.
    pub(crate) fn status(&self) -> BTreeMap<String, ForwardStatus> {
        let all = self.lock();
        let mut status = all.past.clone();
        all.running.iter().for_each(|it| add_to(&mut status, &it.name, it.forward.status()));
        status
    }

    /// The same for another thread, at any time.
    pub(crate) fn all_statuses(&self) -> impl Fn() -> Vec<(String, ForwardStatus)> + Send + use<> {
        let this = self.clone();
        move || this.status().into_iter().collect()
    }
}

/// Adds what one has counted that came after others of its name.
fn add_to(sums: &mut BTreeMap<String, ForwardStatus>, name: &str, mut later: ForwardStatus) {
    match sums.entry(name.to_owned()) {
        Entry::Vacant(place) => {
            place.insert(later);
        }
        Entry::Occupied(mut place) => {
            let earlier = place.get();
            later.sent += earlier.sent;
            later.delivered += earlier.delivered;
            later.retried += earlier.retried;
            let (sum, add) = (&mut later.failed, &earlier.failed);
            sum.connect += add.connect;
            sum.reset += add.reset;
            sum.timeout += add.timeout;
            sum.misconfigured += add.misconfigured;
            sum.status_4xx += add.status_4xx;
            sum.status_5xx += add.status_5xx;
            let (sum, add) = (&mut later.replies, &earlier.replies);
            sum.relayed += add.relayed;
            sum.refused += add.refused;
            sum.ambiguous += add.ambiguous;
            sum.failed += add.failed;
            sum.dropped += add.dropped;
            place.insert(later);
        }
    }
}

/// What keeps some target from taking anything; `None` where all take what comes.
fn trouble(status: &ForwardStatus) -> Option<String> {
    let down = status.targets.iter().find(|target| target.state != TargetState::Up)?;
    let many = status.targets.len() > 1;
    let of = if many { format!(" (of {} targets)", status.targets.len()) } else { String::new() };
    let TargetStatus { target, waiting, .. } = down;
    let why = match (down.state, down.status) {
        (TargetState::Misconfigured, Some(code)) => {
            format!("answers {code}: its URL or its secret token is wrong")
        }
        _ => "takes nothing".to_owned(),
    };
    let oldest = down.oldest_waiting.unwrap_or_default().as_secs();
    let wait = format!("{waiting} update(s) wait, the oldest for {oldest} s");
    Some(format!("{target}{of} {why}; {wait}"))
}

/// What forwards have to know of each bot.
///
/// # Errors
/// A secret cannot be read.
pub(crate) fn terms(setup: &Setup, server: &Server) -> Result<Vec<BotTerms>, Error> {
    let root = &setup.file.webhook.api_root;
    let root: Target = root.to_string().parse()?;
    let registry = server.registry();
    let mut all = Vec::new();
    for bot in &setup.file.bots {
        let Some(id) = registry.id_of(&bot.name) else { continue };
        let mut terms = BotTerms::new(&bot.name, id).api_root(root.clone());
        if let Some(secret) = bot.secret_token()? {
            terms = terms.secret(secret.reveal());
        }
        if let Some(token) = bot.bot_token()? {
            terms = terms.token(token.reveal());
        }
        all.push(terms);
    }
    Ok(all)
}
