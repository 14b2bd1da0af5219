//! The outputs that are in force, with the routes to them, and how a reload changes both.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    brokers,
    forwards::{self, Forwards},
    output::{OutputSpec, formed, rotated},
    pollers::{self, Pollers},
    setup::Setup,
};
use crate::config::OutputSection;
use ringhook::{
    Ack, Error, NdjsonSink, NullSink, Output, OutputState, PreparedOutputs, Server, ServerBuilder,
    internals::files::User,
};
use ringhook_outputs::{
    forward::BotTerms,
    routes::{LiveRoutes, Routes},
};

/// The outputs of a server that runs.
pub(crate) struct LiveOutputs {
    /// What a 200 promises, which no reload changes.
    ack: Ack,
    /// Those behind HTTP.
    pub(crate) forwards: Forwards,
    in_force: Mutex<Vec<LiveOutput>>,
    /// Those that wait for the start.
    planned: Vec<(usize, Planned)>,
    /// Those for bots that poll.
    pub(crate) pollers: Pollers,
    pub(crate) routes: Arc<LiveRoutes>,
}

/// What brings updates to a bot, before it is started.
enum Planned {
    Forward(forwards::Planned),
    Poller(pollers::Planned),
}

/// The same once it has been started.
enum Started {
    Forward(forwards::Started),
    Poller(pollers::Started),
}

/// One of them.
#[derive(Clone)]
struct LiveOutput {
    /// The lines that it writes, where it does.
    lines: Option<NdjsonSink>,
    /// Its number in the server.
    number: usize,
    section: OutputSection,
    spec: OutputSpec,
}

/// Outputs and routes of a reload, ready and not in force.
pub(crate) struct OutputChange<'a> {
    bots: Vec<BotTerms>,
    // Before the forwards: it ends the workers of the outputs that were to be added.
    prepared: PreparedOutputs<'a>,
    started: Vec<(usize, Started)>,
    /// Names of those that are added or get another destination.
    changed: Vec<String>,
    removed: Vec<String>,
    next: Vec<LiveOutput>,
    is_other_order: bool,
    server: &'a Server,
}

impl LiveOutputs {
    pub(crate) fn new(routes: Routes) -> Self {
        let routes = Arc::new(LiveRoutes::new(routes));
        let (forwards, in_force, planned, pollers) = Default::default();
        Self { ack: Ack::default(), forwards, in_force, planned, pollers, routes }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LiveOutput>> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the outputs of `setup` to a server that is to be started.
    ///
    /// # Errors
    /// One cannot be opened.
    pub(crate) fn add_to(
        &mut self,
        mut server: ServerBuilder,
        setup: &Setup,
        ack: Ack,
        user: Option<&User>,
    ) -> Result<ServerBuilder, Error> {
        server = server.router(Arc::<LiveRoutes>::clone(&self.routes));
        let mut in_force = Vec::new();
        for (number, (section, spec)) in setup.outputs.iter().enumerate() {
            let (output, planned, lines) = open(section, spec, || spec.open_lines(ack, user))?;
            if let Some(lines) = &lines {
                let _ = rotated(section, lines.clone());
            }
            self.planned.extend(planned.map(|planned| (number, planned)));
            let (section, spec) = (section.clone(), spec.clone());
            in_force.push(LiveOutput { lines, number, section, spec });
            server = server.output(output);
        }
        self.ack = ack;
        *self.lock() = in_force;
        let (mut look, mut look_at_pollers) = (self.forwards.look(), self.pollers.look());
        Ok(server.watch(move |_| {
            look();
            look_at_pollers();
        }))
    }

    /// Starts what forwards updates, for the bots of `setup`; to be called once `server` runs.
    ///
    /// # Errors
    /// A secret cannot be read, or a thread not be started.
    pub(crate) fn start(&mut self, setup: &Setup, server: &Server) -> Result<(), Error> {
        let planned = mem::take(&mut self.planned);
        if planned.is_empty() {
            return Ok(());
        }
        let bots = forwards::terms(setup, server)?;
        for (number, planned) in planned {
            let Some(state) = server.outputs().nth(number).cloned() else { continue };
            self.add(self.start_one(planned, &bots)?, state);
        }
        Ok(())
    }

    fn start_one(&self, planned: Planned, bots: &[BotTerms]) -> Result<Started, Error> {
        Ok(match planned {
            Planned::Forward(planned) => Started::Forward(planned.start(bots)?),
            Planned::Poller(planned) => Started::Poller(self.pollers.start(planned, bots)?),
        })
    }

    fn add(&self, started: Started, state: Arc<OutputState>) {
        match started {
            Started::Forward(started) => self.forwards.add(started, state),
            Started::Poller(started) => self.pollers.add(started, state),
        }
    }

    /// To be called right before the server is stopped.
    pub(crate) fn drain(&self) {
        self.forwards.drain();
        self.pollers.drain();
    }

    /// To be called once the server has stopped.
    pub(crate) fn stop(&self) {
        self.forwards.stop();
        self.pollers.stop();
    }

    /// Makes the outputs of `next` ready, and the routes to them.
    ///
    /// # Errors
    /// One of them is wrong or cannot be opened; nothing has changed then.
    pub(crate) fn prepare<'a>(
        &self,
        server: &'a Server,
        next: &Setup,
    ) -> Result<(OutputChange<'a>, Routes), Error> {
        let registry = server.registry();
        registry.register(next.file.bots.iter().map(|bot| &*bot.name))?;
        let bots = forwards::terms(next, server)?;
        let before = self.lock().clone();
        let (mut outputs, mut started, mut live) = (Vec::new(), Vec::new(), Vec::new());
        for (section, spec) in &next.outputs {
            let known = before.iter().find(|output| output.section.name == section.name);
            if let Some(known) = known.filter(|known| known.section == *section) {
                live.push((None, known.clone()));
                continue;
            }
            // The file is open already where it is the same: two who write to it would not know of
            // each other's lines and renames.
            let is_same = |known: &&LiveOutput| spec.is_same_file(&known.spec);
            let lines = known.filter(is_same).and_then(|known| known.lines.clone());
            let open_lines = || match lines {
                Some(lines) => Ok(Some(lines)),
                None => spec.open_lines(self.ack, None),
            };
            let (output, planned, lines) = open(section, spec, open_lines)?;
            let place = outputs.len();
            if let Some(planned) = planned {
                started.push((place, self.start_one(planned, &bots)?));
            }
            outputs.push(output);
            let (section, spec) = (section.clone(), spec.clone());
            live.push((Some(place), LiveOutput { lines, number: 0, section, spec }));
        }
        let prepared = server.prepare_outputs(outputs)?;
        let mut changed = Vec::new();
        let place = |(place, mut output): (Option<usize>, LiveOutput)| {
            if let Some(place) = place {
                output.number = prepared.numbers().get(place).copied().unwrap_or_default();
                changed.push(output.section.name.clone());
            }
            output
        };
        let live: Vec<_> = live.into_iter().map(place).collect();
        let numbers: Vec<_> = live.iter().map(|output| output.number).collect();
        let number_of = |_, name: &str| registry.id_of(name).map(|id| id.index());
        let routes = next.routes(number_of)?.with_numbers(&numbers);
        let is_gone = |name: &str| !live.iter().any(|output| output.section.name == name);
        let gone = before.iter().map(|output| &output.section.name).filter(|name| is_gone(name));
        let removed = gone.cloned().collect();
        let is_other_order = !before.iter().map(|output| output.number).eq(numbers);
        let next = live;
        let change = OutputChange {
            bots,
            prepared,
            started,
            changed,
            removed,
            next,
            is_other_order,
            server,
        };
        Ok((change, routes))
    }

