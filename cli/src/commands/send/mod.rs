//! `ringhook send`: sample updates for the running receiver, sent as Telegram would.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the flags, and one run |
//! | `target` | where updates are sent, and with which credentials |
//! | `feed` | the updates: samples, or those of a file |
//! | `outcome` | what became of the updates |
//! | `fix` | what to do where an update was not accepted |

mod feed;
pub(super) mod fix;
mod outcome;
pub(super) mod target;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use self::{
    feed::{Feed, Outgoing},
    outcome::Outcome,
    target::SendTarget,
};
use crate::{
    process::stderr::log,
    telegram::sender::{Answer, Connection, Failure, TIMEOUT, TlsVersions},
};
use ringhook::{Error, ErrorKind, ListenAddress, update::UpdateKind};

/// How often a long run tells how far it is.
const PROGRESS: Duration = Duration::from_secs(2);
/// Sample updates have ids from here on, at random: below 2^31, as Telegram's are.
const IDS_FROM: i64 = 1_000_000_000;
const IDS: u32 = 1_000_000_000;

/// Send sample updates to the running receiver, as Telegram would: to try a bot without Telegram
///
/// Without any flag it sends a message to what "ringhook serve" runs here without any flag.
/// Requests are byte for byte those of Telegram's sender, on one connection, one at a time; nothing
/// is sent again that was refused. Each update has an id of its own, so that none is taken for a
/// copy.
///
/// The server's certificate has to be the one of the config or data directory, as if it had been
/// uploaded to Telegram, and to be for the bot's host.
#[derive(Args, Debug)]
pub(crate) struct SendArgs {
    /// What to send; several with commas between, or all
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = "message",
          value_parser = kinds(), conflicts_with = "file")]
    kind: Vec<Kind>,
    /// Send the updates of this file: one, several one after the other, or an answer of getUpdates;
    /// - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send a file's updates with their own ids: what was received before is then a copy
    #[arg(long, requires = "file")]
    keep_id: bool,
    /// How often to send all of it
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: u64,
    /// Updates a second at the most [default: as fast as they are taken]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Config file of the server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory of the server [default: ringhook-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The bot whose updates they are, where the config has several
    #[arg(long, value_name = "NAME")]
    bot: Option<String>,
    /// Where the server listens, if the config does not say so: IP:PORT or unix:PATH [default: the
    /// config's first listener, else 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<ListenAddress>,
    /// Send to this webhook instead, of ringhook or another server; no config is read
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "data_dir", "bot", "listen"])]
    url: Option<String>,
    /// File with the secret token for --url
    #[arg(long, value_name = "FILE", requires = "url")]
    secret_token_file: Option<PathBuf>,
    /// Trust these certificates in PEM and no others [default: those of the config; with --url,
    /// those of the public authorities]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate; Telegram would not
    #[arg(long)]
    insecure: bool,
    /// Offer this version of TLS only: 1.2 or 1.3 [default: both, as Telegram]
    #[arg(long, value_name = "VERSION", value_parser = tls_version)]
    tls: Option<TlsVersions>,
    /// How long to wait for a connection, and for each answer [default: 60s, as Telegram]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Tell what became of them as JSON
    #[arg(long)]
    json: bool,
}

/// What `--kind` can be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    All,
    One(UpdateKind),
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = Kind> {
    let names = UpdateKind::ALL.iter().map(|kind| kind.as_str()).chain(["all"]);
    PossibleValuesParser::new(names)
        .map(|name| UpdateKind::from_key(&name).map_or(Kind::All, Kind::One))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| "expected a number from 0.001 to 1000000".to_owned())
}

fn tls_version(text: &str) -> Result<TlsVersions, &'static str> {
    match text {
        "1.2" => Ok(TlsVersions::Only12),
        "1.3" => Ok(TlsVersions::Only13),
        _ => Err("expected 1.2 or 1.3"),
    }
}

pub(super) fn run(args: &SendArgs) -> Result<(), Error> {
    let feed = match &args.file {
        Some(path) => Feed::read(path)?,
        None => Feed::of_kinds(args.kind.iter().flat_map(|kind| match kind {
            Kind::All => UpdateKind::ALL,
            Kind::One(kind) => std::slice::from_ref(kind),
        })),
    };
    let send_target = SendTarget::take(args)?;
    log(send_target.spoken());
    let total = args.count.saturating_mul(feed.len());
    let mut outcome = Outcome::new(total, args.json)?;
    let mut sender = Sender {
        send_target: &send_target,
        connection: None,
        timeout: args.timeout.unwrap_or(TIMEOUT),
        versions: args.tls.unwrap_or_default(),
    };
    let first_id = first_id()?;
    let start = Instant::now();
    let mut reported = start;
    for (index, id) in (0..total).zip(first_id..) {
        if let Some(rate) = args.rate {
            // 2^53 updates are out of reach.
            #[allow(clippy::cast_precision_loss)]
            let due = start + Duration::from_secs_f64(index as f64 / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let Some(update) = feed.make(index, id, args.keep_id) else { break };
        match sender.send(&update) {
            Ok(answer) => outcome.add(&update, &answer)?,
            Err(failure) => {
                outcome.end_with(&update, failure);
                break;
            }
        }
        if !outcome.lists() && reported.elapsed() >= PROGRESS && io::stderr().is_terminal() {
            reported = Instant::now();
            log(format_args!("{} of {total}", index + 1));
        }
    }
    outcome.tls = sender.connection.as_ref().and_then(Connection::tls_version);
    outcome.finish(&send_target, start.elapsed())
}

/// Sends updates on one connection, for as long as that lasts.
struct Sender<'a> {
    send_target: &'a SendTarget,
    connection: Option<Connection>,
    timeout: Duration,
    versions: TlsVersions,
}

impl Sender<'_> {
    fn send(&mut self, update: &Outgoing) -> Result<Answer, Failure> {
        let secret_token = self.send_target.secret_token.as_ref();
        if let Some(mut connection) = self.connection.take().filter(Connection::is_usable) {
            match connection.post(&update.body, secret_token) {
                // It was closed just then: Telegram, too, comes again on another one.
                Err(failure) if failure.is_gone() => {}
                outcome => {
                    self.connection = Some(connection);
                    return outcome;
                }
            }
        }
        let connection = Connection::open(&self.send_target.target, self.versions, self.timeout)?;
        self.connection.insert(connection).post(&update.body, secret_token)
    }
}

/// An id that nothing has had lately.
fn first_id() -> Result<i64, Error> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|source| {
        let source = io::Error::other(source.to_string());
        Error::with_source(ErrorKind::Send, "no random bytes", source)
    })?;
    Ok(IDS_FROM + i64::from(u32::from_le_bytes(random) % IDS))
}
