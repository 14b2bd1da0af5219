//! What the tests of routes share.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod compiling;
mod conditions;
mod explaining;
mod fields;
mod kinds;
mod naive;
mod properties;
mod samples;

use std::time::Instant;

use ringhook::{
    internals::update::{UpdateBody, UpdateParser},
    update::{BotId, Update, UpdateKind},
};
use serde::Deserialize;

use super::{Decision, RouteError, RouteSection, RoutedBot, Routes};

const OUTPUTS: [&str; 3] = ["bot", "audit", "archive"];
const SHOP: BotId = BotId::new(0);
const NEWS: BotId = BotId::new(1);
const BOTS: [RoutedBot<'_>; 2] = [
    RoutedBot { id: SHOP, name: "shop", output: None },
    RoutedBot { id: NEWS, name: "news", output: Some("archive") },
];

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    route: Vec<RouteSection>,
}

/// The routes of a config file's text.
fn sections(text: &str) -> Vec<RouteSection> {
    toml::from_str::<File>(text).unwrap_or_else(|error| panic!("{error}")).route
}

fn try_routes(text: &str) -> Result<Routes, RouteError> {
    Routes::compile(&sections(text), &OUTPUTS, &BOTS)
}

fn routes(text: &str) -> Routes {
    try_routes(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether an update is taken by a route with these conditions.
fn takes(conditions: &str, update: &Update) -> bool {
    let routes = routes(&format!("[[route]]\n{conditions}\nto = 'audit'"));
    let Decision { route, outputs } = routes.route(update);
    let is_taken = route == Some(0);
    assert!(outputs.contains(usize::from(is_taken)) && outputs.len() == 1);
    let explanation = routes.explain(update);
    assert_eq!(explanation.route.is_some(), is_taken, "{explanation}");
    is_taken
}

fn parse_for(bot: BotId, text: &str) -> Update {
    let body = UpdateBody::from(text.as_bytes().to_vec());
    UpdateParser::default().parse(body, bot, Instant::now()).unwrap_or_else(|_| panic!("{text}"))
}

fn parse(text: &str) -> Update {
    parse_for(SHOP, text)
}

/// An update whose field `kind` holds `payload`.
fn update(kind: &str, payload: &str) -> Update {
    parse(&format!(r#"{{"update_id":7,"{kind}":{payload}}}"#))
}

/// A realistic update of `kind`.
fn sample(kind: UpdateKind) -> Update {
    update(kind.as_str(), samples::payload(kind))
}