    /// Puts in force what was prepared, once the routes are; true where that is anything.
    ///
    /// # Errors
    /// A setting of a bot is wrong.
    pub(crate) fn apply(&self, change: OutputChange<'_>) -> Result<bool, Error> {
        let OutputChange { bots, prepared, started, changed, removed, next, server, .. } = change;
        let is_other = change.is_other_order || !changed.is_empty() || !removed.is_empty();
        let names: Vec<_> = changed.iter().map(String::as_str).collect();
        self.forwards.leave(&names);
        self.pollers.leave(&names);
        let states: Vec<_> = prepared.states().collect();
        prepared.apply();
        self.forwards.retire_left();
        self.pollers.retire_left();
        for (place, started) in started {
            if let Some(state) = states.get(place) {
                self.add(started, Arc::clone(state));
            }
        }
        for name in &removed {
            server.retire_output(name);
        }
        for LiveOutput { lines, section, .. } in &next {
            if let Some(lines) = lines.clone().filter(|_| changed.contains(&section.name)) {
                let _ = rotated(section, lines);
            }
        }
        *self.lock() = next;
        self.forwards.set_bots(&bots)?;
        self.pollers.set_bots(&bots)?;
        Ok(is_other)
    }
}

/// The output of `section`, with what it is forwarded by, or the lines that it writes, which
/// `open_lines` opens.
fn open(
    section: &OutputSection,
    spec: &OutputSpec,
    open_lines: impl FnOnce() -> Result<Option<NdjsonSink>, Error>,
) -> Result<(Output, Option<Planned>, Option<NdjsonSink>), Error> {
    if let OutputSpec::Http(targets) = spec {
        let (output, planned) = forwards::plan(section, targets)?;
        return Ok((output, Some(Planned::Forward(planned)), None));
    }
    if let OutputSpec::GetUpdates(place) = spec {
        let (output, planned) = pollers::plan(section, place);
        return Ok((output, Some(Planned::Poller(planned)), None));
    }
    if let OutputSpec::Broker(url) = spec {
        return Ok((Output::sink(&section.name, brokers::open(section, url)?), None, None));
    }
    let lines = open_lines()?.map(|lines| formed(section, lines)).transpose()?;
    let output = match lines.clone() {
        Some(lines) => Output::sink(&section.name, lines),
        None => Output::sink(&section.name, NullSink),
    };
    Ok((output, None, lines))
}
