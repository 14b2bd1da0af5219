//! Pages of the admin listener, for operators and their monitoring systems.
//!
//! They are made of what the library shows of a running server ([`ringhook::ServerView`]) and of
//! what the program around it knows ([`Program`]).
//!
//! | module | what is in it |
//! |---|---|
//! | `page`, `history`, `threads` | `/`: the status page, the last hour, CPU time of threads |
//! | `metrics` | `/metrics`: all counters in the text forms of Prometheus and OpenMetrics |

mod history;
mod metrics;
mod page;
mod threads;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ringhook::{AdminPage, AdminPages, AdminRequest, ServerView};
use ringhook_outputs::{forward::ForwardStatus, getupdates::GetUpdatesStatus};

pub use self::metrics::BOTS_MAX;
use self::{history::History, metrics::Metrics, page::Shown, threads::Threads};

/// What the program knows that the library does not. It is asked for each page, and must not wait.
pub trait Program: Send {
    /// Lines for stderr that were dropped because stderr did not take them.
    fn stderr_lines_dropped(&self) -> u64;

    /// The outputs behind HTTP, by name.
    fn forwards(&self) -> Vec<(String, ForwardStatus)>;

    /// The outputs for bots that poll, by name; by default there are none.
    fn getupdates(&self) -> Vec<(String, GetUpdatesStatus)> {
        Vec::new()
    }

    /// The config that was read last; `None` where there is none.
    fn config(&self) -> Option<Arc<ShownConfig>>;

    /// What an error of a delivery means that Telegram has told of; `None` where that is not known.
    fn meaning(&self, error: &str) -> Option<Meaning>;
}

/// A config as people may see it.
#[derive(Clone, Debug, Default)]
pub struct ShownConfig {
    /// All settings, with secrets hidden.
    pub text: String,
    /// Keys of the settings that are not in force before the next start.
    pub pending: Vec<&'static str>,
}

/// What an error of a delivery means.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// What has happened.
    pub what: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// All pages of this crate.
pub struct Status {
    history: History,
    metrics: Metrics,
    program: Box<dyn Program>,
    threads: Threads,
}

impl Status {
    /// The pages of a server that `program` runs, whose version is `version`.
    pub fn new(version: &'static str, program: impl Program + 'static) -> Self {
        let (history, threads) = (History::default(), Threads::default());
        Self { history, metrics: Metrics::new(version), program: Box::new(program), threads }
    }

    /// The status page.
    fn page(&self, query: &str, server: &ServerView) -> AdminPage {
        let refresh = match page::refresh(query) {
            Ok(refresh) => refresh,
            Err(what) => return AdminPage::bad_request(what),
        };
        let (report, forwards) = (&server.report(), &self.program.forwards());
        let shown = Shown {
            forwards,
            history: &self.history,
            lag: self.metrics.lag(report, forwards),
            program: &*self.program,
            report,
            server,
            threads: &self.threads,
            now: SystemTime::now(),
        };
        AdminPage::new("text/html; charset=utf-8", page::html(&shown, refresh))
            .field("Content-Security-Policy", page::POLICY)
            .field("Referrer-Policy", "no-referrer")
    }
}

impl AdminPages for Status {
    fn answer(&mut self, request: &AdminRequest<'_>, server: &ServerView) -> Option<AdminPage> {
        match request.path {
            "/" => Some(self.page(request.query, server)),
            "/metrics" => Some(self.metrics.page(request.accept, server, &*self.program)),
            _ => None,
        }
    }

    fn tick(&mut self, server: &ServerView) -> Option<Duration> {
        let now = Instant::now();
        self.history.tick(server, &server.report());
        self.metrics.look(now, server);
        self.threads.look(now);
        Some(history::STEP)
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}
