//! Open-loop load generator for Telegram webhook receivers.
//!
//! It drives any webhook server as Telegram's sender does: one request in flight per connection,
//! its headers, realistic updates. Requests fall due at an even rate whatever the server does, and
//! latency is counted from then, so a server that stalls cannot hide it by holding up the sender.
//!
//! ```no_run
//! # fn main() -> Result<(), loadtest::Error> {
//! let options = loadtest::Options::new("http://127.0.0.1:8080/webhook".parse()?);
//! let report = loadtest::run(&options)?;
//! assert!(report.is_ok(), "{report}");
//! # Ok(())
//! # }
//! ```
//!
//! The way of a request:
//!
//! ```text
//! schedule -> feed -> pool -> client -> source, request -> tls -> socket
//!             |       ^ pacer, timer           response <- tls <-|
//!             copies
//!
//! record, latencies -> report
//! series, progress  -> table
//! ```
//!
//! A [`Plan`] fills in the options of a run and says what must hold at its end ([`Expect`]). With
//! [`Options::telegram`] another loop takes the place of feed, pool and pacer: `telegram` does what
//! `sender`, the rules of Telegram's sender, tells it to.
//!
//! [`verify`] then tells whether everything arrived: it makes the updates once more, from the same
//! options, and compares them with what a sink has.
//!
//! All of a run happens on one thread with one ring. `runtime`, `socket` and `timer` alone know
//! monoio; `schedule`, `feed`, `sender`, `payload`, `request`, `response` and `tls::session` know
//! neither sockets nor clocks.

mod backoff;
mod client;
mod clock;
mod copies;
mod cpu;
mod crowd;
mod error;
mod expect;
mod feed;
mod latencies;
mod lines;
mod load;
mod machine;
mod options;
mod pacer;
mod payload;
mod phases;
mod plan;
mod pool;
mod profile;
mod progress;
mod record;
mod replay;
mod report;
mod report_page;
mod request;
mod response;
mod rng;
mod run;
mod runtime;
mod schedule;
mod sender;
mod series;
mod shown;
mod slow_peer;
mod socket;
mod source;
mod table;
mod target;
mod telegram;
mod timer;
mod tls;
mod units;
mod verify;

pub use self::{
    crowd::{Crowd, Dispersed},
    error::Error,
    expect::{Expect, Expectation},
    latencies::Latencies,
    machine::Machine,
    options::{Driver, Options, Rate, SlowPeers, Stop, TlsVersion, Trust},
    payload::{
        ChatKey, PayloadGenerator, PayloadOptions, Sizes, Skew, UpdateKind, chat_of, kind_of,
    },
    phases::Phase,
    plan::Plan,
    progress::Progress,
    record::{Copies, Failures, Ids, Retries, SlowPeersSeen},
    replay::Replay,
    report::{Asked, AskedPhase, PlanName, Report},
    report_page::{Inputs, ReportPage},
    run::{run, run_watched},
    series::Second,
    shown::hide_tokens,
    target::Target,
    telegram::{Telegram, TelegramBot, WebhookInfo},
    units::{Short, share},
    verify::{Expected, Offences, Verified, verify},
};
