//! Tests of the journal as a whole, on a disk that fails, loses data and stops where a test says
//! so.
//!
//! | file | question |
//! |---|---|
//! | `intake` | what becomes of records without a committer |
//! | `disk` | what may be left of files after a fault, a `kill -9`, a power cut |
//! | `model` | do the promises hold in any order of steps, whatever happens to disk and process |
//! | `reader` | what is read from a damaged segment |

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod disk;
mod intake;
mod model;
mod reader;

use std::sync::Arc;

use crate::bots::BotRegistry;

/// The bots of these names.
pub(super) fn registry(names: &[String]) -> Arc<BotRegistry> {
    let registry = Arc::new(BotRegistry::default());
    registry.register(names.iter().map(String::as_str)).unwrap();
    registry
}
