//! Which update goes to which outputs.
//!
//! Routes are compiled when a configuration is loaded, and evaluated on the parsed update without
//! an allocation. The first route whose conditions all hold takes the update. What no route takes
//! goes to the output of its bot.
//!
//! ```
//! use ringhook::update::BotId;
//! use ringhook_outputs::routes::{RouteSection, RoutedBot, Routes};
//!
//! let section = RouteSection {
//!     kind: Some(vec!["message".to_owned()].into()),
//!     command: Some(vec!["start".to_owned()].into()),
//!     to: vec!["bot".to_owned(), "audit".to_owned()].into(),
//!     ..RouteSection::default()
//! };
//! let shop = RoutedBot { id: BotId::new(0), name: "shop", output: None };
//! let routes = Routes::compile(&[section], &["bot", "audit"], &[shop])?;
//! assert!(routes.warnings().is_empty());
//! # Ok::<(), ringhook_outputs::routes::RouteError>(())
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `section`, `one_of`, `where_test` | what is typed in the config file |
//! | `compile` | from what is typed to routes |
//! | `table` | all routes, and where an update goes |
//! | `route`, `condition`, `value_test` | one route, and what it asks |
//! | `path` | from the root of an update to a value |
//! | `facts`, `command` | what conditions ask of an update, found once |
//! | `index` | the routes by kind |
//! | `explanation` | why an update goes where it goes |
//! | `fields` | values of an update by name, for headers and fields of outputs |
//! | `kind_set` | a set of kinds |
//! | `live` | routes that a reload replaces |
//! | `error`, `label`, `wording` | what messages say |

mod command;
mod compile;
mod condition;
mod error;
mod explanation;
mod facts;
mod fields;
mod index;
mod kind_set;
mod label;
mod live;
mod one_of;
mod path;
mod route;
mod section;
mod table;
#[cfg(test)]
mod tests;
mod value_test;
mod where_test;
mod wording;

pub use ringhook::OutputSet;

pub use self::{
    error::{RouteError, RouteWarning},
    explanation::{Explanation, PassedRoute},
    fields::{FieldNames, FieldValue, Fields},
    kind_set::KindSet,
    label::RouteLabel,
    live::LiveRoutes,
    one_of::OneOf,
    path::Path,
    section::RouteSection,
    table::{Decision, RoutedBot, Routes},
    where_test::{Number, Scalar, TestTable, WhereTest},
};
