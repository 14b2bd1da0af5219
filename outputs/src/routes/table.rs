//! All routes of a configuration.

use ringhook::update::{BotId, Update, UpdateKind};

use super::{
    KindSet, OutputSet, RouteError, RouteLabel, RouteSection, RouteWarning,
    compile::{DROP, Names},
    condition::Condition,
    facts::Facts,
    index::Index,
    route::Route,
    wording::did_you_mean,
};

/// A bot whose updates are routed.
#[derive(Clone, Copy, Debug)]
pub struct RoutedBot<'a> {
    /// Its number in this process.
    pub id: BotId,
    /// Its name, by which routes ask for it.
    pub name: &'a str,
    /// `bot.output`: where its updates go that no route takes. Without it the first output.
    pub output: Option<&'a str>,
}

/// Which update goes to which outputs.
///
/// Made anew with each configuration. [`route`](Self::route) allocates nothing, and may be called
/// by any number of threads.
#[derive(Debug)]
pub struct Routes {
    pub(super) routes: Box<[Route]>,
    pub(super) index: Index,
    /// Where updates go that no route takes, of a bot without an output of its own.
    default: OutputSet,
    /// The same of each bot, by the bot's number.
    defaults: Box<[OutputSet]>,
    pub(super) bots: Box<[(BotId, Box<str>)]>,
    pub(super) outputs: Box<[Box<str>]>,
    warnings: Vec<RouteWarning>,
}

/// Where an update goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The route that takes it, by its place in the configuration, counted from zero; `None` where
    /// it goes to its bot's output since no route takes it.
    pub route: Option<usize>,
    /// Its outputs; none where it is dropped.
    pub outputs: OutputSet,
}

impl Routes {
    /// Compiles the routes of a configuration with these outputs and bots.
    ///
    /// # Errors
    ///
    /// [`RouteError`] for the first setting that is wrong.
    pub fn compile(
        sections: &[RouteSection],
        outputs: &[&str],
        bots: &[RoutedBot<'_>],
    ) -> Result<Self, RouteError> {
        if outputs.is_empty() || outputs.len() > OutputSet::MAX {
            let count = format!("{} of them", outputs.len());
            return Err(RouteError::new("outputs", "output", count, "1 to 64"));
        }
        if outputs.contains(&DROP) {
            let expected = "another name: \"drop\" is for what goes nowhere";
            return Err(RouteError::new("outputs", "output.name", format!("{DROP:?}"), expected));
        }
        let names = Names { outputs, bots };
        let compiled = sections.iter().enumerate().map(|(at, section)| names.compile(at, section));
        let routes = compiled.collect::<Result<Box<[_]>, _>>()?;
        let mut warnings = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let earlier = routes.get(..at).unwrap_or_default();
            warnings.extend(unknown_keys(route));
            warnings.extend(never_taking(route, earlier));
        }
        Ok(Self {
            index: Index::new(&routes),
            routes,
            default: OutputSet::only(0),
            defaults: defaults(names)?,
            bots: bots.iter().map(|bot| (bot.id, bot.name.into())).collect(),
            outputs: outputs.iter().map(|name| Box::from(*name)).collect(),
            warnings,
        })
    }

    /// The same for a server in which the outputs have these numbers, in the order in which they
    /// were given to [`compile`](Self::compile); without this they count up from 0. One that is
    /// not among them gets nothing.
    #[must_use]
    pub fn with_numbers(mut self, numbers: &[usize]) -> Self {
        let numbered = |outputs: OutputSet| -> OutputSet {
            outputs.iter().filter_map(|place| numbers.get(place).copied()).collect()
        };
        self.routes.iter_mut().for_each(|route| route.outputs = numbered(route.outputs));
        self.defaults.iter_mut().for_each(|outputs| *outputs = numbered(*outputs));
        self.default = numbered(self.default);
        let count = numbers.iter().max().map_or(0, |most| most + 1);
        let mut names = vec![Box::from(""); count];
        for (number, name) in numbers.iter().zip(std::mem::take(&mut self.outputs)) {
            if let Some(place) = names.get_mut(*number) {
                *place = name;
            }
        }
        self.outputs = names.into();
        self
    }

    /// Where `update` goes: to the outputs of the first route that takes it, else to its bot's.
    /// Allocates nothing.
    #[must_use]
    pub fn route(&self, update: &Update) -> Decision {
        let facts = Facts::new(update);
        let mut candidates = self.index.candidates(&self.routes, facts.kind(), facts.bot());
        match candidates.find(|(_, route)| route.conditions_hold(&facts)) {
            Some((index, route)) => Decision { route: Some(index), outputs: route.outputs },
            None => Decision { route: None, outputs: self.default_outputs(facts.bot()) },
        }
    }

