//! `ringhook journal replay`: what waits in the journal goes into the sink, without a server.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;

use super::{Bodies, Chosen, Filter, Found, Place};
use crate::{
    config::OutputSection,
    process::stderr::log,
    server::output::{OutputSpec, commit_whole},
};
use ringhook::{
    Ack, BotNames, Error, ErrorKind, SinkWriter,
    internals::{
        bots::{BotId, BotRegistry},
        dispatch::RecordId,
        journal::{
            Directory, RecordHeader,
            inspect::{Inspection, Item, SeenIds, Settler},
            now_us,
        },
        server::not_owned,
    },
};

/// Bytes and records that are written and settled together at the most: so many come twice where a
/// replay is killed.
const BATCH_BYTES: usize = 1024 * 1024;
const BATCH_RECORDS: usize = 4096;

/// Write the updates that wait in the journal to an output, in the order of their 200s.
///
/// Each batch that the output has taken is noted as settled: a server that starts later does not
/// deliver it again. Nothing is removed; the next start of a server does that. The server has to
/// be stopped, except for --dry-run.
#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Where updates go: ndjson:- (stdout), ndjson:FILE or null [default: ndjson:-]
    #[arg(long, value_name = "URL")]
    output: Option<String>,
    /// Write lines that tell bot, kind and time beside the update [default: where there is more
    /// than one bot]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    meta: Option<bool>,
    /// Also write those that are settled already, as far as they are still there
    #[arg(long)]
    all: bool,
    /// Only count: nothing is written, nothing settled, and a server may run
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Default)]
struct Counts {
    /// Taken by the output.
    replayed: u64,
    /// Of these, those that were settled before.
    again: u64,
    duplicates: u64,
    damages: u64,
    unreadable: u64,
}

pub(super) fn run(args: &ReplayArgs) -> Result<(), Error> {
    let found = args.place.find()?;
    let first = found.config.first_output();
    let to = OutputSpec::without_server(args.output.as_deref().unwrap_or(first.first_to()))?;
    let directory = found.act(|| {
        // To own a directory makes it, which is not meant where a name is mistyped.
        let directory = found.look_into()?;
        match args.dry_run {
            true => Ok(directory),
            false => Directory::own(&found.path()).map_err(|error| not_owned(&found.dir, error)),
        }
    })?;
    let journal = found.act(|| found.inspect(&directory))?;
    let names = found.names(&journal);
    let chosen = args.filter.choose(&names)?;
    let registry = names.registry()?;
    let section = first.for_replay(args.output.is_some());
    let has_fields = !section.fields.is_empty();
    let has_meta = args.meta.or(section.meta).unwrap_or(registry.len() > 1 || has_fields);
    let section = OutputSection { meta: Some(has_meta), ..section };
    let output = match args.dry_run {
        true => None,
        false => Some(Output {
            again: 0,
            pending: Vec::new(),
            records: 0,
            settler: Settler::new(&directory),
            // What is settled does not come again, so a power cut must not take it from the output.
            sink: to.open(&section, Ack::Synced, None)?.writer_for(&BotNames::new(&registry))?,
            to,
        }),
    };
    let mut replay = Replay {
        all: args.all,
        bodies: Bodies::new(),
        chosen,
        counts: Counts::default(),
        output,
        registry,
    };
    let outcome = found.act(|| replay.run(&found, &journal));
    replay.log();
    outcome?;
    match replay.counts.unreadable {
        0 => Ok(()),
        unreadable => {
            let message = format!(
                "{unreadable} record(s) hold no update that this ringhook can read: they stay \
                 where they are"
            );
            Err(Error::new(ErrorKind::Journal, message))
        }
    }
}

struct Replay<'a> {
    all: bool,
    bodies: Bodies,
    chosen: Chosen<'a>,
    counts: Counts,
    /// `None` where updates are only counted.
    output: Option<Output<'a>>,
    registry: Arc<BotRegistry>,
}

/// Where updates go, and what they leave behind.
struct Output<'a> {
    /// Of `records`, those that were settled before.
    again: u64,
    /// Records to be settled once the sink has their updates.
    pending: Vec<RecordId>,
    /// Updates that the output has not committed yet.
    records: u64,
    settler: Settler<'a>,
    sink: Box<dyn SinkWriter>,
    to: OutputSpec,
}

