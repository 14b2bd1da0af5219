//! `/metrics`: the server's counters, gathered and written when they are asked for.
//!
//! The number of series is bounded. Labels are words of the server (`reason`, `stage`, `kind`) or
//! names of the config, and no family has two labels of which both can be many. Families with the
//! label `bot` have at most [`BOTS_MAX`] series each and one for all other bots.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | a scrape |
//! | `negotiation` | which of the two text forms is answered |
//! | `families` | writing of a family and its series |
//! | `lag` | how long ago came what is settled now |
//! | `snapshot` | everything that a scrape shows, at one moment |
//! | `traffic` | requests and updates |
//! | `bots` | bots, their webhooks and polls |
//! | `journal` | the journal |
//! | `peers` | connections, handshakes, certificates, incidents |
//! | `outputs` | outputs, queues, forwards |
//! | `getupdates` | outputs for bots that poll |
//! | `health` | hangs, shards, reloads, the log, the build |
//! | `process` | the process, as the kernel counts it |

mod bots;
mod families;
mod getupdates;
mod health;
mod journal;
mod lag;
mod negotiation;
mod outputs;
mod peers;
mod process;
mod snapshot;
mod traffic;

use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use ringhook::{AdminPage, Report, ServerView};
use ringhook_outputs::forward::ForwardStatus;

pub use self::bots::BOTS_MAX;
pub(crate) use self::lag::accepted_and_settled;
use self::{lag::Lag, negotiation::TextForm, process::Process, snapshot::Snapshot};
use crate::Program;

/// The state between two scrapes.
#[derive(Debug)]
pub(crate) struct Metrics {
    lag: Lag,
    /// Bytes of the last scrape, as a guess for the next.
    size: usize,
    version: &'static str,
}

impl Metrics {
    pub(crate) fn new(version: &'static str) -> Self {
        Self { lag: Lag::default(), size: 0, version }
    }

    /// To be called every few seconds.
    pub(crate) fn look(&mut self, now: Instant, server: &ServerView) {
        self.lag.look(now, &server.report());
    }

    /// For how long the oldest update has waited, as far as it is known.
    pub(crate) fn lag(&self, report: &Report, forwards: &[(String, ForwardStatus)]) -> Duration {
        self.lag.of(Instant::now(), report, forwards)
    }

    /// A scrape in the form that `accept` asks for.
    pub(crate) fn page(
        &mut self,
        accept: &str,
        server: &ServerView,
        program: &dyn Program,
    ) -> AdminPage {
        let snapshot = Snapshot::new(server, program, &self.lag, self.version);
        let mut registry = Registry::default();
        registry.sub_registry_with_prefix("ringhook").register_collector(Box::new(snapshot));
        registry.register_collector(Box::new(Process));
        let form = TextForm::asked_for(accept);
        let mut text = String::with_capacity(self.size + self.size / 8);
        // A String takes everything.
        let _ = form.write(&mut text, &registry);
        self.size = text.len();
        AdminPage::new(form.content_type(), text)
    }
}
