//! Pages of the admin listener, for operators and their monitoring systems.
//!
//! They are made of what the library shows of a running server ([`ringhook::ServerView`]) and of
//! what the program around it knows ([`Program`]).
//!
//! | module | what is in it |
//! |---|---|
//! | `metrics` | `/metrics`: all counters in the text forms of Prometheus and OpenMetrics |

mod metrics;

use std::time::{Duration, Instant};

use ringhook::{AdminPage, AdminPages, AdminRequest, ServerView};
use ringhook_outputs::forward::ForwardStatus;

pub use self::metrics::BOTS_MAX;
use self::metrics::Metrics;

/// Time between two looks at the server.
const PAUSE: Duration = Duration::from_secs(5);

/// What the program knows that the library does not. It is asked for each page, and must not wait.
pub trait Program: Send {
    /// Lines for stderr that were dropped because stderr did not take them.
    fn stderr_lines_dropped(&self) -> u64;

    /// The outputs behind HTTP, by name.
    fn forwards(&self) -> Vec<(String, ForwardStatus)>;
}

/// All pages of this crate.
pub struct Status {
    metrics: Metrics,
    program: Box<dyn Program>,
}

impl Status {
    /// The pages of a server that `program` runs, whose version is `version`.
    pub fn new(version: &'static str, program: impl Program + 'static) -> Self {
        Self { metrics: Metrics::new(version), program: Box::new(program) }
    }
}

impl AdminPages for Status {
    fn answer(&mut self, request: &AdminRequest<'_>, server: &ServerView) -> Option<AdminPage> {
        match request.path {
            "/metrics" => Some(self.metrics.page(request.accept, server, &*self.program)),
            _ => None,
        }
    }

    fn tick(&mut self, server: &ServerView) -> Option<Duration> {
        self.metrics.look(Instant::now(), server);
        Some(PAUSE)
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}
