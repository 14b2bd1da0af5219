//! `ringhook journal cat`: the updates of the journal as lines of JSON.

use clap::Args;
use serde::Serialize;

use super::{Bodies, Filter, Found, Out, Place, rfc3339};
use crate::process::stderr::log;
use ringhook::{Error, ErrorKind, internals::journal::inspect::Item, update::Value};

/// Write the updates in the journal to stdout, one a line, in the order of their 200s.
///
/// Lines are what the ndjson sink would write. Updates that are settled are there as well, until
/// their segment is let go of; an update that came twice may be there twice. What is damaged is
/// named on stderr and passed over.
#[derive(Args, Debug)]
pub(super) struct CatArgs {
    #[command(flatten)]
    pub(super) place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Only updates that are not settled
    #[arg(long)]
    unsettled: bool,
    /// Wrap each update: {"segment":..,"offset":..,"bot":..,"update_id":..,"received":..,
    /// "settled":..,"update":{..}}
    #[arg(long)]
    meta: bool,
}

/// A line with `--meta`.
#[derive(Serialize)]
struct Line<'a> {
    segment: u32,
    offset: u32,
    bot: &'a str,
    update_id: i64,
    received: String,
    settled: bool,
    update: Value<'a>,
}

pub(super) fn run(args: &CatArgs, found: &Found) -> Result<(), Error> {
    let directory = found.look_into()?;
    let journal = found.inspect(&directory)?;
    let names = found.names(&journal);
    let chosen = args.filter.choose(&names)?;
    let mut bodies = Bodies::new();
    let mut out = Out::new()?;
    let mut line = Vec::new();
    let mut unreadable = 0_u64;
    for number in journal.numbers() {
        let Some(mut records) = found.records(&journal, number)? else { continue };
        let file = records.file_name();
        let failed = |error| found.unreadable(file.clone(), error);
        while let Some(item) = records.next_item().map_err(failed)? {
            let (header, id, body, is_settled) = match item {
                Item::Record { header, id, body, is_settled } => (header, id, body, is_settled),
                Item::Damage { offset, len } => {
                    log(format_args!(
                        "{file}: {len} bytes at offset {offset} are no record, passed over"
                    ));
                    continue;
                }
                Item::Unfinished { .. } => continue,
            };
            if (args.unsettled && is_settled) || !chosen.takes(&header) {
                continue;
            }
            let Some(update) = bodies.parse(body) else {
                unreadable += 1;
                log(format_args!("{file}: the record at offset {} is no update", id.offset));
                continue;
            };
            if chosen.takes_kind(&update) {
                line.clear();
                let written = match args.meta {
                    false => serde_json::to_writer(&mut line, &update.root()),
                    true => {
                        let line_of = Line {
                            segment: id.segment,
                            offset: id.offset,
                            bot: &names.name(header.bot),
                            update_id: header.update_id.get(),
                            received: rfc3339(header.received_us),
                            settled: is_settled,
                            update: update.root(),
                        };
                        serde_json::to_writer(&mut line, &line_of)
                    }
                };
                // Writing to memory does not fail.
                if written.is_ok() {
                    line.push(b'\n');
                    out.write(&line)?;
                }
            }
            bodies.keep(update);
            if out.is_closed() {
                return Ok(());
            }
        }
    }
    out.flush()?;
    if unreadable == 0 {
        return Ok(());
    }
    let message = format!("{unreadable} record(s) hold no update that this ringhook can read");
    Err(Error::new(ErrorKind::Journal, message))
}
