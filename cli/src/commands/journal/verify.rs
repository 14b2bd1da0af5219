//! `ringhook journal verify`: reads everything, checks every checksum.

use std::{
    io,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use super::{Found, Named, Out, Place};
use crate::process::stderr::log;
use ringhook::{
    Error, ErrorKind,
    internals::journal::inspect::{Inspection, Item, Records},
};

/// How often progress is reported.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Records between two looks at the clock.
const TELL_RECORDS: u64 = 1024;

/// Read the whole journal and check every checksum.
///
/// Each damage is printed with its file and offset, and the exit code is 1 then. What a crash may
/// leave is no damage: a record that was begun at the very end, and was not acknowledged.
#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print one object of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Verdict {
    dir: String,
    segments: u64,
    records: u64,
    /// Bytes of heads and records.
    bytes: u64,
    seconds: f64,
    damages: Vec<Spot>,
    unfinished: Vec<Spot>,
    /// Files of damaged segments that were put aside; they are not read.
    kept: Vec<Named>,
}

/// Something at one place of a file.
#[derive(Debug, Serialize)]
struct Spot {
    file: String,
    offset: u64,
    bytes: Option<u64>,
    what: String,
}

pub(super) fn run(args: &VerifyArgs, found: &Found) -> Result<(), Error> {
    let directory = found.look_into()?;
    let journal = found.inspect(&directory)?;
    let start = Instant::now();
    let mut verifier =
        Verifier { told_at: start, of: journal.file_bytes(), verdict: Verdict::default() };
    for number in journal.numbers() {
        verifier.segment(&journal, number);
        verifier.ids(&journal, number);
    }
    let mut verdict = verifier.verdict;
    verdict.dir = found.dir.display().to_string();
    verdict.seconds = start.elapsed().as_secs_f64();
    verdict.kept = Named::list(journal.kept());
    let mut out = Out::new()?;
    match args.json {
        true => out.json(&verdict)?,
        false => print(&verdict, &mut out)?,
    }
    out.flush()?;
    match verdict.damages.len() {
        0 => Ok(()),
        damages => Err(damaged(found, damages)),
    }
}

fn damaged(found: &Found, damages: usize) -> Error {
    let message = format!(
        "the journal in {} is damaged in {damages} place(s): what is whole is delivered all the \
         same, the rest has to be fetched from a copy or is lost; look after the disk",
        found.dir.display()
    );
    Error::new(ErrorKind::Journal, message)
}

fn print(verdict: &Verdict, out: &mut Out) -> Result<(), Error> {
    for Spot { file, offset, bytes, what } in &verdict.damages {
        let bytes = bytes.map_or(String::new(), |bytes| format!("{bytes} bytes "));
        out.line(&format!("damaged: {file}: {bytes}at offset {offset}: {what}"))?;
    }
    for Spot { file, offset, what, .. } in &verdict.unfinished {
        out.line(&format!("unfinished: {file}: at offset {offset}: {what}"))?;
    }
    for Named { file, bytes } in &verdict.kept {
        out.line(&format!("kept: {file}: {bytes} bytes of an earlier damage, not read"))?;
    }
    let Verdict { segments, records, bytes, seconds, .. } = verdict;
    let mib = *bytes as f64 / f64::from(1 << 20);
    let per_second = |amount: f64| amount / seconds.max(1e-6);
    let outcome = match verdict.damages.len() {
        0 => "no damage".to_owned(),
        damages => format!("{damages} damage(s)"),
    };
    out.line(&format!(
        "{segments} segment(s), {records} record(s), {mib:.1} MiB in {seconds:.3} s \
         ({:.0} records/s, {:.0} MiB/s): {outcome}",
        per_second(*records as f64),
        per_second(mib),
    ))
}

struct Verifier {
    told_at: Instant,
    /// Bytes that there are.
    of: u64,
    verdict: Verdict,
}

impl Verifier {
    fn segment(&mut self, journal: &Inspection<'_>, number: u32) {
        let mut records = match journal.records(number) {
            Ok(Some(records)) => records,
            Ok(None) => return,
            Err((file, error)) => return self.cannot_read(file, 0, &error),
        };
        let file = records.file_name();
        let foreign = records.foreign().map(str::to_owned);
        self.verdict.segments += 1;
        self.notes(&records);
        let before = self.verdict.bytes;
        loop {
            match records.next_item() {
                Ok(Some(Item::Record { header, id, .. })) => {
                    self.verdict.records += 1;
                    self.verdict.bytes = before + u64::from(id.offset) + header.record_len();
                    if self.verdict.records.is_multiple_of(TELL_RECORDS) {
                        self.log();
                    }
                }
                Ok(Some(Item::Damage { offset, len })) => {
                    let what = foreign.clone().unwrap_or_else(|| "no record any more".to_owned());
                    let bytes = Some(len);
                    let file = file.clone();
                    self.verdict.damages.push(Spot { file, offset, bytes, what });
                    self.verdict.bytes = before + offset + len;
                }
                Ok(Some(Item::Unfinished { offset })) => {
                    let what = match offset {
                        0 => "a segment was begun and nothing acknowledged in it",
                        _ => "a record was begun and not acknowledged",
                    };
                    self.unfinished(file.clone(), offset, what);
                }
                Ok(None) => break,
                Err(error) => {
                    let at = records.position();
                    return self.cannot_read(file, at, &error);
                }
            }
        }
    }

    /// The notes on settled records.
    fn notes(&mut self, records: &Records<'_>) {
        for (offset, is_torn) in &records.broken_notes {
            let file = records.settled_name();
            let (offset, bytes) = (*offset, Some(8));
            if *is_torn {
                self.unfinished(file, offset, "a note on a settled update was not finished");
            } else {
                let what = "no note any more: an update counts as not settled".to_owned();
                self.verdict.damages.push(Spot { file, offset, bytes, what });
            }
        }
    }

    fn ids(&mut self, journal: &Inspection<'_>, number: u32) {
        match journal.ids(number) {
            Ok(Some(None)) => {
                let file = Inspection::ids_name(number);
                let (offset, bytes) = (0, None);
                if journal.has_segment(number) {
                    // The ids are in the records as well.
                    self.unfinished(file, offset, "the ids were not all written");
                } else {
                    let what = "the ids are not whole: updates may not be known when they come \
                                again"
                        .to_owned();
                    self.verdict.damages.push(Spot { file, offset, bytes, what });
                }
            }
            Ok(_) => {}
            Err((file, error)) => self.cannot_read(file, 0, &error),
        }
    }

    fn unfinished(&mut self, file: String, offset: u64, what: &str) {
        let what = what.to_owned();
        self.verdict.unfinished.push(Spot { file, offset, bytes: None, what });
    }

    fn cannot_read(&mut self, file: String, offset: u64, error: &io::Error) {
        let what = format!("cannot be read: {error}");
        self.verdict.damages.push(Spot { file, offset, bytes: None, what });
    }

    fn log(&mut self) {
        if self.told_at.elapsed() >= TELL_EVERY {
            self.told_at = Instant::now();
            let Verdict { bytes, records, .. } = self.verdict;
            let mib = |bytes: u64| bytes >> 20;
            let (done, all) = (mib(bytes), mib(self.of));
            log(format_args!("verifying: {done} of {all} MiB, {records} records"));
        }
    }
}
