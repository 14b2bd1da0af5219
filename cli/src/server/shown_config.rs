//! The config as the status page shows it.

use std::sync::{Arc, Mutex, PoisonError};

use ringhook_status::ShownConfig;

use super::setup::Setup;
use ringhook::{Error, internals::redact::hide_tokens};

/// What was read last, for other threads.
#[derive(Debug, Default)]
pub(crate) struct LiveConfig(Mutex<Arc<ShownConfig>>);

impl LiveConfig {
    /// Shows `setup` from now on; `pending` names the settings that a restart puts in force.
    ///
    /// # Errors
    /// A setting is wrong.
    pub(crate) fn show(&self, setup: &Setup, pending: &[&'static str]) -> Result<(), Error> {
        let text = hide_tokens(&setup.effective()?);
        let shown = Arc::new(ShownConfig { text, pending: pending.to_vec() });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(())
    }

    /// What is shown.
    pub(crate) fn get(&self) -> Arc<ShownConfig> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
