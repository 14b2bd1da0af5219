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
        let text = without_queries(&hide_tokens(&setup.effective()?));
        let shown = Arc::new(ShownConfig { text, pending: pending.to_vec() });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(())
    }

    /// What is shown.
    pub(crate) fn get(&self) -> Arc<ShownConfig> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `config` without the queries of its URLs, which may hold secrets.
fn without_queries(config: &str) -> String {
    let mut shown = String::with_capacity(config.len());
    for line in config.lines() {
        let is_url = line.contains("://") || line.contains("http+unix:");
        let mut rest = line;
        while let Some((before, query)) = rest.split_once('?').filter(|_| is_url) {
            shown.push_str(before);
            shown.push_str("?(hidden)");
            rest = query.find('"').and_then(|end| query.get(end..)).unwrap_or_default();
        }
        shown.push_str(rest);
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_hidden_and_nothing_else() {
        let config =
            "to = [\"http://a/b?token=1\", \"http+unix:/s:/p?x\", \"null\"]\nname = \"?\"\n";
        let shown = "to = [\"http://a/b?(hidden)\", \"http+unix:/s:/p?(hidden)\", \"null\"]\nname = \"?\"\n";
        assert_eq!(without_queries(config), shown);
    }
}
