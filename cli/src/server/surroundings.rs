//! What the pages of the admin listener show beside the server: what this program knows.

use std::sync::Arc;

use ringhook_outputs::forward::ForwardStatus;
use ringhook_status::{Meaning, Program, ShownConfig};

use super::{forwards::Forwards, shown_config::LiveConfig};
use crate::{process::stderr, telegram::webhook::meaning};

/// What is around a server.
pub(crate) struct Surroundings<F> {
    config: Arc<LiveConfig>,
    forwards: F,
}

/// What is around a server with these outputs behind HTTP.
pub(crate) fn of(forwards: &Forwards, config: &Arc<LiveConfig>) -> impl Program + use<> {
    Surroundings { config: Arc::clone(config), forwards: forwards.all_statuses() }
}

impl<F: Fn() -> Vec<(String, ForwardStatus)> + Send> Program for Surroundings<F> {
    fn stderr_lines_dropped(&self) -> u64 {
        stderr::dropped()
    }

    fn forwards(&self) -> Vec<(String, ForwardStatus)> {
        (self.forwards)()
    }

    fn config(&self) -> Option<Arc<ShownConfig>> {
        Some(self.config.get())
    }

    fn meaning(&self, error: &str) -> Option<Meaning> {
        let found = meaning(error)?;
        Some(Meaning { what: found.what, fix: found.fix })
    }
}
