//! `ringhook journal`: a look into the journal, and a way out of it without a server. One file for
//! each subcommand.

mod cat;
mod ls;
mod replay;
mod verify;

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use clap::{Args, Subcommand};
use serde::Serialize;
use time::OffsetDateTime;

use crate::config::ConfigFile;
use ringhook::{
    Error, ErrorKind, Update,
    internals::{
        bots::{BotId, BotKey, BotRegistry},
        files::Dir,
        journal::{
            Directory, RecordHeader, RecoveryError,
            inspect::{Inspection, Records},
        },
        redact::hide_tokens,
        server::unreadable,
        update::{ParserLimits, UpdateKind, UpdateParser},
    },
};

/// Bytes gathered before they are written.
const BATCH_BYTES: usize = 64 * 1024;
/// What was written can be read, whatever the limit was.
const DEPTH_MAX: usize = 1024;

/// Look into the journal: what waits, what is whole, and into the sink with it.
///
/// The journal holds each update from its 200 until it is settled: handled, dead-lettered or
/// dropped by rule. ls, cat and verify only read, also beside a running server.
#[derive(Args, Debug)]
pub(crate) struct JournalArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Verify(verify::VerifyArgs),
    Replay(replay::ReplayArgs),
}

pub(super) fn run(args: &JournalArgs) -> Result<(), Error> {
    let look = |place: &Place, run: &dyn Fn(&Found) -> Result<(), Error>| {
        let found = place.find()?;
        found.act(|| run(&found))
    };
    match &args.command {
        Command::Cat(args) => look(&args.place, &|found| cat::run(args, found)),
        Command::Ls(args) => look(&args.place, &|found| ls::run(args, found)),
        Command::Replay(args) => replay::run(args),
        Command::Verify(args) => look(&args.place, &|found| verify::run(args, found)),
    }
}

/// Where the journal is.
#[derive(Args, Debug)]
struct Place {
    /// Data directory of the server; the journal is in its folder `journal` [default:
    /// ringhook-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Config file of the server, for its data directory, its bots and its sink; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The place as found.
struct Found {
    config: ConfigFile,
    dir: PathBuf,
    /// The directory itself, and with whose rights it is worked in; `None` where it is not there.
    place: Option<Dir>,
}

impl Place {
    fn find(&self) -> Result<Found, Error> {
        let config = self.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        let data_dir = self.data_dir.as_ref().unwrap_or(&config.server.data_dir);
        let dir = data_dir.join("journal");
        let place = match Dir::find(&dir, None) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            place => Some(place.map_err(|error| out_of_reach(&dir, error))?),
        };
        Ok(Found { config, dir, place })
    }
}

impl Found {
    /// Does `work` with the rights of the directory's owner, where root is about to: what is in it
    /// leads root nowhere, and what is made in it can be opened by a server.
    fn act<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        match &self.place {
            Some(place) => {
                place.run(|_| Ok(work())).map_err(|error| out_of_reach(&self.dir, error))?
            }
            None => work(),
        }
    }

    /// Where the directory is found as long as this lives.
    fn path(&self) -> PathBuf {
        self.place.as_ref().map_or_else(|| self.dir.clone(), |place| place.path(&self.dir))
    }

    /// The directory, for reading.
    fn look_into(&self) -> Result<Directory, Error> {
        Directory::look_into(&self.path()).map_err(|error| {
            let place = self.dir.display();
            if error.kind() == io::ErrorKind::NotFound {
                let message = format!(
                    "there is no journal at {place}: name the server's data directory with \
                     --data-dir, or its config file with --config"
                );
                return Error::new(ErrorKind::Config, message);
            }
            out_of_reach(&self.dir, error)
        })
    }

    fn inspect<'a>(&self, directory: &'a Directory) -> Result<Inspection<'a>, Error> {
        Inspection::new(directory).map_err(|error| unreadable(&self.dir, error))
    }

    /// Why the file `name` cannot be read.
    fn unreadable(&self, name: String, error: io::Error) -> Error {
        unreadable(&self.dir, RecoveryError::Io(Some(name), error))
    }

    /// Segment `number`, unless it has gone.
    fn records<'a>(
        &self,
        journal: &Inspection<'a>,
        number: u32,
    ) -> Result<Option<Records<'a>>, Error> {
        journal.records(number).map_err(|(name, error)| self.unreadable(name, error))
    }

    fn names(&self, journal: &Inspection<'_>) -> Names {
        let mut names = journal.bots();
        let configured = self.config.bots.iter().map(|bot| &bot.name);
        names.extend(configured.map(|name| (BotKey::from_name(name), name.clone())));
        Names(names)
    }
}

fn out_of_reach(dir: &Path, error: io::Error) -> Error {
    Error::with_source(ErrorKind::Journal, format!("the journal in {}", dir.display()), error)
}

/// Which bot has which key.
struct Names(HashMap<BotKey, String>);

impl Names {
    /// All of them, as a server knows them.
    fn registry(&self) -> Result<Arc<BotRegistry>, Error> {
        let registry = Arc::new(BotRegistry::default());
        registry.register(self.0.values().map(String::as_str))?;
        Ok(registry)
    }

    /// The name of the bot with this key; the key itself where the config has no such bot.
    fn name(&self, key: BotKey) -> Cow<'_, str> {
        match self.0.get(&key) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(key.to_string()),
        }
    }
}

