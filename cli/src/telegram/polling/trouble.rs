//! What a failed call of getUpdates means, and how long to wait after it.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use crate::telegram::bot_api::ApiError;

/// The first and the longest wait.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The longest wait that the Bot API is granted: a number that is no wait at all must not silence a
/// bot.
const ASKED_MAX: Duration = Duration::from_secs(600);

/// Who else has the updates, where the Bot API says that another client has them (409).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Conflict {
    /// Another program calls getUpdates for the same bot.
    Poller,
    /// They go to a webhook.
    Webhook,
}

impl Conflict {
    /// `None` where `error` is none.
    pub(crate) fn new(error: &ApiError) -> Option<Self> {
        let ApiError::Refused { code: 409, description, .. } = error else { return None };
        // "terminated by other getUpdates request", "terminated by setWebhook request" and "can't
        // use getUpdates method while webhook is active".
        let is_poller = description.contains("other getUpdates");
        Some(if is_poller { Self::Poller } else { Self::Webhook })
    }

    /// What it means, in one line.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Poller => {
                "another program fetches this bot's updates by getUpdates: stop it, each update goes \
                 to one of the two"
            }
            Self::Webhook => {
                "a webhook is set, and Telegram brings the updates there: delete it with `ringhook \
                 webhook delete`, which keeps the updates that wait, or start with --delete-webhook"
            }
        }
    }
}

/// True where calling again cannot help before the operator has changed something.
pub(super) fn is_final(error: &ApiError) -> bool {
    match Conflict::new(error) {
        Some(conflict) => conflict == Conflict::Webhook,
        None => !error.is_outage(),
    }
}

/// How long to wait after each failure in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// True where the last call has failed.
    pub(super) fn is_waiting(&self) -> bool {
        self.failures > 0
    }

    /// A call has succeeded.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: what the Bot API asks for, or twice as long as the one
    /// before, from a second to a minute, give or take a quarter.
    pub(super) fn after(&mut self, error: &ApiError) -> Duration {
        let doubled = WAITS.0.saturating_mul(1 << self.failures.min(6)).min(WAITS.1);
        self.failures = self.failures.saturating_add(1);
        if let ApiError::Refused { retry_after: Some(after), .. } = error {
            return (*after).clamp(WAITS.0, ASKED_MAX);
        }
        doubled.mul_f64(0.75 + 0.5 * random()).clamp(WAITS.0, WAITS.1)
    }
}

/// Anything from 0 to 1. Pollers that an outage has stopped together must not come back together.
fn random() -> f64 {
    // Its keys differ for each.
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, description: &str, retry_after: Option<u64>) -> ApiError {
        let retry_after = retry_after.map(Duration::from_secs);
        ApiError::Refused { code, description: description.to_owned(), retry_after }
    }

    #[test]
    fn conflicts_are_told_apart_by_their_texts() {
        let text = "Conflict: can't use getUpdates method while webhook is active; use \
                    deleteWebhook to delete the webhook first";
        let webhook = refused(409, text, None);
        assert_eq!(Conflict::new(&webhook), Some(Conflict::Webhook));
        let set = refused(409, "Conflict: terminated by setWebhook request", None);
        assert_eq!(Conflict::new(&set), Some(Conflict::Webhook));
        let text = "Conflict: terminated by other getUpdates request; make sure that only one bot \
                    instance is running";
        let poller = refused(409, text, None);
        assert_eq!(Conflict::new(&poller), Some(Conflict::Poller));
        assert!(is_final(&webhook) && is_final(&set) && !is_final(&poller));
        assert!(is_final(&refused(401, "Unauthorized", None)));
        for passing in [
            refused(429, "Too Many Requests: retry after 3", Some(3)),
            refused(502, "Bad Gateway", None),
            ApiError::Unreachable("no connection".to_owned()),
            ApiError::Odd("status 200, no JSON of its form".to_owned()),
        ] {
            assert!(!is_final(&passing) && Conflict::new(&passing).is_none(), "{passing}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew() {
        let error = ApiError::Unreachable("no connection".to_owned());
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.after(&error).as_secs_f64()).collect();
        for (index, wait) in waits.iter().enumerate() {
            let middle = f64::from(1 << index.min(6)).min(60.0);
            let range = (0.75 * middle).max(1.0)..=(1.25 * middle).min(60.0);
            assert!(range.contains(wait), "{index}: {wait}");
        }
        backoff.reset();
        assert!(backoff.after(&error) <= Duration::from_millis(1250));
        let asked = backoff.after(&refused(429, "Too Many Requests", Some(17)));
        assert_eq!(asked, Duration::from_secs(17));
    }
}
