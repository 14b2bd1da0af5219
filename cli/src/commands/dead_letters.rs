//! `ringhook dead-letters`: updates that finally failed, sent to a sink again.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    config::{ConfigFile, OutputSection},
    process::stderr::log,
    server::{
        output::{OutputSpec, commit_whole},
        written_files::Place,
    },
};
use ringhook::{
    Ack, BotNames, Error, ErrorKind, SinkWriter,
    internals::{bots::BotRegistry, files, files::How, update::UpdateParser},
};

/// Bytes gathered before they are written.
const BATCH_BYTES: usize = 64 * 1024;

/// Work with the file of updates that finally failed (dispatch.dead_letters).
#[derive(Args, Debug)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the updates of a file of dead letters to an output, in their order
    ///
    /// Lines that cannot be read are named and passed over; then the exit code is 1. The file stays
    /// as it is: remove it once its updates are where they belong.
    Replay {
        /// The file, as dispatch.dead_letters wrote it
        file: PathBuf,
        /// Config file whose first output is used
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where updates go: ndjson:- (stdout), ndjson:FILE or null [default: ndjson:-]
        #[arg(long, value_name = "URL")]
        output: Option<String>,
        /// Write lines that tell bot, kind and time beside the update [default: where the config
        /// has more than one bot]
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        meta: Option<bool>,
        /// Only the letters of this bot
        #[arg(long, value_name = "NAME")]
        bot: Option<String>,
    },
}

/// What a replay needs of a letter.
#[derive(Deserialize)]
struct Letter<'a> {
    bot: String,
    #[serde(borrow)]
    update: &'a RawValue,
}

pub(super) fn run(args: &DeadLettersArgs) -> Result<(), Error> {
    let Command::Replay { file, config, output, meta, bot } = &args.command;
    let configured = config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
    let first = configured.first_output();
    let section = first.for_replay(output.is_some());
    let has_meta = configured.has_meta(&section);
    let output = OutputSpec::without_server(output.as_deref().unwrap_or(first.first_to()))?;
    let letters = files::open(file, How::Read).map_err(|source| {
        Error::with_source(ErrorKind::Config, file.display().to_string(), source)
    })?;
    let is_read = |path: &Path| {
        let places = Place::new(file).zip(Place::new(path));
        places.is_some_and(|(letters, output)| letters.is_same(&output))
    };
    if output.file().is_some_and(is_read) {
        // It would be read without end.
        let expected = format!("another file than {}, which is read", file.display());
        return Err(Error::config("output.to", &output, &expected));
    }
    let section = OutputSection { meta: Some(meta.unwrap_or(has_meta)), ..section };
    let registry = Arc::new(BotRegistry::default());
    let sink = output.open(&section, Ack::Memory, None)?;
    let mut writer = sink.writer_for(&BotNames::new(&registry))?;
    replay(file, BufReader::new(letters), bot.as_deref(), &registry, &mut *writer)
}

fn replay(
    path: &Path,
    letters: BufReader<File>,
    bot: Option<&str>,
    registry: &BotRegistry,
    sink: &mut dyn SinkWriter,
) -> Result<(), Error> {
    let failed = |source| Error::with_source(ErrorKind::Sink, "the output", source);
    let mut parser = UpdateParser::default();
    let (mut replayed, mut unreadable) = (0_u64, 0_u64);
    for (line, number) in letters.lines().zip(1_u64..) {
        let line = line.map_err(|source| {
            Error::with_source(ErrorKind::Config, path.display().to_string(), source)
        })?;
        let letter = serde_json::from_str::<Letter<'_>>(&line);
        if letter.as_ref().is_ok_and(|letter| bot.is_some_and(|bot| bot != letter.bot)) {
            continue;
        }
        // The texts of errors would quote the message.
        let update = letter.ok().and_then(|letter| {
            let mut body = parser.take_body(letter.update.get().len());
            body.extend(letter.update.get().as_bytes());
            let bot = registry.register([&*letter.bot].into_iter()).ok()?.pop()?;
            parser.parse(body, bot, Instant::now()).ok()
        });
        let Some(update) = update else {
            unreadable += 1;
            log(format_args!("{}:{number}: not a dead letter, passed over", path.display()));
            continue;
        };
        sink.write(&update);
        parser.keep(update.recycle());
        replayed += 1;
        if sink.pending_bytes() >= BATCH_BYTES {
            commit_whole(sink).map_err(failed)?;
        }
    }
    commit_whole(sink).map_err(failed)?;
    log(format_args!("{replayed} update(s) replayed, {unreadable} line(s) passed over"));
    if unreadable == 0 {
        return Ok(());
    }
    let message = format!("{unreadable} line(s) of {} are not dead letters", path.display());
    Err(Error::new(ErrorKind::Sink, message))
}