/// Which updates are meant.
#[derive(Args, Debug)]
struct Filter {
    /// Only updates of this bot
    #[arg(long, value_name = "NAME")]
    bot: Option<String>,
    /// Only updates from this update_id on
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    from: Option<i64>,
    /// Only updates up to this update_id, itself included
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    to: Option<i64>,
    /// Only updates of this kind, such as message or callback_query; may be given several times
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Vec<UpdateKind>,
}

/// A kind by its name.
fn kind(name: &str) -> Result<UpdateKind, String> {
    match name.parse() {
        Ok(kind) => Ok(kind),
        Err(_) if name == UpdateKind::Unknown.as_str() => Ok(UpdateKind::Unknown),
        Err(_) => Err("expected a field of Telegram's Update, such as message, or unknown".into()),
    }
}

/// A filter that knows the bots' keys.
struct Chosen<'a> {
    bot: Option<BotKey>,
    filter: &'a Filter,
}

impl Filter {
    /// What the filter means where the bots are called `names`.
    fn choose(&self, names: &Names) -> Result<Chosen<'_>, Error> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(Error::config("--from", from, &format!("{to} or less, which is --to")));
        }
        let key = |name: &String| {
            let key = BotKey::from_name(name);
            // An empty journal knows no names.
            if names.0.is_empty() || names.0.contains_key(&key) {
                return Ok(key);
            }
            // As `cat --meta` shows bots that the config does not have.
            if let Some(key) = BotKey::from_hex(name) {
                return Ok(key);
            }
            let mut known: Vec<_> = names.0.values().map(String::as_str).collect();
            known.sort_unstable();
            Err(Error::config("--bot", name, &format!("one of: {}", known.join(", "))))
        };
        Ok(Chosen { bot: self.bot.as_ref().map(key).transpose()?, filter: self })
    }
}

impl Chosen<'_> {
    /// Whether a record is meant, as far as its header tells.
    fn takes(&self, header: &RecordHeader) -> bool {
        let id = header.update_id.get();
        self.bot.is_none_or(|bot| bot == header.bot)
            && self.filter.from.is_none_or(|from| from <= id)
            && self.filter.to.is_none_or(|to| id <= to)
    }

    fn takes_kind(&self, update: &Update) -> bool {
        self.filter.kind.is_empty() || self.filter.kind.contains(&update.kind())
    }
}

/// Bodies to updates.
struct Bodies(UpdateParser);

impl Bodies {
    fn new() -> Self {
        let limits = ParserLimits { depth_max: DEPTH_MAX, ..ParserLimits::default() };
        Self(UpdateParser::new(limits))
    }

    /// The update in `body`; `None` where this version cannot read it.
    fn parse(&mut self, body: &[u8]) -> Option<Update> {
        self.parse_for(BotId::default(), Instant::now(), body)
    }

    /// The same for `bot`, received at that moment.
    fn parse_for(&mut self, bot: BotId, received_at: Instant, body: &[u8]) -> Option<Update> {
        let mut copy = self.0.take_body(body.len());
        copy.extend(body);
        match self.0.parse(copy, bot, received_at) {
            Ok(update) => Some(update),
            Err(rejected) => {
                self.0.keep_body(rejected.body);
                None
            }
        }
    }

    fn keep(&mut self, update: Update) {
        self.0.keep(update.recycle());
    }
}

/// Part of a segment's file that is no record.
#[derive(Debug, Serialize)]
struct Part {
    offset: u64,
    bytes: u64,
}

/// A file that is only reported.
#[derive(Debug, Serialize)]
struct Named {
    file: String,
    bytes: u64,
}

impl Named {
    fn list(files: Vec<(String, u64)>) -> Vec<Self> {
        files.into_iter().map(|(file, bytes)| Self { file, bytes }).collect()
    }
}

/// Standard output. Where its reader has gone (`| head`), the rest is dropped, and that is no
/// failure.
struct Out(Option<BufWriter<File>>);

impl Out {
    fn new() -> Result<Self, Error> {
        let file = io::stdout().as_fd().try_clone_to_owned().map_err(no_stdout)?;
        Ok(Self(Some(BufWriter::with_capacity(BATCH_BYTES, file.into()))))
    }

    /// True where its reader has gone.
    fn is_closed(&self) -> bool {
        self.0.is_none()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let outcome = self.0.as_mut().map_or(Ok(()), |out| out.write_all(bytes));
        self.check(outcome)
    }

    fn line(&mut self, line: &str) -> Result<(), Error> {
        self.write(hide_tokens(&format!("{line}\n")).as_bytes())
    }

    /// `value` as JSON on lines of its own.
    fn json(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value);
        self.line(&text.map_err(|error| no_stdout(error.into()))?)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let outcome = self.0.as_mut().map_or(Ok(()), io::Write::flush);
        self.check(outcome)
    }

    fn check(&mut self, outcome: io::Result<()>) -> Result<(), Error> {
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                // What the buffer holds is not to be tried again.
                if let Some(out) = self.0.take() {
                    let _ = out.into_parts();
                }
                Ok(())
            }
            outcome => outcome.map_err(no_stdout),
        }
    }
}

fn no_stdout(source: io::Error) -> Error {
    Error::with_source(ErrorKind::Sink, "standard output", source)
}

/// Microseconds since 1970 as RFC 3339 has it, in UTC.
fn rfc3339(us: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000) else {
        // Beyond the year 9999: a clock that was never set.
        return format!("{us} us");
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_795_219_200_000_042), "2026-11-21T00:00:00.000042Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(i64::MAX), format!("{} us", i64::MAX));
    }
}