impl Replay<'_> {
    fn run(&mut self, found: &Found, journal: &Inspection<'_>) -> Result<(), Error> {
        let mut seen = SeenIds::default();
        for number in journal.numbers() {
            let Some(mut records) = found.records(journal, number)? else {
                let ids = journal.ids(number);
                let ids = ids.map_err(|(name, error)| found.unreadable(name, error))?;
                for (bot, id) in ids.flatten().unwrap_or_default().ids {
                    seen.remember(bot, id);
                }
                continue;
            };
            let file = records.file_name();
            let failed = |error| found.unreadable(file.clone(), error);
            while let Some(item) = records.next_item().map_err(failed)? {
                match item {
                    Item::Record { header, id, body, is_settled } => {
                        let is_new = seen.remember(header.bot, header.update_id);
                        let is_new = is_new || header.is_fed;
                        self.record(&header, id, body, is_settled, is_new)?;
                    }
                    Item::Damage { offset, len } => {
                        self.counts.damages += 1;
                        log(format_args!(
                            "{file}: {len} bytes at offset {offset} are no record, passed over"
                        ));
                    }
                    Item::Unfinished { .. } => {}
                }
            }
        }
        let Some(output) = &mut self.output else { return Ok(()) };
        output.commit(&mut self.counts)?;
        output.settler.sync().map_err(not_noted)
    }

    fn record(
        &mut self,
        header: &RecordHeader,
        id: RecordId,
        body: &[u8],
        is_settled: bool,
        is_new: bool,
    ) -> Result<(), Error> {
        if (is_settled && !self.all) || !self.chosen.takes(header) {
            return Ok(());
        }
        // Of one whose name is not known, the line has none.
        let bot = self.registry.id_of_key(header.bot).unwrap_or(BotId::new(u32::MAX));
        let age = u64::try_from(now_us().saturating_sub(header.received_us)).unwrap_or(0);
        let now = Instant::now();
        let received_at = now.checked_sub(Duration::from_micros(age)).unwrap_or(now);
        let Some(update) = self.bodies.parse_for(bot, received_at, body) else {
            self.counts.unreadable += 1;
            log(format_args!("the record at {id} of the journal is no update, passed over"));
            return Ok(());
        };
        if self.chosen.takes_kind(&update) {
            self.counts.duplicates += u64::from(!is_new);
            match &mut self.output {
                Some(output) => {
                    if is_new {
                        output.sink.write(&update);
                        output.records += 1;
                        output.again += u64::from(is_settled);
                    }
                    if !is_settled {
                        output.pending.push(id);
                    }
                }
                None => {
                    self.counts.replayed += u64::from(is_new);
                    self.counts.again += u64::from(is_new && is_settled);
                }
            }
        }
        self.bodies.keep(update);
        match &mut self.output {
            Some(output) if output.is_full() => output.commit(&mut self.counts),
            _ => Ok(()),
        }
    }

    fn log(&self) {
        let Counts { replayed, again, duplicates, damages, .. } = &self.counts;
        let done = if self.output.is_none() { "to be replayed" } else { "replayed" };
        let mut line = format!("{replayed} update(s) {done}");
        if self.all {
            line += &format!(", {again} of them settled before");
        }
        line += &format!(", {duplicates} duplicate(s) left out");
        if *damages > 0 {
            line += &format!(", {damages} damaged part(s) passed over");
        }
        log(line);
    }
}

impl Output<'_> {
    fn is_full(&self) -> bool {
        self.sink.pending_bytes() >= BATCH_BYTES
            || self.records >= BATCH_RECORDS as u64
            || self.pending.len() >= BATCH_RECORDS
    }

    /// Brings the batch to the output, then notes that it is there.
    fn commit(&mut self, counts: &mut Counts) -> Result<(), Error> {
        commit_whole(&mut *self.sink).map_err(|source| {
            let message = format!(
                "the output {} has failed: what it has taken is settled, the rest waits in the \
                 journal for another replay",
                self.to
            );
            Error::with_source(ErrorKind::Sink, message, source)
        })?;
        counts.replayed += self.records;
        counts.again += self.again;
        (self.records, self.again) = (0, 0);
        self.settler.settle(&mut self.pending).map_err(not_noted)
    }
}

fn not_noted(source: io::Error) -> Error {
    let message = "the output has updates of which the journal cannot note that they are settled: \
                   they would be delivered again";
    Error::with_source(ErrorKind::Journal, message, source)
}