    /// The kinds of updates that some bot has use for, for `allowed_updates` of setWebhook: those
    /// that a route, or the bot's output, takes and does not drop.
    ///
    /// Without a route that drops what the others do not take, these are all kinds, since all
    /// others go to the bot's output. [`UpdateKind::Unknown`] is never among them. A caller must
    /// not pass an empty set on: it means the Bot API's default.
    #[must_use]
    pub fn kinds(&self) -> KindSet {
        match self.bots.is_empty() {
            true => self.kinds_of(BotId::default()),
            false => self
                .bots
                .iter()
                .fold(KindSet::EMPTY, |kinds, (bot, _)| kinds.union(self.kinds_of(*bot))),
        }
    }

    /// The same of one bot, whose `allowed_updates` are its own.
    #[must_use]
    pub fn kinds_of(&self, bot: BotId) -> KindSet {
        UpdateKind::ALL.iter().copied().filter(|kind| self.has_use_for(bot, *kind)).collect()
    }

    /// Those of them that a route names by the condition `kind`.
    #[must_use]
    pub fn kinds_named(&self, bot: BotId) -> KindSet {
        let names = |route: &&Route| {
            let is_named = route.kinds_typed != KindSet::ANY;
            is_named && !route.outputs.is_empty() && route.bots.contains(bot)
        };
        let named = self.routes.iter().filter(names).map(|route| route.kinds);
        named.fold(KindSet::EMPTY, KindSet::union).intersection(self.kinds_of(bot))
    }

    fn has_use_for(&self, bot: BotId, kind: UpdateKind) -> bool {
        for (_, route) in self.index.candidates(&self.routes, kind, bot) {
            if !route.outputs.is_empty() {
                return true;
            }
            if route.takes_all() {
                return false;
            }
        }
        true
    }

    /// What is odd about the routes, in their order.
    #[must_use]
    pub fn warnings(&self) -> &[RouteWarning] {
        &self.warnings
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True where there are no routes, so that every update goes to its bot's output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// True where every update goes to the first output.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        let mut defaults = self.defaults.iter().chain([&self.default]);
        self.routes.is_empty() && defaults.all(|outputs| *outputs == OutputSet::only(0))
    }

    /// How the route `index`, counted from zero, is called in messages.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<&RouteLabel> {
        self.routes.get(index).map(|route| &route.label)
    }

    /// Where the updates of `bot` go that no route takes.
    #[must_use]
    pub fn default_outputs(&self, bot: BotId) -> OutputSet {
        let own = usize::try_from(bot.index()).ok().and_then(|index| self.defaults.get(index));
        // Of a bot that is not known here, where those without an output of their own go.
        own.copied().unwrap_or(self.default)
    }
}

fn defaults(names: Names<'_>) -> Result<Box<[OutputSet]>, RouteError> {
    let mut defaults = Vec::new();
    for bot in names.bots {
        let Some(name) = bot.output else { continue };
        let output = names.output(name).map_err(|expected| {
            RouteError::new(format!("bot {}", bot.name), "output", format!("{name:?}"), expected)
        })?;
        let index = usize::try_from(bot.id.index()).unwrap_or(usize::MAX);
        if defaults.len() <= index {
            defaults.resize(index.saturating_add(1), OutputSet::only(0));
        }
        if let Some(own) = defaults.get_mut(index) {
            *own = OutputSet::only(output);
        }
    }
    Ok(defaults.into_boxed_slice())
}

/// A warning for each path that no kind of update has.
fn unknown_keys(route: &Route) -> impl Iterator<Item = RouteWarning> {
    let paths = route.conditions.iter().flat_map(Condition::paths);
    paths.filter_map(|path| {
        let key = path.unknown_root()?;
        let known = UpdateKind::ALL.iter().map(|kind| kind.as_str()).chain(["update_id"]);
        let meant = did_you_mean(key, known);
        let message = format!("{path}: no update that this version knows has a {key:?}{meant}");
        Some(RouteWarning { route: route.label.clone(), message })
    })
}

/// A warning where `route` never takes anything.
fn never_taking(route: &Route, earlier: &[Route]) -> Option<RouteWarning> {
    let warn = |message: String| Some(RouteWarning { route: route.label.clone(), message });
    if route.kinds.is_empty() {
        return warn("it takes nothing: no kind of update meets all its conditions".to_owned());
    }
    let mut taking = earlier.iter().filter(|other| other.takes_all());
    let is_whole =
        |other: &&Route| other.kinds.is_superset(route.kinds) && other.bots.cover(&route.bots);
    if let Some(other) = taking.clone().find(is_whole) {
        return warn(format!("it takes nothing: {} takes all of it before", other.label));
    }
    // Several together, each some kinds of it.
    let left = taking.try_fold(route.kinds, |left, other| {
        let left = if other.bots.cover(&route.bots) { left.without(other.kinds) } else { left };
        (!left.is_empty()).then_some(left)
    });
    match left {
        Some(_) => None,
        None => warn("it takes nothing: the routes before take all of it".to_owned()),
    }
}
