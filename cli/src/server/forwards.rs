//! The outputs behind HTTP while a server runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
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

/// Outputs that are to be started with the server.
#[derive(Default)]
pub(crate) struct Forwards {
    planned: Vec<Planned>,
    running: Arc<OnceLock<Vec<Running>>>,
}

struct Planned {
    /// Its number among all outputs.
    number: usize,
    name: String,
    settings: ForwardSettings,
    updates: Updates,
}

struct Running {
    name: String,
    forward: Forward,
    state: Arc<OutputState>,
}

impl Forwards {
    /// The output of `section`, which is the one with this number, to `targets`.
    ///
    /// # Errors
    /// A field is wrong.
    pub(crate) fn plan(
        &mut self,
        number: usize,
        section: &OutputSection,
        targets: &[Target],
    ) -> Result<Output, Error> {
        let (output, updates) = Output::stream(&section.name, CAPACITY);
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
        self.planned.push(Planned { number, name: section.name.clone(), settings, updates });
        Ok(output.workers(1))
    }

    /// True where there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    /// What is to be called a few times a second, to say which outputs are down.
    pub(crate) fn look(&self) -> impl FnMut() + Send + 'static {
        let running = Arc::clone(&self.running);
        move || {
            for Running { forward, state, .. } in running.get().into_iter().flatten() {
                match trouble(&forward.status()) {
                    Some(reason) => state.set_down(&reason),
                    None => state.set_up(),
                }
            }
        }
    }

    /// Starts them, for the bots of `setup`; to be called once `server` runs.
    ///
    /// # Errors
    /// A secret cannot be read, or a thread not be started.
    pub(crate) fn start(&mut self, setup: &Setup, server: &Server) -> Result<(), Error> {
        let mut running = Vec::new();
        for Planned { number, name, settings, updates } in self.planned.drain(..) {
            let Some(state) = server.outputs().nth(number).cloned() else { continue };
            let forward = Forward::start(updates, settings.bots(terms(setup, server)?))?;
            running.push(Running { name, forward, state });
        }
        let _ = self.running.set(running);
        Ok(())
    }

    /// Takes over what a reload says of bots.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub(crate) fn reload(&self, setup: &Setup, server: &Server) -> Result<(), Error> {
        self.all().try_for_each(|running| running.forward.set_bots(terms(setup, server)?))
    }

    /// To be called right before the server is stopped.
    pub(crate) fn drain(&self) {
        self.all().for_each(|running| running.forward.drain(Arc::clone(&running.state)));
    }

    /// To be called once the server has stopped.
    pub(crate) fn stop(&self) {
        for running in self.all() {
            if !running.forward.stop(END) {
                tracing::warn!(output = running.name, "the thread of the output has not ended");
            }
        }
    }

    /// What each has counted, by name.
    pub(crate) fn status(&self) -> BTreeMap<&str, ForwardStatus> {
        self.all().map(|running| (&*running.name, running.forward.status())).collect()
    }

    /// The same for another thread, at any time.
    pub(crate) fn all_statuses(&self) -> impl Fn() -> Vec<(String, ForwardStatus)> + Send + use<> {
        let running = Arc::clone(&self.running);
        move || {
            let all = running.get().into_iter().flatten();
            all.map(|running| (running.name.clone(), running.forward.status())).collect()
        }
    }

    fn all(&self) -> impl Iterator<Item = &Running> {
        self.running.get().into_iter().flatten()
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

/// What a forward has to know of each bot.
fn terms(setup: &Setup, server: &Server) -> Result<Vec<BotTerms>, Error> {
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
