//! `ringhook routes`: which route takes an update, and why.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, Subcommand};

use crate::server::setup::Setup;
use ringhook::{
    Error, ErrorKind,
    internals::update::UpdateParser,
    update::{BotId, Update},
};

/// Largest update that is read, in bytes.
const UPDATE_MAX: u64 = 16 * 1024 * 1024;

/// Look at the routes of a config.
#[derive(Args, Debug)]
pub(crate) struct RoutesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell which route takes an update, and why the ones before it do not
    ///
    /// No text of the update is printed. What is odd about the routes is told on stderr.
    Explain(ExplainArgs),
}

#[derive(Args, Debug)]
struct ExplainArgs {
    /// An update as Telegram sends it, in a file; "-" reads it from stdin
    update: PathBuf,
    /// Config file with the routes
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The bot that the update is for [default: the first one]
    #[arg(long, value_name = "NAME")]
    bot: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RoutesArgs) -> Result<(), Error> {
    let Command::Explain(args) = &args.command;
    let setup = Setup::from_files(Some(&args.config), None, |_| {})?;
    let bots = &setup.file.bots;
    let number = match &args.bot {
        None => Some(0),
        Some(name) => bots.iter().position(|bot| bot.name == *name),
    };
    let number = number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
        let names: Vec<_> = bots.iter().map(|bot| &*bot.name).collect();
        Error::config("--bot", format!("{:?}", args.bot), &format!("one of {}", names.join(", ")))
    })?;
    let routes = setup.routes(|number, _| u32::try_from(number).ok())?;
    let update = read(&args.update, BotId::new(number))?;
    for warning in routes.warnings() {
        eprintln!("{warning}");
    }
    let explanation = routes.explain(&update);
    let text = match args.json {
        true => serde_json::to_string(&explanation).map_err(io::Error::from),
        false => Ok(explanation.to_string()),
    };
    let printed = text.and_then(|text| writeln!(io::stdout().lock(), "{text}"));
    printed.map_err(|error| Error::with_source(ErrorKind::Sink, "standard output", error))
}

/// The update in the file at `path`, as one of `bot`.
fn read(path: &Path, bot: BotId) -> Result<Update, Error> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => io::stdin().lock().take(UPDATE_MAX).read_to_end(&mut bytes),
        false => {
            fs::File::open(path).and_then(|file| file.take(UPDATE_MAX).read_to_end(&mut bytes))
        }
    };
    read.map_err(|error| Error::with_source(ErrorKind::Config, shown.to_string(), error))?;
    UpdateParser::default().parse(bytes.into(), bot, Instant::now()).map_err(|rejected| {
        let message = format!("{shown} is no update: {}", rejected.error);
        Error::new(ErrorKind::Config, message)
    })
}
