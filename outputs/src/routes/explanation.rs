//! Why an update goes where it goes.

use std::fmt;

use ringhook::update::Update;
use serde::Serialize;

use super::{OutputSet, RouteLabel, Routes, facts::Facts, route::Route, wording::list};

/// Why an update goes where it goes: route by route. `Display` is for people, a line for each
/// route; it serialises as an object.
///
/// It names ids, kinds, types and whole numbers of the update, never text of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The routes before the one that takes it, each with its first condition that does not hold.
    pub passed: Vec<PassedRoute>,
    /// The route that takes it; `None` where it goes to its bot's output.
    pub route: Option<RouteLabel>,
    /// The names of its outputs; none where it is dropped.
    pub outputs: Vec<String>,
}

/// A route that does not take an update.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PassedRoute {
    /// The route.
    #[serde(flatten)]
    pub route: RouteLabel,
    /// The key of its first condition that does not hold, in the order in which they are checked.
    pub condition: &'static str,
    /// Why that one does not hold.
    pub reason: String,
}

impl Routes {
    /// Tells why `update` goes where [`route`](Self::route) sends it.
    #[must_use]
    pub fn explain(&self, update: &Update) -> Explanation {
        let facts = Facts::new(update);
        let mut passed = Vec::new();
        for route in &self.routes {
            match self.miss(route, &facts) {
                Some((condition, reason)) => {
                    passed.push(PassedRoute { route: route.label.clone(), condition, reason });
                }
                None => {
                    let outputs = self.output_names(route.outputs);
                    return Explanation { passed, route: Some(route.label.clone()), outputs };
                }
            }
        }
        let outputs = self.output_names(self.default_outputs(update.bot()));
        Explanation { passed, route: None, outputs }
    }

    /// The first condition of `route` that does not hold, and why.
    fn miss(&self, route: &Route, facts: &Facts<'_>) -> Option<(&'static str, String)> {
        if !route.bots.contains(facts.bot()) {
            let known = self.bots.iter().find(|(id, _)| *id == facts.bot());
            let reason = known.map_or_else(
                || "the bot is none of the configuration".to_owned(),
                |(_, name)| format!("the bot is {name}"),
            );
            return Some(("bot", reason));
        }
        if !route.kinds_typed.contains(facts.kind()) {
            return Some(("kind", format!("the kind is {}", facts.kind())));
        }
        let missed = route.conditions.iter().find(|condition| !condition.holds(facts))?;
        Some((missed.key(), missed.reason(facts)))
    }

    /// The names of `outputs`.
    #[must_use]
    pub fn output_names(&self, outputs: OutputSet) -> Vec<String> {
        let names = outputs.iter().filter_map(|index| self.outputs.get(index));
        names.map(ToString::to_string).collect()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for PassedRoute { route, reason, .. } in &self.passed {
            writeln!(f, "{route} does not take it: {reason}")?;
        }
        match &self.route {
            Some(route) if self.outputs.is_empty() => write!(f, "{route} drops it"),
            Some(route) => write!(f, "{route} takes it: to {}", list(&self.outputs, " and ")),
            None => {
                write!(
                    f,
                    "no route takes it: to {}, its bot's output",
                    list(&self.outputs, " and ")
                )
            }
        }
    }
}
