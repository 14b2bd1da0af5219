//! What the pages of the admin listener show beside the server: what this program knows.

use std::sync::Arc;

use ringhook_outputs::{forward::ForwardStatus, getupdates::GetUpdatesStatus};
use ringhook_status::{Meaning, Program, ShownConfig};

use super::{live_outputs::LiveOutputs, pollers::Pollers, shown_config::LiveConfig};
use crate::{process::stderr, telegram::webhook::meaning};

/// What is around a server.
pub(crate) struct Surroundings<F> {
    config: Arc<LiveConfig>,
    forwards: F,
    pollers: Pollers,
}

/// What is around a server with these outputs.
pub(crate) fn of(outputs: &LiveOutputs, config: &Arc<LiveConfig>) -> impl Program + use<> {
    let (forwards, pollers) = (outputs.forwards.all_statuses(), outputs.pollers.clone());
    Surroundings { config: Arc::clone(config), forwards, pollers }
}

impl<F: Fn() -> Vec<(String, ForwardStatus)> + Send> Program for Surroundings<F> {
    fn stderr_lines_dropped(&self) -> u64 {
        stderr::dropped()
    }

    fn forwards(&self) -> Vec<(String, ForwardStatus)> {
        (self.forwards)()
    }

    fn getupdates(&self) -> Vec<(String, GetUpdatesStatus)> {
        self.pollers.status().into_iter().collect()
    }

    fn config(&self) -> Option<Arc<ShownConfig>> {
        Some(self.config.get())
    }

    fn meaning(&self, error: &str) -> Option<Meaning> {
        let found = meaning(error)?;
        Some(Meaning { what: found.what, fix: found.fix })
    }
}
